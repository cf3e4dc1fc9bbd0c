"""Actors of one node: mailboxes, creation, restart, death.

Life: PENDING (its arguments or a place are missing) -> STARTING (its worker runs ``__init__``) -> ALIVE -> [RESTARTING
-> STARTING ...] -> DEAD.

Rules
* Calls of one caller reach the worker in the order they were made; a call that waits for an argument holds back that
  caller's later calls (unless the actor runs out of order), never those of others.
* The actor's object (``ids.actor_object_id``) is held by its handles; when the last goes, the actor finishes what it
  has and ends.
* A call that a dead worker had read fails, or runs again when its retries allow; one it had not read was never begun
  and is mailed again.
"""

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from rayd.core.actor_record import Actor, ActorState, handle_info
from rayd.core.allotment import Allotment, fitting
from rayd.core.dispatch import Dispatcher
from rayd.core.door import check_arguments
from rayd.core.effect import KillWorker, RetireWorker
from rayd.core.faults import cancelled, crashed
from rayd.core.resources import Demand
from rayd.core.state import Conn, NodeState
from rayd.core.task import Spec, Task
from rayd.core.worker import Worker, WorkerState
from rayd.errors import ACTOR_DIED, ACTOR_UNAVAILABLE, WORKER_CRASHED, Fault, fault
from rayd.ids import actor_object_id
from rayd.wire.frame import ProtocolError
from rayd.wire.messages import ERROR, FAULT, INLINE, REPLY, RETRYABLE, STOP_TASK, STORED


class FarActors(Protocol):
    """Calls of actors that live on other nodes; see ``rayd.core.far_calls``."""

    def is_far(self, aid: bytes) -> bool:
        """Whether an actor lives on another node."""

    def expect(self, task: Task) -> None:
        """A call is about to be admitted."""

    def ready(self, task: Task) -> None:
        """It has all its arguments."""


