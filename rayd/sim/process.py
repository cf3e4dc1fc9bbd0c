"""A process that uses the SDK: what it refers to, what it waits for, and the threads of the program that it runs.

A program is a generator: what it yields (``Sleep``, ``Get``, ``Ask``) is what it waits for.
"""

from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any

import msgpack

from rayd.ids import FIRST_RETURN, actor_object_id
from rayd.sim.catalogue import ACTORS, METHODS, TASKS
from rayd.sim.program import Ask, Program, Thread, Wanted
from rayd.sim.streaming import Streams
from rayd.wire import messages as m
from rayd.wire.frame import Framer, encode_many
from rayd.wire.messages import Message

if TYPE_CHECKING:
    from rayd.sim.daemon import Daemon
    from rayd.sim.simulation import Simulation


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
        streams: those that it consumes or produces.
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
        self.streams = Streams(self)
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
            self.write_out(out)

    def write_out(self, out: list[Message]) -> None:
        """Messages go to the daemon."""
        self._there(self.daemon.hear, self.conn, out)

    def hang_up(self) -> None:
        """The connection is closed, after all that was said."""
        self._there(self.daemon.hang_up, self.conn)

    def _there(self, act: Callable[..., None], *args: Any) -> None:
        """Have something happen at the daemon, after all that was said before."""
        self._due_there = max(self._due_there, self.sim.clock.now + self.sim.local_delay())
        self.sim.clock.at(self._due_there, act, *args)

    def send(self, messages: list[Message]) -> None:
        """The daemon has written this."""
        if self._framers is not None:
            messages = list(self._framers[1].feed(encode_many(messages)))
        self._due_here = max(self._due_here, self.sim.clock.now + self.sim.local_delay())
        self.sim.clock.at(self._due_here, self.receive, messages)

    def receive(self, messages: list[Message]) -> None:
        """Messages of the daemon are here."""
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
        self._end("by itself")
        self.hang_up()

    def die(self) -> None:
        """It ends at once, since its daemon wants no more of it; what it has written arrives."""
        if self.alive:
            self._end("told")
            self.hang_up()

    def vanish(self) -> None:
        """It ends with its machine."""
        if self.alive:
            self._end("lost")

    def _end(self, how: str) -> None:
        self.alive = False
        self.daemon.host.processes.pop(self, None)
        for thread in list(self.threads):
            thread.give_up()
        self.threads.clear()
        self.sim.checkers.process_ended(self, how)

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
        elif message[0] == m.STREAM_ITEM:
            self.streams.item(*message[1:])
        elif message[0] == m.STREAM_END:
            self.streams.end(*message[1:])
        elif message[0] == m.CREDIT:
            self.streams.credit(*message[1:])
        elif message[0] == m.WELCOME:
            self.job = message[1]["job"]
            self.number = message[1]["number"]
            self.sim.checkers.causes.numbers[self.number] = self.daemon.host.address
            self.welcomed()

    def welcomed(self) -> None:
        """The daemon has let it in."""

    def _take_value(self, oid: bytes, kind: int, data: Any) -> None:
        if self.take_item(oid, kind, data):
            self.has_come(oid)

    def take_item(self, oid: bytes, kind: int, data: Any) -> bool:
        """It has been given the value of an object; whether it knows its content now."""
        if kind == m.STORED:
            data = self.daemon.memory.get(data[0], b"nothing")
        self.keep(oid, kind, data)
        return True

    def keep(self, oid: bytes, kind: int, data: Any) -> None:
        """It knows the content of an object."""
        self.sim.checkers.values.saw(self, oid, kind, data)
        self.values[oid] = (kind, data)
        for inner in contained_in(kind, data):
            self.refer(inner)

    def has_come(self, oid: bytes) -> None:
        """Threads that have waited for an object go on."""
        for thread in self._wanted.pop(oid, []):
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
        self.write(oid, offset)
        self.held[oid] = 1
        self.say((m.SEAL, oid, []))
        return oid

    def write(self, oid: bytes, offset: int) -> None:
        """Write the content of an object where the daemon has made room for it."""
        self.daemon.memory[offset] = content(oid)

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
        key = self.announce(index if not place else self._own_key(), options)
        tid = self.new_id()
        args_bytes = msgpack.packb([*args, list(inner)])
        self.say((m.SUBMIT, tid, key, args_bytes, b"", list(deps), list(inner)))
        oid = self._expect(tid, options)
        self.sim.checkers.calls.made(self, tid, options, args)
        return oid

    def _own_key(self) -> int:
        """A key for what is announced for one place only."""
        return 10_000 + len(self._announced)

    def _expect(self, tid: bytes, options: dict[str, Any]) -> bytes:
        """It refers to what a task returns from now on; returns the id of that, or of the task if it is a stream."""
        if options.get("num_returns", 1) < 0:
            self.streams.open(tid, slow=bool(options.get("backpressure")))
            return tid
        oid = tid + FIRST_RETURN
        self.held[oid] = 1
        return oid

    def new_actor_id(self) -> bytes:
        """An actor id that only this process draws."""
        self._made += 1
        return self._nonce(6) + self._made.to_bytes(4, "big") + self.job

    def create(self, index: int) -> tuple[bytes, bytes]:
        """Create an actor; returns its id and that of the object that stands for it, which it refers to."""
        key = self.announce(1_000 + index, {**ACTORS[index], "kind": "actor"})
        aid = self.new_actor_id()
        self.say((m.CREATE, 0, aid, key, msgpack.packb(["init", 0, []]), b"", [], []))
        oid = actor_object_id(aid)
        self.held[oid] = 1
        self.sim.checkers.actors.made(aid, ACTORS[index], self)
        return aid, oid

    def create_named(
        self, index: int, name: str, *, get_if_exists: bool
    ) -> Generator[Wanted, Any, tuple[bytes, dict[str, Any] | None]]:
        """Create an actor with a name and wait until that is known; returns its id, or that of the one that there is,
        and None, or b"" and why there is none.
        """
        options = {**ACTORS[index], "kind": "actor", "actor_name": name, "get_if_exists": get_if_exists}
        key = self.announce(self._own_key(), options)
        aid, names = self.new_actor_id(), self.sim.checkers.names
        self.held[actor_object_id(aid)] = 1
        self.sim.checkers.actors.made(aid, options, self)
        names.asked_for(aid, name, options, self)
        ok, value = yield Ask(
            lambda req: (m.CREATE, req, aid, key, msgpack.packb(["init", 0, []]), b"", [], []),
        )
        if ok and value is None:
            names.created(aid)
            return aid, None
        self.drop(actor_object_id(aid))
        names.not_created(aid, ok, value)
        if not ok:
            return b"", value
        self.refer(actor_object_id(value["actor_id"]))
        return value["actor_id"], None

    def call(self, aid: bytes, index: int, run_us: int, deps: Iterable[bytes] = (), more: Iterable[Any] = ()) -> bytes:
        """Call an actor; returns the id of the result, which it refers to, or that of the call if it is a stream.

        Args:
            aid: the actor.
            index: of the method, in ``METHODS``.
            run_us: how long it takes.
            deps: arguments.
            more: what a method that yields is to do, see ``WorkerProcess._do_yield``.
        """
        options = {**METHODS[index], "kind": "method", "resources": {}}
        key = self.announce(2_000 + index, options)
        tid = self.new_id()
        args = [options["method"], run_us]
        args += [self.pid, self.sim.checkers.order.calls(self, aid)] if options["method"] == "add" else more
        self.say((m.CALL, tid, aid, key, msgpack.packb([*args, []]), b"", list(deps), []))
        oid = self._expect(tid, options)
        self.sim.checkers.calls.made(self, tid, options, args, aid)
        return oid


def content(oid: bytes, inner: Iterable[bytes] = ()) -> bytes:
    """The value of an object: which one it is, and the references in it."""
    return b"v" + oid + b"".join(inner)


def contained_in(kind: int, data: Any) -> list[bytes]:
    """The references within a value."""
    if kind >= m.ERROR or len(data) <= 29:
        return []
    return [data[at : at + 28] for at in range(29, len(data), 28)]
