"""Tasks of one node: from submission to a worker's mailbox to their end.

Cost is per spec, not per task: a queue belongs to a spec, and workers are leased to specs (``rayd.core.leases``).
"""

from collections.abc import Callable
from typing import Any, Final

from rayd.core.door import check_arguments
from rayd.core.effect import Interrupt, KillWorker, RetireWorker, TakeBack
from rayd.core.faults import cancelled, crashed
from rayd.core.leases import Leases
from rayd.core.state import Conn, NodeState
from rayd.core.streams import Streams
from rayd.core.task import STREAMING, Spec, Task
from rayd.core.time_limits import TimeLimits
from rayd.core.worker import Worker, WorkerState
from rayd.errors import CANCELLED, Fault, fault
from rayd.ids import FIRST_RETURN, return_id
from rayd.wire.messages import DATAGRAM_BYTES_MAX, ERROR, FAULT, RETRYABLE, STOP_TASK, STORED

# A worker whose current task runs longer than this, and much longer than usual, loses what is queued behind it.
SLOW_NS_MIN: Final = 5_000_000
SLOW_TIMES_USUAL: Final = 4


class Dispatcher:
    """Submission, leases, completion, retries and cancellation of plain tasks; the common end of all tasks.

    Args:
        state: the node's tables.
        streams: the table of streaming tasks.
    """

    def __init__(self, state: NodeState, streams: Streams) -> None:
        self.state = state
        self.streams = streams
        self.leases = Leases(state, self)
        self.starts = self.leases.starts
        self.limits = TimeLimits(state)
        self.waiting = self.leases.waiting
        self.crowded: dict[int, Worker] = {}
        self.actor_ready: Callable[[Task], None]  # bound by who has the actors
        # Bound by what knows of other nodes; None while there are none.
        self.place: Callable[[Task], bool] | None = None
        self.report: Callable[[Task, int], None] | None = None

    # ---- submission --------------------------------------------------------------------------------------------------

    def submit(self, conn: Conn, message: Any) -> None:
        """SUBMIT: expect its returns, then queue it or wait for its arguments."""
        _, tid, key, args, args_oid, deps, contained = message
        spec = conn.specs[key]
        task = Task(tid, spec, args, args_oid, deps, conn.conn)
        self.admit(conn, task, deps, contained)

    def admit(self, conn: Conn, task: Task, deps: list[bytes], contained: list[bytes]) -> None:
        """The part of submission that tasks and actor calls share."""
        state = self.state
        objects = state.objects
        far = conn.conn in objects.nodes
        if deps or contained or task.args_oid:
            check_arguments(objects, b"" if far else task.args_oid, deps, contained)
        returns = task.spec.num_returns
        if returns == 1:
            objects.expect(task.tid + FIRST_RETURN, task, conn.conn)
        elif returns == STREAMING:
            self.streams.open(task, conn.conn)
        else:
            for index in range(1, returns + 1):
                objects.expect(return_id(task.tid, index), task, conn.conn)
        if conn.worker:
            self._adopt_child(conn, task)
        if deps or contained or task.args_oid:
            task.pins = objects.pin([*deps, *contained, task.args_oid] if task.args_oid else [*deps, *contained])
            task.stays = far or (task.actor is not None and not objects.is_far(task.actor))
            waits = [*deps, task.args_oid] if far and task.args_oid else deps
            if waits:
                objects.subscribe(task, waits)
        if task.missing == 0 or task.actor is not None:
            self.ready(task)

    def _adopt_child(self, conn: Conn, task: Task) -> None:
        worker = self.state.pool.workers.get(conn.worker)
        if worker is None or (worker.spec is not None and int(worker.spec.options.get("concurrency", 1)) > 1):
            return  # of several calls that run at a time nobody knows which one it was
        running = worker.running()
        if running is not None and not running.done:
            task.parent = running.tid
            self.state.children.setdefault(running.tid, {})[task.tid] = task

    def ready(self, task: Task) -> None:
        """All arguments are there."""
        if task.actor is not None:
            self.actor_ready(task)
            return
        if task.done:
            return
        if (task.deps is not None or task.args_oid) and self.fail_on_bad_argument(task):
            return
        spec = task.spec
        if (
            self.place is not None
            and not task.stays
            and (task.deps or task.args_oid or spec.spread)
            and self.place(task)
        ):
            return
        if spec.fault is not None:
            self.refuse(task)
            return
        if spec.job_ended and self.end_if_abandoned(task):
            return
        spec.queue.append(task)
        self._awaits_worker(spec)

    def _awaits_worker(self, spec: Spec) -> None:
        if self.leases.enter(spec) and not spec.judged:
            self._report_unsatisfiable(spec)

    def fail_on_bad_argument(self, task: Task) -> bool:
        """An argument that is an error makes the task that error, without running it."""
        for oid in task.arguments():
            kind, data = self.state.objects.payload(oid)
            if kind == ERROR or kind == FAULT:
                self.finish(task, kind, data, None)
                return True
        return False

    def refuse(self, task: Task) -> None:
        """End a task that has not begun and never can, as its spec says."""
        if not task.done and task.spec.fault is not None:
            self.finish(task, FAULT, task.spec.fault, None)

    def end_if_abandoned(self, task: Task) -> bool:
        """Cancel a task that has not begun and that nobody alive has submitted; whether it is over."""
        if not task.done and self.state.is_abandoned(task):
            text = f"Task {task.spec.name} ({task.tid.hex()}) was cancelled: the driver that submitted it has ended."
            self.finish(task, FAULT, fault(CANCELLED, text, task_id=task.tid.hex()), None)
        return task.done

    def _report_unsatisfiable(self, spec: Spec) -> None:
        spec.judged = True
        text = self.state.why_never(spec, spec.demand, f"task {spec.name}")
        if text:
            self.state.warn(spec.job, text)

    # ---- handing out -------------------------------------------------------------------------------------------------

    def start_failed(self, key: tuple[bytes, tuple[tuple[str, str], ...]], why: Fault) -> None:
        """What waits for a worker that cannot be had fails."""
        for spec in list(self.waiting.values()):
            if (spec.job, spec.env) == key:
                for task in list(spec.queue):
                    self.finish(task, FAULT, why, None)
                spec.queue.clear()

    def refill(self, worker: Worker, spec: Spec) -> None:
        """Mail tasks until the worker has its share of the queue or its depth."""
        queue = spec.queue
        room = min(spec.depth, len(queue) // self.state.pool.size + 1) - len(worker.inflight)
        while room > 0 and queue:
            task = queue.popleft()
            if task.done or (self.place is not None and self._fetch(task)):
                continue
            room -= 1
            self.mail(worker, task, room > 0 and bool(queue))
        if len(worker.inflight) > 1:
            self.crowded[worker.wid] = worker

    def _fetch(self, task: Task) -> bool:
        """It is decided that a task runs here: have all its arguments come; whether that takes a while."""
        if task.deps is None or task.stays:
            return False
        task.stays = True
        return self.state.objects.subscribe(task, task.deps) > 0 or self.fail_on_bad_argument(task)

    def mail(self, worker: Worker, task: Task, more: bool = False) -> None:
        """Put a task into a worker's mailbox; ``more`` hints that another follows at once, so results may be sent
        together.
        """
        objects = self.state.objects
        args_at = [*objects.payload(task.args_oid)[1], task.args_oid] if task.args_oid else []
        size = len(task.args)
        deps = []
        for oid in task.deps or ():
            kind, data = objects.payload(oid)
            deps.append([oid, kind, data])
            size += len(data)
        worker.inflight[task.tid] = task
        task.worker = worker.wid
        if task.spec.timeout_ns:
            self.limits.begun(worker, task)
        body = [task.tid, task.spec.cid, task.args, args_at, deps, worker.gpus, more]
        if size + 64 * len(deps) > DATAGRAM_BYTES_MAX:
            self.state.bodies[task.tid] = body
            body = [task.tid]
        self.state.effects.mail[worker.wid].append(body)

    # ---- completion --------------------------------------------------------------------------------------------------

    def done(
        self, worker: Worker, task: Task, kind: int, data: Any, contained: list[bytes] | None, run_us: int
    ) -> None:
        """DONE of a plain task."""
        spec = task.spec
        now = self.state.now
        spec.observe(run_us)
        worker.progress_at = now
        self.state.record(worker, task, run_us, kind <= STORED)
        if spec.timeout_ns:
            kind, data = self.limits.outcome(worker, task, kind, data)
        if kind != RETRYABLE or not self._retry(task):
            self.finish(task, ERROR if kind == RETRYABLE else kind, data, contained, run_us)
        self.advance(worker, spec)

    def _retry(self, task: Task) -> bool:
        if task.retries == 0 or task.stopped or task.done:
            return False
        task.retries -= task.retries > 0
        self.queue_again(task)
        return True

    def retry_or_fail(self, task: Task, why: Fault) -> None:
        """Where a task ran has gone, perhaps with some of its arguments."""
        if not self.fail_on_bad_argument(task) and not self._retry(task):
            self.finish(task, FAULT, why, None)

    def queue_again(self, task: Task) -> None:
        """Before all others: it was handed out once."""
        self.state.bodies.pop(task.tid, None)
        task.worker = 0
        if task.stopped:
            self.finish(task, FAULT, cancelled(task), None)
        elif task.spec.fault is not None:
            self.refuse(task)
        elif not task.done and not (task.spec.job_ended and self.end_if_abandoned(task)):
            task.spec.queue.appendleft(task)
            self._awaits_worker(task.spec)

    def advance(self, worker: Worker, spec: Spec) -> None:
        """A leased worker has finished something: give it more or end its lease."""
        if worker.fate is not None:  # it is being killed: its resources are free when it has gone
            return
        if worker.state is WorkerState.BLOCKED:  # another thread of the task still waits
            self.resumed(worker)
        if spec.max_calls:
            calls = worker.calls[spec.function] = worker.calls.get(spec.function, 0) + 1
            if calls >= spec.max_calls:
                if not worker.inflight:
                    self.retire(worker)
                return
        if self.leases.goes_on(worker, spec) and len(worker.inflight) * 2 <= spec.depth and not worker.in_debt():
            self.refill(worker, spec)
        if not worker.inflight:
            self.leases.turn_is_over(spec)
            self.leases.end(worker)

    def give_back(self, worker: Worker) -> None:
        """Return everything a worker holds."""
        self.crowded.pop(worker.wid, None)
        self.leases.give_back(worker)

    def retire(self, worker: Worker) -> None:
        """Let a worker end by itself; its resources are free from now on."""
        self.give_back(worker)
        worker.state = WorkerState.DEAD
        worker.fate = "retired"
        self.state.effects.others.append(RetireWorker(worker.wid))

    def finish(self, task: Task, kind: int, data: Any, contained: list[bytes] | None, run_us: int = 0) -> None:
        """The one end of every task and call: fill its returns, let go of its arguments. Fenced by ``task.done``."""
        if task.done:
            if kind == STORED:
                self.state.objects.drop_stored(data)
            return
        task.done = True
        state = self.state
        objects = state.objects
        returns = task.spec.num_returns
        if returns == 1:
            objects.fill(task.tid + FIRST_RETURN, kind, data, contained)
        elif returns == STREAMING:
            self.streams.end(task, kind, data)
        else:
            for index in range(1, returns + 1):
                objects.fill(return_id(task.tid, index), kind, data, contained)
        self._tell_home(task, run_us)
        self.settle(task)

    def _tell_home(self, task: Task, run_us: int) -> None:
        """If another node gave us the task, it hears of the end."""
        if self.report is not None and (task.actor is not None or task.conn in self.state.objects.nodes):
            self.report(task, run_us)

    def finish_many(self, task: Task, results: list[list[Any]], run_us: int) -> None:
        """DONE_MANY: one result per return."""
        if task.done:
            for kind, data, _ in results:
                if kind == STORED:
                    self.state.objects.drop_stored(data)
            return
        task.done = True
        for index, (kind, data, contained) in enumerate(results, 1):
            self.state.objects.fill(return_id(task.tid, index), kind, data, contained)
        self._tell_home(task, run_us)
        self.settle(task)

    def settle(self, task: Task) -> None:
        if task.pins is not None:
            self.state.objects.unpin(task.pins)
            task.pins = None
        children = self.state.children
        if children:
            children.pop(task.tid, None)
            parent = task.parent
            siblings = children.get(parent) if parent is not None else None
            if parent is not None and siblings is not None:
                siblings.pop(task.tid, None)
                if not siblings:
                    del children[parent]
        if self.state.bodies:
            worker = self.state.pool.workers.get(task.worker)
            if worker is None or task.tid not in worker.inflight:  # else it was cancelled and will yet be asked for
                self.state.bodies.pop(task.tid, None)

    # ---- workers come, wait and go -----------------------------------------------------------------------------------

    def blocked(self, worker: Worker) -> None:
        """The task waits in get: lend its CPUs out and take back what is queued behind it."""
        if worker.held is None or worker.lent is not None:
            return
        self.leases.turns.ended(worker)
        worker.lend()
        if worker.state is WorkerState.LEASED:
            worker.state = WorkerState.BLOCKED
            if len(worker.inflight) > 1:
                self.state.effects.others.append(TakeBack(worker.wid))
        self.state.dirty = True

    def resumed(self, worker: Worker) -> None:
        if worker.lent is None:
            return
        worker.recall()
        self.leases.turns.began(worker)
        worker.progress_at = self.state.now
        if worker.state is WorkerState.BLOCKED:
            worker.state = WorkerState.LEASED

    def taken_back(self, worker: Worker, tids: list[bytes]) -> None:
        """These mailed tasks were never read: queue them again, in order, at no cost to their retries."""
        if worker.actor is not None:  # given to it in the step that asked for this: what was drained is its own
            for tid in tids:
                self.mail(worker, worker.inflight.pop(tid))
            return
        for tid in reversed(tids):
            self.queue_again(worker.inflight.pop(tid))
        self.crowded.pop(worker.wid, None)
        if not worker.inflight and worker.state is WorkerState.LEASED:
            self.leases.end(worker)

    def slow_check(self) -> None:
        """Take back what is queued behind tasks that turn out to be long."""
        now = self.state.now
        for worker in list(self.crowded.values()):
            if len(worker.inflight) < 2:
                del self.crowded[worker.wid]
                continue
            spec = worker.spec
            usual = 0.0 if spec is None else spec.average_us * 1000 * SLOW_TIMES_USUAL
            if now - worker.progress_at > max(SLOW_NS_MIN, usual):
                if spec is not None:
                    spec.distrust()
                self.state.effects.others.append(TakeBack(worker.wid))
                del self.crowded[worker.wid]

    def worker_lost(self, worker: Worker, cause: dict[str, Any], stderr: list[str], unread: list[bytes]) -> None:
        """A task worker is gone: what it never read is queued again, what it ran is retried or fails with the exact
        cause.

        Of those that it had read it was at the last one; the others had finished, but their results were lost with it.
        They are not to blame, so they run again at no cost to their retries. A worker sends the result of a task that
        must not run twice before it begins another.
        """
        unbegun = set(unread)
        tasks = self.take_mail(worker)
        read = [task for task in tasks if task.tid not in unbegun]
        self.give_back(worker)
        for task in reversed(tasks):
            if task.tid in unbegun:
                self.queue_again(task)
        for task in reversed(read):
            if task is not read[-1] and task.spec.retries_max:
                self.queue_again(task)
            elif not self._retry(task):
                why = task.spec.fault or self.limits.fault_of(worker, task) or crashed(task, worker, cause, stderr)
                self.finish(task, FAULT, why, None)
        self.limits.forget(worker)

    def take_mail(self, worker: Worker) -> list[Task]:
        """All that a worker that has gone had been mailed, oldest first."""
        tasks = list(worker.inflight.values())
        worker.inflight.clear()
        for task in tasks:
            self.state.bodies.pop(task.tid, None)
        return tasks

    # ---- cancellation ------------------------------------------------------------------------------------------------

    def cancel(self, task: Task, force: bool) -> None:
        """Cancel a task that has not finished; finished ones never get here."""
        worker = self.state.pool.workers.get(task.worker)
        if worker is None or worker.running() is not task:
            # Still queued here, or mailed but not begun; if the worker reads it all the same, its result comes too
            # late.
            self.finish(task, FAULT, cancelled(task), None)
            self.state.dirty = True  # others may have been held up for it
            if worker is not None:
                self.state.effects.sends[worker.conn].append((STOP_TASK, task.tid))
            return
        task.stopped = True
        if force:
            worker.fate = f"the task was cancelled with force=True while it ran {task.spec.name}"
            self.state.effects.others.append(KillWorker(worker.wid))
        else:
            self.state.effects.sends[worker.conn].append((STOP_TASK, task.tid))
            self.state.effects.others.append(Interrupt(worker.wid))
