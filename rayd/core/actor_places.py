"""Which actors get a worker of their node, and in which order."""

from bisect import bisect_right
from typing import TYPE_CHECKING

from rayd.core.actor_record import Actor, ActorState
from rayd.core.allotment import Allotment
from rayd.core.leases import Leases
from rayd.core.resources import Demand
from rayd.core.state import NodeState
from rayd.core.turns import rank
from rayd.core.worker import Worker, WorkerState
from rayd.errors import ACTOR_DIED, WORKER_CRASHED, Fault

if TYPE_CHECKING:
    from rayd.core.actor import Actors


class Places:
    """The actors of a node that wait for a worker.

    Args:
        state: the node's tables.
        actors: all of them.
    """

    def __init__(self, state: NodeState, actors: "Actors") -> None:
        self.state = state
        self.actors = actors

    def dispatch(self, leases: Leases) -> None:
        """Serve pending actors in the order of their turns, and tasks before those that have not waited as long.

        Args:
            leases: of the tasks.
        """
        waiting = sorted(self.state.placing.values(), key=self._turn)
        late = leases.late_turn()
        first = len(waiting) if late is None else bisect_right(waiting, late, key=self._rank)
        self._serve(waiting[:first])
        if first < len(waiting):
            leases.dispatch()
            self._serve(waiting[first:])

    def _serve(self, waiting: list[Actor]) -> None:
        """Give actors a worker, as far as resources and processes allow."""
        state = self.state
        wanted: dict[tuple[bytes, tuple[tuple[str, str], ...]], int] = {}
        reserved: list[tuple[Allotment, list[int], Demand]] = []
        for actor in waiting:
            aid, spec = actor.aid, actor.spec
            if aid not in state.placing or self.actors.hosts.waits(actor):
                continue
            if not actor.home and self.actors.hosts.place(actor):
                del state.placing[aid]
                continue
            source = state.claims.fitting(spec.cid, spec.sources, spec.placement, spec.demand)
            if source is None and actor.home:
                self.actors.guests.refuse(actor)
                continue
            key = (spec.job, spec.env)
            worker = None if source is None else state.pool.take_idle(key)
            if worker is None:
                state.claims.unserved(spec.cid, actor.waits_since, spec.sources, spec.wanted)
            if source is None:
                continue
            if worker is not None:
                del state.placing[aid]
                self._start_on(actor, worker, source)
                continue
            wanted[key] = wanted.get(key, 0) + 1
            gpus = source.take(spec.demand)  # so that no more are started than can be used
            reserved.append((source, gpus, spec.demand))
        for source, gpus, demand in reserved:
            source.give(demand, gpus)
        for key, number in wanted.items():
            self.actors.tasks.starts.want(key, number)

    def _rank(self, actor: Actor) -> int:
        """As for tasks, a second of waiting is worth a level of priority."""
        return rank(actor.spec.priority, self.state.now - actor.waits_since)

    def _turn(self, actor: Actor) -> tuple[int, int]:
        return self._rank(actor), actor.serial

    def start_failed(self, key: tuple[bytes, tuple[tuple[str, str], ...]], why: Fault) -> None:
        """Actors that wait for a worker that cannot be had die."""
        for actor in list(self.state.placing.values()):
            if (actor.spec.job, actor.spec.env) == key:
                code = ACTOR_DIED if why["code"] == WORKER_CRASHED else why["code"]
                text = f"The actor {actor.title()} died before it had started. {why['message']}"
                self.actors.die(actor, {**why, "code": code, "message": text, "actor_id": actor.aid.hex()})

    def _start_on(self, actor: Actor, worker: Worker, source: Allotment) -> None:
        state, spec = self.state, actor.spec
        worker.take(source, spec.demand)
        worker.spec = spec
        worker.state = WorkerState.ACTOR
        worker.actor = actor.aid
        worker.progress_at = worker.leased_at = state.now
        actor.worker = worker
        actor.state = ActorState.STARTING
        actor.waits_since = 0
        state.claims.served(spec.cid)
        self.actors.tasks.mail(worker, actor.creation)
