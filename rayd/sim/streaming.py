"""Streams of simulated processes: what a consumer has been told of, and how far a producer may go."""

from collections import deque
from typing import TYPE_CHECKING, Any

from rayd.core.streams import GENERATOR_INDEX
from rayd.ids import return_id
from rayd.sim.program import Thread
from rayd.wire import messages as m

if TYPE_CHECKING:
    from rayd.sim.process import Process


class Stream:
    """One stream, as its consumer knows it.

    Attributes:
        items: objects that have come and have not been taken.
        total: how many there are in all; -1 as long as that is not known.
        taken: how many the program has taken.
        asked: the daemon knows that they are wanted.
        slow: the producer waits for what is taken.
        waiting: the thread that waits for the next one.
    """

    __slots__ = ("asked", "items", "slow", "taken", "total", "waiting")

    def __init__(self, *, slow: bool) -> None:
        self.items: deque[bytes] = deque()
        self.total = -1
        self.taken = 0
        self.asked = False
        self.slow = slow
        self.waiting: Thread | None = None


class Next:
    """The next item of a stream: its object, or b"" at the end."""

    def __init__(self, tid: bytes) -> None:
        self.tid = tid

    def begin(self, thread: Thread) -> None:
        thread.process.streams.next(thread, self.tid)


class Taken:
    """That the consumer of a stream has taken more than so many items, or has gone."""

    def __init__(self, tid: bytes, limit: int) -> None:
        self.tid = tid
        self.limit = limit

    def begin(self, thread: Thread) -> None:
        thread.process.streams.wait(thread, self.tid, self.limit)


class Streams:
    """The streams of a process.

    Args:
        process: whose.
    """

    def __init__(self, process: "Process") -> None:
        self._process = process
        self._open: dict[bytes, Stream] = {}
        self._credit: dict[bytes, int] = {}
        self._waiting: dict[bytes, tuple[Thread, int]] = {}

    # ---- the consumer ------------------------------------------------------------------------------------------------

    def open(self, tid: bytes, *, slow: bool) -> None:
        """The process has submitted a streaming task."""
        self._open[tid] = Stream(slow=slow)
        self._process.held[return_id(tid, GENERATOR_INDEX)] = 1

    def next(self, thread: Thread, tid: bytes) -> None:
        """See ``Next``."""
        stream, process = self._open[tid], self._process
        if stream.items or stream.total >= 0:
            process.sim.clock.after(0, self._take, thread, stream, tid)
            return
        if not stream.asked:
            stream.asked = True
            process.say((m.STREAM_WANT, tid))
        process.blocks(thread)
        stream.waiting = thread

    def _take(self, thread: Thread, stream: Stream, tid: bytes) -> None:
        if thread.over:
            return
        oid = stream.items.popleft() if stream.items else b""
        stream.taken += bool(oid)
        if oid and stream.slow:
            self._process.say((m.STREAM_ACK, tid, stream.taken))
        thread.go_on(oid)

    def _wake(self, stream: Stream, tid: bytes) -> None:
        thread, stream.waiting = stream.waiting, None
        if thread is not None and not thread.over:
            self._process.goes_on(thread)
            self._take(thread, stream, tid)

    def item(self, tid: bytes, index: int, kind: int, data: Any) -> None:
        """STREAM_ITEM: this process holds it from now on."""
        oid = return_id(tid, index + 1)
        stream = self._open.get(tid)
        if stream is None:
            self._process.say((m.RELEASE, [oid]))
            return
        self._process.held[oid] = 1
        self._process.sim.checkers.streams.item(self._process, tid, index, kind, data)
        if kind >= 0 and kind != m.STORED:  # what is stored is asked for when it is wanted
            self._process.take_item(oid, kind, data)
        stream.items.append(oid)
        self._wake(stream, tid)

    def end(self, tid: bytes, total: int) -> None:
        """STREAM_END."""
        stream = self._open.get(tid)
        if stream is not None:
            self._process.sim.checkers.streams.end(self._process, tid, total)
            stream.total = total
            self._wake(stream, tid)

    def close(self, tid: bytes) -> None:
        """The process drops a stream and what it has not taken of it."""
        stream = self._open.pop(tid, None)
        if stream is not None:
            self._process.sim.checkers.streams.drops(self._process, tid)
            self._process.drop(return_id(tid, GENERATOR_INDEX), *stream.items)

    # ---- the producer ------------------------------------------------------------------------------------------------

    def produce(self, tid: bytes) -> None:
        """A task begins to yield; whatever was said of it before, the daemon repeats when the first item arrives."""
        self._credit[tid] = 0

    def produced(self, tid: bytes) -> None:
        """It yields no more."""
        self._credit.pop(tid, None)
        self._waiting.pop(tid, None)

    def is_wanted(self, tid: bytes) -> bool:
        """Whether the consumer has not gone."""
        return self._credit.get(tid, 0) >= 0

    def credit(self, tid: bytes, consumed: int) -> None:
        """CREDIT: so many items have been taken; negative: the consumer has gone."""
        if tid not in self._credit:
            return
        self._credit[tid] = consumed
        if tid in self._waiting and not 0 <= consumed <= self._waiting[tid][1]:
            thread, _ = self._waiting.pop(tid)
            if not thread.over:
                self._process.goes_on(thread)
                thread.go_on(None)

    def wait(self, thread: Thread, tid: bytes, limit: int) -> None:
        """See ``Taken``."""
        if not 0 <= self._credit[tid] <= limit:
            self._process.sim.clock.after(0, thread.go_on, None)
            return
        self._process.blocks(thread)
        self._waiting[tid] = thread, limit
