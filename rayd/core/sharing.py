"""Who sends a large object to whom, when many nodes want it at a time.

Whoever told other nodes of an object is asked by them where to get it (SEEK). It names nodes that have the object,
itself among them, and nodes that are getting it themselves: those send on what has come, part by part, so copies spread
while they come about, and the links of all nodes are used. Each holder serves ``CHILDREN_MAX`` others at a time, and
each getter has up to ``SOURCES_MAX`` sources.

Getters that have nothing but each other would wait for ever. So each has one source that is either complete or has
asked before it did: the first of those that are not complete then has one that is, and gets everything.
"""

from collections.abc import Iterable
from typing import Any, Final

from rayd.core.channels import Channels
from rayd.core.state import Conn, NodeState
from rayd.wire.messages import FOUND, SPREAD, STORED

CHILDREN_MAX: Final = 4
SOURCES_MAX: Final = 4
# Smaller objects are not worth a question.
SHARED_FROM: Final = 8 << 20


class Getter:
    """A node that gets an object.

    Attributes:
        number: of the node.
        turn: its place among those that have asked.
        sources: numbers of the nodes that it has been sent to.
        refused: those of which it has said that they do not give it.
        parts: what it has, as far as it has been asked.
        spreads: it has been asked.
    """

    __slots__ = ("number", "parts", "refused", "sources", "spreads", "turn")

    def __init__(self, number: int, turn: int) -> None:
        self.number = number
        self.turn = turn
        self.sources: dict[int, None] = {}
        self.refused: dict[int, None] = {}
        self.parts: list[int] = []
        self.spreads = False


class Share:
    """One object that several nodes want.

    Attributes:
        getters: by connection, in the order in which they have asked.
        turns: by number of a getter its turn; who has all of it has none.
        serves: by number of each node that can give it, the connections of those that were sent there.
    """

    __slots__ = ("asked", "getters", "serves", "turns")

    def __init__(self, number: int) -> None:
        self.asked = 0
        self.getters: dict[int, Getter] = {}
        self.turns: dict[int, int] = {}
        self.serves: dict[int, dict[int, None]] = {number: {}}

    def enter(self, conn: int, number: int) -> None:
        """A node wants it."""
        self.asked += 1
        self.getters[conn] = Getter(number, self.asked)
        self.turns[number] = self.asked
        self.serves[number] = {}

    def leave(self, conn: int) -> Getter | None:
        """A node gets nothing any more, and is named to nobody."""
        getter = self.getters.pop(conn, None)
        if getter is not None:
            for source in list(getter.sources):
                self.part(conn, getter, source)
            del self.turns[getter.number]
            self.drop(getter.number)
        return getter

    def part(self, conn: int, getter: Getter, source: int) -> None:
        """A node gets nothing more from another one."""
        del getter.sources[source]
        del self.serves[source][conn]

    def drop(self, number: int) -> None:
        """A node is named to nobody any more."""
        for conn in list(self.serves.get(number, ())):
            self.part(conn, self.getters[conn], number)
        self.serves.pop(number, None)

    def free(self) -> list[int]:
        """Nodes that may serve one more, those that serve fewest first."""
        return sorted(
            (number for number, served in self.serves.items() if len(served) < CHILDREN_MAX),
            key=lambda number: len(self.serves[number]),
        )

    def is_sound(self, getter: Getter) -> bool:
        """Whether one of its sources is complete, or has asked before it."""
        return any(self.turns.get(source, 0) < getter.turn for source in getter.sources)


