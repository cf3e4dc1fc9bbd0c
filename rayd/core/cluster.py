"""Membership: which nodes the cluster has, what they offer and what of it is free.

The head numbers the nodes; a number is part of every id that processes of a node draw (``rayd.ids``), so an id tells
where it comes from. A node joins by a connection to the head, over which it says how it is (``VIEW``), and hears of
the others (``MEMBERS``). A view is always a little old: only the node itself grants what it has.

When a head that keeps a journal dies, its nodes go on and call it until it listens again. The head that has begun anew
takes those in its journal for alive until they have had their time to come back.
"""

from collections.abc import Callable, Container, Iterator, Mapping
from typing import Any, Final

from rayd.core.absence import AWAY_NS_MAX, Absence
from rayd.core.claims import Claim
from rayd.core.effect import Audit, CloseConnection, Dial, FenceAt, Joined, StopDaemon
from rayd.core.journal import COUNTER, NODE
from rayd.core.member import Member
from rayd.core.news import News
from rayd.core.resources import Ledger
from rayd.core.silence import told_heard, told_silent, unheard
from rayd.core.state import Conn, NodeState
from rayd.wire.frame import ProtocolError
from rayd.wire.messages import DRAIN, MEMBERS, VIEW

HEAD: Final = 0
NODES_MAX: Final = 1 << 12
# A view is told when it has changed, this long after the one before, and in any case after ``BEAT_NS``.
VIEW_NS: Final = 10_000_000
BEAT_NS: Final = 1_000_000_000
# Telling all nodes of all costs the head the square of their number: up to so many it does so every ``VIEW_NS``, with
# more of them less often, so that the cost stays the same, but every ``BEAT_NS`` at least.
OFTEN_UP_TO: Final = 50
# A node that has not heard the head for so long ends: others may soon start its actors. A network may be cut for less.
FENCE_NS: Final = 30_000_000_000
# If its daemon cannot do that, being stopped, the fork server ends the workers so much later.
STOPPED_NS: Final = 2_000_000_000
# A node that the head has left, and that knows that nobody listens in its place, waits for so long.
AWAY_MINUTES_MAX: Final = AWAY_NS_MAX // 60_000_000_000


