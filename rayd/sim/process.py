"""A process that uses the SDK: what it refers to, what it waits for, and the threads of the program that it runs.

A program is a generator: what it yields (``Sleep``, ``Get``, ``Ask``) is what it waits for.
"""

from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import msgpack

from rayd.ids import FIRST_RETURN, actor_object_id, return_id
from rayd.wire import messages as m
from rayd.wire.frame import Framer, encode_many
from rayd.wire.messages import Message

if TYPE_CHECKING:
    from rayd.sim.daemon import Daemon
    from rayd.sim.simulation import Simulation

Program: TypeAlias = Generator["Wanted", Any, Any]

# What every job announces, by key: tasks, classes of actors, methods.
TASKS: Final[list[dict[str, Any]]] = [
    {"name": "plain", "max_retries": 3},
    {"name": "once", "max_retries": 0},
    {"name": "wide", "resources": {"CPU": 2}, "max_retries": 3},
    {"name": "free", "resources": {}, "max_retries": 3},
    {"name": "disk", "resources": {"CPU": 1, "disk": 0.5}, "max_retries": 3},
    {"name": "gpu", "resources": {"CPU": 0.5, "GPU": 0.5}, "max_retries": 3},
    {"name": "spread", "spread": True, "max_retries": 3},
    {"name": "few", "max_calls": 3, "max_retries": 3},
]
ACTORS: Final[list[dict[str, Any]]] = [
    {"name": "Plain", "resources": {}},
    {"name": "Restarted", "resources": {"CPU": 0.5}, "max_restarts": 3},
    {"name": "Forever", "resources": {}, "max_restarts": -1, "concurrency": 3},
    {"name": "Spread", "resources": {"CPU": 0.25}, "spread": True, "max_restarts": -1},
    {"name": "Gpu", "resources": {"GPU": 0.5}, "max_restarts": 1},
]
METHODS: Final[list[dict[str, Any]]] = [{"name": "add"}, {"name": "add again", "max_retries": 2}]


class Wanted(Protocol):
    """What a program waits for."""

    def begin(self, thread: "Thread") -> None:
        """Have the thread go on when it is there."""


class Sleep:
    """So many ns."""

    def __init__(self, ns: int) -> None:
        self.ns = ns

    def begin(self, thread: "Thread") -> None:
        thread.process.sim.clock.after(self.ns, thread.go_on, None)


class Get:
    """The values of objects: a list of (kind, content)."""

    def __init__(self, oids: Iterable[bytes]) -> None:
        self.oids = list(oids)

    def begin(self, thread: "Thread") -> None:
        thread.process.get(thread, self.oids)


class Ask:
    """The answer to a request: (ok, value)."""

    def __init__(self, message: Callable[[int], Message]) -> None:
        self.message = message

    def begin(self, thread: "Thread") -> None:
        thread.process.ask(thread, self.message)


class Thread:
    """One program on its way.

    Args:
        process: where it runs.
        program: just made.
        on_end: called with what it returns, unless it is given up before.
    """

    def __init__(self, process: "Process", program: Program, on_end: Callable[[Any], None]) -> None:
        self.process = process
        self.program = program
        self.over = False
        self._on_end = on_end

    def go_on(self, value: Any) -> None:
        """What it has waited for is there."""
        if self.over or not self.process.alive:
            return
        try:
            wanted = self.program.send(value)
        except StopIteration as end:
            self.over = True
            self._on_end(end.value)
            self.process.flush()
            return
        wanted.begin(self)
        self.process.flush()

    def give_up(self) -> None:
        """It does not go on."""
        self.over = True
        self.program.close()


