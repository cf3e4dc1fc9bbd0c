"""Streams of references: what a streaming task's ``.remote`` returns."""

import collections
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

from ray._refs import ObjectRef
from rayd.ids import return_id
from rayd.wire.messages import STREAM_ACK, STREAM_WANT

if TYPE_CHECKING:
    import asyncio

    from ray._client import Client


class ObjectRefGenerator:
    """References of a streaming task's items, in order, as they are produced.

    Works with ``for`` and ``async for``. An exception in the task arrives as one last reference that raises it. Not
    picklable.
    """

    def __init__(self, client: "Client", tid: bytes, backpressure: int | None) -> None:
        self._client = client
        self._tid = tid
        self._ref = client._fresh(return_id(tid, 0))
        self._items: collections.deque[ObjectRef[Any]] = collections.deque()
        self._total = -1
        self._taken = 0
        self._asked = False
        self._backpressure = backpressure
        self._sleepers: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
        client.streams[tid] = self

    # ---- told by the client ------------------------------------------------------------------------------------------

    def _on_item(self, ref: ObjectRef[Any]) -> None:
        self._items.append(ref)
        self._wake()

    def _on_end(self, total: int) -> None:
        self._total = total if total >= 0 else self._taken + len(self._items)
        self._wake()

    def _wake(self) -> None:
        sleepers, self._sleepers = self._sleepers, []
        for loop, event in sleepers:
            self._client.awaiting.call_in(loop, event.set)

    # ---- iteration ---------------------------------------------------------------------------------------------------

    def _ask(self) -> None:
        if not self._asked:
            self._client.link.post_quietly((STREAM_WANT, self._tid))
            self._asked = True

    def _take(self) -> ObjectRef[Any]:
        ref = self._items.popleft()
        self._taken += 1
        if self._backpressure:
            self._client.link.post((STREAM_ACK, self._tid, self._taken))
        return ref

    def _settled(self) -> bool:
        return bool(self._items) or self._total >= 0

    def __iter__(self) -> Iterator[ObjectRef[Any]]:
        return self

    def __next__(self) -> ObjectRef[Any]:
        return self._next_sync(None)

    def _next_sync(self, timeout_s: float | None = None) -> ObjectRef[Any]:
        """The next reference; the nil reference when none has come within ``timeout_s`` seconds."""
        if not self._items:
            self._ask()
            if not self._settled() and not self._client.block_until(self._settled, timeout_s):
                return ObjectRef.nil()
            if not self._items:
                raise StopIteration
        return self._take()

    def __aiter__(self) -> AsyncIterator[ObjectRef[Any]]:
        return self

    async def __anext__(self) -> ObjectRef[Any]:
        import asyncio

        while not self._items:
            if self._total >= 0:
                raise StopAsyncIteration
            loop = asyncio.get_running_loop()
            event = asyncio.Event()
            self._sleepers.append((loop, event))
            self._ask()
            self._client.link.start_reader()
            self._client.awaiting.flush_in(loop)
            if self._settled():
                break
            await event.wait()
        if not self._items:
            raise StopAsyncIteration
        return self._take()

    def next_ready(self) -> bool:
        """Whether ``next`` would not have to wait."""
        self._ask()
        self._client.link.flush()
        self._client.link.poll()
        return bool(self._items)

    def is_finished(self) -> bool:
        """Whether every item has been taken and no more will come."""
        return self._total >= 0 and self._taken >= self._total

    def completed(self) -> ObjectRef[Any]:
        """A reference that is ready when the task has ended."""
        return self._ref

    def task_id(self) -> Any:
        """The task behind it."""
        return self._ref.task_id()

    def close(self) -> None:
        """Take no more items; those not taken are freed."""
        self._items.clear()
        self._total = self._taken

    @property
    def _head_ref(self) -> ObjectRef[Any]:
        """For ``ray.wait``: the reference of the next item if it has come, else one that is never ready by itself."""
        return self._items[0] if self._items else self._ref

    def __reduce__(self) -> NoReturn:
        raise TypeError("an ObjectRefGenerator cannot be pickled or passed on; pass the references it yields")

    def __repr__(self) -> str:
        return f"ObjectRefGenerator({self._tid.hex()}, taken={self._taken})"


class DynamicObjectRefGenerator:
    """The value of a ``num_returns="dynamic"`` task: its references, all there."""

    def __init__(self, refs: list[ObjectRef[Any]]) -> None:
        self._refs = refs

    def __iter__(self) -> Iterator[ObjectRef[Any]]:
        yield from self._refs

    def __len__(self) -> int:
        return len(self._refs)
