"""Of which nodes something was heard, and in which order: who looks again later has to look at those only."""

from collections.abc import Iterator


class News:
    """A log of numbers of nodes, in which each has its latest place only.

    Attributes:
        count: how often something was noted.
    """

    __slots__ = ("_at", "count")

    def __init__(self) -> None:
        self.count = 0
        self._at: dict[int, int] = {}  # the count at its latest note, by number, the latest last

    def note(self, number: int) -> None:
        """There is something new of a node."""
        self.count += 1
        self._at.pop(number, None)
        self._at[number] = self.count

    def since(self, count: int) -> Iterator[int]:
        """Nodes that have been noted after the count was this one, the latest first."""
        for number in reversed(self._at):
            if self._at[number] <= count:
                return
            yield number
