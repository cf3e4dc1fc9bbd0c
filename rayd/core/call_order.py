"""The order of calls: one that waits for an argument holds back those that its caller made after it."""

from collections import deque
from collections.abc import Hashable, Iterator

from rayd.core.task import Task


def may_wait(task: Task) -> bool:
    """Whether a call has arguments that may have to be waited for."""
    return task.deps is not None or bool(task.args_oid)


class CallOrder:
    """Calls whose turn has not come, in rows: within a row, each waits for the one before.

    Attributes:
        rows: by name; none is empty.
    """

    __slots__ = ("rows",)

    def __init__(self) -> None:
        self.rows: dict[Hashable, deque[Task]] = {}

    def expect(self, name: Hashable, task: Task) -> None:
        """A call is about to be admitted: it has its place from now on.

        Args:
            name: of its row: calls of different names do not wait for each other.
            task: the call.
        """
        row = self.rows.get(name)
        if row is not None:
            row.append(task)
        elif may_wait(task):
            self.rows[name] = deque([task])

    def ready(self, name: Hashable, task: Task) -> Iterator[Task]:
        """A call has all its arguments: those whose turn has come by that, in order, perhaps with it.

        What is done with one of them may bring this about anew for the same row before the next is asked for.
        """
        row = self.rows.get(name)
        if row is None:
            if not may_wait(task):  # one with arguments went with its row, perhaps before its own turn to be told
                yield task
            return
        while row and (row[0].missing == 0 or row[0].done):
            yield row.popleft()
        if not row and self.rows.get(name) is row:
            del self.rows[name]

    def __iter__(self) -> Iterator[Task]:
        for row in self.rows.values():
            yield from row

    def clear(self) -> None:
        """All of them are over."""
        self.rows.clear()

    def check(self) -> None:
        """Raise AssertionError naming the first broken invariant."""
        for row in self.rows.values():
            assert row, "there is an empty row of calls"
            assert row[0].missing, f"{row[0].tid.hex()} is held back for nothing"
