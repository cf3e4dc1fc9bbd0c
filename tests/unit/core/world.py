"""Everybody around a node core, as plain values: drivers, workers, their mailboxes, the clock.

A ``World`` stands where the shell stands: it turns what its peers do into events and carries the effects to them. Every
message and every mailed body goes through the real encoder and decoder, so what cannot travel fails here. After each
step the core's invariants are checked, and ``close`` fails when something that was sent or asked for went unseen.
"""

from collections.abc import Callable
from itertools import count
from typing import Any

import msgpack

from peers import CRASH, SIGKILL, Peer, RefusedError, WorkerPeer, actor_object, creation, returned
from rayd.core.effect import Audit, Dial, Effect, Effects, SendPart, StartWorker, TakeBack
from rayd.core.event import Event, Sent, TakenBack, Tick, WorkerExited, WorkerStarted
from rayd.core.node import Node
from rayd.errors import Fault
from rayd.store.arena import Arena
from rayd.wire import messages as m
from rayd.wire.frame import encode

__all__ = [
    "CRASH",
    "SIGKILL",
    "Peer",
    "RefusedError",
    "WorkerPeer",
    "World",
    "actor_object",
    "creation",
    "holder_of",
    "returned",
]

MS = 1_000_000
STORE_BYTES = 1 << 20
ADDRESS = "127.0.0.1:6379"


