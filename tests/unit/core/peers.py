"""Processes that talk to a node core: a driver, a tool, a worker with its mailbox."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any

from rayd.core.event import Connected, Disconnected, Received, WorkerExited
from rayd.errors import Fault
from rayd.ids import FIRST_RETURN, actor_object_id, return_id
from rayd.wire import messages as m
from rayd.wire.frame import Framer, encode, encode_many

if TYPE_CHECKING:
    from world import World

CRASH = {"kind": "exit", "exit_code": 3, "text": "its process exited with code 3"}
SIGKILL = {"kind": "signal", "signal": "SIGKILL", "text": "it was ended by SIGKILL", "peak_bytes": 0}


def actor_object(aid: bytes) -> bytes:
    """The object that stands for an actor."""
    return actor_object_id(aid)


def creation(aid: bytes) -> bytes:
    """Id of the task that runs an actor's constructor."""
    return b"\xff" * 8 + aid


class RefusedError(Exception):
    """The daemon answered a request with a fault."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault["message"])
        self.fault = fault


def returned(tid: bytes, index: int = 1) -> bytes:
    """Id of a task's return."""
    return return_id(tid, index)


class Peer:
    """One connected process: it submits, holds, asks, and reads what it is sent.

    Attributes:
        inbox: what it was sent and no one has looked at.
    """

    def __init__(self, world: "World", conn: int, kind: str, info: dict[str, Any], worker: int = 0) -> None:
        self.world = world
        self.conn = conn
        self.kind = kind
        self.inbox: list[list[Any]] = []
        self.connected = True
        self.job = b""
        self._to_daemon = Framer()
        self._from_daemon = Framer()
        self._keys = count(1)
        self._tasks = count(1)
        self._requests = count(1)
        self._batch: list[Sequence[Any]] | None = None
        world.peers[conn] = self
        (hello,) = self._to_daemon.feed(encode((m.HELLO, m.PROTOCOL_VERSION, kind, info)))
        world.step(Connected(conn, hello[2], hello[3], worker))
        if self.inbox and self.inbox[0][0] == m.WELCOME:
            self.welcome = self.inbox.pop(0)[1]
            self.job = self.welcome["job"]

    # ---- the line ----------------------------------------------------------------------------------------------------

    def send(self, *messages: Sequence[Any]) -> None:
        """One write of some messages."""
        if self._batch is not None:
            self._batch += messages
            return
        self.world.step(Received(self.conn, list(self._to_daemon.feed(encode_many(messages)))))

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is sent in this block goes out in one write at its end, or before the first request in it."""
        self._batch = []
        try:
            yield
        finally:
            self._write_batch()

    def _write_batch(self) -> None:
        batch, self._batch = self._batch, None
        if batch:
            self.send(*batch)

    def sent(self, messages: list[Any]) -> None:
        """The daemon has written this."""
        self.inbox += self._from_daemon.feed(encode_many(messages))

    def take(self, tag: int | None = None) -> list[list[Any]]:
        """What was sent since the last look: everything, or only messages with this tag."""
        taken = [message for message in self.inbox if tag is None or message[0] == tag]
        self.inbox = [message for message in self.inbox if tag is not None and message[0] != tag]
        return taken

    def request(self, message: Callable[[int], Sequence[Any]]) -> Any:
        """Send a message that is answered at once by a REPLY; returns its value, None if it has to wait for that."""
        self._write_batch()
        req = next(self._requests)
        self.send(message(req))
        if not any(message[:2] == [m.REPLY, req] for message in self.inbox):
            self.world.deliver()  # another node is asked first
        if self.world.waits() and not any(message[:2] == [m.REPLY, req] for message in self.inbox):
            return None
        (reply,) = [message for message in self.inbox if message[:2] == [m.REPLY, req]]
        self.inbox.remove(reply)
        if not reply[2]:
            raise RefusedError(reply[3])
        return reply[3]

    def rpc(self, method: str, **params: Any) -> Any:
        """Ask one of the rare questions."""
        return self.request(lambda req: (m.RPC, req, method, params))

    def group(self, *bundles: dict[str, float], **params: Any) -> bytes:
        """Ask for a placement group; returns its id."""
        gid = self.new_tid()[:14] + self.job
        self.rpc("group_create", group_id=gid, bundles=list(bundles), **params)
        return gid

    def group_state(self, gid: bytes) -> str:
        (row,) = self.rpc("group_table", group_id=gid)
        return str(row["state"])

    def leave(self) -> None:
        """Close the connection."""
        self.connected = False
        self.world.step(Disconnected(self.conn))

    # ---- tasks and actors --------------------------------------------------------------------------------------------

    def spec(self, name: str = "f", *, cpus: float = 1, **options: Any) -> int:
        """Export a function and announce it with its options; returns its key."""
        self.send((m.EXPORT, name.encode(), b"code of " + name.encode()))
        resources = {"CPU": cpus, **options.pop("resources", {})}
        return self._announce(
            {"kind": "task", "name": name, "function": name.encode(), "resources": resources, **options}
        )

    def method(self, name: str = "Counter.add", **options: Any) -> int:
        """Announce an actor's method; returns its key."""
        return self._announce({"kind": "method", "name": name, "function": b"", "method": name, **options})

    def actor_class(self, name: str = "Counter", **options: Any) -> int:
        """Announce an actor's class; returns its key."""
        return self._announce({"kind": "actor", "name": name, "function": name.encode(), **options})

    def _announce(self, options: dict[str, Any]) -> int:
        key = next(self._keys)
        self.send((m.SPEC, key, options))
        return key

    def _nonce(self, size: int) -> bytes:
        """The number of its node, and what tells it from others there, in the life of a former head too."""
        own = self.world.life << 32 | self.conn
        return self.world.node.state.number.to_bytes(2, "big") + own.to_bytes(size, "big")

    def new_tid(self) -> bytes:
        """A task id that only this process draws."""
        return next(self._tasks).to_bytes(8, "little") + self._nonce(10) + self.job

    def submit(
        self,
        key: int,
        args: bytes = b"",
        *,
        args_oid: bytes = b"",
        deps: Iterable[bytes] = (),
        contained: Iterable[bytes] = (),
    ) -> bytes:
        """Submit a task; returns its id."""
        tid = self.new_tid()
        self.send((m.SUBMIT, tid, key, args, args_oid, list(deps), list(contained)))
        return tid

    def create(
        self, key: int, *, args_oid: bytes = b"", deps: Iterable[bytes] = (), contained: Iterable[bytes] = ()
    ) -> bytes:
        """Create an actor; returns its id."""
        aid = self._nonce(6) + next(self._tasks).to_bytes(4, "big") + self.job
        self.request(lambda req: (m.CREATE, req, aid, key, b"", args_oid, list(deps), list(contained)))
        return aid

    def call(
        self, aid: bytes, key: int, args: bytes = b"", *, args_oid: bytes = b"", deps: Iterable[bytes] = ()
    ) -> bytes:
        """Call an actor's method; returns the call's id."""
        tid = self.new_tid()
        self.send((m.CALL, tid, aid, key, args, args_oid, list(deps), []))
        return tid

    def cancel(self, tid: bytes, *, force: bool = False, recursive: bool = True) -> None:
        self.send((m.CANCEL, tid + FIRST_RETURN, force, recursive))

    # ---- objects -----------------------------------------------------------------------------------------------------

    def put(self, data: bytes = b"v", contained: Iterable[bytes] = ()) -> bytes:
        """Put a small value; returns its id."""
        oid = self.new_tid() + FIRST_RETURN
        self.send((m.PUT, oid, data, list(contained)))
        return oid

    def allocate(self, size: int, oid: bytes | None = None) -> tuple[bytes, int]:
        """Reserve room in the store; returns id and offset."""
        name = oid or self.new_tid() + FIRST_RETURN
        return name, self.request(lambda req: (m.ALLOC, req, name, size))

    def store(self, size: int, contained: Iterable[bytes] = ()) -> bytes:
        """Put a large value; returns its id."""
        oid, _ = self.allocate(size)
        self.send((m.SEAL, oid, list(contained)))
        return oid

    def hold(self, *oids: bytes) -> None:
        self.send((m.HOLD, list(oids)))

    def release(self, *oids: bytes) -> None:
        self.send((m.RELEASE, list(oids)))

    def want(self, *oids: bytes) -> None:
        self.send((m.WANT, list(oids)))

    def value(self, oid: bytes) -> tuple[int, Any]:
        """Kind and data of an object that is ready."""
        self.want(oid)
        (value,) = [message for message in self.inbox if message[:2] == [m.VALUE, oid]]
        self.inbox.remove(value)
        return value[2], value[3]

    def fault(self, oid: bytes) -> Fault:
        """The fault an object stands for."""
        kind, data = self.value(oid)
        assert kind == m.FAULT, f"expected a fault, got kind {kind}: {data!r}"
        fault: Fault = data
        return fault


