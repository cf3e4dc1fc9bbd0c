"""A worker process: it reads its mailbox and does what the arguments of its tasks say.

The arguments of a task are ``[what, microseconds, ..., references]``; see the methods ``_do_...``.
"""

from collections import deque
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgpack

from rayd.core.effect import Interrupt, KillWorker, RetireWorker
from rayd.core.streams import NONE_PICKLED
from rayd.ids import FIRST_RETURN, actor_object_id, return_id
from rayd.sim.options import MS_NS, SECOND_NS, US_NS
from rayd.sim.process import Process, content
from rayd.sim.program import Ask, Get, Program, Sleep, Thread, Wanted
from rayd.sim.streaming import Next, Taken
from rayd.wire import messages as m
from rayd.wire.messages import Message

if TYPE_CHECKING:
    from rayd.sim.daemon import Daemon
    from rayd.sim.simulation import Simulation

CRASHED: Final = {"kind": "exit", "exit_code": 3, "text": "its process exited with code 3"}
KILLED: Final = {"kind": "signal", "signal": "SIGKILL", "text": "it was ended by SIGKILL", "peak_bytes": 0}
ENDED: Final = {"kind": "exit", "exit_code": 0, "text": "its process exited with code 0"}
NOT_STARTED: Final = {"kind": "start", "text": "there is no more memory"}
_CREATION: Final = b"\xff" * 8


class Outcome(NamedTuple):
    """What a task has come to: as in DONE."""

    kind: int
    data: bytes
    inner: list[bytes]


class Work:
    """A task under way.

    Attributes:
        tid: its id.
        refs: what it refers to until it ends.
        streams: what it consumes until then.
        stopped: it shall end when the process is interrupted.
        thread: what runs it.
    """

    __slots__ = ("body", "refs", "stopped", "streams", "thread", "tid")

    def __init__(self, body: list[Any]) -> None:
        self.body = body
        self.tid: bytes = body[0]
        self.refs: list[bytes] = []
        self.streams: list[bytes] = []
        self.stopped = False
        self.thread: Thread | None = None


