"""Runs tasks and actor calls in a worker process.

The main thread reads the mailbox. A plain task, and a call of an ordinary actor, runs right there, so that nothing is
handed between threads on the hot path and Ctrl-C-like interruption (``ray.cancel``) reaches the running code. Threaded
and async actors are in ``_concurrency``.
"""

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from typing import Any, Final

import msgpack

from ray import _args, _collector, _process, exceptions
from ray._actor import ActorExit
from ray._client import Client
from ray._errors import capture, dump_error
from ray._generators import DynamicObjectRefGenerator
from ray._refs import ObjectRef
from ray._serialize import deserialize, dumps, serialize
from ray._streams import Streams
from ray._work import Running, Work, cancelled, run_us, running_call, show_gpus, timeval
from rayd.shell.output import MARK
from rayd.wire import messages as m

_DATAGRAM_BYTES: Final = 4 * 1024 * 1024
STREAMING: Final = -1
# After this long without work the worker shows itself as idle and lets go of what it still holds for speed.
IDLE_S: Final = 0.2
_STOPPED_MAX: Final = 4096


class Executor:
    """The worker side of one process.

    Args:
        client: its connection.
        mailbox: descriptor of the receiving end of its mailbox.
    """

    def __init__(self, client: Client, mailbox: int) -> None:
        self.client = client
        self.mailbox = socket.socket(fileno=mailbox)
        self.pid = os.getpid()
        self.ip: str = client.info["host"]
        self.instance: Any = None
        self.actor: Work | None = None
        self.actor_id = ""
        self.gpus: list[int] = []
        self.main: Running | None = None
        self.stopped: dict[bytes, None] = {}
        self.forked = False
        self._known: dict[int, Work] = {}
        self._functions: dict[bytes, Any] = {}
        self.streams = Streams(self)
        self._label = ""
        self._shown = ""
        self._marked = ""
        self._unread: list[Any] = []
        self._blocking = 0
        self._interruptible = False
        client.on_stop_task = self._on_stop_task
        client.on_credit = self.streams.note_credit
        client.should_stop = self._should_stop
        client.before_block = self._before_block
        client.after_block = self._after_block

    # ---- the loop ----------------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Run what comes until the mailbox is closed; returns the exit code."""
        signal.signal(signal.SIGINT, self._on_interrupt)
        sys.unraisablehook = self._on_unraisable
        self.mailbox.setblocking(True)
        idle_after = timeval(IDLE_S)
        self.mailbox.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, idle_after)
        receive = self.mailbox.recv
        more = False
        while True:
            if more:
                try:
                    datagram = receive(_DATAGRAM_BYTES, socket.MSG_DONTWAIT)
                except BlockingIOError:
                    more = False
                    continue
            else:
                self.client.link.flush()
                try:
                    datagram = receive(65536 * 4)
                except BlockingIOError:
                    datagram = self._receive_idle(idle_after)
            if not datagram:
                return 0
            bodies = msgpack.unpackb(datagram)
            left = len(bodies)
            for body in bodies:
                more = self.run_body(body)
                if self.forked:  # a child of the task came back from it too; it must not go on as a second worker
                    os._exit(0)
                left -= 1
                if more or left:
                    self.client.link.flush_soon()  # results share a write, but none waits for the end of what follows
                if self.actor is not None and self.actor.options["mode"] != "plain":
                    from ray import _concurrency

                    return _concurrency.serve(self)

    def _receive_idle(self, idle_after: bytes) -> bytes:
        """Nothing has come for a while: look idle, and wait without a limit."""
        if self.actor is None:
            self._label = ""
            self.label("ray::IDLE", "")
        self.client.link.poll()
        self.wait_without_limit()
        try:
            return self.mailbox.recv(_DATAGRAM_BYTES)
        finally:
            self.mailbox.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, idle_after)

    def wait_without_limit(self) -> None:
        """Reading the mailbox blocks until something comes."""
        self.mailbox.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval(0.0))

    def run_body(self, body: list[Any]) -> bool:
        """Run one body in this thread; returns its hint that another follows."""
        if len(body) == 1:
            body = self.fetch_body(body[0])
        tid, cid, args, args_at, deps, gpus, more = body
        what = self._known.get(cid)
        if what is None:
            what = self.learn(tid, cid)
            if what is None:
                return bool(more)
        if what.kind == "actor":
            self._create(tid, what, args, args_at, deps, gpus)
            return False
        self.main = call = Running(tid, what, gpus)
        self.client.captured = what.captured
        title = what.name
        if title != self._label:
            self._label = title
            self.label(f"ray::{title}" if self.actor else f"ray::{title}()", self._shown or title)
        if gpus or self.client.info["gpus"]:
            show_gpus(gpus)
        started = time.perf_counter_ns()
        try:
            try:
                self._interruptible = True
                if tid in self.stopped:
                    raise cancelled(call)
                if args == b"" and not args_at:
                    result = what.function()
                else:
                    positional, named = self.load_args(args, args_at, deps)
                    result = what.function(*positional, **named)
                    positional = named = None  # type: ignore[assignment]
                self._interruptible = False
                self._deliver(call, result, started)
                result = None
            except BaseException as error:
                self._interruptible = False
                self.fail(call, error, started)
        except KeyboardInterrupt as late:  # it came between the end of the task and the line that forbids it
            self.fail(call, late, started)
        self.main = None
        return bool(more) and what.repeatable  # else the result leaves before another task may take it along

    def fetch_body(self, tid: bytes) -> list[Any]:
        """A body that did not fit into a datagram."""
        body: list[Any] = self.client.request(lambda req: (m.BODY, req, tid))
        return body

    def learn(self, tid: bytes, cid: int) -> Work | None:
        """Fetch a spec and load its function; on failure the task fails with the reason."""
        try:
            options = self.client.request(lambda req: (m.FETCH, req, cid))
            what = self._callable(cid, options)
        except BaseException as error:
            name = f"spec {cid}"
            what = Work(cid, "task", name, None, 1, False, False, 0, {})
            self.fail(Running(tid, what, []), error, time.perf_counter_ns())
            return None
        self._known[cid] = what
        return what

    def _callable(self, cid: int, options: dict[str, Any]) -> Work:
        kind = options["kind"]
        if kind == "method":
            function = self._method(options["method"])
        else:
            function = self._functions.get(options["function"])
            if function is None:
                function = self._functions[options["function"]] = deserialize(options["blob"])
        retry = options.get("retry_exceptions", False)
        return Work(
            cid,
            kind,
            options["name"],
            function,
            options.get("num_returns", 1),
            options.get("dynamic", False),
            retry if isinstance(retry, bool) else deserialize(retry),
            options.get("backpressure", 0),
            options,
            options.get("max_retries", 0) != 0,
            self._captured_by(options),
        )

    def _captured_by(self, options: dict[str, Any]) -> bytes | None:
        """The placement group to which what a task or method submits belongs."""
        if self.actor is not None:
            return self.actor.captured
        return options["placement_group"] if options.get("capture") else None

    def _method(self, name: str) -> Any:
        if name == "__ray_ready__":
            return lambda *_: True
        if name == "__ray_terminate__":
            return self._terminate
        if name == "__ray_call__":
            return lambda function, *args, **kwargs: function(self.instance, *args, **kwargs)
        return getattr(self.instance, name)

    def _terminate(self) -> None:
        self.client.rpc("exit_actor")
        raise ActorExit

    # ---- arguments and results ---------------------------------------------------------------------------------------

    def load_args(self, args: bytes, args_at: list[Any], deps: list[Any]) -> tuple[Any, dict[str, Any]]:
        """Positional and named arguments of a body."""
        values = [self._dep_value(*dep) for dep in deps]
        if args_at:
            offset, size, oid = args_at
            payload = self.client.store.load(self._stored_ref(oid, [offset, size]))
        else:
            payload = deserialize(args) if args else ()
        return _args.unpack(payload, values)

    def _dep_value(self, oid: bytes, kind: int, data: Any) -> Any:
        if kind == m.INLINE:
            return deserialize(data)
        if kind == m.STORED:
            return self.client.store.load(self._stored_ref(oid, data))
        raise exceptions.RaySystemError(f"argument {oid.hex()} arrived as kind {kind}")

    def _stored_ref(self, oid: bytes, place: list[int]) -> ObjectRef[Any]:
        ref = self.client.receive(oid)
        if ref._kind < 0:
            ref._data = place
            ref._kind = m.STORED
        return ref

    def pack_result(self, value: Any, name: str) -> tuple[int, Any, list[bytes]]:
        """A result as kind, data and contained ids for DONE."""
        packed = serialize(value, f"the result of {name}")
        contained = [ref._id for ref in packed.contained]
        if packed.size <= m.INLINE_BYTES_MAX:
            return m.INLINE, packed.to_bytes(), contained
        scratch = self.client.new_task_id() + b"\xfe\xff\xff\xff"
        self.client.store.write(scratch, packed)
        return m.STORED, scratch, contained

    def _deliver(self, call: Running, result: Any, started: int) -> None:
        what = call.what
        if what.num_returns == 1 and not what.dynamic:
            if what.options.get("generator"):
                result = self._exactly(what, result)[0]
            kind, data, contained = self.pack_result(result, what.name)
            run_us = (time.perf_counter_ns() - started) // 1000
            self.client.link.post_quietly((m.DONE, call.tid, kind, data, contained, run_us))
        else:
            self.deliver_many(call, result, started)

    def deliver_many(self, call: Running, result: Any, started: int) -> None:
        """Results other than one plain value."""
        what = call.what
        if what.num_returns == STREAMING:
            self.streams.run(call, result)
            message: Any = (m.DONE, call.tid, m.INLINE, b"", [], run_us(started))
        elif what.dynamic:
            refs = self._put_all(call, result)
            kind, data, contained = self.pack_result(DynamicObjectRefGenerator(refs), what.name)
            message = (m.DONE, call.tid, kind, data, contained, run_us(started))
        else:
            values = [] if what.num_returns == 0 else list(self._exactly(what, result))
            results = [self.pack_result(value, what.name) for value in values]
            message = (m.DONE_MANY, call.tid, [list(row) for row in results], run_us(started))
        self.client.link.post_quietly(message)

    def _put_all(self, call: Running, items: Any) -> list[ObjectRef[Any]]:
        """Items of a dynamic task; an exception becomes the last one."""
        refs: list[ObjectRef[Any]] = []
        try:
            for item in items:
                refs.append(self.client.put(item))  # noqa: PERF401 - those before an exception are kept
        except Exception as error:
            refs.append(self.client.put_error(self._dump(error, call.what)))
        return refs

    def _exactly(self, what: Work, result: Any) -> Any:
        try:
            values = list(result)
        except TypeError:
            values = None
        if values is None or len(values) != what.num_returns:
            got = f"{len(values)} values" if values is not None else f"a {type(result).__name__}, which is no sequence"
            raise ValueError(
                f"{what.name} has num_returns={what.num_returns} but returned {got}; return exactly that many, or"
                " change num_returns"
            )
        return values

    def fail(self, call: Running, error: BaseException, started: int) -> None:
        """Report an exception as the task's result."""
        if isinstance(error, SystemExit):
            self._exit(error)
        if isinstance(error, ActorExit):
            self.leave(0)
        what = call.what
        if isinstance(error, KeyboardInterrupt) and call.tid in self.stopped:
            error = cancelled(call)
        self.stopped.pop(call.tid, None)
        retry = what.retry is True or (what.retry and isinstance(error, what.retry))
        data = self._dump(error, what)
        kind = m.RETRYABLE if retry and not isinstance(error, exceptions.TaskCancelledError) else m.ERROR
        self.client.link.post_quietly((m.DONE, call.tid, kind, data, [], run_us(started)))

    def _dump(self, error: BaseException, what: Work) -> bytes:
        if isinstance(error, exceptions.TaskCancelledError):
            return dumps(error)
        shown = None
        if self.actor is not None and self.instance is not None:
            with contextlib.suppress(Exception):
                shown = repr(self.instance)
        captured = capture(error, what.name, self.pid, self.ip, self.actor_id or None, shown)
        return dump_error(captured, dumps, deserialize)

    def _exit(self, error: SystemExit) -> None:
        """sys.exit in a task ends the worker, as it would end a program."""
        code = error.code if isinstance(error.code, int) else (0 if error.code is None else 1)
        if error.code is not None and not isinstance(error.code, int):
            print(error.code, file=sys.stderr)
        self.leave(code)

    def leave(self, code: int) -> None:
        """End this process in order."""
        with contextlib.suppress(Exception):
            self.client.link.flush()
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)

    # ---- actors ------------------------------------------------------------------------------------------------------

    def _create(
        self, tid: bytes, what: Work, args: bytes, args_at: list[Any], deps: list[Any], gpus: list[int]
    ) -> None:
        """Run ``__init__``."""
        self.actor = what
        self.client.captured = what.captured
        self.actor_id = tid[8:].hex()
        options = what.options
        threads = options["max_concurrency"] > 1 or bool(options["groups"])
        options["mode"] = "async" if options["is_async"] else "threads" if threads else "plain"
        self._shown = what.name
        self.label(f"ray::{what.name}.__init__", what.name)
        if gpus or self.client.info["gpus"]:
            show_gpus(gpus)
        init = Work(what.cid, "task", f"{what.name}.__init__", None, 1, False, False, 0, options)
        self.main = call = Running(tid, init, gpus)
        started = time.perf_counter_ns()
        try:
            positional, named = self.load_args(args, args_at, deps)
            self.instance = what.function(*positional, **named)
            if getattr(type(self.instance), "__repr__", None) is not object.__repr__:
                with contextlib.suppress(Exception):
                    self._shown = repr(self.instance)
            self.label(f"ray::{what.name}", self._shown)
            self.client.link.post_quietly((m.DONE, tid, m.INLINE, b"\x80\x05N.", [], run_us(started)))
        except BaseException as error:
            self.fail(call, error, started)
        finally:
            self.main = None
            self.gpus = gpus

    # ---- being told things while running -----------------------------------------------------------------------------

    def note_stopped(self, tid: bytes) -> None:
        """Remember that a task is cancelled; of those that were over already when the word came, only so many."""
        self.stopped[tid] = None
        if len(self.stopped) > _STOPPED_MAX:
            del self.stopped[next(iter(self.stopped))]

    def _on_stop_task(self, tid: bytes) -> None:
        self.note_stopped(tid)
        call = self.main
        if (
            call is not None
            and call.tid == tid
            and self.actor is None
            and threading.current_thread() is not threading.main_thread()
        ):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    def _on_interrupt(self, number: int, frame: Any) -> None:
        """SIGINT: the daemon has sent STOP_TASK before; if it names what runs here, interrupt it."""
        link = self.client.link
        if not link.critical and not _collector.within(frame):
            if self._should_stop():
                raise KeyboardInterrupt
            if link.poll():
                if self._should_stop():
                    raise KeyboardInterrupt
                link.start_reader()  # the signal was quicker than the message: have somebody there when it comes
                return
        # This very thread is in the middle of reading, perhaps just before STOP_TASK, or where what is raised is lost:
        # look again when it has finished.
        link.interrupted = lambda: self._on_interrupt(number, None)
        link.flush_soon()

    def _on_unraisable(self, lost: Any) -> None:
        """An exception was raised where it gets nowhere. If it was our interruption, in a ``__del__`` say, it is made
        again.
        """
        call = self.main
        if isinstance(lost.exc_value, KeyboardInterrupt) and call is not None and call.tid in self.stopped:
            self._interruptible = True
            self.client.link.interrupted = lambda: self._on_interrupt(signal.SIGINT, None)
            self.client.link.flush_soon()
        else:
            sys.__unraisablehook__(lost)

    def call_now(self) -> Running | None:
        """The task or call that the calling thread or coroutine belongs to."""
        return running_call.get() or self.main

    def gpus_now(self) -> list[int]:
        """GPU ids granted to what runs."""
        call = self.main
        return call.gpus if call is not None and call.gpus else self.gpus

    def is_cancelled(self, call: Running) -> bool:
        """Whether ``ray.cancel`` was called for it."""
        self.client.link.poll()
        return call.tid in self.stopped

    def _should_stop(self) -> bool:
        """Whether the running task is to be interrupted now; true once only."""
        call = self.main
        if not self._interruptible or call is None or call.tid not in self.stopped or self.actor is not None:
            return False
        self._interruptible = False
        return True

    def _before_block(self) -> None:
        self.client.link.post_quietly((m.BLOCKED,))
        self._blocking += 1

    def _after_block(self) -> None:
        if self._blocking:
            self._blocking -= 1
            self.client.link.post((m.RESUMED,))

    def label(self, title: str, name: str) -> None:
        """Show what runs: process title for ``ps``, and a mark in the output so that lines get the right prefix."""
        _process.title(title)
        if name and name != self._marked:
            self._marked = name
            sys.stdout.flush()
            mark = MARK + " ".join(name.split()).encode("utf-8", "replace") + MARK + b"\n"  # a mark is one line
            for fd in (1, 2):
                with contextlib.suppress(OSError):
                    os.write(fd, mark)
