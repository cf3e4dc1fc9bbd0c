"""Actors of one node: mailboxes, creation, restart, death.

Life: PENDING (its arguments, its name or a place are missing) -> STARTING (its worker runs ``__init__``) -> ALIVE ->
[RESTARTING -> STARTING ...] -> DEAD.

Rules
* Calls of one caller reach the worker in the order they were made; a call that waits for an argument holds back that
  caller's later calls (unless the actor runs out of order), never those of others.
* The actor's object (``ids.actor_object_id``) is held by its handles; when the last goes, the actor finishes what it
  has and ends.
* A call that a dead worker had read fails, or runs again when its retries allow; one it had not read is mailed again.
"""

from collections.abc import Callable, Container, Sequence
from itertools import count
from typing import Any

from rayd.core.actor_faults import died, out_of_scope, unavailable, unknown, worker_died
from rayd.core.actor_places import Places
from rayd.core.actor_record import Actor, ActorState
from rayd.core.call_order import may_wait
from rayd.core.dispatch import Dispatcher
from rayd.core.door import check_arguments
from rayd.core.effect import KillWorker, RetireWorker
from rayd.core.elsewhere import FarActors, Guests, Hosts
from rayd.core.faults import cancelled
from rayd.core.state import Conn, NodeState
from rayd.core.task import Spec, Task
from rayd.core.worker import DRIVER_ENDED, Worker
from rayd.errors import ACTOR_DIED, Fault, fault
from rayd.ids import actor_object_id
from rayd.wire.frame import ProtocolError
from rayd.wire.messages import ERROR, FAULT, INLINE, RETRYABLE, STOP_TASK, STORED


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
        self.far: FarActors  # these are bound by what knows of other nodes
        self.hosts: Hosts
        self.guests: Guests
        self.places = Places(state, self)
        self.buried: dict[bytes, Fault] = {}  # of a former head: why they are no more
        self.on_alive: Callable[[Actor], None] = lambda actor: None
        self._on_death = on_death
        self._serials = count(1)

    # ---- creation ----------------------------------------------------------------------------------------------------

    def create(self, conn: Conn, message: Any, spec: Spec, namespace: str, *, waits: bool = False) -> Actor:
        """CREATE: the caller has checked the name, or (``waits``) asks the head about it."""
        _, _, aid, _, args, args_oid, deps, contained = message
        check_arguments(self.state.objects, args_oid, deps, contained)
        if aid in self.by_id:
            raise ProtocolError(f"the actor {aid.hex()} exists already")
        actor = self.add(aid, Task(b"\xff" * 8 + aid, spec, args, args_oid, deps, conn.conn), namespace)
        creation = actor.creation
        objects = self.state.objects
        objects.expect(actor_object_id(aid), creation, conn.conn)
        if actor.detached:
            objects.pin([actor_object_id(aid)])
        creation.pins = objects.pin([*deps, *contained, args_oid] if args_oid else [*deps, *contained])
        objects.subscribe(creation, deps)
        actor.unnamed = waits
        text = self.state.why_never(spec, spec.placement, f"actor {actor.title()}")
        if text:
            self.state.warn(spec.job, text)
        if creation.missing == 0:
            self.place_soon(actor)
        return actor

    def add(self, aid: bytes, creation: Task, namespace: str) -> Actor:
        """Know an actor from now on, whose constructor is a task of this node."""
        creation.actor = aid
        creation.stays = True
        actor = self.by_id[aid] = Actor(aid, creation.spec, creation, namespace)
        actor.serial = next(self._serials)
        return actor

    def place_soon(self, actor: Actor) -> None:
        """All arguments of its constructor are there: find it a worker, if its name is its own."""
        if actor.unnamed:
            return
        creation = actor.creation
        for oid in creation.arguments():
            kind, data = self.state.objects.payload(oid)
            if kind in (ERROR, FAULT):
                detail = {"error": data} if kind == ERROR else {}
                text = f"The actor {actor.title()} was not created: an argument of its constructor is an error."
                self.die(actor, fault(ACTOR_DIED, text, actor_id=actor.aid.hex(), init_failed=True, **detail))
                return
        if actor.spec.fault is not None:
            self.die(actor, {**actor.spec.fault, "actor_id": actor.aid.hex()})
            return
        self.placing[actor.aid] = actor
        actor.waits_since = actor.waits_since or self.state.now
        self.state.dirty = True

    # ---- calls -------------------------------------------------------------------------------------------------------

    def call(self, conn: Conn, message: Any) -> None:
        """CALL: into the mailbox, or an error if the actor is dead or was never here."""
        _, tid, aid, key, args, args_oid, deps, contained = message
        task = Task(tid, conn.specs[key], args, args_oid, deps, conn.conn)
        task.actor = aid
        actor = self.by_id.get(aid)
        if actor is not None and actor.home:
            if conn.conn == actor.home:
                task.stays = True
            else:  # a call from here goes its way by the actor's home, like those from elsewhere
                actor = None
        if actor is not None and actor.state is not ActorState.DEAD:
            if deps or args_oid or actor.stalled.rows:
                actor.stalled.expect(actor.row_of(task), task)
        elif actor is None and self.far.is_far(aid):
            self.far.expect(task)
        self.tasks.admit(conn, task, deps, contained)

    def take(self, task: Task) -> None:
        """A call of a process here comes back: the home of its actor lets that run here."""
        assert task.actor is not None
        actor = self.by_id[task.actor]
        objects = self.state.objects
        task.stays = True
        objects.subscribe(task, objects.away(task.deps or ()))
        actor.stalled.expect(actor.row_of(task), task)
        self.ready(task)

    def ready(self, task: Task) -> None:
        """A call was admitted or its last argument has come; also a creation whose arguments are complete."""
        assert task.actor is not None
        actor = self.by_id.get(task.actor)
        elsewhere = actor is None or (actor.home and not task.stays)
        if elsewhere and self.far.is_far(task.actor):
            self.far.ready(task)
            return
        if actor is None or actor.state is ActorState.DEAD:
            self._reject(task, actor)
            return
        if task is actor.creation:
            self.place_soon(actor)
            return
        if task.deps is None and not task.args_oid and not actor.stalled.rows:  # the ordinary case
            self._queue(actor, task)
        else:
            for fit in actor.stalled.ready(actor.row_of(task), task):
                self._queue(actor, fit)
        self.pump(actor)

    def _queue(self, actor: Actor, task: Task) -> None:
        if task.done or (may_wait(task) and self.tasks.fail_on_bad_argument(task)):
            return
        actor.queue.append(task)

    def _reject(self, task: Task, actor: Actor | None) -> None:
        assert task.actor is not None
        why = actor.fault if actor is not None else None
        self.tasks.finish(task, FAULT, why or self.buried.get(task.actor) or unknown(task.actor), None)

    def pump(self, actor: Actor) -> None:
        """Mail as many calls as the window allows."""
        worker = actor.worker
        runner = worker or actor.host
        if actor.state is not ActorState.ALIVE or runner is None:
            return
        queue = actor.queue
        while queue and len(runner.inflight) < actor.window:
            task = queue.popleft()
            if task.done:
                continue
            if worker is not None:
                self.tasks.mail(worker, task)
            else:
                self.hosts.send(actor, task)
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
            self.alive(actor, data)
            return
        assert actor.worker is not None
        worker = actor.worker
        why = died(actor, "its constructor raised an exception", init_failed=True, error=data, pid=worker.pid)
        self.die(actor, why)
        worker.fate = "retired"
        self.state.effects.others.append(RetireWorker(worker.wid))

    def alive(self, actor: Actor, data: bytes) -> None:
        """Its constructor has returned; ``data`` is the value of the object that stands for it."""
        actor.state = ActorState.ALIVE
        if actor.home:
            self.guests.alive(actor, data)
        else:
            self.state.objects.fill(actor_object_id(actor.aid), INLINE, data, None)
            self.on_alive(actor)
        if actor.restarts_left == 0:
            self.tasks.settle(actor.creation)
        self.pump(actor)

    # ---- the end -----------------------------------------------------------------------------------------------------

    def unheld(self, aid: bytes) -> None:
        """The last handle has gone."""
        actor = self.by_id.get(aid)
        if actor is not None and actor.state is not ActorState.DEAD:
            self.close(actor)

    def close(self, actor: Actor) -> None:
        """Let an actor end when it has done what it has been given."""
        actor.closing = True
        self._end_if_over(actor)

    def _end_if_over(self, actor: Actor) -> None:
        """End an actor without handles that has nothing left to do, unless it has got a handle meanwhile."""
        entry = self.state.objects.entries.get(actor_object_id(actor.aid)) if not actor.home else None
        if entry is not None and entry.holds:
            actor.closing = False
        elif actor.state in (ActorState.PENDING, ActorState.ALIVE) and actor.idle():
            self._end(actor)

    def _end(self, actor: Actor) -> None:
        worker = actor.worker
        if actor.host is not None:
            self.hosts.let_end(actor)
        self.die(actor, out_of_scope(actor))
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
        if actor.host is not None:
            self.hosts.kill(actor, no_restart)
            if no_restart:
                self.die(actor, died(actor, "it was killed by ray.kill()", pid=actor.host.pid, intended=True))
            return
        if actor.worker is None:
            if no_restart:
                self.die(actor, died(actor, "it was killed by ray.kill() before it had started", intended=True))
            return
        actor.worker.fate = "it was killed by ray.kill()"
        self.state.effects.others.append(KillWorker(actor.worker.wid))
        if no_restart:
            # Known dead from this moment, although the process takes a little longer.
            self.die(actor, died(actor, "it was killed by ray.kill()", pid=actor.worker.pid, intended=True))

    def exiting(self, worker: Worker) -> None:
        """Its own code called exit_actor: an intended end, so no restart."""
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
        if actor.creation.tid in unbegun and worker.fate is None:  # it died before it had heard of the actor
            actor.state = ActorState.RESTARTING if actor.restarts else ActorState.PENDING
            self.place_soon(actor)
            return
        why = worker_died(actor, worker, cause, stderr)
        if actor.home:
            self.guests.over(actor, why, tasks, unread, actor.restarts_left == 0)
        else:
            self.lost(actor, why, tasks, unbegun)

    def lost(self, actor: Actor, why: Fault, tasks: Sequence[Task], unbegun: Container[bytes]) -> None:
        """What ran an actor has gone; it is started again if it may be.

        Args:
            actor: the actor.
            why: the cause.
            tasks: the calls that it had been given, in order.
            unbegun: ids of those that it has not begun.
        """
        restart = actor.restarts_left != 0
        for task in reversed(tasks):
            if task is actor.creation or task.done:
                continue
            if task.tid in unbegun:
                actor.queue.appendleft(task)
            elif restart and task.retries != 0:
                task.retries -= task.retries > 0
                actor.queue.appendleft(task)
            else:
                self.tasks.finish(task, FAULT, unavailable(why) if restart else why, None)
        if not restart or (actor.closing and actor.idle()):
            self.die(actor, why)
            return
        actor.restarts_left -= actor.restarts_left > 0
        actor.restarts += 1
        actor.serial = next(self._serials)  # behind those that have not run at all
        actor.state = ActorState.RESTARTING
        self.place_soon(actor)

    def die(self, actor: Actor, why: Fault) -> None:
        """The end of an actor; ``why`` is what its callers get from now on."""
        if actor.home:
            self._end_guest(actor, why, final=True)
            return
        actor.state = ActorState.DEAD
        actor.fault = why
        self.placing.pop(actor.aid, None)
        self._on_death(actor)
        runner = actor.worker or actor.host
        waiting = [*(runner.inflight.values() if runner else ()), *actor.queue, *actor.stalled]
        actor.host = None
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
            if actor.home:
                self._evict(actor, DRIVER_ENDED)
                continue
            self.end(actor, "the driver that created it has ended", DRIVER_ENDED)
        return bool(found)

    def end(self, actor: Actor, why: str, fate: str) -> None:
        """It cannot go on, for a reason in words; ``fate`` is that of its worker."""
        if actor.state is not ActorState.DEAD:
            self._kill(actor, fate)
            self.die(actor, died(actor, why))

    def _evict(self, actor: Actor, why: str) -> None:
        """A guest cannot stay; whether it goes on elsewhere is not decided here."""
        self._kill(actor, why)
        self._end_guest(actor, died(actor, why), final=False)

    def _end_guest(self, actor: Actor, why: Fault, *, final: bool) -> None:
        mailed = self.tasks.take_mail(actor.worker) if actor.worker is not None else []
        self.guests.over(actor, why, mailed, [], final)

    def _kill(self, actor: Actor, fate: str) -> None:
        """Its process is to die at once, for good."""
        actor.restarts_left = 0
        if actor.host is not None:
            self.hosts.kill(actor, True)
        if actor.worker is not None:
            actor.worker.fate = fate
            self.state.effects.others.append(KillWorker(actor.worker.wid))

    def end_guests(self, conn: int) -> None:
        """The node that lets actors run here over a connection has gone, or takes this one for gone: it may start them
        elsewhere, so they end.
        """
        for actor in list(self.by_id.values()):
            if actor.home == conn:
                self._evict(actor, "the node that it belongs to has gone")

    def end_in_group(self, gid: bytes, why: Fault) -> None:
        """A placement group is removed: its actors end with it, without a restart."""
        for actor in list(self.by_id.values()):
            if actor.spec.group != gid or actor.home or actor.state is ActorState.DEAD:
                continue
            runner = actor.worker or actor.host
            self._kill(actor, "its placement group was removed")
            if runner is None:
                self.die(actor, {**why, "actor_id": actor.aid.hex()})
                continue
            text = f"The actor {actor.title()} died: {why['message']}"
            self.die(actor, fault(ACTOR_DIED, text, actor_id=actor.aid.hex(), pid=runner.pid, intended=True))

    def forget_dead(self, aid: bytes) -> None:
        """Nothing refers to a dead actor any more."""
        actor = self.by_id.get(aid)
        if actor is not None and actor.state is ActorState.DEAD:
            del self.by_id[aid]
