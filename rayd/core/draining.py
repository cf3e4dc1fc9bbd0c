"""A node that is to go: it takes nothing more from others, what it has comes to an end or goes elsewhere, then it ends.

* Tasks that others gave it and that have not begun go back; those that run end here.
* Actors of other nodes that may be started again leave when they have nothing to do, at no cost to their restarts.
* Whoever refers to an object that is here takes it over, with its bytes, and lets go of it.
* It waits for programs that are connected here, actors that cannot be started again, and bundles of placement groups,
  as long as it was given.
"""

from collections.abc import Iterator
from typing import Any

from rayd.core.actor import Actors
from rayd.core.actor_record import ActorState
from rayd.core.bundles import Bundles
from rayd.core.effect import StopDaemon
from rayd.core.neighbours import Neighbours
from rayd.core.objects import Entry
from rayd.core.state import Conn, NodeState
from rayd.core.worker import WorkerState
from rayd.ids import ACTOR_OBJECT_SUFFIX
from rayd.wire.frame import ProtocolError


class Draining:
    """What a node does about nodes that drain, first of all itself.

    Args:
        state: the node's tables.
        neighbours: the other nodes, and what they have here.
        actors: of this node.
        bundles: of placement groups.
    """

    def __init__(self, state: NodeState, neighbours: Neighbours, actors: Actors, bundles: Bundles) -> None:
        self.state = state
        self.cluster = neighbours.cluster
        self.guests = neighbours.guests
        self.offload = neighbours.offload
        self.foreign = neighbours.foreign
        self.actors = actors
        self.bundles = bundles
        self._ends_at = 0
        neighbours.on_given = self.give_back
        self.cluster.on_beat = self.go_on

    def begin(self, conn: Conn, message: Any) -> None:
        """DRAIN."""
        if conn.conn != self.cluster.head_conn:
            raise ProtocolError("DRAIN is for the head to say")
        seconds = message[1]
        self._ends_at = self.state.now + int(seconds * 1e9) if seconds else 0
        self.cluster.me.draining = True
        for actor in list(self.actors.placing.values()):
            if actor.home:
                self.guests.refuse(actor)
        self.give_back()

    def give_back(self) -> None:
        """What others gave this node and has not begun goes back to them, if this one is to go."""
        if self.cluster.me.draining:
            for spec in list(self.offload.tasks.waiting.values()):
                self.offload.refuse(spec)

    def go_on(self) -> None:
        """From time to time: do what can be done by now."""
        for member in list(self.cluster.leaving.values()):
            self.foreign.take_over(member)
        if self.cluster.me.draining:
            self._send_actors_away()
            if not self.waits_for():
                self.state.effects.others.append(StopDaemon("it was drained"))
            elif self._ends_at and self.state.now >= self._ends_at:
                self.state.effects.others.append(StopDaemon("its time to drain was over"))

    def _send_actors_away(self) -> None:
        for actor in list(self.actors.by_id.values()):
            may_leave = actor.home and actor.state is ActorState.ALIVE and actor.idle()
            if may_leave and int(actor.spec.options.get("max_restarts", 0)):
                self.guests.move_away(actor)

    def waits_for(self) -> dict[str, int]:
        """What keeps this node from going: counts by name; empty if nothing does."""
        state = self.state
        running = (WorkerState.LEASED, WorkerState.BLOCKED)
        wanted = list(self._wanted_elsewhere())
        found = {
            "programs": sum(conn.kind == "driver" for conn in state.conns.values()),
            "tasks": sum(worker.state in running for worker in state.pool.workers.values())
            + sum(entry.task is not None and not entry.task.worker for entry in wanted),
            "actors": sum(actor.state is not ActorState.DEAD for actor in self.actors.by_id.values()),
            "bundles": len(self.bundles.all()),
            "objects": sum(entry.task is None for entry in wanted),
        }
        return {name: count for name, count in found.items() if count}

    def _wanted_elsewhere(self) -> Iterator[Entry]:
        """The objects that other nodes have from this one."""
        nodes = self.foreign.channels.by_conn
        for oid, entry in self.state.objects.entries.items():
            if not oid.endswith(ACTOR_OBJECT_SUFFIX) and any(conn in nodes for conn in entry.named()):
                yield entry