class Actors:
    """All actors of a node.

    Args:
        state: the node's tables.
        tasks: the common end of tasks.
        on_death: called with an actor that has just died.
    """

    def __init__(self, state: NodeState, tasks: Dispatcher, on_death: Callable[[Actor], None]) -> None:
        self.state = state
        self.tasks = tasks
        self.by_id: dict[bytes, Actor] = {}
        self.placing: dict[bytes, Actor] = state.placing
        self.far: FarActors | None = None  # bound by what knows of other nodes
        self._on_death = on_death

    # ---- creation ----------------------------------------------------------------------------------------------------

    def create(self, conn: Conn, message: Any, spec: Spec, namespace: str) -> Actor:
        """CREATE: the caller has checked the name."""
        _, _, aid, _, args, args_oid, deps, contained = message
        check_arguments(self.state.objects, args_oid, deps, contained)
        if aid in self.by_id:
            raise ProtocolError(f"the actor {aid.hex()} exists already")
        creation = Task(b"\xff" * 8 + aid, spec, args, args_oid, deps, conn.conn)
        creation.actor = aid
        actor = self.by_id[aid] = Actor(aid, spec, creation, namespace)
        objects = self.state.objects
        objects.expect(actor_object_id(aid), creation, conn.conn)
        if actor.detached:
            objects.pin([actor_object_id(aid)])
        creation.pins = objects.pin([*deps, *contained, args_oid] if args_oid else [*deps, *contained])
        creation.missing = objects.subscribe(creation, deps)
        text = self.state.whyever_not(spec, actor.placement, f"actor {actor.title()}")
        if text:
            self.state.warn(spec.job, text)
        if creation.missing == 0:
            self._place_soon(actor)
        return actor

    def _place_soon(self, actor: Actor) -> None:
        for oid in actor.creation.deps or ():
            kind, data = self.state.objects.payload(oid)
            if kind in (ERROR, FAULT):
                detail = {"error": data} if kind == ERROR else {}
                text = f"The actor {actor.title()} was not created: an argument of its constructor is an error."
                self._die(actor, fault(ACTOR_DIED, text, actor_id=actor.aid.hex(), init_failed=True, **detail))
                return
        if actor.spec.fault is not None:
            self._die(actor, {**actor.spec.fault, "actor_id": actor.aid.hex()})
            return
        self.placing[actor.aid] = actor
        self.state.dirty = True

    def dispatch(self) -> None:
        """Give pending actors a worker, oldest first, as far as resources and processes allow."""
        state = self.state
        wanted: dict[tuple[bytes, tuple[tuple[str, str], ...]], int] = {}
        reserved: list[tuple[Allotment, list[int], Demand]] = []
        for aid, actor in list(self.placing.items()):
            spec = actor.spec
            source = fitting(spec.sources, actor.placement, spec.demand)
            if source is None:
                continue
            key = (spec.job, spec.env)
            worker = state.pool.take_idle(key)
            if worker is None:
                wanted[key] = wanted.get(key, 0) + 1
                gpus = source.take(spec.demand)  # so that no more are started than can be used
                reserved.append((source, gpus, spec.demand))
                continue
            del self.placing[aid]
            self._start_on(actor, worker, source)
        for source, gpus, demand in reserved:
            source.give(demand, gpus)
        for key, count in wanted.items():
            self.tasks.starts.want(key, count)

    def start_failed(self, key: tuple[bytes, tuple[tuple[str, str], ...]], why: Fault) -> None:
        """Actors that wait for a worker that cannot be had die."""
        for actor in list(self.placing.values()):
            if (actor.spec.job, actor.spec.env) == key:
                code = ACTOR_DIED if why["code"] == WORKER_CRASHED else why["code"]
                text = f"The actor {actor.title()} died before it had started. {why['message']}"
                self._die(actor, {**why, "code": code, "message": text, "actor_id": actor.aid.hex()})

    def _start_on(self, actor: Actor, worker: Worker, source: Allotment) -> None:
        state, spec = self.state, actor.spec
        worker.take(source, spec.demand)
        worker.spec = spec
        worker.state = WorkerState.ACTOR
        worker.actor = actor.aid
        worker.progress_at = worker.leased_at = state.now
        actor.worker = worker
        actor.state = ActorState.STARTING
        self.tasks.mail(worker, actor.creation)

    # ---- calls -------------------------------------------------------------------------------------------------------

    def call(self, conn: Conn, message: Any) -> None:
        """CALL: into the mailbox, or an error if the actor is dead or was never here."""
        _, tid, aid, key, args, args_oid, deps, contained = message
        task = Task(tid, conn.specs[key], args, args_oid, deps, conn.conn)
        task.actor = aid
        actor = self.by_id.get(aid)
        if actor is not None and actor.state is not ActorState.DEAD:
            self._enqueue_first(actor, task, conn, deps)
        elif actor is None and self.far is not None and self.far.is_far(aid):
            self.far.expect(task)
        self.tasks.admit(conn, task, deps, contained)

    def _enqueue_first(self, actor: Actor, task: Task, conn: Conn, deps: list[bytes]) -> None:
        """Keep the caller's order: behind an earlier stalled call, or as the first of a new stalled row."""
        if not (deps or actor.stalled):
            return
        row = actor.stalled.get(_row_of(actor, task))
        if row is not None:
            row.append(task)
        elif deps:
            actor.stalled[_row_of(actor, task)] = deque([task])

    def ready(self, task: Task) -> None:
        """A call was admitted or its last argument has come; also a creation whose arguments are complete."""
        assert task.actor is not None
        actor = self.by_id.get(task.actor)
        if actor is None and self.far is not None and self.far.is_far(task.actor):
            self.far.ready(task)
            return
        if actor is None or actor.state is ActorState.DEAD:
            self._reject(task, actor)
            return
        if task is actor.creation:
            self._place_soon(actor)
            return
        row = actor.stalled.get(_row_of(actor, task)) if actor.stalled else None
        if row is not None:
            while row and (row[0].missing == 0 or row[0].done):
                self._queue(actor, row.popleft())
            if not row and actor.stalled.get(_row_of(actor, task)) is row:  # a failed call may have led here again
                del actor.stalled[_row_of(actor, task)]
        elif task.deps is None:  # one with arguments went with its row, perhaps before its own turn to be told
            self._queue(actor, task)
        self.pump(actor)

    def _queue(self, actor: Actor, task: Task) -> None:
        if task.done or (task.deps is not None and self.tasks.fail_on_bad_argument(task)):
            return
        actor.queue.append(task)

    def _reject(self, task: Task, actor: Actor | None) -> None:
        why = actor.fault if actor is not None else None
        if why is None:
            assert task.actor is not None
            text = (
                f"Actor {task.actor.hex()} is not known to this cluster: its handle is from an earlier session."
                " Create the actor again in this session."
            )
            why = fault(ACTOR_DIED, text, actor_id=task.actor.hex())
        self.tasks.finish(task, FAULT, why, None)

    def pump(self, actor: Actor) -> None:
        """Mail as many calls as the window allows."""
        worker = actor.worker
        if actor.state is not ActorState.ALIVE or worker is None:
            return
        queue = actor.queue
        while queue and len(worker.inflight) < actor.window:
            task = queue.popleft()
            if not task.done:
                self.tasks.mail(worker, task)
        if actor.closing:
            self._end_if_over(actor)

    def done(
        self, worker: Worker, task: Task, kind: int, data: Any, contained: list[bytes] | None, run_us: int
    ) -> None:
        """DONE of a call or of ``__init__``."""
        actor = self.by_id.get(worker.actor or b"")
        if actor is not None and task is actor.creation and actor.state is ActorState.STARTING:
            self._created(actor, kind, data)
            return
        self.state.record(worker, task, run_us, kind <= STORED)
        if kind == RETRYABLE and task.retries != 0 and not task.done and actor is not None:
            task.retries -= task.retries > 0
            actor.queue.appendleft(task)
        else:
            self.tasks.finish(task, ERROR if kind == RETRYABLE else kind, data, contained)
        self.answered(worker)

    def answered(self, worker: Worker) -> None:
        """A call has been finished: there is room for another."""
        actor = self.by_id.get(worker.actor or b"")
        if actor is not None:
            self.pump(actor)

    def _created(self, actor: Actor, kind: int, data: Any) -> None:
        if kind == INLINE:
            actor.state = ActorState.ALIVE
            if actor.restarts_left == 0:
                self.tasks.settle(actor.creation)
            self.state.objects.fill(actor_object_id(actor.aid), INLINE, data, None)
            self.pump(actor)
            return
        assert actor.worker is not None
        text = f"The actor {actor.title()} died: its constructor raised an exception."
        worker = actor.worker
        self._die(
            actor, fault(ACTOR_DIED, text, actor_id=actor.aid.hex(), init_failed=True, error=data, pid=worker.pid)
        )
        worker.fate = "retired"
        self.state.effects.others.append(RetireWorker(worker.wid))

    # ---- the end -----------------------------------------------------------------------------------------------------

    def unheld(self, aid: bytes) -> None:
        """The last handle has gone."""
        actor = self.by_id.get(aid)
        if actor is None or actor.state is ActorState.DEAD:
            return
        actor.closing = True
        self._end_if_over(actor)

    def _end_if_over(self, actor: Actor) -> None:
        """End an actor without handles that has nothing left to do, unless it has got a handle meanwhile."""
        entry = self.state.objects.entries.get(actor_object_id(actor.aid))
        if entry is not None and entry.holds:
            actor.closing = False
        elif actor.state in (ActorState.PENDING, ActorState.ALIVE) and actor.idle():
            self._end(actor)

    def _out_of_scope(self, actor: Actor) -> Fault:
        text = (
            f"The actor {actor.title()} ended because all handles to it went out of scope."
            " Keep a handle to keep it alive."
        )
        return fault(ACTOR_DIED, text, actor_id=actor.aid.hex(), intended=True)

    def _end(self, actor: Actor) -> None:
        worker = actor.worker
        self._die(actor, self._out_of_scope(actor))
        if worker is not None:
            worker.fate = "retired"
            self.state.effects.others.append(RetireWorker(worker.wid))

    def kill(self, aid: bytes, no_restart: bool) -> None:
        """KILL."""
        actor = self.by_id.get(aid)
        if actor is None or actor.state is ActorState.DEAD:
            return
        if no_restart:
            actor.restarts_left = 0
        if actor.worker is None:
            if no_restart:
                text = f"The actor {actor.title()} died: it was killed by ray.kill() before it had started."
                self._die(actor, fault(ACTOR_DIED, text, actor_id=aid.hex(), intended=True))
            return
        actor.worker.fate = "it was killed by ray.kill()"
        self.state.effects.others.append(KillWorker(actor.worker.wid))
        if no_restart:
            # Known dead from this moment, although the process takes a little longer.
            text = f"The actor {actor.title()} died: it was killed by ray.kill()."
            self._die(actor, fault(ACTOR_DIED, text, actor_id=aid.hex(), pid=actor.worker.pid, intended=True))

    def exiting(self, worker: Worker) -> None:
        """The actor's own code called exit_actor: an intended end, so no restart."""
        actor = self.by_id.get(worker.actor or b"")
        if actor is not None:
            worker.fate = "it called ray.actor.exit_actor()"
            actor.restarts_left = 0

    def worker_lost(self, worker: Worker, cause: dict[str, Any], stderr: list[str], unread: list[bytes]) -> None:
        """The actor's process is gone."""
        tasks = self.tasks.take_mail(worker)
        self.tasks.give_back(worker)
        actor = self.by_id.get(worker.actor or b"")
        if actor is None or actor.worker is not worker or actor.state is ActorState.DEAD:
            for task in tasks:
                self._reject(task, actor)
            return
        actor.worker = None
        unbegun = set(unread)
        read = [task for task in tasks if task.tid not in unbegun]
        fresh = [task for task in tasks if task.tid in unbegun]
        if actor.creation in fresh and worker.fate is None:  # it died before it had heard of the actor
            actor.state = ActorState.RESTARTING if actor.restarts else ActorState.PENDING
            self._place_soon(actor)
            return
        why = self._death(actor, worker, cause, stderr)
        restart = actor.restarts_left != 0
        actor.queue.extendleft(task for task in reversed(fresh) if task is not actor.creation)
        for task in reversed(read):
            if task is actor.creation or task.done:
                continue
            if restart and task.retries != 0:
                task.retries -= task.retries > 0
                actor.queue.appendleft(task)
            else:
                self.tasks.finish(task, FAULT, self._unavailable(actor, why) if restart else why, None)
        if not restart or (actor.closing and actor.idle()):
            self._die(actor, why)
            return
        actor.restarts_left -= actor.restarts_left > 0
        actor.restarts += 1
        actor.state = ActorState.RESTARTING
        self._place_soon(actor)

    def _death(self, actor: Actor, worker: Worker, cause: dict[str, Any], stderr: list[str]) -> Fault:
        why = crashed(actor.creation, worker, cause, stderr)
        text = worker.fate or cause["text"]
        tail = "".join(f"\n  {line}" for line in stderr)
        said = f"\nIts last lines on stderr:{tail}" if stderr else ""
        why.update(
            code=ACTOR_DIED,
            actor_id=actor.aid.hex(),
            intended=worker.fate is not None,
            message=f"The actor {actor.title()} died: {text}.{said}",
        )
        return why

    def _unavailable(self, actor: Actor, why: Fault) -> Fault:
        text = (
            f"{why['message']} It is being restarted, but this call was in its hands and its max_task_retries are"
            " used up:"
            " call again, or allow retries with max_task_retries."
        )
        return {**why, "code": ACTOR_UNAVAILABLE, "message": text}

    def _die(self, actor: Actor, why: Fault) -> None:
        actor.state = ActorState.DEAD
        actor.fault = why
        self.placing.pop(actor.aid, None)
        self._on_death(actor)
        worker = actor.worker
        waiting = [
            *(worker.inflight.values() if worker else ()),
            *actor.queue,
            *(t for row in actor.stalled.values() for t in row),
        ]
        actor.queue.clear()
        actor.stalled.clear()
        for task in waiting:
            if task is not actor.creation:
                self.tasks.finish(task, FAULT, why, None)
        objects = self.state.objects
        objects.fill(actor_object_id(actor.aid), FAULT, why, None)
        actor.creation.done = True
        self.tasks.settle(actor.creation)
        if actor.detached:
            objects.unpin([actor_object_id(actor.aid)])
        objects.drop_if_unheld(actor_object_id(actor.aid))  # its handles had gone before

    def cancel(self, task: Task, force: bool) -> None:
        """Cancel a call: one not begun is dropped; a running one is told and decides by itself."""
        worker = self.state.pool.workers.get(task.worker)
        if worker is None:
            self.tasks.finish(task, FAULT, cancelled(task), None)
            self.ready(task)  # it holds back no other call any more
            return
        self.state.effects.sends[worker.conn].append((STOP_TASK, task.tid))
        actor = self.by_id.get(task.actor or b"")
        begun = int(actor.spec.options.get("concurrency", 1)) if actor is not None else 1
        if list(worker.inflight).index(task.tid) >= begun:  # mailed, but others are before it
            self.tasks.finish(task, FAULT, cancelled(task), None)

    def detached_of(self, job: bytes) -> list[Actor]:
        """Detached actors of a job that are not dead."""
        actors = self.by_id.values()
        return [a for a in actors if a.spec.job == job and a.detached and a.state is not ActorState.DEAD]

    def end_abandoned(self, job: bytes) -> bool:
        """A job's driver has gone: its actors end, but not detached ones and what those created; whether any did."""
        found = [
            actor
            for actor in self.by_id.values()
            if actor.spec.job == job
            and not actor.detached
            and actor.state is not ActorState.DEAD
            and self.state.is_abandoned(actor.creation)
        ]
        for actor in found:
            text = f"The actor {actor.title()} died: the driver that created it has ended."
            worker = actor.worker
            actor.restarts_left = 0
            if worker is not None:
                worker.fate = "the driver has ended"
                self.state.effects.others.append(KillWorker(worker.wid))
            self._die(actor, fault(ACTOR_DIED, text, actor_id=actor.aid.hex()))
        return bool(found)

    def end_in_group(self, gid: bytes, why: Fault) -> None:
        """A placement group is removed: its actors end with it, without a restart."""
        for actor in list(self.by_id.values()):
            if actor.spec.options.get("placement_group") != gid or actor.state is ActorState.DEAD:
                continue
            worker = actor.worker
            actor.restarts_left = 0
            if worker is None:
                self._die(actor, {**why, "actor_id": actor.aid.hex()})
                continue
            worker.fate = "its placement group was removed"
            self.state.effects.others.append(KillWorker(worker.wid))
            text = f"The actor {actor.title()} died: {why['message']}"
            self._die(actor, fault(ACTOR_DIED, text, actor_id=actor.aid.hex(), pid=worker.pid, intended=True))

    def reply_exists(self, conn: Conn, req: int, actor: Actor) -> None:
        """Answer a CREATE with get_if_exists by the actor that is there, which the caller holds from now on."""
        self.state.objects.hold(conn.conn, [actor_object_id(actor.aid)])
        actor.closing = False
        self.state.effects.sends[conn.conn].append((REPLY, req, True, handle_info(actor)))

    def forget_dead(self, aid: bytes) -> None:
        """Nothing refers to a dead actor any more."""
        actor = self.by_id.get(aid)
        if actor is not None and actor.state is ActorState.DEAD:
            del self.by_id[aid]


def _row_of(actor: Actor, task: Task) -> int | bytes:
    """What a call that waits for an argument holds back: its caller's later calls, or nothing but itself."""
    return task.conn if actor.ordered else task.tid