class World:
    """One node core among plain values.

    Args:
        cpus: of the node.
        resources: others it has.
        store_bytes: capacity of its store.
        checked: check all invariants after each step.
        address: of its daemon.
        life: which one at that address.

    Attributes:
        others: effects of the rarer kind that no one has looked at.
        starting: workers that were asked for and not started.
        audits: lines for the log.
        trace: everything the core ever asked for, in order.
        memory: the bytes of its store.
        waits: requests may have to wait for a head that has gone.
        arrives: what other stores read arrives at once.
        snatches: whether a worker reads the next datagram before it can be taken back.
    """

    def __init__(
        self,
        *,
        cpus: float = 1,
        resources: dict[str, float] | None = None,
        store_bytes: int = STORE_BYTES,
        checked: bool = True,
        address: str = ADDRESS,
        life: int = 0,
    ) -> None:
        self.life = life
        self.effects = Effects()
        self.arena = Arena(store_bytes)
        self.memory = bytearray(store_bytes)
        self.totals = {"CPU": cpus, **(resources or {})}
        node_id = b"n" * 28 if address == ADDRESS else f"{address} {life}".encode().ljust(28)
        facts = {"address": address, "host": "127.0.0.1", "node_id": node_id}
        self.node = Node(node_id, self.totals, self.arena, self.effects, facts)
        self.checked = checked
        self.now = 1
        self.peers: dict[int, Peer] = {}
        self.mailboxes: dict[int, WorkerPeer] = {}
        self.others: list[Effect] = []
        self.starting: list[StartWorker] = []
        self.audits: list[str] = []
        self.trace: list[tuple[str, int, Any]] = []
        self.waits: Callable[[], bool] = lambda: False
        self.snatches: Callable[[], bool] = lambda: False
        self.dial: Callable[[Dial], None] = _nowhere
        self.deliver: Callable[[], object] = bool
        self._conns = count(1)
        self.arrives = True
        self._store: Peer | None = None

    # ---- the shell's part --------------------------------------------------------------------------------------------

    def step(self, event: Event) -> None:
        """Give the core an event and carry out what it asks for."""
        try:
            self.node.step(self.now, event)
        finally:
            self._carry_out()
            if self.checked:
                self.node.check()

    def _carry_out(self) -> None:
        effects = self.effects
        for offset, data in effects.writes:
            self.trace.append(("write", offset, data))
            self.memory[offset : offset + len(data)] = data
        effects.writes = []
        while effects.dials or effects.sends or effects.mail or effects.others:
            for dial in self._take_dials():
                self.dial(dial)
            sends, mail, others = dict(effects.sends), dict(effects.mail), effects.others
            effects.sends.clear()
            effects.mail.clear()
            effects.others = []
            for conn, messages in sends.items():
                self.trace += [("send", conn, message) for message in messages]
                if conn in self.peers and self.peers[conn].connected:
                    self.peers[conn].sent(messages)
            for wid, bodies in mail.items():
                self.trace += [("mail", wid, body) for body in bodies]
                worker = self.mailboxes.get(wid)
                if worker is not None and worker.alive:
                    self._mail(worker, bodies)
            for effect in others:
                if isinstance(effect, Audit):
                    self.audits.append(effect.text)
                    continue
                self.trace.append(("do", 0, effect))
                if isinstance(effect, SendPart):
                    part = bytes(self.memory[effect.offset : effect.offset + effect.size])
                    self.peers[effect.conn].sent([(m.DATA, effect.req, part)])
                    if self.peers[effect.conn].kind == "bulk" and self.arrives:
                        self.node.step(self.now, Sent(effect.conn))
                    continue
                if isinstance(effect, StartWorker):
                    self.starting.append(effect)
                    continue
                self.others.append(effect)
                if isinstance(effect, TakeBack):
                    self._take_back(effect.worker)

    def _take_dials(self) -> list[Dial]:
        dials, self.effects.dials = self.effects.dials, []
        return dials

    def _mail(self, worker: WorkerPeer, bodies: list[list[Any]]) -> None:
        batch = self.node.state.pool.workers[worker.wid].actor is not None
        for group in [bodies] if batch else [[body] for body in bodies]:
            packed = encode(group)
            assert len(packed) < m.DATAGRAM_BYTES_MAX + 4096, "a datagram has to fit the kernel's buffer"
            worker.unread.append(msgpack.unpackb(packed))

    @staticmethod
    def exited(wid: int, cause: dict[str, Any] = CRASH) -> WorkerExited:
        """The end of a worker that never connected."""
        return WorkerExited(wid, dict(cause), [], [])

    def _take_back(self, wid: int) -> None:
        worker = self.mailboxes.get(wid)
        taken: list[bytes] = []
        while worker is not None and worker.unread:
            if self.snatches():  # the worker reads on while its mailbox is being drained
                worker.read()
            else:
                taken += [body[0] for body in worker.unread.popleft()]
        self.node.step(self.now, TakenBack(wid, taken))

    def read(self, oid: bytes, at: int, size: int) -> bytes | Fault:
        """What another store is sent that asks for a part of an object, or the reason why it is not."""
        store = self._store = self._store or self.tool("bulk")
        store.send((m.READ, 1, oid, at, size))
        answer = store.inbox.pop()
        return bytes(answer[2]) if answer[0] == m.DATA else dict(answer[3])

    def take(self, kind: type | None = None) -> list[Effect]:
        """Effects of the rarer kind since the last look: all, or those of one class."""
        taken = [effect for effect in self.others if kind is None or isinstance(effect, kind)]
        self.others = [effect for effect in self.others if kind is not None and not isinstance(effect, kind)]
        return taken

    def wait_ms(self, ms: float) -> None:
        """Let time pass; the core gets a Tick whenever it asked for one by then."""
        end = self.now + int(ms * MS)
        while (deadline := self.node.next_deadline()) is not None and deadline <= end:
            self.now = max(self.now + 1, deadline)
            self.step(Tick())
        self.now = max(self.now, end)

    # ---- states in one line ------------------------------------------------------------------------------------------

    def driver(self, **info: Any) -> Peer:
        """A connected driver."""
        return Peer(self, next(self._conns), "driver", {"pid": 900, **info})

    def tool(self, kind: str = "cli", **info: Any) -> Peer:
        """A connected command-line tool ("cli") or reader of output ("logs")."""
        return Peer(self, next(self._conns), kind, {"pid": 800, **info})

    def workers(self, limit: int = 1000) -> list[WorkerPeer]:
        """Start what the core has asked for so far, oldest first, and connect it."""
        asked, self.starting = self.starting[:limit], self.starting[limit:]
        started = []
        for effect in asked:
            self.step(WorkerStarted(effect.worker, 1000 + effect.worker))
            started.append(WorkerPeer(self, next(self._conns), effect.worker))
        return started

    def worker_with(self, tid: bytes) -> WorkerPeer:
        """The worker that a task was mailed to."""
        (found,) = [worker for worker in self.mailboxes.values() if tid in worker.mail() or tid in worker.begun]
        return found

    def actor(self, owner: Peer, *, calls: int = 0, **options: Any) -> tuple[bytes, WorkerPeer, list[bytes]]:
        """An actor whose constructor has returned, on a worker of its own, with some calls read and not finished."""
        aid = owner.create(owner.actor_class(**options))
        if aid not in {worker.actor for worker in self.node.state.pool.workers.values()}:
            self.workers()
        (wid,) = [worker.wid for worker in self.node.state.pool.workers.values() if worker.actor == aid]
        worker = self.mailboxes[wid]
        worker.run(b"")
        made = [owner.call(aid, owner.method()) for _ in range(calls)]
        while worker.unread:
            worker.read()
        return aid, worker, made

    # ---- the end -----------------------------------------------------------------------------------------------------

    def forgive(self) -> None:
        """What is left unseen does not matter to this test."""
        self.others.clear()
        for peer in self.peers.values():
            peer.inbox.clear()
        for worker in self.mailboxes.values():
            worker.unread.clear()

    def close(self) -> None:
        """Check the core once more, and that nothing was sent, mailed or asked for unseen."""
        self.node.check()
        assert not self.others, f"effects nobody looked at: {self.others}"
        unseen = {
            f"{peer.kind} {conn}": peer.inbox for conn, peer in self.peers.items() if peer.connected and peer.inbox
        }
        assert not unseen, f"messages nobody looked at: {unseen}"
        unread = {wid: worker.mail() for wid, worker in self.mailboxes.items() if worker.alive and worker.unread}
        assert not unread, f"mail nobody has read, by worker: {unread}"

    def expect_nothing_left(self) -> None:
        """Everything was released: no object, no byte, no task, and every resource is free."""
        state = self.node.state
        assert not state.objects.entries, f"objects left: {[oid.hex() for oid in state.objects.entries]}"
        assert self.arena.used == 0
        assert state.ledger.available() == self.totals
        assert not state.ledger.debt()
        assert not self.node.tasks.waiting
        assert not self.node.streams.by_task
        assert not state.children
        assert not state.bodies


def holder_of(world: World, oid: bytes) -> int:
    """How many hold an object; 0 when it is gone."""
    entry = world.node.state.objects.entries.get(oid)
    return entry.holds if entry is not None else 0


def _nowhere(dial: Dial) -> None:
    raise AssertionError(f"there is nobody to connect to: {dial}")