class WorkerPeer(Peer):
    """A worker process: reads its mailbox datagram by datagram, in order.

    Attributes:
        unread: datagrams in its mailbox.
        begun: ids of what it has read and not finished.
    """

    def __init__(self, world: "World", conn: int, wid: int) -> None:
        self.wid = wid
        self.unread: deque[list[list[Any]]] = deque()
        self.begun: list[bytes] = []
        self.bodies: dict[bytes, list[Any]] = {}
        self.alive = True
        world.mailboxes[wid] = self
        super().__init__(world, conn, "worker", {"pid": 1000 + wid}, wid)

    def mail(self) -> list[bytes]:
        """Ids of what lies unread in its mailbox."""
        return [body[0] for datagram in self.unread for body in datagram]

    def read(self) -> list[bytes]:
        """Read one datagram; returns the ids in it."""
        bodies = self.unread.popleft()
        self.bodies.update((body[0], body) for body in bodies)
        self.begun += [body[0] for body in bodies]
        return [body[0] for body in bodies]

    def body(self, tid: bytes) -> list[Any]:
        """What was mailed for a task that it has read."""
        return self.bodies[tid]

    def done(self, tid: bytes, data: bytes = b"v", *, contained: Iterable[bytes] = (), run_us: int = 100) -> None:
        """Finish something with a small value."""
        self._finish((m.DONE, tid, m.INLINE, data, list(contained), run_us))

    def done_stored(self, tid: bytes, size: int, contained: Iterable[bytes] = ()) -> None:
        """Finish something with a large value."""
        scratch, _ = self.allocate(size)
        self._finish((m.DONE, tid, m.STORED, scratch, list(contained), 100))

    def done_many(self, tid: bytes, *values: bytes) -> None:
        """Finish something that has several returns."""
        self._finish((m.DONE_MANY, tid, [[m.INLINE, value, []] for value in values], 100))

    def fail(self, tid: bytes, error: bytes = b"error", *, retryable: bool = False) -> None:
        """Finish something with an exception."""
        self._finish((m.DONE, tid, m.RETRYABLE if retryable else m.ERROR, error, [], 100))

    def _finish(self, message: Sequence[Any]) -> None:
        self.begun.remove(message[1])
        self.bodies.pop(message[1], None)
        self.send(message)

    def run(self, data: bytes = b"v", **details: Any) -> bytes:
        """Read the next task and finish it; returns its id."""
        (tid,) = self.read()
        self.done(tid, data, **details)
        return tid

    def run_all(self, **details: Any) -> list[bytes]:
        """Read and finish until nothing comes any more."""
        finished = []
        while self.begun or self.unread:
            if not self.begun:
                self.read()
            finished.append(self.begun[0])
            self.done(self.begun[0], **details)
        return finished

    def yields(self, tid: bytes, index: int, data: bytes = b"item") -> None:
        """One item of a stream."""
        self.send((m.YIELD, tid, index, m.INLINE, data, []))

    def blocked(self) -> None:
        self.send((m.BLOCKED,))

    def resumed(self) -> None:
        self.send((m.RESUMED,))

    def die(self, cause: dict[str, Any] = CRASH, stderr: Iterable[str] = ()) -> None:
        """Its process ends: first its connection, then the process; what it has not read is counted."""
        if self.connected:
            self.leave()
        self.alive = False
        unread = self.mail()
        self.unread.clear()
        self.begun.clear()
        self.world.step(WorkerExited(self.wid, dict(cause), list(stderr), unread))
