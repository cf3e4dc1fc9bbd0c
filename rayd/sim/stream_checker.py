"""What must hold of streams: every item once, in order, then the end, and no fewer than the task yields."""

from typing import TYPE_CHECKING, Any

from rayd.ids import TASK_ID_BYTES
from rayd.wire import messages as m

if TYPE_CHECKING:
    from rayd.sim.checkers import Checkers
    from rayd.sim.process import Process


class Told:
    """What the consumer of a stream has been told.

    Attributes:
        yields: how many items its task has, if nothing goes wrong.
        items: how many have come.
        failed: the last one was an error.
        ended: no more will come.
    """

    __slots__ = ("ended", "failed", "items", "yields")

    def __init__(self, yields: int) -> None:
        self.yields = yields
        self.items = 0
        self.failed = False
        self.ended = False


class StreamItems:
    """Items of a stream come once, in order, and all of them, or an error in the place of the rest."""

    def __init__(self, checkers: "Checkers") -> None:
        self._checkers = checkers
        self._told: dict[bytes, Told] = {}

    def made(self, tid: bytes, args: list[Any]) -> None:
        """A program has submitted a streaming task; see ``WorkerProcess._do_yield`` for its arguments."""
        self._told[tid] = Told(args[2])

    def is_one(self, tid: bytes) -> bool:
        """Whether a task is a streaming one."""
        return tid in self._told

    def item(self, process: "Process", tid: bytes, index: int, kind: int, data: Any) -> None:
        """The consumer is told of an item; one that is lost is not the end."""
        told = self._told[tid]
        if told.ended or told.failed or index != told.items:
            state = "its end" if told.ended else "an error" if told.failed else f"{told.items} items"
            self._checkers.fails("stream", f"item {index} of {tid.hex()} comes to {process.pid} after {state}")
        told.items += 1
        told.failed = kind == m.ERROR or (kind == m.FAULT and "object_id" not in data)
        if told.items > told.yields + told.failed:
            self._checkers.fails("stream", f"{tid.hex()} yields {told.yields} items, and {told.items} have come")

    def end(self, process: "Process", tid: bytes, total: int) -> None:
        """The consumer is told how many there were."""
        told = self._told[tid]
        if told.ended or total != told.items:
            self._checkers.fails("stream", f"{tid.hex()} ends at {total} for {process.pid} after {told.items} items")
        if not told.failed and told.items != told.yields:
            self._checkers.fails("stream", f"{tid.hex()} yields {told.yields} items and ends after {told.items}")
        told.ended = True
        self._checkers.calls.stream_ended(process, tid, "error" if told.failed else "value")

    def drops(self, process: "Process", tid: bytes) -> None:
        """The consumer wants no more of it."""
        if not self._told[tid].ended:
            self._checkers.calls.forgives(process, [tid[:TASK_ID_BYTES]])
