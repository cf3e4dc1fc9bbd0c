"""Which other nodes have room for tasks of one spec, those with the most first.

To look at a thousand nodes for every task that is handed out, or whenever one has finished something, would take most
of the time of a node that hands them out. So what was found is kept, and only those are looked at again of which
something was heard, or which were given something or have finished it. And no more are looked at than are needed,
``AT_A_TIME`` of them.
"""

from collections.abc import Callable, Iterable
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rayd.core.news import News
    from rayd.core.task import Spec

# Of so many nodes those with the most room come first, then come the next ones.
AT_A_TIME: Final = 64
# The heap may have so many times as many places as there are nodes with room, before it is made anew.
_SLACK: Final = 4


class Rooms:
    """The room that other nodes have for tasks of one spec.

    Args:
        spec: whose tasks.
        measure: how many more of its tasks the node of a number may be given now; 0 if it must have none.
        news: of which nodes something was heard.

    Attributes:
        open: room at the nodes that had some when they were looked at last, by number.
        stale: nodes that were given something, or have finished it, since they were looked at.
    """

    __slots__ = ("_heap", "_measure", "_news", "_nodes", "_seen", "_spec", "_unseen", "open", "stale")

    def __init__(self, spec: "Spec", measure: Callable[[int], int], news: "News") -> None:
        self._spec = spec
        self._measure = measure
        self._news = news
        self.open: dict[int, int] = {}
        self.stale: dict[int, None] = {}
        self._heap: list[tuple[int, int]] = []  # (-room, number); what ``open`` does not say any more is void
        self._unseen: list[int] = []  # nobody has looked at these yet; the next one last
        self._nodes: dict[int, None] | None = {}  # what the spec accepted when all were looked at
        self._seen = 0

    def refresh(self, all_numbers: Callable[[], Iterable[int]]) -> None:
        """Look again at nodes that may have more room than is known.

        When the spec's depth grows all may have, but those that have something of it will soon have finished that, and
        those that have nothing of it had room before. When it shrinks, that is seen before any room is used.

        Args:
            all_numbers: gives all nodes that the spec accepts, those to be looked at first at the beginning.
        """
        if self._nodes is not self._spec.nodes:
            self._begin_anew(all_numbers())
            return
        again, self.stale = self.stale, {}
        again.update(dict.fromkeys(self._news.since(self._seen)))
        self._seen = self._news.count
        for number in again:
            self.look(number)

    def _begin_anew(self, numbers: Iterable[int]) -> None:
        self._unseen = list(numbers)[::-1]
        self._nodes, self._seen = self._spec.nodes, self._news.count
        self._heap.clear()
        self.open.clear()
        self.stale.clear()

    def look_further(self, count: int = 0) -> None:
        """Look at so many nodes that nobody has looked at yet, or (0) at all of them, but not at those that are looked
        at again anyway.
        """
        for _ in range(min(count or len(self._unseen), len(self._unseen))):
            number = self._unseen.pop()
            if number not in self.stale:
                self.look(number)

    def look(self, number: int) -> int:
        """Look at one node; returns the room there."""
        room = self._measure(number)
        if room <= 0:
            self.open.pop(number, None)
        elif self.open.get(number) != room:
            self.open[number] = room
            heappush(self._heap, (-room, number))
            if len(self._heap) > _SLACK * len(self.open) + _SLACK:
                self._heap = [(-room, number) for number, room in self.open.items()]
                heapify(self._heap)
        return room

    def overlooks(self, number: int) -> bool:
        """Whether a node has room that neither is known nor would be found by ``refresh``."""
        known = number in self.open or number in self.stale or number in self._unseen
        known = known or number in self._news.since(self._seen)
        return not known and self._nodes is self._spec.nodes and self._measure(number) > 0

    def take_most(self) -> tuple[int, int]:
        """The node with the most room, and how much; (-1, 0) if none has any. Not given again before ``refresh``."""
        while self._heap or self._unseen:
            if not self._heap:
                self.look_further(AT_A_TIME)
                continue
            room, number = heappop(self._heap)
            if self.open.get(number) != -room:
                continue
            if self.look(number) == -room:
                del self.open[number]
                self.stale[number] = None
                return number, -room
        return -1, 0
