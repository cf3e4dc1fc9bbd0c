"""Connections between machines, as TCP shows them: in order, late, and now and then broken.

What is lost or overtaken on the way arrives late, since TCP sends it again; so loss and reordering are delays here.
While a machine cannot be reached, what was sent to it is held; after ``SILENCE_NS`` the kernel gives the connection
up, at each end by itself.
"""

from collections.abc import Callable, Iterable
from random import Random
from typing import TYPE_CHECKING, Any, Final, Protocol

from rayd.sim.clock import Clock
from rayd.sim.options import MS_NS, SECOND_NS, US_NS
from rayd.wire.frame import Framer, encode_many
from rayd.wire.messages import REFUSED, Message

if TYPE_CHECKING:
    from rayd.sim.host import Host

# As in ``rayd.shell.dial_tcp`` and ``rayd.shell.silence``.
HANDSHAKE_NS: Final = 10 * SECOND_NS
SILENCE_NS: Final = 40 * SECOND_NS
# An idle connection is probed after this long. What counts is the time since the last sign of the other side, which may
# be one probe older than the cut; and it is looked at only when the next probe or packet is due.
PROBE_NS: Final = 10 * SECOND_NS
# The kernel sends again what was not acknowledged after this long, then after twice as long, and so on.
RETRANSMIT_NS: Final = 200 * MS_NS


class Receiver(Protocol):
    """Who is at one end of a connection."""

    def arrived(self, messages: list[Message]) -> None:
        """Messages have come."""

    def ended(self, why: str, how: str) -> None:
        """The connection is no more; called once."""


class End:
    """One end of a connection.

    Attributes:
        host: whose it is.
        receiver: who is told of what arrives.
        other: the other end; None until there is one.
        open: it can send and is told.
        held: what waits until the other machine can be reached.
        due: when the last thing that is on its way to this end arrives, in ns.
    """

    __slots__ = ("accepted", "due", "framer", "held", "host", "network", "open", "other", "receiver")

    def __init__(self, network: "Network", host: "Host", receiver: Receiver | None, *, accepted: bool) -> None:
        self.network = network
        self.host = host
        self.receiver = receiver
        self.accepted = accepted
        self.other: End | None = None
        self.open = True
        self.held: list[list[Message] | None] = []
        self.due = 0
        self.framer = Framer() if network.encoded else None
        network.ends[self] = None

    def send(self, messages: list[Message]) -> None:
        """Write messages in one go."""
        if self.open and self.other is not None:
            if self.framer is not None:
                messages = list(self.framer.feed(encode_many(messages)))
            self.network.carry(self, messages)

    def close(self) -> None:
        """Flush and close."""
        if self.open:
            if self.other is not None:
                self.network.carry(self, None)
            self.network.clock.after(US_NS, self.end, "", "")

    def end(self, why: str, how: str) -> None:
        """It is over at this end, which is told so."""
        if self.open:
            self.vanish()
            if self.receiver is not None:
                self.receiver.ended(why, how)

    def vanish(self) -> None:
        """It is over, and there is nobody at this end to be told."""
        self.open = False
        self.network.ends.pop(self, None)

    def arrive(self, item: list[Message] | None) -> None:
        """The next thing has come: messages, or None for the end."""
        if not self.open or self.receiver is None:
            return
        if item is None:
            self.end("", "")
        else:
            self.receiver.arrived(item)

    def expect_welcome(self) -> None:
        """The other side has had its time to let this one in."""
        if self.open and not getattr(self.receiver, "stands", True):
            self.close()


class Cut:
    """Some machines cannot be reached by the others.

    Args:
        inside: addresses of the machines.
        inward, outward: whether nothing passes to them, and from them.
        by: addresses of those others; None for all.
    """

    def __init__(self, inside: Iterable[str], *, inward: bool, outward: bool, by: Iterable[str] | None = None) -> None:
        self.inside = dict.fromkeys(inside)
        self._by = None if by is None else dict.fromkeys(by)
        self.inward = inward
        self.outward = outward

    def blocks(self, source: str, target: str) -> bool:
        """Whether nothing passes from one machine to another."""
        return (self.inward and target in self.inside and self._is_outside(source)) or (
            self.outward and source in self.inside and self._is_outside(target)
        )

    def _is_outside(self, address: str) -> bool:
        return address not in self.inside and (self._by is None or address in self._by)


