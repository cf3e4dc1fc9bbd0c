"""One life of a daemon: a real core, and what ``rayd.shell.daemon`` is to it, played in virtual time."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from rayd.core import effect as does
from rayd.core.effect import Dial, Effect, Effects
from rayd.core.event import (
    Connected,
    Disconnected,
    Event,
    Fetched,
    Linked,
    Received,
    Sent,
    SourceFailed,
    TakenBack,
    Tick,
    WorkerExited,
    WorkerStarted,
)
from rayd.core.node import Node
from rayd.errors import VERSION, fault
from rayd.sim.clock import Alarm
from rayd.sim.network import End, Link
from rayd.sim.options import MS_NS, US_NS
from rayd.sim.transfer import BYTES_PER_US, Transfer
from rayd.sim.violation import ViolationError
from rayd.sim.worker import KILLED
from rayd.store.arena import Arena
from rayd.wire.frame import ProtocolError
from rayd.wire.messages import DATA, REFUSED, Message

if TYPE_CHECKING:
    from rayd.sim.host import Host
    from rayd.sim.worker import WorkerProcess

# Nothing is allocated for it, so it may be as large as a real one.
STORE_BYTES = 4 << 30
# The large objects of the workload are worth a question.
SHARED_FROM = 100_000
# A refusal that honest nodes meet: one of the two was taken for dead, or has not heard yet of an end.
_HONEST = (
    "has taken this node for dead",
    "has ended",
    "there is no node number",
    "is connected already",
    "another node at this address",
)


class Party(Protocol):
    """Who is at the other end of one of a daemon's connections."""

    def send(self, messages: list[Message]) -> None:
        """The daemon has written this."""

    def close(self) -> None:
        """The daemon flushes and closes."""


