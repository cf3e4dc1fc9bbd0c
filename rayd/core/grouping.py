"""What nodes say to each other about placement groups: the head decides, the others have the bundles."""

from collections.abc import Callable, Iterable
from typing import Any

from rayd.core.cluster import Cluster
from rayd.core.group import Groups
from rayd.core.naming import Naming
from rayd.core.placement import Placement
from rayd.core.resources import Demand
from rayd.core.state import Conn, NodeState
from rayd.wire import messages as m
from rayd.wire.frame import ProtocolError


class Grouping:
    """Messages about groups.

    Args:
        state: the node's tables.
        cluster: the nodes.
        groups: all groups, in the head.
        placement: what the node's specs accept, and its bundles.
        naming: the way to ask the head.
    """

    def __init__(
        self, state: NodeState, cluster: Cluster, groups: Groups, placement: Placement, naming: Naming
    ) -> None:
        self.state = state
        self.cluster = cluster
        self.groups = groups
        self.bundles = placement.bundles
        self.naming = naming
        self.bundles.ask = self._ask

    def handlers(self) -> dict[int, Callable[[Conn, Any], None]]:
        """What other nodes may say, by tag."""
        return {m.RESERVE: self._on_reserve, m.RESERVED: self.groups.reserved, m.GROUP: self._on_group}

    def _on_reserve(self, conn: Conn, message: Any) -> None:
        _, gid, trial, rows, patient = message
        self._from_the_head(conn)
        wanted = {int(index): Demand.of(amounts) for index, amounts in rows}

        def answer(ok: bool) -> None:
            self.state.effects.sends[conn.conn].append((m.RESERVED, gid, trial, ok, self.state.offered()))

        if self.cluster.me.draining:
            answer(False)
        elif patient:
            self.bundles.reserve_patiently(gid, wanted, answer)
        else:
            answer(self.bundles.reserve(gid, wanted))

    def _on_group(self, conn: Conn, message: Any) -> None:
        self._from_the_head(conn)
        self.bundles.told(message[1], message[2])

    def _from_the_head(self, conn: Conn) -> None:
        if conn.conn != self.cluster.head_conn:
            raise ProtocolError("this is for the head to say")

    def learn(self, notices: Iterable[list[Any]]) -> None:
        """The groups there are when this node joins, or comes back; those that it knows beside them are no more."""
        known = dict.fromkeys([*self.bundles.known, *self.bundles.here])
        for gid, notice in notices:
            known.pop(gid, None)
            self.bundles.told(gid, notice)
        for gid in known:
            self.bundles.told(gid, self.groups.notice(gid))

    def end_job(self, job: bytes) -> None:
        """A driver of this node has gone."""
        if self.cluster.is_head:
            self.groups.end_job(job)
        else:
            self.naming.ask("groups_end", {"job": job})

    def _ask(self, gid: bytes) -> None:
        """Nothing is known here of a group that a spec names."""
        if self.cluster.is_head:
            self.bundles.told(gid, self.groups.notice(gid))
        else:
            self.naming.ask("group_notice", {"group_id": gid}, lambda ok, notice: self.bundles.told(gid, notice))
