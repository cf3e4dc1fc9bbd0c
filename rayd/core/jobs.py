"""Jobs: what lives on behalf of a driver, and what of it ends with the driver.

When a driver goes, all that nobody alive has asked for goes with it: its tasks, its actors, what those had submitted,
and the workers. A detached actor stays, with the tasks and actors that it has started itself; the job is forgotten when
the last of them has gone.
"""

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from rayd.core.actor import Actors
from rayd.core.actor_record import Actor
from rayd.core.channels import job_id
from rayd.core.dispatch import Dispatcher
from rayd.core.door import check_introduction
from rayd.core.effect import KillWorker
from rayd.core.journal import COUNTER, EXPORT, JOB
from rayd.core.state import Conn, Job, NodeState
from rayd.core.worker import DRIVER_ENDED, STARTING_MAX, Worker, WorkerState

# Numbers of jobs that are set aside at a time.
JOBS_AHEAD: Final = 1_000


class Jobs:
    """All jobs of a node.

    Args:
        state: the node's tables.
        tasks: plain tasks.
        actors: actors.
    """

    def __init__(self, state: NodeState, tasks: Dispatcher, actors: Actors) -> None:
        self.state = state
        self.tasks = tasks
        self.actors = actors
        self._next = 1
        self._reserved = 0
        self._abandoned: deque[bytes] = deque()
        self._ending = False
        self.on_orphaned: Callable[[bytes], None] = lambda job: None  # the driver has gone, what is detached has not
        self.on_abandoned: Callable[[bytes], None] = lambda job: None  # tasks elsewhere may not be wanted any more
        self.on_end: Callable[[bytes], None] = lambda job: None  # the driver has gone, or the last that outlived it

    def begin(self, conn: int, info: dict[str, Any]) -> bytes:
        """A driver has connected; its first workers are started at once."""
        state = self.state
        env = tuple(sorted(dict(info.get("env_vars") or {}).items()))
        job = job_id(state.number, self._next)
        self._next += 1
        self._reserve()
        namespace = str(info.get("namespace") or f"anonymous-{job.hex()}")
        state.jobs[job] = Job(job, conn, namespace, info, state.now)
        state.journal.put(JOB, job, [namespace, info])
        self.tasks.starts.want((job, env), min(state.pool.size, STARTING_MAX))
        return job

    def _reserve(self) -> None:
        """No head to come shall give a number again that may have been given: some are set aside ahead of need."""
        if self._next + JOBS_AHEAD // 2 > self._reserved:
            self._reserved = self._next + JOBS_AHEAD
            self.state.journal.put(COUNTER, JOB.encode(), self._reserved)

    def restore(self, rows: list[tuple[bytes, Any]], reserved: int) -> None:
        """This head has begun anew: there were these jobs. Their drivers have gone with the former one."""
        self._next = max(self._next, reserved)
        self._reserve()
        for job, (namespace, info) in rows:
            self.state.jobs[job] = Job(job, 0, namespace, info, self.state.now)

    def end_restored(self) -> int:
        """Forget those that nothing has outlived; how many that were."""
        over = [job for job, known in self.state.jobs.items() if not known.driver and not self.actors.detached_of(job)]
        for job in over:
            self._end_what_nobody_wants(job)
        return len(over)

    def begin_elsewhere(self, job: bytes, conn: int, info: dict[str, Any]) -> None:
        """Another node wants something done for a job whose driver is connected there or beyond."""
        check_introduction(info["job_info"])
        self.state.jobs[job] = Job(job, conn, str(info["namespace"]), dict(info["job_info"]), self.state.now)
        self.state.jobs[job].logs.append(conn)

    def end(self, job: bytes) -> None:
        """The driver has gone, or what stood for it here."""
        self.state.jobs[job].driver = 0
        if self.actors.detached_of(job):
            self.on_orphaned(job)
        else:
            self.on_end(job)
        self._end_what_nobody_wants(job)

    def ended(self, job: bytes) -> None:
        """The driver has gone, says who has drawn this node into the job, which goes on for a detached actor."""
        self.state.jobs[job].ended = True
        self.on_orphaned(job)
        self._end_what_nobody_wants(job)

    def is_over(self, conn: Conn) -> bool:
        """Whether a worker belongs to a driver that has gone and is being killed for that: it is not listened to."""
        job = self.state.jobs.get(conn.job)
        if job is not None and not job.is_orphaned():
            return False
        worker = self.state.pool.workers.get(conn.worker)
        return job is None or (worker is not None and worker.fate == DRIVER_ENDED)

    def actor_died(self, actor: Actor) -> None:
        """If it was what kept a job whose driver has gone, that ends now."""
        job = self.state.jobs.get(actor.spec.job)
        if actor.detached and job is not None and not job.driver:
            self._end_what_nobody_wants(job.job)

    def _end_what_nobody_wants(self, job: bytes) -> None:
        """What ends may be what an actor waits for, whose death ends more: a loop, one end after the other."""
        self._abandoned.append(job)
        if self._ending:
            return
        self._ending = True
        try:
            while self._abandoned:
                self._end_once(self._abandoned.popleft())
        finally:
            self._ending = False

    def _end_once(self, job: bytes) -> None:
        state = self.state
        if job in state.jobs and not state.jobs[job].driver and not self.actors.detached_of(job):
            self._forget(job)
        self.on_abandoned(job)
        # Whoever is killed makes orphans of what it had submitted, hence as often as there is a change.
        while self.actors.end_abandoned(job) or self._kill_abandoned(job):
            pass
        for spec in list(state.specs.values()):
            if spec.job == job:
                spec.job_ended = True
                for task in list(spec.queue):
                    self.tasks.end_if_abandoned(task)
                spec.queue = deque(task for task in spec.queue if not task.done)
        if job not in state.jobs:
            for cid in [cid for cid, spec in state.specs.items() if spec.job == job]:
                del state.specs[cid]
        state.dirty = True

    def _kill_abandoned(self, job: bytes) -> bool:
        """Kill workers that do nothing, or nothing that anybody wants; whether there were any."""
        state = self.state
        found = [
            worker
            for worker in state.pool.workers.values()
            if worker.key[0] == job
            and worker.state is not WorkerState.ACTOR
            and worker.fate is None
            and self._is_abandoned(worker)
        ]
        for worker in found:
            worker.fate = DRIVER_ENDED
            if worker.state is WorkerState.IDLE:
                state.pool.drop_idle(worker)
                worker.state = WorkerState.DEAD
            state.effects.others.append(KillWorker(worker.wid))
        return bool(found)

    def _is_abandoned(self, worker: Worker) -> bool:
        running = worker.running()
        return running is None or self.state.is_abandoned(running)

    def _forget(self, job: bytes) -> None:
        state = self.state
        for function in state.jobs[job].kept:
            state.journal.put(EXPORT, job + function, None)
        state.journal.put(JOB, job, None)
        del state.jobs[job]
        self.on_end(job)
        self.tasks.starts.forget(job)
        for key in [key for key in state.spec_index if key[0] == job]:
            del state.spec_index[key]
