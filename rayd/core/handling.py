"""What clients say about objects, as it comes from the wire."""

from collections.abc import Callable
from typing import Any

from rayd.core.door import check_ids
from rayd.core.neighbours import Neighbours
from rayd.core.state import Conn, NodeState
from rayd.wire import messages as m


class ObjectMessages:
    """Messages that make, hold and want objects.

    Args:
        state: the node's tables.
        neighbours: the other nodes.
    """

    def __init__(self, state: NodeState, neighbours: Neighbours) -> None:
        self.state = state
        self.objects = state.objects
        self.neighbours = neighbours

    def handlers(self) -> dict[int, Callable[[Conn, Any], None]]:
        """By tag."""
        objects = self.objects
        return {
            m.PUT: self._on_put,
            m.PUT_ERROR: lambda conn, message: objects.add(message[1], m.ERROR, message[2], [], conn.conn),
            m.ALLOC: self._on_alloc,
            m.WRITE: lambda conn, message: objects.write(conn.conn, *message[1:]),
            m.READ: lambda conn, message: objects.read(conn.conn, *message[1:]),
            m.SEAL: self._on_seal,
            m.HOLD: self._on_hold,
            m.RELEASE: self._on_release,
            m.WANT: self._on_want,
            m.PROBE: self._on_probe,
        }

    def _on_put(self, conn: Conn, message: Any) -> None:
        check_ids(message[3])
        self.objects.add(message[1], m.INLINE, message[2], message[3], conn.conn)

    def _on_alloc(self, conn: Conn, message: Any) -> None:
        self.objects.allocate(message[1], message[2], message[3], conn.conn, self.state.describe_conn)

    def _on_seal(self, conn: Conn, message: Any) -> None:
        check_ids(message[2])
        self.objects.seal(conn.conn, message[1], message[2])

    def _on_hold(self, conn: Conn, message: Any) -> None:
        check_ids(message[1])
        if len(self.neighbours.cluster.members) > 1:
            self.neighbours.hold(conn, message[1])
        self.objects.hold(conn.conn, message[1])

    def _on_release(self, conn: Conn, message: Any) -> None:
        check_ids(message[1])
        if self.neighbours.sharing.shares:
            self.neighbours.sharing.released(conn.conn, message[1])
        self.objects.release(conn.conn, message[1])

    def _on_want(self, conn: Conn, message: Any) -> None:
        check_ids(message[1])
        self.objects.want(conn.conn, message[1])

    def _on_probe(self, conn: Conn, message: Any) -> None:
        check_ids(message[1])
        self.objects.probe(conn.conn, message[1])
