"""Actors of other nodes that run here: see ``rayd.core.hosting`` for the other side.

All that a guest is given to do comes from its home, in order. When it ends, for whatever reason, what it has not
answered goes back there (HOSTED); the guest is never started again here of this node's own will.

A call that a process here makes to a guest goes to the home like any other, waits there for its turn, and comes back:
the task that waits for its result here is then the one that runs.
"""

from collections.abc import Callable
from typing import Any, Final

from rayd.core.actor import Actors
from rayd.core.actor_record import Actor
from rayd.core.cluster import Cluster
from rayd.core.effect import KillWorker
from rayd.core.offload import Offload
from rayd.core.state import Conn, NodeState
from rayd.core.task import Task
from rayd.errors import Fault
from rayd.wire.frame import ProtocolError
from rayd.wire.messages import HOSTED

# States of HOSTED.
REFUSED: Final = 0
ALIVE: Final = 1
LOST: Final = 2
DEAD: Final = 3  # and not to be started again


class HereForOthers:
    """The guests of a node.

    Args:
        state: the node's tables.
        cluster: the other nodes.
        offload: calls under way.
        actors: of this node, the guests among them.
    """

    def __init__(self, state: NodeState, cluster: Cluster, offload: Offload, actors: Actors) -> None:
        self.state = state
        self.cluster = cluster
        self.offload = offload
        self.actors = actors
        self.on_left: Callable[[Actor], None] = lambda actor: None

    # ---- what their homes say ----------------------------------------------------------------------------------------

    def host(self, conn: Conn, message: Any) -> None:
        """HOST."""
        _, aid, key, args, args_oid, deps, contained = message
        if aid in self.actors.by_id:
            raise ProtocolError(f"the actor {aid.hex()} runs here already")
        spec = conn.specs[key]
        actor = self.actors.add(aid, Task(b"\xff" * 8 + aid, spec, args, args_oid, deps, conn.conn), "")
        actor.home = conn.conn
        actor.restarts_left = -1  # that is for its home to decide
        creation = actor.creation
        objects = self.state.objects
        waits = creation.arguments()
        creation.pins = objects.pin([*waits, *contained])
        objects.subscribe(creation, waits)
        if self.cluster.me.draining:
            self.refuse(actor)
        elif creation.missing == 0:
            self.actors.place_soon(actor)

    def is_new(self, conn: Conn, message: Any) -> bool:
        """CALL of an actor that belongs to another node; whether it is to be admitted like any other."""
        _, tid, aid, *_ = message
        actor = self.actors.by_id.get(aid)
        if actor is None or actor.home != conn.conn:
            # It has ended here, and its home has not heard that yet, or it would not have sent this; it takes it back.
            return False
        own = self.offload.come_back(conn.conn, tid)
        if own is not None:
            self.actors.take(own)
        return own is None

    def unhost(self, conn: Conn, message: Any) -> None:
        """UNHOST."""
        actor = self.actors.by_id.get(message[1])
        if actor is not None and actor.home == conn.conn:
            self.actors.close(actor)

    def move_away(self, actor: Actor) -> None:
        """A guest that has nothing to do is to go on elsewhere, as if it had not been here."""
        assert actor.worker is not None
        actor.worker.fate = "its node is to go"
        self.state.effects.others.append(KillWorker(actor.worker.wid))
        self.refuse(actor)

    # ---- what the actors need (``rayd.core.elsewhere.Guests``) -------------------------------------------------------

    def alive(self, actor: Actor, data: bytes) -> None:
        """Its constructor has returned ``data``."""
        self.actors.tasks.settle(actor.creation)
        pid = actor.worker.pid if actor.worker is not None else 0
        self._tell(actor, ALIVE, {"pid": pid, "value": data}, [], [])

    def refuse(self, actor: Actor) -> None:
        """There is no room for it."""
        self.cluster.tell_again()
        self._leave(actor, REFUSED, {"free": self.state.offered()}, [], [])

    def over(self, actor: Actor, why: Fault, mailed: list[Task], unread: list[bytes], final: bool) -> None:
        """It runs here no more."""
        self._leave(actor, DEAD if final else LOST, why, mailed, unread)

    def _leave(self, actor: Actor, state: int, why: dict[str, Any], mailed: list[Task], unread: list[bytes]) -> None:
        if self.actors.by_id.get(actor.aid) is not actor:
            return  # the end of another one was its own: with that their job was over
        waiting = [*actor.queue, *actor.stalled]
        unbegun = [*unread, *(task.tid for task in waiting)]
        del self.actors.by_id[actor.aid]
        self.actors.placing.pop(actor.aid, None)
        tasks = [task for task in (*mailed, *waiting) if task is not actor.creation and not task.done]
        held = self.offload.give_back(actor.home, [task for task in tasks if not self.offload.is_own(task)])
        for task in tasks:
            if self.offload.is_own(task):
                self.offload.go_back(task, why)
        actor.creation.done = True
        self.actors.tasks.settle(actor.creation)
        self._tell(actor, state, why, unbegun, held)
        self.on_left(actor)

    def _tell(self, actor: Actor, state: int, why: dict[str, Any], unbegun: list[bytes], held: list[bytes]) -> None:
        if actor.home in self.state.conns:
            self.state.effects.sends[actor.home].append((HOSTED, actor.aid, state, why, unbegun, held))
