"""Bytes of this store on their way to other stores.

Another store asks for a part of an object (READ). Whoever holds the object may let go of it meanwhile, and the object
be freed; its place is not given to anything else before the part has left, or the connection has ended.
"""

from collections import deque
from typing import Any, Final

from rayd.core.effect import SendPart
from rayd.core.pulls import Pulls
from rayd.core.state import Conn, NodeState
from rayd.wire.frame import ProtocolError
from rayd.wire.messages import STORED

# Parts that one connection may have asked for at a time: who asks for more than anybody can use is not served.
LOANS_MAX: Final = 16


class Lending:
    """The sending end of all transfers from a node.

    Args:
        state: the node's tables.
        pulls: what is on its way here, of which there may be parts already.
    """

    def __init__(self, state: NodeState, pulls: Pulls) -> None:
        self.state = state
        self.pulls = pulls
        self._lent: dict[int, deque[int]] = {}  # by connection, where what is on its way begins, in order

    def read(self, conn: Conn, message: Any) -> None:
        """READ of another store: it gets the bytes themselves, or hears why there are none."""
        _, req, oid, at, size = message
        objects = self.state.objects
        entry = objects.entries.get(oid)
        if entry is not None and entry.kind == STORED:
            start, whole = entry.data
            if not 0 <= at <= at + size <= whole:
                raise ProtocolError(f"{size} bytes at {at} are no part of the {whole} bytes of {oid.hex()}")
        else:
            there = self.pulls.place_of(oid, at, size)
            if there is None:
                objects.read(conn.conn, req, oid, at, size)
                return
            start = there
        lent = self._lent.setdefault(conn.conn, deque())
        if len(lent) >= LOANS_MAX:
            raise ProtocolError(f"a store asks for more than {LOANS_MAX} parts at a time on one connection")
        objects.arena.lend(start)
        lent.append(start)
        self.state.effects.others.append(SendPart(conn.conn, req, start + at, size))

    def sent(self, conn: int) -> None:
        """The oldest part on a connection is through."""
        lent = self._lent.get(conn)
        if lent:  # else the connection has ended, which was said earlier
            self.state.objects.arena.take_back(lent.popleft())

    def lost(self, conn: int) -> None:
        """A connection has ended, and nothing is written to it any more."""
        for start in self._lent.pop(conn, ()):
            self.state.objects.arena.take_back(start)

    def check(self) -> None:
        """Raise AssertionError naming the first broken invariant."""
        for conn in self._lent:
            assert conn in self.state.conns, f"bytes are lent to connection {conn}, which has gone"
