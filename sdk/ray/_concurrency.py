"""Actors that run several calls at a time: in threads (``max_concurrency``, concurrency groups) or on an event loop
(``async def``).

The mailbox is read by the main thread in both cases. Results are written by the loop once per turn, or by the thread
that has one.
"""

import asyncio
import inspect
import queue
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgpack

from ray._work import Running, Work, cancelled, run_us, running_call
from rayd.wire import messages as m

if TYPE_CHECKING:
    from ray._executor import Executor

_DATAGRAM_BYTES: Final = 4 * 1024 * 1024


def serve(executor: "Executor") -> int:
    """Serve a concurrent actor until its mailbox is closed; returns the exit code."""
    assert executor.actor is not None
    executor.client.before_block = executor.client.after_block = None  # other calls go on meanwhile: nothing to lend
    if executor.actor.options["mode"] == "threads":
        return _Threads(executor).run()
    return _Loop(executor).run()


class _Threads:
    """Threads and a queue per concurrency group; a thread is started when work finds none that is idle."""

    def __init__(self, executor: "Executor") -> None:
        assert executor.actor is not None
        options = executor.actor.options
        self._executor = executor
        self._groups = {
            name: _Group(name, count, self._call)
            for name, count in {"": options["max_concurrency"], **options["groups"]}.items()
        }

    def run(self) -> int:
        executor = self._executor
        executor.client.link.flush()
        executor.wait_without_limit()
        while datagram := executor.mailbox.recv(_DATAGRAM_BYTES):
            for mailed in msgpack.unpackb(datagram):
                body = executor.fetch_body(mailed[0]) if len(mailed) == 1 else mailed
                what = executor._known.get(body[1]) or executor.learn(body[0], body[1])
                if what is None:
                    executor.client.link.flush()
                    continue
                self._groups[what.options.get("group", "")].submit((what, body))
        for group in self._groups.values():
            group.end()
        return 0

    def _call(self, work: tuple[Work, list[Any]], more: bool) -> None:
        executor = self._executor
        what, (tid, _, args, args_at, deps, gpus, _) = work
        call = Running(tid, what, gpus)
        running_call.set(call)
        started = time.perf_counter_ns()
        try:
            _refuse_stopped(executor, call)
            positional, named = executor.load_args(args, args_at, deps)
            executor._deliver(call, what.function(*positional, **named), started)
        except BaseException as error:
            executor.fail(call, error, started)
        if more:  # results share a write, but none waits for the end of what follows
            executor.client.link.flush_soon()
        else:
            executor.client.link.flush()


