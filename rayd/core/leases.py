"""Leases: which worker serves which scheduling class, with what resources, and for how long.

``waiting`` names the specs with something queued, and one pass over it per step hands out what fits. A *lease* gives a
worker and the spec's demand to one spec; tasks then follow each other on that worker without further accounting. A
lease ends when its queue is empty, or after ``LEASE_NS_MAX`` when another spec waits, so that nobody starves.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from rayd.core.allotment import fitting
from rayd.core.starts import Key, Starts
from rayd.core.state import NodeState
from rayd.core.task import Spec
from rayd.core.turns import Turns, rank
from rayd.core.worker import STARTING_MAX, Worker, WorkerState

if TYPE_CHECKING:
    from rayd.core.dispatch import Dispatcher

LEASE_NS_MAX: Final = 20_000_000


class Leases:
    """The leases of a node's workers.

    Args:
        state: the node's tables.
        tasks: fills the workers.

    Attributes:
        waiting: specs with something queued, by number, in the order of their turns.
        overflow: called with a spec of which more is queued than can begin; None while there are no other nodes.
    """

    def __init__(self, state: NodeState, tasks: "Dispatcher") -> None:
        self.state = state
        self.tasks = tasks
        self.starts = Starts(state)
        self.turns = Turns(state)
        self.waiting: dict[int, Spec] = {}
        self.overflow: Callable[[Spec], None] | None = None

    def enter(self, spec: Spec) -> bool:
        """Something of a spec is queued; whether nothing was before."""
        self.state.dirty = True
        if spec.cid in self.waiting:
            return False
        self.waiting[spec.cid] = spec
        self.turns.enter(spec, self.waiting.values())
        return True

    def late_turn(self) -> int | None:
        """The rank (see ``rayd.core.turns``) of the first spec that has waited for long and would fit; None if there is
        none.
        """
        claims, now = self.state.claims, self.state.now
        return min(
            (
                rank(spec.priority, now - spec.waits_since)
                for spec in self.waiting.values()
                if claims.is_late(spec.waits_since) and claims.fitting(spec.cid, spec.sources, spec.demand) is not None
            ),
            default=None,
        )

    # ---- handing out -------------------------------------------------------------------------------------------------

    def dispatch(self) -> None:
        """One pass: give every waiting spec the workers that fit, start workers where only those are lacking."""
        waiting = self.waiting
        for cid, spec in list(waiting.items()):
            queue = spec.queue
            while queue and queue[0].done:
                queue.popleft()
            if not queue:
                del waiting[cid]
        if len(waiting) > 1 and self.turns.is_contested(waiting):
            self._dispatch_in_turn()
            return
        for cid, spec in list(waiting.items()):
            queue = spec.queue
            served = bool(queue) and self._lease_for(spec)
            if queue and self.overflow is not None:
                self.overflow(spec)
            if not queue:
                del waiting[cid]
            elif served:
                self.turn_is_over(spec)

    def _dispatch_in_turn(self) -> None:
        """Several jobs or priorities want the same: one lease at a time."""
        left = self.turns.by_job(self.waiting.values())
        while left:
            job = self.turns.next_job(left)
            spec = left[job][0]
            while spec.queue and spec.queue[0].done:
                spec.queue.popleft()
            served = bool(spec.queue) and self._lease_one(spec)
            if served:
                self.turn_is_over(spec)
            elif spec.queue and self.overflow is not None:
                self.overflow(spec)
            if not spec.queue:
                del self.waiting[spec.cid]
            if not served or not spec.queue:  # nothing more for it in this pass
                left[job].pop(0)
                if not left[job]:
                    del left[job]

    def turn_is_over(self, spec: Spec) -> None:
        """Next time it waits behind the others."""
        if spec.cid in self.waiting:
            self.waiting[spec.cid] = self.waiting.pop(spec.cid)

    def _lease_for(self, spec: Spec) -> bool:
        """Lease whatever fits and there is a worker for; whether that was any."""
        served = False
        while spec.queue and self._lease_one(spec):
            served = True
        return served

    def _lease_one(self, spec: Spec) -> bool:
        """Lease one worker, if there is one and what is asked for fits; else see to it that there will be one."""
        state = self.state
        claims = state.claims
        if claims.claim is None:
            source = fitting(spec.sources, spec.demand)
        else:
            source = claims.fitting(spec.cid, spec.sources, spec.demand)
        worker = None
        if source is not None:
            key = (spec.job, spec.env)
            worker = state.pool.take_idle(key)
            if worker is None:
                self._start_workers(spec, key)
        if source is None or worker is None:
            claims.unserved(spec.cid, spec.waits_since, spec.sources, spec.demand)
            return False
        worker.take(source, spec.demand)
        worker.spec = spec
        worker.state = WorkerState.LEASED
        worker.leased_at = worker.progress_at = spec.waits_since = state.now
        if claims.claim is not None:
            claims.served(spec.cid)
        self.turns.began(worker)
        self.tasks.refill(worker, spec)
        if not worker.inflight:  # everything queued had been cancelled
            self.end(worker)
        return True

    def _start_workers(self, spec: Spec, key: Key) -> None:
        """Fork as many as could be leased at once, no more than are useful in parallel."""
        self.starts.want(key, min(len(spec.queue), self._parallel(spec), STARTING_MAX))

    @staticmethod
    def _parallel(spec: Spec) -> int:
        """How many leases of this spec the free resources allow now."""
        if not spec.demand:
            return STARTING_MAX
        return max(1, sum(source.ledger.times(spec.demand) for source in spec.sources))

    def can_begin(self, spec: Spec) -> bool:
        """Whether something of a spec runs here, or will as soon as there is a worker or its job's turn has come."""
        if self.state.claims.fitting(spec.cid, spec.sources, spec.demand) is not None:
            return True
        return any(worker.spec is spec for worker in self.state.pool.workers.values()) or (
            bool(spec.sources) and self.turns.is_owed(spec.job)
        )

    # ---- the end -----------------------------------------------------------------------------------------------------

    def goes_on(self, worker: Worker, spec: Spec) -> bool:
        """Whether a leased worker may have more of its spec."""
        return bool(spec.queue) and (self.state.now - worker.leased_at < LEASE_NS_MAX or not self._contended())

    def _contended(self) -> bool:
        """Whether anybody else waits for resources."""
        return len(self.waiting) > 1 or bool(self.state.placing) or self.state.claims.claim is not None

    def give_back(self, worker: Worker) -> None:
        """Return everything a worker holds."""
        self.turns.ended(worker)
        worker.give_back()
        self.state.dirty = True

    def end(self, worker: Worker) -> None:
        """A leased worker has nothing to do any more."""
        self.tasks.give_back(worker)
        spec = worker.spec
        if spec is not None:
            spec.waits_since = self.state.now
        self.state.pool.put_idle(worker, self.state.now)