class Process:
    """One process with a connection to the daemon of its machine.

    Args:
        sim: the simulation.
        daemon: whose client it is.
        kind: "driver" or "worker".

    Attributes:
        alive: it has not ended.
        held: how often it refers to each object.
        values: what it has been given of those.
    """

    def __init__(self, sim: "Simulation", daemon: "Daemon", kind: str) -> None:
        self.sim = sim
        self.daemon = daemon
        self.kind = kind
        self.alive = True
        self.conn = 0
        self.pid = sim.next_pid()
        self.job = b""
        self.number = 0
        self.held: dict[bytes, int] = {}
        self.values: dict[bytes, tuple[int, Any]] = {}
        self.threads: dict[Thread, None] = {}
        self._gets: dict[Thread, list[bytes]] = {}
        self._wanted: dict[bytes, list[Thread]] = {}
        self._asked: dict[int, Thread] = {}
        self._announced: set[int] = set()
        self._out: list[Message] = []
        self._due_there = 0
        self._due_here = 0
        self._made = 0
        self._requests = 0
        self.blocked: dict[Thread, None] = {}
        self._framers = (Framer(), Framer()) if sim.options.encoded else None
        daemon.host.processes[self] = None

    # ---- the line ----------------------------------------------------------------------------------------------------

    def connect(self, info: dict[str, Any], worker: int = 0) -> None:
        """Introduce itself."""
        self.conn = self.daemon.admit(self, self.kind, {"pid": self.pid, **info}, worker)

    def say(self, *messages: Message) -> None:
        """Add messages to the next write."""
        self._out += messages

    def flush(self) -> None:
        """Write what has been said."""
        if self._out and self.alive:
            out, self._out = self._out, []
            if self._framers is not None:
                out = list(self._framers[0].feed(encode_many(out)))
            self._there(self.daemon.hear, self.conn, out)

    def _there(self, act: Callable[..., None], *args: Any) -> None:
        """Have something happen at the daemon, after all that was said before."""
        self._due_there = max(self._due_there, self.sim.clock.now + self.sim.local_delay())
        self.sim.clock.at(self._due_there, act, *args)

    def send(self, messages: list[Message]) -> None:
        """The daemon has written this."""
        if self._framers is not None:
            messages = list(self._framers[1].feed(encode_many(messages)))
        self._due_here = max(self._due_here, self.sim.clock.now + self.sim.local_delay())
        self.sim.clock.at(self._due_here, self._read, messages)

    def _read(self, messages: list[Message]) -> None:
        for message in messages:
            if self.alive:
                self.heard(message)
        self.flush()

    def close(self) -> None:
        """The daemon wants no more of it."""
        self.sim.clock.after(self.sim.local_delay(), self.die)

    def leave(self) -> None:
        """It ends by itself, having said everything."""
        self.flush()
        self._end()
        self._there(self.daemon.hang_up, self.conn)

    def die(self) -> None:
        """It ends at once; what it has written arrives."""
        if self.alive:
            self._end()
            self._there(self.daemon.hang_up, self.conn)

    def vanish(self) -> None:
        """It ends with its machine."""
        if self.alive:
            self._end()

    def _end(self) -> None:
        self.alive = False
        self.daemon.host.processes.pop(self, None)
        for thread in list(self.threads):
            thread.give_up()
        self.threads.clear()
        self.sim.checkers.process_ended(self)

    # ---- threads -----------------------------------------------------------------------------------------------------

    def run(
        self,
        program: Program,
        on_end: Callable[[Any], None] = lambda value: None,
        on_begin: Callable[[Thread], None] = lambda thread: None,
    ) -> None:
        """Run a program; ``on_begin`` is given the thread before it does anything."""

        def ended(value: Any) -> None:
            self.threads.pop(thread, None)
            on_end(value)

        thread = Thread(self, program, ended)
        self.threads[thread] = None
        on_begin(thread)
        thread.go_on(None)

    def get(self, thread: Thread, oids: list[bytes]) -> None:
        """See ``Get``."""
        missing = [oid for oid in dict.fromkeys(oids) if oid not in self.values]
        self._gets[thread] = oids
        if not missing:
            self.sim.clock.after(0, self._got, thread)
            return
        self.blocks(thread)
        asked = [oid for oid in missing if oid not in self._wanted]
        for oid in missing:
            self._wanted.setdefault(oid, []).append(thread)
        if asked:
            self.say((m.WANT, asked))

    def _got(self, thread: Thread) -> None:
        oids = self._gets.pop(thread, None)
        if oids is not None:
            thread.go_on([self.values[oid] for oid in oids])

    def blocks(self, thread: Thread) -> None:
        """A thread begins to wait."""
        self.blocked[thread] = None

    def goes_on(self, thread: Thread) -> None:
        """It does not wait any more."""
        self.blocked.pop(thread, None)

    def give_up(self, thread: Thread) -> None:
        """A thread is interrupted."""
        self.threads.pop(thread, None)
        self._gets.pop(thread, None)
        if thread in self.blocked:
            self.goes_on(thread)
        thread.give_up()

    def ask(self, thread: Thread, message: Callable[[int], Message]) -> None:
        """See ``Ask``."""
        self._requests += 1
        self._asked[self._requests] = thread
        self.say(message(self._requests))

    def heard(self, message: Message) -> None:
        """The daemon has said something."""
        if message[0] == m.VALUE:
            self._take_value(message[1], message[2], message[3])
        elif message[0] == m.REPLY:
            thread = self._asked.pop(message[1], None)
            if thread is not None:
                thread.go_on((message[2], message[3]))
        elif message[0] == m.WELCOME:
            self.job = message[1]["job"]
            self.number = message[1]["number"]
            self.welcomed()

    def welcomed(self) -> None:
        """The daemon has let it in."""

    def _take_value(self, oid: bytes, kind: int, data: Any) -> None:
        if kind == m.STORED:
            data = self.daemon.memory.get(data[0], b"nothing")
        self.sim.checkers.values.saw(self, oid, kind, data)
        threads = self._wanted.pop(oid, [])
        self.values[oid] = (kind, data)
        for inner in contained_in(kind, data):
            self.refer(inner)
        for thread in threads:
            oids = self._gets.get(thread)
            if oids is not None and not any(other in self._wanted for other in oids):
                self.goes_on(thread)
                self._got(thread)

    # ---- objects -----------------------------------------------------------------------------------------------------

    def refer(self, oid: bytes) -> None:
        """It has come across a reference."""
        count = self.held.get(oid, 0)
        self.held[oid] = count + 1
        if not count:
            self.say((m.HOLD, [oid]))

    def drop(self, *oids: bytes) -> None:
        """It lets go of references that it has."""
        gone = []
        for oid in oids:
            count = self.held.pop(oid, 0)
            if count > 1:
                self.held[oid] = count - 1
            elif count:
                gone.append(oid)
        if gone:
            self.say((m.RELEASE, gone))
        for oid in gone:
            kind, data = self.values.pop(oid, (m.INLINE, b""))
            self.drop(*contained_in(kind, data))

    def new_id(self) -> bytes:
        """A task id that only this process draws."""
        self._made += 1
        return self._made.to_bytes(8, "little") + self._nonce(10) + self.job

    def _nonce(self, size: int) -> bytes:
        return self.number.to_bytes(2, "big") + self.pid.to_bytes(size, "big")

    def put(self, inner: Iterable[bytes] = ()) -> bytes:
        """Put a small value that contains references."""
        oid = self.new_id() + FIRST_RETURN
        self.held[oid] = 1
        self.say((m.PUT, oid, content(oid, inner), list(inner)))
        return oid

    def store(self, size: int) -> Generator[Wanted, Any, bytes]:
        """Put a large value; b"" if there is no room for it."""
        oid = self.new_id() + FIRST_RETURN
        ok, offset = yield Ask(lambda req: (m.ALLOC, req, oid, size))
        if not ok:
            return b""
        self.daemon.memory[offset] = content(oid)
        self.held[oid] = 1
        self.say((m.SEAL, oid, []))
        return oid

    # ---- tasks and actors --------------------------------------------------------------------------------------------

    def announce(self, key: int, options: dict[str, Any]) -> int:
        """Say once what a key stands for."""
        if key not in self._announced:
            self._announced.add(key)
            name = str(options["name"]).encode() if options["kind"] != "method" else b""
            if name:
                self.say((m.EXPORT, name, b"code of " + name))
            self.say((m.SPEC, key, {"resources": {"CPU": 1}, "function": name, **options}))
        return key

    def submit(
        self, index: int, args: list[Any], deps: Iterable[bytes] = (), inner: Iterable[bytes] = (), **place: Any
    ) -> bytes:
        """Submit a task; returns the id of its result, which it refers to.

        Args:
            index: in ``TASKS``.
            args: what the task is to do, see ``rayd.sim.worker``.
            deps: arguments.
            inner: references within its arguments.
            place: options of this place only, like a placement group; the key is made anew.
        """
        options = {**TASKS[index], "kind": "task", **place}
        key = self.announce(index if not place else 10_000 + len(self._announced), options)
        tid = self.new_id()
        args_bytes = msgpack.packb([*args, list(inner)])
        self.say((m.SUBMIT, tid, key, args_bytes, b"", list(deps), list(inner)))
        oid = tid + FIRST_RETURN
        self.held[oid] = 1
        self.sim.checkers.calls.made(self, tid, options, args)
        return oid

    def create(self, index: int) -> tuple[bytes, bytes]:
        """Create an actor; returns its id and that of the object that stands for it, which it refers to."""
        key = self.announce(1_000 + index, {**ACTORS[index], "kind": "actor"})
        self._made += 1
        aid = self._nonce(6) + self._made.to_bytes(4, "big") + self.job
        self.say((m.CREATE, 0, aid, key, msgpack.packb(["init", 0, []]), b"", [], []))
        oid = actor_object_id(aid)
        self.held[oid] = 1
        self.sim.checkers.actors.made(aid, ACTORS[index])
        return aid, oid

    def call(self, aid: bytes, index: int, run_us: int, deps: Iterable[bytes] = ()) -> bytes:
        """Call an actor; returns the id of the result, which it refers to."""
        options = {**METHODS[index], "kind": "method", "method": "add", "resources": {}}
        key = self.announce(2_000 + index, options)
        tid = self.new_id()
        turn = self.sim.checkers.order.calls(self, aid)
        args = ["add", run_us, self.pid, turn]
        self.say((m.CALL, tid, aid, key, msgpack.packb([*args, []]), b"", list(deps), []))
        oid = tid + FIRST_RETURN
        self.held[oid] = 1
        self.sim.checkers.calls.made(self, tid, options, args)
        return oid


def content(oid: bytes, inner: Iterable[bytes] = ()) -> bytes:
    """The value of an object: which one it is, and the references in it."""
    return b"v" + oid + b"".join(inner)


def contained_in(kind: int, data: Any) -> list[bytes]:
    """The references within a value."""
    if kind >= m.ERROR or len(data) <= 29:
        return []
    return [data[at : at + 28] for at in range(29, len(data), 28)]


def result_of(tid: bytes) -> bytes:
    """Id of the one result of a task."""
    return return_id(tid, 1)


__all__ = ["ACTORS", "METHODS", "TASKS", "Ask", "Get", "Process", "Program", "Sleep", "Thread"]