class Daemon:
    """One daemon from its start to its end.

    Args:
        host: the machine.
        node_id: 28 bytes.

    Attributes:
        node: the core.
        memory: what lies in its store, by offset; a few bytes stand for many.
        parties: who is connected, by number.
        workers: processes, by worker id.
        steps: how often the core was asked.
    """

    def __init__(self, host: "Host", node_id: bytes) -> None:
        self.host = host
        self.sim = host.sim
        self.clock = host.sim.clock
        self.effects = Effects()
        self.arena = Arena(STORE_BYTES)
        ip = host.address.partition(":")[0]
        facts = {"node_id": node_id, "address": host.address, "host": ip, "labels": {}}
        self.totals = {**host.resources, f"node:{ip}": 1.0}
        self.node = Node(node_id, self.totals, self.arena, self.effects, facts)
        self.node.neighbours.foreign.pulls.shared_from = SHARED_FROM
        self.memory: dict[int, bytes] = {}
        self.parties: dict[int, Party] = {}
        self.workers: dict[int, WorkerProcess] = {}
        self.transfers: dict[int, Transfer] = {}
        self.steps = 0
        self._bulk: dict[int, None] = {}
        self.joined = False
        self._next_conn = 1
        self._alarm: Alarm | None = None
        self._fence: Alarm | None = None
        self._fence_due = 0
        self._stopping = False

    @property
    def alive(self) -> bool:
        """It has not ended."""
        return self.host.daemon is self

    # ---- events in ---------------------------------------------------------------------------------------------------

    def feed(self, event: Event) -> None:
        """Let the core decide on one event, now or when the machine goes on."""
        if not self.alive:
            return
        if self.host.paused:
            self.host.when_resumed(self.feed, event)
            return
        self._trace(event)
        try:
            self.step(event)
        except ProtocolError as error:
            self._refuse(event, error)
        finally:
            self._carry_out()
        self.steps += 1
        every = self.sim.options.check_every
        if every and self.steps % every == 0 and self.alive:
            self.check()

    def step(self, event: Event) -> None:
        """One step of the core; a core that fails is a finding.

        Raises:
            ProtocolError: a client broke the protocol.
        """
        try:
            self.node.step(self.clock.now, event)
        except (AssertionError, LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise ViolationError("core", f"{self.host.address} fails at {event!r:.2000}: {error!r}") from error

    def check(self) -> None:
        """The core's own invariants."""
        try:
            self.node.check()
        except (AssertionError, LookupError) as error:
            raise ViolationError("invariant", f"at {self.host.address}: {error!r}") from error

    def _trace(self, event: Event) -> None:
        detail = ""
        if type(event) is Received:
            detail = f"{event.conn} {' '.join([str(message[0]) for message in event.messages[:50]])}"
        else:
            first = next(iter(event), "")
            detail = str(first)[:60] if isinstance(first, int | str) else ""
        self.sim.trace.line(self.clock.now, self.host.address, f"{type(event).__name__} {detail}")

    def _refuse(self, event: Event, error: ProtocolError) -> None:
        """The shell closes the connection of who breaks the protocol."""
        text = str(error)
        if not isinstance(event, Connected | Received):
            raise ViolationError("protocol", f"{self.host.address} at {event!r:.500}: {text}") from error
        if not any(known in text for known in _HONEST):
            raise ViolationError("protocol", f"{self.host.address} at {event!r:.2000}: {text}") from error
        party = self.parties.get(event.conn)
        if party is not None:
            party.send([(REFUSED, fault(VERSION, text))])
            party.close()

    # ---- effects out -------------------------------------------------------------------------------------------------

    def _carry_out(self) -> None:
        effects = self.effects
        while self.alive and (effects.dials or effects.writes or effects.sends or effects.mail or effects.others):
            self._send_out()
            others, effects.others = effects.others, []
            for effect in others:
                self._send_out()
                self._do(effect)
        if self.alive:
            self._arm()

    def _send_out(self) -> None:
        effects = self.effects
        while effects.writes:
            offset, data = effects.writes.pop(0)
            self.memory[offset] = data
        if effects.dials:
            dials, effects.dials = effects.dials, []
            for dial in dials:
                self._dial(dial)
        if effects.sends:
            sends = list(effects.sends.items())
            effects.sends.clear()
            for conn, messages in sends:
                party = self.parties.get(conn)
                if party is not None and messages:
                    party.send(messages)
        if effects.mail:
            mail = list(effects.mail.items())
            effects.mail.clear()
            for wid, bodies in mail:
                worker = self.workers.get(wid)
                if worker is not None:
                    worker.mailed(bodies, batch=self.node.state.pool.workers[wid].actor is not None)

    def _dial(self, dial: Dial) -> None:
        end = End(self.sim.network, self.host, None, accepted=False)
        self.parties[dial.conn] = self._link(dial.conn, end, stands=False)
        self.sim.network.dial(end, dial.address, "node", dial.info)

    def _link(self, conn: int, end: End, *, stands: bool) -> Link:
        return Link(
            conn, end, stands=stands, on_linked=self._on_linked, on_messages=self._on_messages, on_end=self._on_end
        )

    def _do(self, effect: Effect) -> None:
        match effect:
            case does.StartWorker():
                self.host.start_worker(effect)
            case does.KillWorker() | does.RetireWorker() | does.Interrupt():
                worker = self.workers.get(effect.worker)
                if worker is not None:
                    worker.told(effect)
            case does.TakeBack():
                worker = self.workers.get(effect.worker)
                if worker is not None:
                    self.step(TakenBack(effect.worker, worker.take_back()))
            case does.Fetch():
                self.transfers.setdefault(effect.number, Transfer(self, effect)).come_from(effect)
            case does.Report():
                pass  # what comes in one piece has no parts to tell of
            case does.StopFetch():
                if effect.number in self.transfers:
                    self.transfers[effect.number].stop()
            case does.SendPart():
                self._send_part(effect)
            case does.CloseConnection():
                party = self.parties.get(effect.conn)
                if party is not None:
                    party.close()
            case does.Joined():
                self.joined = True
            case does.FenceAt():
                self._fence_at(effect.due)
            case does.Write():
                self.sim.disk.put(self, effect)
            case does.Recovered():
                pass
            case does.StopDaemon():
                if not self._stopping:
                    self._stopping = True
                    self.clock.after(0, self.host.stop, effect.reason)

    def _send_part(self, effect: does.SendPart) -> None:
        """Other nodes are sent what lies in the store while it is sent, programs elsewhere a copy of it."""
        part, party = self.memory.get(effect.offset, b""), self.parties.get(effect.conn)
        if effect.conn in self._bulk:
            self.clock.after(effect.size * US_NS // BYTES_PER_US, self._stream_part, effect, part)
        elif party is not None:
            party.send([(DATA, effect.req, part)])

    def _stream_part(self, effect: does.SendPart, before: bytes) -> None:
        """Bytes that have been freed on the way are garbage."""
        party = self.parties.get(effect.conn)
        if party is not None and self.alive:
            after = self.memory.get(effect.offset, b"")
            party.send([(DATA, effect.req, after if after == before else b"garbage")])
            self.feed(Sent(effect.conn))

    def _arm(self) -> None:
        """See to it that the core gets its Tick in time; timers of a real loop count in milliseconds."""
        deadline = self.node.next_deadline()
        if deadline is None:
            return
        due = max(self.clock.now, deadline - deadline % -MS_NS)
        if self._alarm is not None:
            if due >= self._alarm[0]:
                return
            self.clock.cancel(self._alarm)
        self._alarm = self.clock.at(due + 1, self._tick)

    def _fence_at(self, due: int) -> None:
        """The fork server is to kill all workers, whatever becomes of the daemon until then."""
        self._fence_due = due
        if self._fence is None:
            self._fence = self.clock.at(due, self._fenced)

    def _fenced(self) -> None:
        self._fence = None
        if self.clock.now < self._fence_due:
            self._fence_at(self._fence_due)
            return
        for worker in list(self.workers.values()):
            worker.exit(KILLED, "lost")

    def _tick(self) -> None:
        self._alarm = None
        self.feed(Tick())

    def silence(self) -> None:
        """It ends: no timer of it goes off any more."""
        for alarm in (self._alarm, self._fence):
            if alarm is not None:
                self.clock.cancel(alarm)
        self._alarm = self._fence = None

    # ---- connections -------------------------------------------------------------------------------------------------

    def accept(self, end: End, kind: str, info: dict[str, Any]) -> None:
        """Another machine has connected and introduced itself."""
        conn = self.new_conn()
        self.parties[conn] = self._link(conn, end, stands=True)
        if kind == "bulk":
            self._bulk[conn] = None
        self.feed(Connected(conn, kind, info))

    def new_conn(self) -> int:
        """The number of a connection that is accepted."""
        self._next_conn += 1
        return self._next_conn - 1

    def admit(self, party: Party, kind: str, info: dict[str, Any], worker: int = 0) -> int:
        """A process of this machine has connected; returns the connection's number."""
        conn = self.new_conn()
        self.parties[conn] = party
        self.feed(Connected(conn, kind, info, worker))
        return conn

    def _on_linked(self, conn: int, welcome: dict[str, Any]) -> None:
        self.feed(Linked(conn, welcome))

    def _on_messages(self, conn: int, messages: list[Message]) -> None:
        self.feed(Received(conn, messages))

    def _on_end(self, conn: int, why: str, how: str) -> None:
        if self.host.paused:
            self.host.when_resumed(self._on_end, conn, why, how)
        elif self.alive and self.parties.pop(conn, None) is not None:
            self.feed(Disconnected(conn, why, how))

    # ---- processes ---------------------------------------------------------------------------------------------------

    def hear(self, conn: int, messages: list[Message]) -> None:
        """A process of this machine has said something."""
        if conn in self.parties:
            self.feed(Received(conn, messages))

    def hang_up(self, conn: int) -> None:
        """A process of this machine has closed its connection."""
        self._on_end(conn, "", "")

    def started(self, wid: int, pid: int) -> None:
        """A worker process exists."""
        self.feed(WorkerStarted(wid, pid))

    def exited(self, wid: int, cause: dict[str, Any], unread: Callable[[], list[bytes]]) -> None:
        """A worker process is gone, and its last messages have been delivered."""
        if self.host.paused:
            self.host.when_resumed(self.exited, wid, cause, unread)
        elif self.alive:
            self.workers.pop(wid, None)
            self.feed(WorkerExited(wid, cause, [], unread()))

    def source_failed(self, number: int, source: int, why: dict[str, Any]) -> None:
        """A machine does not send what was asked of it."""
        self.feed(SourceFailed(number, source, why))

    def fetched(self, number: int) -> None:
        """A transfer has ended."""
        self.transfers.pop(number, None)
        self.feed(Fetched(number))