class WorkerProcess(Process):
    """One worker.

    Args:
        sim: the simulation.
        daemon: who has it started.
        wid: worker id.

    Attributes:
        aid: the actor that it serves.
    """

    def __init__(self, sim: "Simulation", daemon: "Daemon", wid: int) -> None:
        super().__init__(sim, daemon, "worker")
        self.wid = wid
        self.aid = b""
        self._slots = 1
        self._unread: deque[list[list[Any]]] = deque()
        self._taken: deque[list[Any]] = deque()
        self._under_way: dict[bytes, Work] = {}
        self._specs: dict[int, dict[str, Any]] = {}
        self._doomed = False
        self._retired = False
        self._ready = False

    # ---- birth and death ---------------------------------------------------------------------------------------------

    def fork(self) -> None:
        """The process exists, or cannot."""
        if not self.alive:
            return
        if self.sim.faults.start_fails():
            self.exit(NOT_STARTED, "killed")
            return
        self._there(self.daemon.started, self.wid, self.pid)
        if self._doomed:
            self.exit(KILLED, "told")
            return
        self.sim.clock.after(MS_NS, self._introduce)

    def _introduce(self) -> None:
        if self.alive:
            self._there(self._connect)

    def _connect(self) -> None:
        if self.alive and self.daemon.host.paused:
            self.daemon.host.when_resumed(self._connect)
        elif self.alive and self.daemon.alive:
            self.connect({}, self.wid)

    def welcomed(self) -> None:
        self._ready = True
        self._go_on()

    def told(self, effect: KillWorker | RetireWorker | Interrupt) -> None:
        """The daemon sends a signal, or mails no more."""
        match effect:
            case KillWorker():
                self._doomed = True
                if self._ready or self.conn:
                    self.sim.clock.after(self.sim.local_delay(), self.exit, KILLED, "told")
            case RetireWorker():
                self._retired = True
                self.sim.clock.after(self.sim.local_delay(), self._go_on)
            case Interrupt():
                self.sim.clock.after(self.sim.local_delay() * 4, self._interrupt)

    def exit(self, cause: dict[str, Any], how: str) -> None:
        """The process ends at once.

        Args:
            cause: as the daemon sees it.
            how: as ``Causes.ended`` sees it.
        """
        if not self.alive:
            return
        self._end(how)
        if self.conn:
            self._there(self.daemon.hang_up, self.conn)
        self._there(self.daemon.exited, self.wid, dict(cause), self.take_back)

    def die(self) -> None:
        self.exit(ENDED, "told")

    # ---- the mailbox -------------------------------------------------------------------------------------------------

    def mailed(self, bodies: list[list[Any]], *, batch: bool) -> None:
        """Bodies lie in the mailbox."""
        if self.sim.options.encoded:
            bodies = msgpack.unpackb(msgpack.packb(bodies))
        self._unread.extend([bodies] if batch else [[body] for body in bodies])
        if self.alive:
            self.sim.clock.after(self.sim.local_delay(), self._go_on)

    def take_back(self) -> list[bytes]:
        """Empty the mailbox; returns the ids of what was unread."""
        unread = [body[0] for datagram in self._unread for body in datagram]
        self._unread.clear()
        return unread

    def _go_on(self) -> None:
        while self.alive and self._ready and len(self._under_way) < self._slots:
            if not self._taken and self._unread:
                self._taken.extend(self._unread.popleft())
            if not self._taken:
                break
            self._begin(Work(self._taken.popleft()))
        if self._retired and self.alive and not (self._under_way or self._taken or self._unread):
            self.exit(ENDED, "told")

    def _begin(self, work: Work) -> None:
        self._under_way[work.tid] = work
        self.sim.checkers.reads(self, work.body)

        def ended(_: Any) -> None:
            self._under_way.pop(work.tid, None)
            self.sim.checkers.ends(self, work.tid)
            self.sim.clock.after(0, self._go_on)

        self.run(self._serve(work), ended, lambda thread: setattr(work, "thread", thread))

    def _serve(self, work: Work) -> Program:
        """Do a task and say what it has come to."""
        body = work.body
        if len(body) == 1:
            ok, body = yield Ask(lambda req: (m.BODY, req, work.tid))
            if not ok:
                return
        tid, cid, args, args_at, deps, gpus, _ = body
        if cid not in self._specs:
            ok, spec = yield Ask(lambda req: (m.FETCH, req, cid))
            if not ok:
                self.sim.checkers.fails("protocol", f"no function for {tid.hex()}: {spec}")
            self._specs[cid] = spec
        spec = self._specs[cid]
        what, run_us, *more = msgpack.unpackb(args if not args_at else self.daemon.memory.get(args_at[0], b""))
        self.sim.checkers.begins(self, tid, spec, [what, run_us, *more], gpus)
        for oid, kind, data in deps:
            self.sim.checkers.values.saw(
                self, oid, kind, self.daemon.memory.get(data[0], b"") if kind == m.STORED else data
            )
        began = self.sim.clock.now
        outcome = yield from self._doings()[what](work, run_us, more)
        if outcome is not None:
            spent = (self.sim.clock.now - began) // US_NS
            self.say((m.DONE, tid, outcome.kind, outcome.data, outcome.inner, spent))
        self._let_go(work)

    def _let_go(self, work: Work) -> None:
        """It refers to nothing any more."""
        self.streams.produced(work.tid)
        for stream in work.streams:
            self.streams.close(stream)
        self.drop(*work.refs)

    # ---- signals -----------------------------------------------------------------------------------------------------

    def heard(self, message: Message) -> None:
        if message[0] == m.STOP_TASK:
            work = self._under_way.get(message[1])
            if work is not None:
                work.stopped = True
        else:
            super().heard(message)

    def _interrupt(self) -> None:
        for work in [work for work in self._under_way.values() if work.stopped and work.thread is not None]:
            assert work.thread is not None
            del self._under_way[work.tid]
            self.give_up(work.thread)
            self.say((m.DONE, work.tid, m.ERROR, b"KeyboardInterrupt", [], 1))
            self._let_go(work)
            self.sim.checkers.ends(self, work.tid)
        self.flush()
        self._go_on()

    def blocks(self, thread: Thread) -> None:
        super().blocks(thread)
        if self._slots == 1 and len(self.blocked) == 1:
            self.say((m.BLOCKED,))
            self.sim.checkers.grants.blocked(self)

    def goes_on(self, thread: Thread) -> None:
        super().goes_on(thread)
        if self._slots == 1 and not self.blocked:
            self.say((m.RESUMED,))
            self.flush()

    # ---- what tasks do -----------------------------------------------------------------------------------------------

    def _doings(self) -> "dict[str, Callable[[Work, int, list[Any]], Generator[Wanted, Any, Outcome | None]]]":
        return {
            "run": self._do_run,
            "fail": self._do_fail,
            "crash": self._do_crash,
            "nest": self._do_nest,
            "refs": self._do_refs,
            "open": self._do_open,
            "call": self._do_call,
            "init": self._do_init,
            "add": self._do_add,
            "yield": self._do_yield,
            "consume": self._do_consume,
        }

    @staticmethod
    def _value(work: Work, inner: list[bytes]) -> Outcome:
        return Outcome(m.INLINE, content(work.tid + FIRST_RETURN, inner), inner)

    def _do_run(self, work: Work, run_us: int, more: list[Any]) -> Generator[Wanted, Any, Outcome | None]:
        """[size]: takes its time; a large result lies in the store."""
        yield Sleep(run_us * US_NS)
        size = more[0]
        if not size:
            return self._value(work, [])
        scratch = self.new_id() + FIRST_RETURN
        ok, offset = yield Ask(lambda req: (m.ALLOC, req, scratch, size))
        if not ok:
            return Outcome(m.ERROR, b"the store is full", [])
        self.daemon.memory[offset] = content(work.tid + FIRST_RETURN)
        return Outcome(m.STORED, scratch, [])

    def _do_fail(self, work: Work, run_us: int, more: list[Any]) -> Generator[Wanted, Any, Outcome | None]:
        """An exception; [n]: one to be tried again, n times."""
        yield Sleep(run_us * US_NS)
        tries = more[0]
        if self.sim.checkers.calls.attempts(work.tid) > tries > 0:
            return self._value(work, [])
        return Outcome(m.RETRYABLE if tries else m.ERROR, b"error", [])

    def _do_crash(self, work: Work, run_us: int, more: list[Any]) -> Generator[Wanted, Any, Outcome | None]:
        """[n]: the process ends, the first n times."""
        yield Sleep(run_us * US_NS)
        if self.sim.checkers.calls.attempts(work.tid) > more[0]:
            return self._value(work, [])
        self.sim.clock.after(0, self.exit, CRASHED, "killed")
        yield Sleep(SECOND_NS)
        return None

    def _do_nest(self, work: Work, run_us: int, more: list[Any]) -> Generator[Wanted, Any, Outcome | None]:
        """[[index, args] of each]: tasks of its own, which it waits for."""
        children = [self.submit(index, args) for index, args in more[0]]
        work.refs += children
        yield Sleep(run_us * US_NS)
        results = yield Get(children)
        failed = any(kind >= m.ERROR for kind, _ in results)
        return Outcome(m.ERROR, b"a child has failed", []) if failed else self._value(work, [])

    def _do_refs(self, work: Work, run_us: int, more: list[Any]) -> Generator[Wanted, Any, Outcome | None]:
        """[number, size]: its result contains references to objects that it puts."""
        for index in range(more[0]):
            oid = self.put()
            if more[1] and index % 2:
                stored = yield from self.store(more[1])
                work.refs += [stored] if stored else []
            work.refs.append(oid)
        yield Sleep(run_us * US_NS)
        return self._value(work, list(work.refs))

    def _do_open(self, work: Work, run_us: int, more: list[Any]) -> Generator[Wanted, Any, Outcome | None]:
        """Reads what is referred to in its arguments."""
        for oid in more[-1]:
            self.refer(oid)
            work.refs.append(oid)
        yield Sleep(run_us * US_NS)
        results = yield Get(more[-1])
        failed = any(kind >= m.ERROR for kind, _ in results)
        return Outcome(m.ERROR, b"an argument is lost", []) if failed else self._value(work, [])

    def _do_call(self, work: Work, run_us: int, more: list[Any]) -> Generator[Wanted, Any, Outcome | None]:
        """[actor, number]: calls an actor and waits for the results."""
        aid, number = more[0], more[1]
        self.refer(actor_object_id(aid))
        work.refs.append(actor_object_id(aid))
        calls = [self.call(aid, 0, run_us) for _ in range(number)]
        work.refs += calls
        results = yield Get(calls)
        failed = any(kind >= m.ERROR for kind, _ in results)
        return Outcome(m.ERROR, b"a call has failed", []) if failed else self._value(work, [])

    def _do_yield(self, work: Work, run_us: int, more: list[Any]) -> Generator[Wanted, Any, Outcome | None]:
        """[number, size, what, n]: so many items, of which some are large and some contain references; half way it
        fails ("fail"), the first n times so that it is tried again ("retry"), or its process ends ("crash").
        """
        number, size, what, times = more[:4]
        slow = int(self._specs[work.body[1]].get("backpressure", 0))
        self.streams.produce(work.tid)
        for index in range(number):
            yield Sleep(run_us * US_NS)
            if (
                what
                and index == number // 2
                and (what == "fail" or self.sim.checkers.calls.attempts(work.tid) <= times)
            ):
                return (yield from self._fail_half_way(what))
            yield from self._yield_item(work, index, size if index % 4 == 1 else 0)
            if slow and index + 1 >= slow:
                yield Taken(work.tid, index + 1 - slow)
            if not self.streams.is_wanted(work.tid):
                break
        return Outcome(m.INLINE, NONE_PICKLED, [])

    def _fail_half_way(self, what: str) -> Generator[Wanted, Any, Outcome | None]:
        if what != "crash":
            return Outcome(m.ERROR if what == "fail" else m.RETRYABLE, b"error", [])
        self.sim.clock.after(0, self.exit, CRASHED, "killed")
        yield Sleep(SECOND_NS)
        return None

    def _yield_item(self, work: Work, index: int, size: int) -> Generator[Wanted, Any, None]:
        oid = return_id(work.tid, index + 1)
        inner = []
        if size:
            scratch = self.new_id() + FIRST_RETURN
            ok, offset = yield Ask(lambda req: (m.ALLOC, req, scratch, size))
            if ok:
                self.daemon.memory[offset] = content(oid)
                self.say((m.YIELD, work.tid, index, m.STORED, scratch, []))
                return
        elif index % 4 == 2:
            inner = [self.put()]
            work.refs += inner
        self.say((m.YIELD, work.tid, index, m.INLINE, content(oid, inner), inner))

    def _do_consume(self, work: Work, run_us: int, more: list[Any]) -> Generator[Wanted, Any, Outcome | None]:
        """[index, args]: takes the items of a streaming task of its own."""
        tid = self.submit(more[0], more[1])
        work.streams.append(tid)
        failed = False
        while oid := (yield Next(tid)):
            work.refs.append(oid)
            ((kind, _),) = yield Get([oid])
            failed |= kind >= m.ERROR
        yield Sleep(run_us * US_NS)
        return Outcome(m.ERROR, b"a stream has failed", []) if failed else self._value(work, [])

    def _do_init(self, work: Work, run_us: int, more: list[Any]) -> Generator[Wanted, Any, Outcome | None]:
        """The constructor of an actor."""
        yield Sleep(MS_NS)
        self._slots = int(self._specs[work.body[1]].get("concurrency", 1))
        return Outcome(m.INLINE, b"v" + actor_object_id(self.aid), [])

    def _do_add(self, work: Work, run_us: int, more: list[Any]) -> Generator[Wanted, Any, Outcome | None]:
        """A method; [caller, turn]."""
        yield Sleep(run_us * US_NS)
        return self._value(work, [])
