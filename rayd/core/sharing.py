"""Who sends a large object to whom, when many nodes want it at a time.

Whoever is asked for an object serves ``CHILDREN_MAX`` nodes at a time. Who has it by then serves others in turn, so
copies spread by a tree that grows while they do: after n rounds 3 ** n nodes have the object, and no node has sent it
more than twice in a round. A node that wants it asks where to get it (SEEK), is told as soon as somebody is free
(SOURCE), and says how it went (SOUGHT); who cannot be reached, or has let go of its copy, is not named again.
"""

from collections.abc import Iterable
from typing import Any, Final

from rayd.core.channels import Channels
from rayd.core.state import Conn, NodeState
from rayd.wire.messages import SOURCE, STORED

CHILDREN_MAX: Final = 2
# Smaller objects are not worth a question.
SHARED_FROM: Final = 8 << 20


class Share:
    """One object that several nodes want.

    Attributes:
        holders: nodes that have it, each with the number of those that get it from there.
        served: connections that have been told where to get it, and where.
        waiting: connections that have not, in order.
    """

    __slots__ = ("holders", "served", "waiting")

    def __init__(self, number: int) -> None:
        self.holders: dict[int, int] = {number: 0}
        self.served: dict[int, int] = {}
        self.waiting: dict[int, None] = {}


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

    def seek(self, conn: Conn, message: Any) -> None:
        """SEEK."""
        oid = message[1]
        entry = self.state.objects.entries.get(oid)
        if entry is None or entry.kind != STORED:  # it hears so when it asks for the bytes
            self._tell(conn.conn, oid, self.state.number)
            return
        share = self.shares.setdefault(oid, Share(self.state.number))
        self._leave(share, conn.conn)
        share.waiting[conn.conn] = None
        self._serve(oid, share)

    def sought(self, conn: Conn, message: Any) -> None:
        """SOUGHT."""
        _, oid, ok = message
        share = self.shares.get(oid)
        channel = self.channels.by_conn.get(conn.conn)
        if share is None or channel is None:
            return
        source = self._leave(share, conn.conn)
        if ok:
            share.holders.setdefault(channel.member.number, 0)
        elif source is not None and source != self.state.number:
            share.holders.pop(source, None)
        self._serve(oid, share)

    def _serve(self, oid: bytes, share: Share) -> None:
        for conn in list(share.waiting):
            source = min(share.holders, key=lambda number: (share.holders[number], number == self.state.number))
            if share.holders[source] >= CHILDREN_MAX:
                return
            del share.waiting[conn]
            share.served[conn] = source
            share.holders[source] += 1
            self._tell(conn, oid, source)

    def _tell(self, conn: int, oid: bytes, number: int) -> None:
        self.state.effects.sends[conn].append((SOURCE, oid, number))

    @staticmethod
    def _leave(share: Share, conn: int) -> int | None:
        """A node waits no more, and gets nothing any more; from where it did."""
        share.waiting.pop(conn, None)
        source = share.served.pop(conn, None)
        if source in share.holders:
            share.holders[source] -= 1
        return source

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
        self._leave(share, conn)
        channel = self.channels.by_conn.get(conn)
        if channel is not None:
            share.holders.pop(channel.member.number, None)
        self._serve(oid, share)

    def check(self) -> None:
        """Raise AssertionError naming the first broken invariant."""
        for oid, share in self.shares.items():
            assert oid in self.state.objects.entries, f"{oid.hex()} is shared and not here"
            for number, count in share.holders.items():
                served = sum(source == number for source in share.served.values())
                assert served == count <= CHILDREN_MAX, f"{number} serves {served} of {oid.hex()}, counts {count}"
            for conn in (*share.waiting, *share.served):
                assert conn in self.channels.by_conn, f"{oid.hex()} is shared with a node that has gone"
            free = any(count < CHILDREN_MAX for count in share.holders.values())
            assert not (free and share.waiting), f"{oid.hex()} is waited for, and somebody could send it"
