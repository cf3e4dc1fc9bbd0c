"""The producing end of streams: what generator tasks and methods send, and when they have to wait."""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from ray._work import Running, cancelled
from rayd.wire import messages as m

if TYPE_CHECKING:
    from ray._executor import Executor

# A streaming task that never waits looks this often whether its consumer is still there.
LOOK_S: Final = 0.02


class Streams:
    """The streams that a worker produces at the moment.

    Args:
        executor: the worker.
    """

    def __init__(self, executor: "Executor") -> None:
        self._executor = executor
        self._taken: dict[bytes, int] = {}

    def open(self, tid: bytes) -> None:
        """What the consumer of this stream says is remembered from now on. Whatever it said before, the daemon repeats
        when the first item arrives.
        """
        self._taken[tid] = 0

    def close(self, tid: bytes) -> None:
        self._taken.pop(tid, None)

    def note_credit(self, tid: bytes, consumed: int) -> None:
        """The consumer has taken that many items, or has gone (negative)."""
        if tid in self._taken:
            self._taken[tid] = consumed

    def taken(self, tid: bytes) -> int:
        """Items of a stream that its consumer has taken; negative when the consumer has gone."""
        return self._taken.get(tid, 0)

    def send(self, call: Running, index: int, item: Any) -> None:
        """Send one item."""
        kind, data, contained = self._executor.pack_result(item, call.what.name)
        self._executor.client.link.post((m.YIELD, call.tid, index, kind, data, contained))

    def run(self, call: Running, items: Any) -> None:
        """Send what an iterable yields, waiting in this thread where the consumer is too far behind.

        Raises:
            TaskCancelledError: the task was cancelled meanwhile.
        """
        client = self._executor.client
        iterator: Iterator[Any] = iter(items)
        self.open(call.tid)
        looked = time.monotonic()
        try:
            for index, item in enumerate(iterator):
                self.send(call, index, item)
                limit = index + 1 - call.what.backpressure
                if call.what.backpressure and limit >= 0:
                    client.block_until(lambda limit=limit: not 0 <= self.taken(call.tid) <= limit, None)  # type: ignore[misc]
                elif time.monotonic() - looked > LOOK_S:
                    client.link.poll()
                    looked = time.monotonic()
                if call.tid in self._executor.stopped:
                    raise cancelled(call)
                if self.taken(call.tid) < 0:
                    break
        finally:
            self.close(call.tid)
            close = getattr(iterator, "close", None)
            if close is not None:
                close()