class _Group:
    """The threads of one concurrency group: as many as there are calls, up to a limit.

    The standard pool makes a future for every call, which takes longer than a short call.

    Args:
        name: of the group, "" for the default one.
        limit: threads at most.
        call: does the work; also told whether more is queued.
    """

    def __init__(self, name: str, limit: int, call: Callable[[Any, bool], None]) -> None:
        self._name = name
        self._limit = limit
        self._call = call
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._unfinished = 0

    def submit(self, work: Any) -> None:
        """Have a thread do it, after what was submitted before."""
        with self._lock:
            self._unfinished += 1
            lacking = len(self._threads) < min(self._unfinished, self._limit)
        if lacking:
            title = f"ray-{self._name or 'actor'}_{len(self._threads)}"
            thread = threading.Thread(target=self._serve, name=title, daemon=True)
            self._threads.append(thread)
            thread.start()
        self._queue.put(work)

    def _serve(self) -> None:
        take, left = self._queue.get, self._queue.qsize
        while (work := take()) is not None:
            self._call(work, left() > 0)
            with self._lock:
                self._unfinished -= 1

    def end(self) -> None:
        """Finish what is queued, then return."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()


class _Loop:
    """One event loop in the main thread; a semaphore per concurrency group."""

    def __init__(self, executor: "Executor") -> None:
        self._executor = executor
        self._tasks: dict[bytes, asyncio.Task[None]] = {}
        self._slots: dict[str, asyncio.Semaphore] = {}
        self._streams: dict[bytes, asyncio.Event] = {}
        self._flushing = False
        self._loop: asyncio.AbstractEventLoop
        self._ended: asyncio.Event

    def run(self) -> int:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(self._main())
        return 0

    async def _main(self) -> None:
        executor = self._executor
        assert executor.actor is not None
        options = executor.actor.options
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._slots = {
            name: asyncio.Semaphore(n) for name, n in {"": options["max_concurrency"], **options["groups"]}.items()
        }
        executor.client.on_stop_task = self._stop_soon
        executor.client.on_credit = self._credit
        executor.client.link.start_reader()
        executor.mailbox.setblocking(False)
        self._loop.add_reader(executor.mailbox.fileno(), self._readable)
        executor.client.link.flush()
        await self._ended.wait()
        if self._tasks:
            await asyncio.wait(self._tasks.values())
        executor.client.link.flush()

    def _readable(self) -> None:
        executor = self._executor
        while True:
            try:
                datagram = executor.mailbox.recv(_DATAGRAM_BYTES)
            except BlockingIOError:
                return
            if not datagram:
                self._loop.remove_reader(executor.mailbox.fileno())
                self._ended.set()
                return
            for body in msgpack.unpackb(datagram):
                self._begin(body)

    def _begin(self, body: list[Any]) -> None:
        executor = self._executor
        if len(body) == 1:
            body = executor.fetch_body(body[0])
        what = executor._known.get(body[1]) or executor.learn(body[0], body[1])
        if what is None:
            self._flush_soon()
            return
        tid = body[0]
        task = self._loop.create_task(self._call(what, body), name=what.name)
        self._tasks[tid] = task
        task.add_done_callback(lambda task: self._end(task, what, body))
        if tid in executor.stopped:  # the word came before the call itself
            task.cancel()

    def _end(self, task: asyncio.Task[None], what: Work, body: list[Any]) -> None:
        tid = body[0]
        del self._tasks[tid]
        if task.cancelled():  # before its first step: nothing in ``_call`` has run that could have said so
            call = Running(tid, what, body[5])
            self._executor.fail(call, cancelled(call), time.perf_counter_ns())
            self._flush_soon()

    def _stop_soon(self, tid: bytes) -> None:
        self._loop.call_soon_threadsafe(self._stop, tid)

    def _stop(self, tid: bytes) -> None:
        self._executor.note_stopped(tid)
        task = self._tasks.get(tid)
        if task is not None:
            task.cancel()

    async def _call(self, what: Work, body: list[Any]) -> None:
        executor = self._executor
        tid, _, args, args_at, deps, gpus, _ = body
        call = Running(tid, what, gpus)
        running_call.set(call)
        started = time.perf_counter_ns()
        try:
            async with self._slots[what.options.get("group", "")]:
                started = time.perf_counter_ns()
                positional, named = executor.load_args(args, args_at, deps)
                result = what.function(*positional, **named)
                if inspect.iscoroutine(result) or inspect.isawaitable(result):
                    result = await result
                if inspect.isasyncgen(result):
                    await self._stream(call, result)
                    executor.client.link.post_quietly((m.DONE, tid, m.INLINE, b"", [], run_us(started)))
                else:
                    executor._deliver(call, result, started)
        except asyncio.CancelledError as error:
            if tid in executor.stopped:
                executor.fail(call, cancelled(call), started)
            else:
                executor.fail(call, error, started)
        except BaseException as error:
            executor.fail(call, error, started)
        self._flush_soon()

    async def _stream(self, call: Running, items: Any) -> None:
        executor = self._executor
        index = 0
        executor.streams.open(call.tid)
        try:
            async for item in items:
                executor.streams.send(call, index, item)
                index += 1
                if call.what.backpressure:
                    await self._room(call.tid, index - call.what.backpressure)
                if executor.streams.taken(call.tid) < 0:
                    break
        finally:
            executor.streams.close(call.tid)
            await items.aclose()

    async def _room(self, tid: bytes, limit: int) -> None:
        """Wait until the consumer of a stream has taken more than `limit` items, or has gone."""
        changed = self._streams[tid] = asyncio.Event()
        try:
            while 0 <= self._executor.streams.taken(tid) <= limit:
                self._flush_soon()
                await changed.wait()
                changed.clear()
        finally:
            del self._streams[tid]

    def _credit(self, tid: bytes, consumed: int) -> None:
        """The consumer of a stream has taken items; told in the thread that reads."""
        self._executor.streams.note_credit(tid, consumed)
        self._loop.call_soon_threadsafe(self._wake_stream, tid)

    def _wake_stream(self, tid: bytes) -> None:
        changed = self._streams.get(tid)
        if changed is not None:
            changed.set()

    def _flush_soon(self) -> None:
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        self._executor.client.link.flush()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    import uvloop

    return uvloop.new_event_loop


def _refuse_stopped(executor: "Executor", call: Running) -> None:
    if call.tid in executor.stopped:
        raise cancelled(call)