class Network:
    """All machines and what connects them.

    Args:
        clock: of the simulation.
        rng: decides how late things come.
        encoded: messages are packed and unpacked on the way.

    Attributes:
        hosts: by address.
        loss: share of what is sent that TCP has to send again.
        ends: of connections that are open.
    """

    def __init__(self, clock: Clock, rng: Random, *, encoded: bool) -> None:
        self.clock = clock
        self.encoded = encoded
        self.loss = 0.0
        self.hosts: dict[str, Host] = {}
        self.ends: dict[End, None] = {}
        self._holding: dict[End, None] = {}  # those that hold something, also closed ones
        self.broken: list[End] = []  # ends whose other end has given up and could not say so
        self._cuts: list[Cut] = []
        self._rng = rng

    def latency(self) -> int:
        """How long something takes from one machine to another, in ns."""
        rng = self._rng
        late = int(100 * US_NS + rng.expovariate(1.0) * 100 * US_NS)
        if self.loss:
            again = RETRANSMIT_NS
            while rng.random() < self.loss:
                late += again
                again *= 2
        return late

    def is_cut(self, source: str, target: str) -> bool:
        """Whether nothing passes from one machine to another."""
        return any(cut.blocks(source, target) for cut in self._cuts)

    def _apart(self, one: "Host", other: "Host") -> bool:
        """Whether two machines cannot have a conversation."""
        return bool(self._cuts) and (self.is_cut(one.address, other.address) or self.is_cut(other.address, one.address))

    # ---- connections -------------------------------------------------------------------------------------------------

    def dial(self, end: End, address: str, kind: str, info: dict[str, Any]) -> None:
        """Connect one end to a machine and introduce who is there.

        Args:
            end: just made.
            address: host:port of a daemon.
            kind, info: as in HELLO.
        """
        self.clock.after(self.latency(), self._reach, end, address, kind, info)

    def _reach(self, end: End, address: str, kind: str, info: dict[str, Any]) -> None:
        target = self.hosts.get(address)
        if not end.open:
            return
        if target is None or target.silent or self._apart(end.host, target):
            self.clock.after(HANDSHAKE_NS, end.end, f"nothing answers at {address}", "")
        elif target.daemon is None:
            self.clock.after(self.latency(), end.end, f"nobody listens at {address}", "nobody")
        else:
            self.clock.after(self.latency() * 2, self._introduce, end, target, target.life, kind, info)
            self.clock.after(HANDSHAKE_NS, end.expect_welcome)

    def _introduce(self, end: End, target: "Host", life: int, kind: str, info: dict[str, Any]) -> None:
        if not end.open:
            return
        if target.life != life or target.daemon is None:
            end.end("the connection was reset", "")
        elif target.paused:
            target.when_resumed(self._introduce, end, target, life, kind, info)
        else:
            other = End(self, target, None, accepted=True)
            end.other, other.other = other, end
            if end.framer is not None:
                (hello,) = end.framer.feed(encode_many([(1, 0, kind, info)]))
                info = hello[3]
            target.accept(other, kind, info)

    def carry(self, end: End, item: list[Message] | None) -> None:
        """Let something get from one end to the other, now or when it can."""
        other = end.other
        assert other is not None
        if end.held or (self._cuts and self.is_cut(end.host.address, other.host.address)):
            end.held.append(item)
            self._holding[end] = None
        else:
            self._launch(other, item, self.latency())

    def _launch(self, other: End, item: list[Message] | None, late: int) -> None:
        other.due = max(other.due, self.clock.now + late)
        self.clock.at(other.due, other.arrive, item)

    # ---- faults ------------------------------------------------------------------------------------------------------

    def cut(self, cut: Cut) -> None:
        """Nothing passes from now on, and what tries for too long is given up."""
        self._cuts.append(cut)
        for end in list(self.ends):
            other = end.other
            if other is not None and self._apart(end.host, other.host):
                late = SILENCE_NS - PROBE_NS + self._rng.randrange(3 * PROBE_NS // 2)
                self.clock.after(late, self._give_up, end, cut)

    def _give_up(self, end: End, cut: Cut) -> None:
        other = end.other
        if end.open and other is not None and cut in self._cuts and self._apart(end.host, other.host):
            end.held.clear()
            self._holding.pop(end, None)
            end.end("the other machine cannot be reached", "")
            self.broken.append(other)

    def heal(self, cut: Cut) -> None:
        """Everything passes again."""
        self._cuts.remove(cut)
        for end in list(self._holding):
            if end.other is not None and not self.is_cut(end.host.address, end.other.host.address):
                late = self._rng.randrange(SECOND_NS)
                held, end.held = end.held, []
                del self._holding[end]
                for item in held:
                    self._launch(end.other, item, late)
        broken, self.broken = self.broken, []
        for end in broken:
            other = end.other
            if other is not None and self._apart(end.host, other.host):
                self.broken.append(end)
            elif end.open:
                self.clock.after(self._rng.randrange(PROBE_NS), end.end, "the connection was reset", "")

    def leave(self, host: "Host", *, silent: bool, refusal: Message | None = None) -> None:
        """All connections of a machine end.

        Args:
            host: the machine.
            silent: it lies there without a word; otherwise its kernel tells the other machines.
            refusal: what those who had come to it are told.
        """
        for end in [end for end in self.ends if end.host is host]:
            other = end.other
            if other is not None and other.open and not silent:
                if refusal is not None and end.accepted:
                    self.carry(end, [refusal])
                self.carry(end, None)
            elif other is not None and other.open:
                self.clock.after(SILENCE_NS + self._rng.randrange(PROBE_NS), other.end, "it cannot be reached", "")
            end.vanish()


class Link:
    """The receiver at a daemon's end of a connection that it has made or accepted.

    Args:
        conn: the number of the connection there.
        tell: called with what comes of the connection: messages, or (why, how) of its end.
        stands: the other side has let this one in, or has been let in.

    Attributes:
        end: its end.
    """

    __slots__ = ("conn", "end", "on_end", "on_linked", "on_messages", "stands", "waiting")

    def __init__(
        self,
        conn: int,
        end: End,
        *,
        stands: bool,
        on_linked: Callable[[int, dict[str, Any]], None],
        on_messages: Callable[[int, list[Message]], None],
        on_end: Callable[[int, str, str], None],
    ) -> None:
        self.conn = conn
        self.end = end
        self.stands = stands
        self.on_linked = on_linked
        self.on_messages = on_messages
        self.on_end = on_end
        self.waiting: list[Message] = []
        end.receiver = self

    def send(self, messages: list[Message]) -> None:
        """Write messages, or keep them until the other side has let this one in."""
        if self.stands:
            self.end.send(messages)
        else:
            self.waiting += messages

    def close(self) -> None:
        """Flush and close."""
        self.end.close()

    def arrived(self, messages: list[Message]) -> None:
        messages = list(messages)
        if messages[-1][0] == REFUSED:
            why = str(messages.pop()[1]["message"])
            self._deliver(messages)
            self.end.close()
            self.end.end(why, "refused")
            return
        self._deliver(messages)

    def _deliver(self, messages: list[Message]) -> None:
        if messages and not self.stands:
            self.stands = True
            self.on_linked(self.conn, messages.pop(0)[1])
            waiting, self.waiting = self.waiting, []
            if waiting:
                self.end.send(waiting)
        if messages:
            self.on_messages(self.conn, messages)

    def ended(self, why: str, how: str) -> None:
        self.on_end(self.conn, why, how)