class Cluster:
    """The nodes of a cluster, seen from one of them.

    Args:
        state: the node's tables.
        facts: of this node, as others are to see them.
        on_change: called when a node has come or gone.
        next_conn: gives the number of a connection that this node is to make.

    Attributes:
        head_conn: our connection to the head; 0 in the head itself, and while there is none.
        news: of which other nodes something was heard.
        leaving: nodes that live and are to go, by number.
        absence: set while the head has gone and may come back.
        on_return: called when it is back.
    """

    def __init__(
        self,
        state: NodeState,
        facts: dict[str, Any],
        on_change: Callable[[Member], None],
        next_conn: Callable[[], int],
    ) -> None:
        self.state = state
        self.next_conn = next_conn
        self.facts = facts
        self.head_conn = 0
        self.is_head = True
        self.news = News()
        self.leaving: dict[int, Member] = {}
        self.members: dict[int, Member] = {}
        self._tell_change = on_change
        self._unsure: dict[int, Member] = {}  # of whom we think something else than what they have said
        self._conns: dict[int, int] = {}  # in the head: member number by connection
        self._conn_of: dict[int, int] = {}  # the other way round
        self._enlisted: dict[int, int] = {}  # the same of those whose WELCOME has not been sent: nothing precedes that
        self._told: dict[str, int] = {}
        self._told_claim: Claim | None = None
        self._told_at = 0
        self._urgent = False
        self._changed: dict[int, Member] = {}  # in the head: of whom the others do not know the latest yet
        self._as_before: dict[int, None] = {}  # and who has said what they know
        self.load: Callable[[], dict[str, Any]] = dict
        self.on_beat: Callable[[], None] = lambda: None
        self._head_heard_at = 0
        self._fenced_at = -BEAT_NS  # when the workers' time was last said
        self.absence: Absence | None = None
        self.on_return: Callable[[], None] = lambda: None
        self._head_address = ""
        self._head_returns = False
        self._highest = HEAD  # number given so far, as far as is known here
        self._load: dict[str, Any] = {}
        self._turns: dict[int, int] = {}
        self._drain_seconds: dict[int, float] = {}  # in the head: how long nodes have that are to go
        self._load_at = -BEAT_NS
        self._become(HEAD)

    def _become(self, number: int) -> None:
        self.state.number = number
        self._highest = max(self._highest, number)
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

    def next_in_turn(self, cid: int, numbers: Container[int], mine: bool) -> int:
        """Which node is to have the next task or actor of a spec that is spread.

        Args:
            cid: of the spec.
            numbers: other nodes that can have it.
            mine: this node can; if not, ``numbers`` is not empty.
        """
        number = self._turns.get(cid, -1) + 1
        while number not in numbers and not (mine and number == self.state.number):
            number = number + 1 if number < self._highest else 0
        self._turns[cid] = number
        return number

    def assume(self, member: Member) -> None:
        """Something else is thought of a node than what it has said, until its next word."""
        self._unsure[member.number] = member
        self.news.note(member.number)

    def doubt(self, member: Member) -> None:
        """A connection with a node has ended for no known reason: nothing is given to it until its next word."""
        member.doubtful = True
        self.assume(member)

    def _on_change(self, member: Member) -> None:
        """A node has come or gone, or is to go."""
        self.leaving.pop(member.number, None)
        if member.alive and member.draining:
            self.leaving[member.number] = member
        self.news.note(member.number)
        self._tell_change(member)

    # ---- the head's connections ------------------------------------------------------------------------------------

    def conns(self) -> list[int]:
        """In the head: connections of the other nodes."""
        return list(self._conns)

    def member_of(self, conn: int) -> Member | None:
        """In the head: who has joined by a connection."""
        return self.members.get(self._conns.get(conn, -1))

    def conn_of(self, number: int) -> int:
        """In the head: the connection of a node that lives; 0 if there is none."""
        return self._conn_of.get(number, 0)

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

    def enlist(self, conn: Conn) -> None:
        """A node has connected to join, or to come back; it is let in by ``admit`` once it is known for good.

        Raises:
            ProtocolError: this is not the head, the cluster is full, or the node was taken for dead.
        """
        if not self.is_head:
            raise ProtocolError("a node joins at the head of a cluster; this is another node")
        info = conn.info
        if "number" in info:
            self._enlisted[conn.conn] = self._known_again(info).number
            return
        number = self._highest + 1
        if number >= NODES_MAX:
            raise ProtocolError(f"a cluster has at most {NODES_MAX} nodes")
        Member(number, dict(info["facts"]), dict(info["totals"]), self.state.now)  # whether it can be one
        self._highest = self._enlisted[conn.conn] = number
        journal = self.state.journal
        journal.put(COUNTER, NODE.encode(), number)
        journal.put(NODE, _key(number), {"facts": info["facts"], "totals": info["totals"]})

    def _known_again(self, info: Mapping[str, Any]) -> Member:
        """Who comes back."""
        member = self.members.get(int(info["number"]))
        if member is None or member.node_id != bytes(info["facts"]["node_id"]) or not member.alive:
            raise ProtocolError(
                "the head has taken this node for dead, and others may do its work by now; start a new one in its place"
            )
        if member.number in self._conn_of or member.number in self._enlisted.values():
            raise ProtocolError("this node is connected already")
        return member

    def admit(self, conn: Conn) -> dict[str, Any]:
        """A node that was enlisted is a member from now on; returns what its WELCOME tells it."""
        number, info = self._enlisted.pop(conn.conn), conn.info
        self._conns[conn.conn] = number
        self._conn_of[number] = conn.conn
        member = self.members.get(number)
        if member is None:
            member = self.members[number] = Member(number, dict(info["facts"]), dict(info["totals"]), self.state.now)
        else:
            member.is_as_before(self.state.now)
            member.draining |= bool(info.get("draining"))
        rows = [other.row() for other in self.members.values()]
        self._spread(member, but=conn.conn)
        self._on_change(member)
        return {"number": number, "members": rows, "returns": self.state.journal.on}

    def restore(self, rows: list[tuple[bytes, Any]], highest: int) -> None:
        """This head has begun anew: these were its nodes."""
        self._highest = highest
        for key, row in rows:
            number = int.from_bytes(key, "big")
            member = self.members[number] = Member(number, row["facts"], row["totals"], self.state.now)
            member.doubtful = True
            if "drains_for" in row:
                member.draining = True
                self._drain_seconds[number] = row["drains_for"]
            self._on_change(member)

    def view(self, conn: Conn, message: Any) -> None:
        """VIEW of a member."""
        member = self.member_of(conn.conn)
        if member is None:  # taken for dead meanwhile
            return
        Ledger(message[1])  # whether it can be one: all others will take the head's word for it
        _, free, load, urgent = message
        if member.silent:
            self._hear(member, silent=False)
        elif urgent or not member.has_said(free, load):
            self._changed[member.number] = member
        else:
            self._as_before[member.number] = None
        member.is_now(free, load, self.state.now)
        self.news.note(member.number)
        self.state.dirty = True

    def gone(self, conn: int, why: str = "", how: str = "") -> None:
        """A connection has ended; perhaps it was a member's, or ours to the head."""
        if conn == self.head_conn and not self.is_head:
            self._without_head(why, how)
            return
        number = self._conns.pop(conn, None)
        enlisted = self._enlisted.pop(conn, None)
        if number is not None:
            del self._conn_of[number]
            self._died(self.members[number])
        elif enlisted is not None and enlisted not in self.members:
            self.state.journal.put(NODE, _key(enlisted), None)

    def _died(self, member: Member) -> None:
        member.alive = False
        self.state.journal.put(NODE, _key(member.number), None)
        self._spread(member)
        self._on_change(member)

    def drain(self, member: Member, seconds: float) -> None:
        """In the head: another node is to take no more work, and to end when it has none.

        Args:
            member: the node.
            seconds: after which it ends in any case; 0 for any time.
        """
        member.draining = True
        row = {"facts": member.facts, "totals": member.totals.totals(), "drains_for": seconds}
        self.state.journal.put(NODE, _key(member.number), row)
        self._drain_seconds[member.number] = seconds
        self.tell_to_drain(member)
        self._spread(member)
        self._on_change(member)

    def tell_to_drain(self, member: Member) -> None:
        """Say so to a node that is to go, also when it has come back."""
        conn = self.conn_of(member.number)
        if conn and member.draining:
            self.state.effects.sends[conn].append((DRAIN, self._drain_seconds.get(member.number, 0)))

    def _spread(self, member: Member, but: int = 0) -> None:
        rows = [member.row()]
        for conn in self._conns:
            if conn != but:
                self.state.effects.sends[conn].append((MEMBERS, rows, []))

    # ---- another node ------------------------------------------------------------------------------------------------

    def join(self, conn: int, address: str) -> None:
        """This node is to be a member of the cluster whose head listens at an address."""
        self.is_head = False
        self._head_address = address
        self.members.clear()
        self._call(conn, self._introduction())

    def _introduction(self) -> dict[str, Any]:
        return {"facts": self.facts, "totals": self.state.ledger.totals()}

    def _call(self, conn: int, info: dict[str, Any]) -> None:
        self.head_conn = conn
        self.state.conns[conn] = Conn(conn, "node", info, b"", 0)
        self.state.effects.dials.append(Dial(conn, self._head_address, info))

    def joined(self, welcome: Mapping[str, Any]) -> None:
        """The head has let us in."""
        self._head_returns = bool(welcome.get("returns"))
        if self.absence is not None:
            self._return(welcome)
            return
        self._become(int(welcome["number"]))
        self._take(welcome["members"])
        self.state.effects.others.append(Joined(self.state.number))

    def _without_head(self, why: str, how: str) -> None:
        """The connection to the head has ended, or could not be made."""
        self.head_conn = 0
        text = f"the head of the cluster at {self._head_address} has gone"
        if not self.members:
            text = "the cluster could not be joined"
        if not self._head_returns or how == "refused":
            self.state.effects.others.append(StopDaemon(f"{text}: {why}" if why else text))
            return
        if self.absence is None:
            self.absence = Absence(self.state.now)
            self.doubt(self.members[HEAD])
            self.state.warn_all(f"T{text[1:]}. What needs it waits until it is back, up to {AWAY_MINUTES_MAX} minutes.")
        elif how == "nobody":  # there is no head that could take this node for dead
            self._head_heard_at = self.state.now
        self.absence.tried(self.state.now)

    def _return(self, welcome: Mapping[str, Any]) -> None:
        """The head is back; if it has begun anew, all that it had itself is over."""
        assert self.absence is not None
        seconds = self.absence.seconds(self.state.now)
        self.absence = None
        self.met(HEAD, bytes(welcome["node_id"]))
        self._take(welcome["members"])
        self.members[HEAD].facts = next(dict(facts) for number, facts, *_ in welcome["members"] if number == HEAD)
        self.tell_again()
        self.on_return()
        self.state.warn_all(f"The head of the cluster is back after {seconds:.1f} s.")

    def met(self, number: int, node_id: bytes) -> None:
        """A node has said which one it is. If that is a head that has begun anew, all that the former one had itself is
        over; perhaps this node has not come back to it yet.
        """
        former = self.members.get(number)
        if number != HEAD or self.is_head or former is None or node_id in (b"", former.node_id):
            return
        former.alive = False
        self._on_change(former)
        head = Member(HEAD, {**former.facts, "node_id": node_id}, former.totals.totals(), self.state.now)
        self.members[HEAD] = head
        self.doubt(head)
        self._on_change(head)

    def _hear(self, member: Member, silent: bool) -> None:
        """Nothing is heard of a node any more, or something again."""
        member.silent = silent
        self.news.note(member.number)
        text = told_silent(member) if silent else told_heard(member)
        if self.is_head:
            self._changed[member.number] = member
            self.state.effects.others.append(Audit(text))
        self.state.warn_all(text)

    def _look_for_head(self, absence: Absence) -> None:
        now = self.state.now
        if absence.is_too_long(now):
            why = f"the head of the cluster at {self._head_address} has been gone for {AWAY_MINUTES_MAX} minutes"
            self.state.effects.others.append(StopDaemon(why))
        elif not self.head_conn and absence.is_time(now):
            mine = {"number": self.state.number, "draining": self.me.draining}
            self._call(self.next_conn(), {**self._introduction(), **mine})

    def told(self, conn: Conn, message: Any) -> None:
        """MEMBERS of the head."""
        if conn.conn != self.head_conn:
            raise ProtocolError("MEMBERS is for the head to say")
        self._take(message[1])
        if self._unsure:
            self._are_as_before(message[2])

    def _are_as_before(self, numbers: list[int]) -> None:
        """These have said again what is known of them: what was thought of them meanwhile is not so any more."""
        for number in [number for number in numbers if number in self._unsure]:
            self._unsure.pop(number).is_as_before(self.state.now)
            self.news.note(number)

    def _take(self, rows: list[Any]) -> None:
        self._head_heard_at = self.state.now
        for number, facts, totals, free, load, alive, draining, silent in rows:
            if number == self.state.number:
                continue
            member = self.members.get(number)
            known = member is not None and member.alive == alive and member.draining == draining
            if member is None:
                member = self.members[number] = Member(number, facts, totals, self.state.now)
                self._highest = max(self._highest, number)
            member.is_now(free, load, self.state.now)
            self._unsure.pop(number, None)
            self.news.note(number)
            member.alive = alive
            member.draining = draining
            if member.silent != silent and alive:
                self._hear(member, silent)
            if not known:
                self._on_change(member)
        self.state.dirty = True

    # ---- time --------------------------------------------------------------------------------------------------------

    def deadline(self) -> int | None:
        """When ``beat`` is due, in ns; None in a cluster of one, and before this node has been let in."""
        if len(self.members) < 2 and (self.is_head or not self.members):
            return None
        if self.absence is not None and not self.head_conn:
            return self.absence.next_try
        return self._told_at + (self._view_ns() if self._changed or self._is_news() else BEAT_NS)

    def _view_ns(self) -> int:
        """How long after the last word the next one follows, if there is something new."""
        nodes = len(self._conns)
        return VIEW_NS if nodes <= OFTEN_UP_TO else min(BEAT_NS, VIEW_NS * nodes * nodes // OFTEN_UP_TO**2)

    def _is_news(self) -> bool:
        claim = self.state.claims.claim
        return self._urgent or claim is not self._told_claim or not self.state.ledger.is_as(self._told)

    def tell_again(self) -> None:
        """Somebody has an outdated view of this node."""
        self._urgent = True

    def beat(self) -> None:
        """Tell the others how we are, if it is time."""
        due = self.deadline()
        now = self.state.now
        if due is None or now < due:
            return
        self._told_at = now
        self._told, self._told_claim = self.state.ledger.units(), self.state.claims.claim
        if now - self._load_at >= BEAT_NS:  # people do not look more often, and counting takes its time
            self._load, self._load_at = self.load(), now
        self.on_beat()
        if self.is_head:
            self._beat_of_head()
        else:
            self._beat_of_node()

    def _beat_of_node(self) -> None:
        silent = self.state.now - self._head_heard_at
        if silent > FENCE_NS:
            silence = f"nothing was heard from the head of the cluster at {self._head_address} for"
            why = f"{silence} {FENCE_NS // 1_000_000_000} s, and others may soon start its actors elsewhere"
            self.state.effects.others.append(StopDaemon(why))
        elif self.absence is not None:
            self._look_for_head(self.absence)
        else:
            self.state.effects.sends[self.head_conn].append((VIEW, self.state.offered(), self._load, self._urgent))
            self._urgent = False
        if self.state.now - self._fenced_at >= BEAT_NS:
            self._fenced_at = self.state.now
            self.state.effects.others.append(FenceAt(self._head_heard_at + FENCE_NS + STOPPED_NS))

    def _beat_of_head(self) -> None:
        me = self.me
        me.is_now(self.state.offered(), self._load, self.state.now)
        self._urgent = False
        doubted, dead = unheard(self.others(), self.state.now)
        for member in doubted:
            self._hear(member, silent=True)
        rows = [me.row(), *(member.row() for member in self._changed.values())]
        as_before = list(self._as_before)
        self._changed.clear()
        self._as_before.clear()
        for conn in self._conns:
            self.state.effects.sends[conn].append((MEMBERS, rows, as_before))
        for member in dead:
            conn = self.conn_of(member.number)
            if conn:
                self.state.effects.others.append(CloseConnection(conn, flush=False))
                self.gone(conn)
            else:  # it has not come back to this head
                self._died(member)


def _key(number: int) -> bytes:
    return number.to_bytes(2, "big")
