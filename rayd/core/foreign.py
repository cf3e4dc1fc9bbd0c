"""Objects that live on other nodes: who told us of them, and their bytes when somebody here wants them.

Whoever mentions an object to another node holds it until that node has said HOLD, and as long as it has not said
RELEASE: holds form a tree along which the object was passed on (indirect reference counting, Piquer 1991), so that no
message ever overtakes another one on a different connection.

An object that is known here and not here is PENDING without a task, or AWAY when it is known to be complete and
large. When somebody wants it, whoever told us of it is asked, and large bytes are pulled (``rayd.core.pulls``).
"""

from collections.abc import Callable, Iterable
from typing import Any

from rayd.core.channels import Channel, Channels
from rayd.core.member import Member
from rayd.core.object_faults import lost
from rayd.core.objects import AWAY, PENDING, Entry, ObjectTable
from rayd.core.pulls import Pull, Pulls
from rayd.core.state import NodeState
from rayd.errors import OBJECT_LOST, Fault, fault
from rayd.ids import ACTOR_OBJECT_SUFFIX, home_of
from rayd.wire.messages import FAR_VALUE, FAULT, HOLD, RELEASE, STORED, WANT


class Foreign:
    """The objects of a node that it has from others.

    Args:
        state: the node's tables.
        channels: to the other nodes.
    """

    def __init__(self, state: NodeState, channels: Channels) -> None:
        self.state = state
        self.channels = channels
        self.source: dict[bytes, int] = {}  # who holds it for us; 0 when that node has died and the bytes come anyway
        self.lose: Callable[[bytes, str], bool] = lambda oid, where: False  # whether it can be made again
        self.pulls = Pulls(state, channels)
        self.pulls.on_come = self._come
        self.pulls.on_failed = self._not_come
        self._asked: dict[bytes, None] = {}

    @property
    def _objects(self) -> ObjectTable:
        return self.state.objects

    def introduce(self, conn: int, *lists: Iterable[bytes]) -> list[bytes]:
        """Another node has mentioned objects: those not known here are held there from now on.

        Returns:
            the new ones; whoever does not come to hold them has to pass them to ``forget_unheld``.
        """
        entries = self._objects.entries
        new = []
        for oids in lists:
            for oid in oids:
                if oid in entries:
                    continue
                new.append(oid)
                if oid.endswith(ACTOR_OBJECT_SUFFIX) and home_of(oid) == self.state.number:
                    entries[oid] = Entry(FAULT, lost(oid), None)  # an actor of ours that is dead and forgotten
                else:
                    entries[oid] = Entry(PENDING, None, None)
                    self.source[oid] = conn
        held = [oid for oid in new if oid in self.source]
        if held:
            self.state.effects.sends[conn].append((HOLD, held))
        return new

    def forget_unheld(self, oids: Iterable[bytes]) -> None:
        """Let go of those that nobody here has come to hold."""
        for oid in oids:
            self._objects.drop_if_unheld(oid)

    def let_go(self, oid: bytes) -> None:
        """An object is freed here."""
        conn = self.source.pop(oid, 0)
        self._forget(oid)
        if conn in self.state.conns:
            self.state.effects.sends[conn].append((RELEASE, [oid]))

    def _forget(self, oid: bytes) -> None:
        """Nothing of it is wanted any more."""
        self._asked.pop(oid, None)
        self.pulls.stop(oid)

    def adopted(self, oid: bytes) -> None:
        """What makes the object runs here from now on."""
        conn = self.source.pop(oid, 0)
        self._forget(oid)
        if conn:
            self.state.effects.sends[conn].append((RELEASE, [oid]))

    def returned(self, conn: int, oid: bytes) -> bool:
        """What makes the object is sent back to ``conn``; whether somebody here still refers to it. The other node
        counts that as our hold.
        """
        objects = self._objects
        objects.entries[oid].task = None
        objects.release(conn, [oid])
        entry = objects.entries.get(oid)
        if entry is None:
            return False
        self.source[oid] = conn
        if entry.waiters or entry.dependents:
            self.wanted(oid, entry)
        return True

    def all_returned(self, conn: int, oids: Iterable[bytes]) -> list[bytes]:
        """``returned`` for what is known of ``oids``; those that somebody here still refers to."""
        return [oid for oid in oids if oid in self._objects.entries and self.returned(conn, oid)]

    # ---- what somebody here wants ------------------------------------------------------------------------------------

    def wanted(self, oid: bytes, entry: Entry) -> None:
        """Somebody here wants an object that is not here."""
        conn = self.source.get(oid, 0)
        if not conn or oid in self.pulls or oid in self._asked:
            return
        if entry.kind == AWAY:
            self._pull(oid, entry, conn)
        else:
            self._asked[oid] = None
            self.state.effects.sends[conn].append((WANT, [oid]))

    def value(self, conn: int, oid: bytes, kind: int, data: Any, contained: list[bytes]) -> None:
        """FAR_VALUE: the answer to WANT."""
        entry = self._objects.entries.get(oid)
        if entry is None or self.source.get(oid) != conn or oid not in self._asked:
            return
        del self._asked[oid]
        if kind == STORED:
            self._fill_away(conn, oid, entry, data, contained)
        else:
            entry.kind, entry.data = PENDING, None
            self.keep(conn, oid, kind, data, contained)

    def _fill_away(self, conn: int, oid: bytes, entry: Entry, data: Any, contained: list[bytes]) -> None:
        member = self.channels.by_conn[conn].member
        if member.draining and contained and not entry.contained:
            new = self.introduce(conn, contained)
            entry.contained = self._objects.pin(other for other in contained if other != oid)
            self.forget_unheld(new)
        if entry.kind == PENDING:
            self._objects.fill_away(oid, data)
        if member.draining and oid not in self.pulls and self._has_room(data[-1]):
            self._pull(oid, entry, conn)

    def _has_room(self, size: int) -> bool:
        arena = self._objects.arena
        return arena.rounded(size) <= arena.largest_gap

    def keep(self, conn: int, oid: bytes, kind: int, data: Any, contained: list[bytes]) -> None:
        """A small value has come: it is ours now, and need not be held elsewhere."""
        new = self.introduce(conn, contained)
        if not oid.endswith(ACTOR_OBJECT_SUFFIX) and self.source.pop(oid, 0):
            self.state.effects.sends[conn].append((RELEASE, [oid]))
        self._objects.fill(oid, kind, data, contained)
        self.forget_unheld(new)

    def take_over(self, member: Member) -> None:
        """Have all objects here that were had from a node that is about to go."""
        for oid, conn in list(self.source.items()):
            channel = self.channels.by_conn.get(conn)
            if channel is None or channel.member is not member or oid in self.pulls or oid in self._asked:
                continue
            entry = self._objects.entries[oid]
            if entry.kind in (PENDING, AWAY):
                self._asked[oid] = None  # also of what is known to be large: its value says what it contains
                self.state.effects.sends[conn].append((WANT, [oid]))
            elif not oid.endswith(ACTOR_OBJECT_SUFFIX):
                self._let_go_there(oid)

    def _let_go_there(self, oid: bytes) -> None:
        """A copy is here, and who has told of the object need not keep it for that."""
        self.state.effects.sends[self.source.pop(oid)].append((RELEASE, [oid]))

    # ---- bytes -------------------------------------------------------------------------------------------------------

    def _pull(self, oid: bytes, entry: Entry, conn: int) -> None:
        size = entry.data[-1]
        if not self.pulls.begin(oid, conn, size):
            entry.kind = PENDING
            self._objects.fill(oid, FAULT, self._objects.full(size, self.state.describe_conn), None)

    def _come(self, pull: Pull) -> None:
        """The bytes of an object are here."""
        entry = self._objects.entries[pull.oid]
        entry.kind, entry.data = PENDING, None
        self._objects.fill_at(pull.oid, pull.offset, pull.size)
        if not pull.conn:
            del self.source[pull.oid]
        elif self.channels.by_conn[pull.conn].member.draining:
            self._let_go_there(pull.oid)

    def _not_come(self, pull: Pull, why: Fault) -> None:
        """The bytes of an object cannot be had from where they were said to be."""
        if pull.conn and why.get("elsewhere"):
            self._asked[pull.oid] = None
            self.state.effects.sends[pull.conn].append((WANT, [pull.oid]))
        else:
            self._fail(pull.oid, "a node that cannot be reached", why)

    # ---- the end -----------------------------------------------------------------------------------------------------

    def lost(self, channel: Channel, who: str) -> None:
        """A channel has ended. If its node lives, only a job has ended, and objects that other jobs here refer to can
        be had by another channel.
        """
        theirs = [oid for oid, source in self.source.items() if source == channel.conn]
        other = self.channels.another(channel)
        if other is not None and theirs:
            self._move(theirs, other.conn)
            return
        for oid in theirs:
            if self.pulls.outlives(oid, channel.member.number):
                self.source[oid] = 0
                continue
            text = (
                f"Object {oid.hex()} is lost: it was only on {who}, which has died, and it is no result of a task that"
                " could be run again. Make it again."
            )
            self._fail(oid, who, fault(OBJECT_LOST, text, object_id=oid.hex()))

    def _move(self, oids: list[bytes], conn: int) -> None:
        """Have objects by another connection to the same node from now on."""
        self.state.effects.sends[conn].append((HOLD, oids))
        for oid in oids:
            self._asked.pop(oid, None)
            self.pulls.move(oid, conn)
            self.source[oid] = conn
            entry = self._objects.entries[oid]
            if entry.waiters or entry.dependents:
                self.wanted(oid, entry)

    def _fail(self, oid: bytes, who: str, why: Any) -> None:
        conn = self.source.pop(oid, 0)
        self._forget(oid)
        if conn in self.state.conns:  # its bytes cannot be had, although the other node lives and keeps them for us
            self.state.effects.sends[conn].append((RELEASE, [oid]))
        entry = self._objects.entries.get(oid)
        if entry is not None and entry.kind in (PENDING, AWAY) and not self.lose(oid, who):
            entry.kind = PENDING
            entry.data = None
            self._objects.fill(oid, FAULT, why, None)

    def message(self, oid: bytes, entry: Entry) -> tuple[Any, ...]:
        """The value of a complete object for another node."""
        data = entry.data[1:] if entry.kind == STORED else entry.data
        return (FAR_VALUE, oid, entry.kind, data, entry.contained or [])

    def check(self) -> None:
        """Raise AssertionError naming the first broken invariant."""
        entries = self._objects.entries
        for oid in self.source:
            assert oid in entries, f"{oid.hex()} is held elsewhere and unknown here"
        for oid in self.pulls:
            assert entries[oid].kind in (PENDING, AWAY), f"{oid.hex()} is pulled and complete"
        self.pulls.check()
        assert not self._asked.keys() - self.source.keys(), "something was asked of nobody"
