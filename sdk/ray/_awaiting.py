"""References as futures: asyncio, ``concurrent.futures`` and callbacks.

Everything that waits without blocking a thread registers a *waiter* on the reference; whoever reads the connection
calls it. What has to happen in an event loop is collected per loop and handed over in one call per batch of messages. A
reference with waiters is kept alive until it is filled.
"""

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ray._refs import ObjectRef
from ray._task_error import RayTaskError

if TYPE_CHECKING:
    from ray._client import Client

Waiter = Callable[[ObjectRef[Any]], None]


class Awaiting:
    """Futures of one client's references.

    Args:
        client: whose references they are.
    """

    def __init__(self, client: "Client") -> None:
        self._client = client
        self._lock = threading.Lock()
        self._calls: dict[asyncio.AbstractEventLoop, list[Callable[[], None]]] = {}
        self._flushing: dict[asyncio.AbstractEventLoop, None] = {}
        self.watched: set[ObjectRef[Any]] = set()

    # ---- told by the client ------------------------------------------------------------------------------------------

    def filled(self, ref: ObjectRef[Any]) -> None:
        """A reference with waiters has its value."""
        self.watched.discard(ref)
        waiters, ref._waiters = ref._waiters, None
        for waiter in waiters or ():
            waiter(ref)

    def call_in(self, loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
        """Call something in a loop, with the next hand-over."""
        with self._lock:
            self._calls.setdefault(loop, []).append(call)

    def hand_over(self) -> None:
        """Let each loop run what it has to learn."""
        if not self._calls:
            return
        with self._lock:  # a call that another thread adds now must not end up in a list that was handed over already
            collected, self._calls = self._calls, {}
        for loop, calls in collected.items():
            try:
                loop.call_soon_threadsafe(_run_all, calls)
            except RuntimeError:  # the loop was closed; nobody waits there any more
                continue

    # ---- registering -------------------------------------------------------------------------------------------------

    def _watch(self, ref: ObjectRef[Any], waiter: Waiter) -> None:
        """Have ``waiter`` called once the reference is filled; the caller flushes."""
        client = self._client
        client.orphans.pop(ref._id, None)
        self.watched.add(ref)
        if ref._waiters is None:
            ref._waiters = [waiter]
        else:
            ref._waiters.append(waiter)
        client.ask((ref,))
        client.link.start_reader()
        if ref._kind >= 0 and ref._waiters:  # filled between the look and the enlisting
            self.filled(ref)
            self.hand_over()
        elif client.link.broken:  # and so was not among those that were told
            client._fail_everything()

    def _unwatch(self, ref: ObjectRef[Any], waiter: Waiter) -> None:
        if ref._waiters and waiter in ref._waiters:
            ref._waiters.remove(waiter)
        if not ref._waiters:
            ref._waiters = None
            self.watched.discard(ref)

    def flush_in(self, loop: asyncio.AbstractEventLoop) -> None:
        """Flush once at the end of the loop's present turn, however many ask."""
        if loop not in self._flushing:
            self._flushing[loop] = None
            loop.call_soon(self._flush, loop)

    def _flush(self, loop: asyncio.AbstractEventLoop) -> None:
        self._flushing.pop(loop, None)
        self._client.link.flush()

    # ---- faces -------------------------------------------------------------------------------------------------------

    def asyncio_future(self, ref: ObjectRef[Any]) -> "asyncio.Future[Any]":
        """See ``ObjectRef.as_future``."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        if ref._kind >= 0:
            self._resolve(ref, future)
            return future

        def waiter(filled: ObjectRef[Any]) -> None:
            self.call_in(loop, lambda: self._resolve(filled, future))

        def ended(done: "asyncio.Future[Any]") -> None:
            if done.cancelled() and ref._kind < 0:
                self._unwatch(ref, waiter)
                if ref._waiters is None:  # nobody else waits; if nobody else refers to it either, the task is cancelled
                    self._client.orphans[ref._id] = None

        self._watch(ref, waiter)
        self.flush_in(loop)
        future.add_done_callback(ended)
        return future

    def thread_future(self, ref: ObjectRef[Any]) -> "concurrent.futures.Future[Any]":
        """See ``ObjectRef.future``."""
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()

        def waiter(filled: ObjectRef[Any]) -> None:
            if future.set_running_or_notify_cancel():
                self._resolve(filled, future)

        if ref._kind >= 0:
            waiter(ref)
        else:
            self._watch(ref, waiter)
            self._client.link.flush()
        return future

    def _resolve(self, ref: ObjectRef[Any], future: Any) -> None:
        if future.done():
            return
        try:
            value = self._client.value_of(ref)
        except BaseException as error:  # noqa: BLE001 - whatever the task raised belongs to whoever awaits
            # A future refuses StopIteration: it would end the generator that awaits it.
            if isinstance(error, StopIteration) and isinstance(error, RayTaskError):
                error = error.as_plain()
            future.set_exception(error)
            return
        future.set_result(value)

    def add_done_callback(self, ref: ObjectRef[Any], callback: Callable[[ObjectRef[Any]], Any], context: Any) -> None:
        """See ``ObjectRef.add_done_callback``."""
        try:
            loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            loop = None
        waiter = _Callback(self, callback, loop, context)
        if ref._kind >= 0:
            waiter(ref)
            self.hand_over()
            return
        self._watch(ref, waiter)
        if loop is not None:
            self.flush_in(loop)
        else:
            self._client.link.flush()

    def remove_done_callback(self, ref: ObjectRef[Any], callback: Callable[[ObjectRef[Any]], Any]) -> int:
        """See ``ObjectRef.remove_done_callback``."""
        ours = [w for w in ref._waiters or () if isinstance(w, _Callback) and w.callback == callback]
        for waiter in ours:
            self._unwatch(ref, waiter)
        return len(ours)


class _Callback:
    """A done-callback, called in its loop if it has one."""

    __slots__ = ("awaiting", "callback", "context", "loop")

    def __init__(
        self,
        awaiting: Awaiting,
        callback: Callable[[ObjectRef[Any]], Any],
        loop: asyncio.AbstractEventLoop | None,
        context: Any,
    ) -> None:
        self.awaiting = awaiting
        self.callback = callback
        self.loop = loop
        self.context = context

    def __call__(self, ref: ObjectRef[Any]) -> None:
        if self.loop is None:
            self.callback(ref)
        elif self.context is None:
            self.awaiting.call_in(self.loop, lambda: self.callback(ref))
        else:
            self.awaiting.call_in(self.loop, lambda: self.context.run(self.callback, ref))


def _run_all(calls: list[Callable[[], None]]) -> None:
    for call in calls:
        call()