class Sharing:
    """The large objects of a node that others want.

    Args:
        state: the node's tables.
        channels: the ways to those.
    """

    def __init__(self, state: NodeState, channels: Channels) -> None:
        self.state = state
        self.channels = channels
        self.shares: dict[bytes, Share] = {}

    # ---- what getters say --------------------------------------------------------------------------------------------

    def seek(self, conn: Conn, message: Any) -> None:
        """SEEK."""
        oid = message[1]
        entry = self.state.objects.entries.get(oid)
        if entry is None or entry.kind != STORED:  # it hears so when it asks for the bytes
            self._tell(conn.conn, oid, self.state.number, [])
            return
        share = self.shares.setdefault(oid, Share(self.state.number))
        number = self.channels.by_conn[conn.conn].member.number
        for other in [other for other, getter in share.getters.items() if getter.number == number]:
            share.leave(other)
        share.drop(number)
        share.enter(conn.conn, number)
        self._serve(oid, share)

    def dry(self, conn: Conn, message: Any) -> None:
        """DRY."""
        _, oid, number = message
        share = self.shares.get(oid)
        getter = share.getters.get(conn.conn) if share is not None else None
        if share is None or getter is None:
            return
        getter.refused[number] = None
        if number in getter.sources:
            share.part(conn.conn, getter, number)
        if number != self.state.number:
            share.drop(number)
        self._serve(oid, share)

    def parts(self, conn: Conn, message: Any) -> None:
        """PARTS."""
        _, oid, parts = message
        share = self.shares.get(oid)
        getter = share.getters.get(conn.conn) if share is not None else None
        if share is not None and getter is not None and parts:
            getter.parts += parts
            for other in share.serves.get(getter.number, ()):
                self._tell(other, oid, getter.number, parts)

    def sought(self, conn: Conn, message: Any) -> None:
        """SOUGHT."""
        _, oid, ok = message
        share = self.shares.get(oid)
        getter = share.getters.get(conn.conn) if share is not None else None
        if share is None or getter is None:
            return
        if ok:
            self._complete(oid, share, conn.conn, getter)
        else:
            share.leave(conn.conn)
        self._serve(oid, share)

    def _complete(self, oid: bytes, share: Share, conn: int, getter: Getter) -> None:
        """A getter has everything, and whom it serves hears so."""
        served = share.serves.pop(getter.number, {})
        share.serves[getter.number] = {}
        share.leave(conn)
        share.serves[getter.number] = served
        for other in served:
            self._tell(other, oid, getter.number, [])

    # ---- who gets it from whom ---------------------------------------------------------------------------------------

    def _serve(self, oid: bytes, share: Share) -> None:
        free = share.free()
        for conn, getter in share.getters.items():
            if not share.is_sound(getter):
                self._name(oid, share, conn, getter, [n for n in free if share.turns.get(n, 0) < getter.turn])
        if not share.free():
            return
        for conn, getter in share.getters.items():
            while len(getter.sources) < SOURCES_MAX and self._name(oid, share, conn, getter, share.free()):
                pass

    def _name(self, oid: bytes, share: Share, conn: int, getter: Getter, candidates: Iterable[int]) -> bool:
        """Send a getter to the first of those that it has not been sent to; whether there was one."""
        for number in candidates:
            known = number in getter.sources or number in getter.refused or number == getter.number
            if not known and len(share.serves[number]) < CHILDREN_MAX:
                getter.sources[number] = None
                share.serves[number][conn] = None
                self._introduce(oid, share, conn, number)
                return True
        return False

    def _introduce(self, oid: bytes, share: Share, conn: int, number: int) -> None:
        if number not in share.turns:
            self._tell(conn, oid, number, [])
            return
        giver_conn, giver = next((at, one) for at, one in share.getters.items() if one.number == number)
        if giver.parts:
            self._tell(conn, oid, number, giver.parts)
        if not giver.spreads:
            giver.spreads = True
            self.state.effects.sends[giver_conn].append((SPREAD, oid))

    def _tell(self, conn: int, oid: bytes, number: int, parts: list[int]) -> None:
        self.state.effects.sends[conn].append((FOUND, oid, number, list(parts)))

    # ---- the end -----------------------------------------------------------------------------------------------------

    def freed(self, oid: bytes) -> None:
        """The object is here no more; who has a copy may go on without it."""
        self.shares.pop(oid, None)

    def released(self, conn: int, oids: Iterable[bytes]) -> None:
        """A node has let go of its copies."""
        for oid in oids:
            if oid in self.shares:
                self._without(oid, self.shares[oid], conn)

    def lost(self, conn: int) -> None:
        """A channel has ended."""
        for oid, share in list(self.shares.items()):
            self._without(oid, share, conn)

    def _without(self, oid: bytes, share: Share, conn: int) -> None:
        channel = self.channels.by_conn.get(conn)
        if conn in share.getters:
            share.leave(conn)
        elif channel is not None and channel.member.number not in share.turns:
            share.drop(channel.member.number)
        self._serve(oid, share)

    def check(self) -> None:
        """Raise AssertionError naming the first broken invariant."""
        for oid, share in self.shares.items():
            assert oid in self.state.objects.entries, f"{oid.hex()} is shared and not here"
            assert self.state.number in share.serves, f"{oid.hex()} is here and not named"
            assert share.turns == {getter.number: getter.turn for getter in share.getters.values()}, "a turn is wrong"
            for number, served in share.serves.items():
                sent = [conn for conn, getter in share.getters.items() if number in getter.sources]
                assert sorted(served) == sorted(sent), f"{number} serves {served} of {oid.hex()}, and {sent} use it"
                assert len(served) <= CHILDREN_MAX, f"{number} serves {len(served)} of {oid.hex()}"
            for conn, getter in share.getters.items():
                assert conn in self.channels.by_conn, f"{oid.hex()} is shared with a node that has gone"
                assert getter.sources.keys() <= share.serves.keys(), f"{oid.hex()} comes from who does not have it"
                better = [n for n in share.free() if share.turns.get(n, 0) < getter.turn and n not in getter.refused]
                assert share.is_sound(getter) or not better, f"{oid.hex()} is waited for, and somebody could send it"
