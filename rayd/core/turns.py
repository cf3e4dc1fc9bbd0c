"""Whose turn it is when several want the same resources of a node.

Between jobs: what a job uses of the node is added up, its largest share of any resource (dominant resource fairness,
Ghodsi et al., NSDI 2011) times the time, divided by the job's weight; the job that has used least is next (virtual time
as in stride scheduling, Waldspurger 1995). A job that has wanted nothing for a while has saved up nothing by that: it
begins where the others are.

Within a job: the higher ``priority`` first, of equal ones each scheduling class in turn. Who waits gains one level each
``AGE_NS``, so a task waits at most as many seconds longer as its priority is lower.

Actors hold what they have for as long as they live and are not counted.
"""

from collections.abc import Iterable
from typing import Final

from rayd.core.resources import Demand
from rayd.core.state import Job, NodeState
from rayd.core.task import Spec
from rayd.core.worker import Worker, WorkerState

# A lease counts for at least this long: of jobs that come at the same moment each gets some.
QUANTUM_NS: Final = 20_000_000
# Waiting for so long is worth one level of priority.
AGE_NS: Final = 1_000_000_000
_LEASED: Final = (WorkerState.LEASED, WorkerState.BLOCKED)


class Turns:
    """The order in which the jobs and scheduling classes of a node are served.

    Args:
        state: the node's tables.
    """

    def __init__(self, state: NodeState) -> None:
        self.state = state

    # ---- what jobs use -----------------------------------------------------------------------------------------------

    def began(self, worker: Worker) -> None:
        """A lease has begun, or goes on after its CPUs were lent out."""
        worker.counted_at = self.state.now

    def ended(self, worker: Worker) -> None:
        """It has ended, or its CPUs are lent out."""
        if len(self.state.jobs) > 1:  # who is alone owes nobody anything: see ``enter``
            job = self.state.jobs.get(worker.key[0])
            if job is not None and worker.counted_at and worker.actor is None:
                job.used += self._use(worker) / job.weight
        worker.counted_at = 0

    def _use(self, worker: Worker) -> float:
        if not worker.counted_at or worker.held is None:
            return 0.0
        return self._share(worker.held) * max(self.state.now - worker.counted_at, QUANTUM_NS)

    def _share(self, demand: Demand) -> float:
        """The largest part of anything on this node that a demand asks for."""
        totals = self.state.ledger
        return max((totals.part(name, units) for name, units in demand.items), default=0.0)

    def used(self, jobs: Iterable[bytes]) -> dict[bytes, float]:
        """What jobs have used by now."""
        known = {job: self.state.jobs[job].used for job in jobs if job in self.state.jobs}
        for worker in self.state.pool.workers.values():
            if worker.state in _LEASED and worker.key[0] in known:
                known[worker.key[0]] += self._use(worker) / self.state.jobs[worker.key[0]].weight
        return known

    def enter(self, spec: Spec, waiting: Iterable[Spec]) -> None:
        """A spec has something to do again: if its job had nothing, that joins the others where they are."""
        spec.waits_since = self.state.now
        if len(self.state.jobs) < 2:
            return
        present = dict.fromkeys(other.job for other in waiting if other is not spec)
        for worker in self.state.pool.workers.values():
            if worker.state in _LEASED:
                present[worker.key[0]] = None
        job: Job | None = self.state.jobs.get(spec.job)
        if job is not None and spec.job not in present:
            job.used = max(job.used, min(self.used(present).values(), default=0.0))

    # ---- the order ---------------------------------------------------------------------------------------------------

    @staticmethod
    def is_contested(waiting: dict[int, Spec]) -> bool:
        """Whether there is more to decide than to serve each scheduling class in turn."""
        first = next(iter(waiting.values()), None)
        return first is not None and any(
            spec.job != first.job or spec.priority != first.priority for spec in waiting.values()
        )

    def by_job(self, waiting: Iterable[Spec]) -> dict[bytes, list[Spec]]:
        """The specs of each job, the next one first."""
        found: dict[bytes, list[Spec]] = {}
        for spec in waiting:
            found.setdefault(spec.job, []).append(spec)
        for specs in found.values():
            # Stable: of equal ones the order is that in which they wait.
            specs.sort(key=lambda spec: rank(spec.priority, self.state.now - spec.waits_since))
        return found

    def next_job(self, jobs: Iterable[bytes]) -> bytes:
        """The job that has used least."""
        used = self.used(jobs)
        return min(used, key=lambda job: used[job])

    def is_owed(self, job: bytes) -> bool:
        """Whether another job has leases here and has used more, so that this one's turn comes."""
        others = dict.fromkeys(
            worker.key[0]
            for worker in self.state.pool.workers.values()
            if worker.state in _LEASED and worker.key[0] != job
        )
        if not others:
            return False
        used = self.used([job, *others])
        return any(used.get(other, 0.0) > used.get(job, 0.0) for other in others)


def rank(priority: int, waited_ns: int) -> int:
    """The place of who has waited for so long among others of its job, the first one the lowest."""
    return -(priority + waited_ns // AGE_NS)
