"""Membership: which nodes the cluster has, what they offer and what of it is free.

The head numbers the nodes; a number is part of every id that processes of a node draw (``rayd.ids``), so an id tells
where it comes from. A node joins by a connection to the head, over which it says how it is (``VIEW``), and hears of
the others (``MEMBERS``). A view is always a little old: only the node itself grants what it has.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from rayd.core.effect import CloseConnection, Joined, StopDaemon
from rayd.core.resources import Demand, Ledger
from rayd.core.state import Conn, NodeState
from rayd.wire.frame import ProtocolError
from rayd.wire.messages import MEMBERS, VIEW

HEAD: Final = 0
NODES_MAX: Final = 1 << 12
# A view is told when it has changed, this long after the one before, and in any case after ``BEAT_NS``.
VIEW_NS: Final = 10_000_000
BEAT_NS: Final = 1_000_000_000
# A node that has heard nothing from the head for so long ends: the others may soon take it for dead and start its
# actors elsewhere. A network may be cut for less.
FENCE_NS: Final = 30_000_000_000
# A node that has said nothing for so long is taken for dead: by then it has ended itself, if it still runs.
SILENCE_NS: Final = 35_000_000_000


class Member:
    """One node as the others see it.

    Attributes:
        number: given by the head; 0 is the head.
        facts: what it says of itself once: node_id, address, host, labels and so on.
        totals: what it offers.
        free: what of it was free at the last word, less what we have sent there since.
        load: figures for people: workers, actors, objects, store_used, demands.
        alive: it has not left.
        heard_at: when it last said something, in ns.
        refused: specs of which it could not begin any more tasks, until its next word.
        doubtful: a connection with it has ended for no known reason; nothing is given to it until its next word.
    """

    __slots__ = ("alive", "doubtful", "facts", "free", "heard_at", "load", "number", "refused", "totals")

    def __init__(self, number: int, facts: Mapping[str, Any], totals: Mapping[str, float], now: int) -> None:
        self.number = number
        self.facts = dict(facts)
        self.totals = Ledger(totals)
        self.free = Ledger(totals)
        self.load: dict[str, Any] = {}
        self.alive = True
        self.heard_at = now
        self.refused: dict[int, None] = {}
        self.doubtful = False

    def is_now(self, free: Mapping[str, float], load: dict[str, Any], now: int) -> None:
        """Its latest word of itself."""
        self.free = Ledger(free)
        self.load = load
        self.heard_at = now
        self.refused.clear()
        self.doubtful = False

    @property
    def address(self) -> str:
        """host:port of its daemon."""
        return str(self.facts.get("address", ""))

    @property
    def node_id(self) -> bytes:
        return bytes(self.facts.get("node_id", b""))

    @property
    def labels(self) -> dict[str, str]:
        """Those with which it was started."""
        return dict(self.facts.get("labels") or {})

    def title(self) -> str:
        """How messages call it."""
        return f"node {self.node_id.hex()} at {self.address}"

    def row(self) -> list[Any]:
        """As it travels in MEMBERS."""
        return [self.number, self.facts, self.totals.totals(), self.free.available(), self.load, self.alive]

    def could(self, demand: Demand) -> bool:
        """Whether it has as much as that at all."""
        return self.alive and not self.totals.can_ever_fit(demand)


class Cluster:
    """The nodes of a cluster, seen from one of them.

    Args:
        state: the node's tables.
        facts: of this node, as others are to see them.
        on_change: called when a node has come or gone.
    """

    def __init__(self, state: NodeState, facts: dict[str, Any], on_change: Callable[[Member], None]) -> None:
        self.state = state
        self.facts = facts
        self.head_conn = 0  # our connection to the head; 0 in the head itself
        self.is_head = True
        self.members: dict[int, Member] = {}
        self._on_change = on_change
        self._conns: dict[int, int] = {}  # in the head: member number by connection
        self._told: dict[str, Any] = {}
        self._told_at = 0
        self._changed: dict[int, Member] = {}
        self.load: Callable[[], dict[str, Any]] = dict
        self._head_heard_at = 0
        self._load: dict[str, Any] = {}
        self._turns: dict[int, int] = {}
        self._load_at = -BEAT_NS
        self._become(HEAD)

    def _become(self, number: int) -> None:
        self.state.number = number
        self.members[number] = Member(number, self.facts, self.state.ledger.totals(), self.state.now)

    @property
    def me(self) -> Member:
        """This node."""
        return self.members[self.state.number]

    def others(self) -> Iterator[Member]:
        """Nodes that live, without this one, in order of their numbers."""
        for member in self.members.values():
            if member.alive and member.number != self.state.number:
                yield member

    def next_in_turn(self, cid: int, numbers: list[int]) -> int:
        """Which of some nodes is to have the next task or actor of a spec that is spread."""
        last = self._turns.get(cid, -1)
        chosen = min(numbers, key=lambda number: (number <= last, number))
        self._turns[cid] = chosen
        return chosen

    # ---- the head's connections ------------------------------------------------------------------------------------

    def conns(self) -> list[int]:
        """In the head: connections of the other nodes."""
        return list(self._conns)

    def member_of(self, conn: int) -> Member | None:
        """In the head: who has joined by a connection."""
        return self.members.get(self._conns.get(conn, -1))

    def conn_of(self, number: int) -> int:
        """In the head: the connection of a node that lives; 0 if there is none."""
        return next((conn for conn, other in self._conns.items() if other == number), 0)

    def living(self) -> Iterator[Member]:
        """All nodes that live, this one first."""
        yield self.me
        yield from self.others()

    def find(self, node_id: bytes) -> Member | None:
        """The node with that id."""
        for member in self.members.values():
            if member.node_id == node_id:
                return member
        return None

    # ---- the head ----------------------------------------------------------------------------------------------------

    def admit(self, conn: Conn) -> dict[str, Any]:
        """A node has connected to join; returns what its WELCOME tells it.

        Raises:
            ProtocolError: this is not the head, or the cluster is full.
        """
        if not self.is_head:
            raise ProtocolError("a node joins at the head of a cluster; this is another node")
        number = max(self.members) + 1
        if number >= NODES_MAX:
            raise ProtocolError(f"a cluster has at most {NODES_MAX} nodes")
        info = conn.info
        member = self.members[number] = Member(number, dict(info["facts"]), dict(info["totals"]), self.state.now)
        self._conns[conn.conn] = number
        rows = [other.row() for other in self.members.values()]
        self._spread(member, but=conn.conn)
        self._on_change(member)
        return {"number": number, "members": rows}

    def view(self, conn: Conn, message: Any) -> None:
        """VIEW of a member."""
        member = self.member_of(conn.conn)
        if member is None:  # taken for dead meanwhile
            return
        member.is_now(message[1], message[2], self.state.now)
        self._changed[member.number] = member
        self.state.dirty = True

    def gone(self, conn: int, why: str = "") -> None:
        """A connection has ended; perhaps it was a member's, or ours to the head."""
        if conn == self.head_conn and not self.is_head:
            head = self.members.get(HEAD)
            text = f"the head of the cluster at {head.address} has gone" if head else "the cluster could not be joined"
            self.state.effects.others.append(StopDaemon(f"{text}: {why}" if why else text))
            return
        number = self._conns.pop(conn, None)
        if number is not None:
            member = self.members[number]
            member.alive = False
            self._spread(member)
            self._on_change(member)

    def _spread(self, member: Member, but: int = 0) -> None:
        for conn in self._conns:
            if conn != but:
                self.state.effects.sends[conn].append((MEMBERS, [member.row()]))

    # ---- another node ------------------------------------------------------------------------------------------------

    def join(self, conn: int) -> None:
        """This node is to be a member of the cluster to whose head it is about to connect."""
        self.is_head = False
        self.head_conn = conn
        self.members.clear()

    def introduction(self) -> dict[str, Any]:
        """What a node that joins tells the head."""
        return {"facts": self.facts, "totals": self.state.ledger.totals()}

    def joined(self, welcome: Mapping[str, Any]) -> None:
        """The head has let us in."""
        self._become(int(welcome["number"]))
        self._take(welcome["members"])
        self.state.effects.others.append(Joined(self.state.number))

    def told(self, conn: Conn, message: Any) -> None:
        """MEMBERS of the head."""
        if conn.conn != self.head_conn:
            raise ProtocolError("MEMBERS is for the head to say")
        self._take(message[1])

    def _take(self, rows: list[Any]) -> None:
        self._head_heard_at = self.state.now
        for number, facts, totals, free, load, alive in rows:
            if number == self.state.number:
                continue
            member = self.members.get(number)
            known = member is not None and member.alive == alive
            if member is None:
                member = self.members[number] = Member(number, facts, totals, self.state.now)
            member.is_now(free, load, self.state.now)
            member.alive = alive
            if not known:
                self._on_change(member)
        self.state.dirty = True

    # ---- time --------------------------------------------------------------------------------------------------------

    def deadline(self) -> int | None:
        """When ``beat`` is due, in ns; None in a cluster of one."""
        if len(self.members) < 2 and self.is_head:
            return None
        return self._told_at + (VIEW_NS if self._changed or self._is_news() else BEAT_NS)

    def _is_news(self) -> bool:
        return self.state.ledger.available() != self._told

    def tell_again(self) -> None:
        """Somebody has an outdated view of this node."""
        self._told = {}

    def beat(self) -> None:
        """Tell the others how we are, if it is time."""
        due = self.deadline()
        now = self.state.now
        if due is None or now < due or (not self.is_head and not self.members):
            return
        self._told_at = now
        self._told = self.state.ledger.available()
        if now - self._load_at >= BEAT_NS:  # people do not look more often, and counting takes its time
            self._load, self._load_at = self.load(), now
        load = self._load
        if not self.is_head:
            if now - self._head_heard_at > FENCE_NS:
                silence = f"nothing was heard from the head of the cluster at {self.members[HEAD].address} for"
                why = f"{silence} {FENCE_NS // 1_000_000_000} s, and others may soon start its actors elsewhere"
                self.state.effects.others.append(StopDaemon(why))
                return
            self.state.effects.sends[self.head_conn].append((VIEW, self._told, load))
            return
        me = self.me
        me.free, me.load = Ledger(self._told), load
        rows = [me.row(), *(member.row() for member in self._changed.values())]
        self._changed.clear()
        for conn in self._conns:
            self.state.effects.sends[conn].append((MEMBERS, rows))
        for conn, number in list(self._conns.items()):
            if now - self.members[number].heard_at > SILENCE_NS:
                self.state.effects.others.append(CloseConnection(conn))
                self.gone(conn)
