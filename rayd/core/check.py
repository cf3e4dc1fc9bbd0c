"""Every invariant of a node core, across its parts; for tests and the simulator, after each step.

Linear in everything there is, so never part of a running daemon.
"""

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rayd.core.actor_record import Actor, ActorState
from rayd.core.allotment import Allotment
from rayd.core.objects import ALLOCATED, PENDING
from rayd.core.resources import UNITS_PER_ONE, Demand
from rayd.core.task import STREAMING, Task
from rayd.core.worker import STARTING_MAX, Worker, WorkerState
from rayd.ids import ACTOR_OBJECT_SUFFIX, actor_object_id
from rayd.wire.messages import INLINE, STORED

if TYPE_CHECKING:
    from rayd.core.node import Node

# Workers of these states may have tasks; a dead one only until its exit is reported.
_SERVING = (WorkerState.LEASED, WorkerState.BLOCKED, WorkerState.ACTOR, WorkerState.DEAD)


def check(node: "Node") -> None:
    """Raise AssertionError naming the first broken invariant."""
    state = node.state
    state.ledger.check()
    state.gpus.check()
    state.objects.check()
    node.groups.check()
    node.bundles.check()
    node.neighbours.check()
    tasks = {task.tid: task for task in known_tasks(node)}
    _check_holds(node, tasks)
    _check_store(node)
    _check_resources(node)
    _check_workers(node)
    _check_tasks(node, tasks)
    _check_actors(node)
    _check_jobs(node)
    _check_work_goes_on(node)


def known_tasks(node: "Node") -> Iterator[Task]:
    """Every task that some table leads to; one may come more than once."""
    for spec in node.state.specs.values():
        yield from spec.queue
    for spec in node.tasks.waiting.values():
        yield from spec.queue
    for worker in node.state.pool.workers.values():
        yield from worker.inflight.values()
    for entry in node.state.objects.entries.values():
        if entry.task is not None:
            yield entry.task
        yield from entry.dependents or ()
    for actor in node.actors.by_id.values():
        yield actor.creation
        yield from actor.queue
        yield from actor.stalled
    for channel in node.neighbours.channels.by_conn.values():
        yield from channel.tasks.values()
    yield from node.neighbours.far_calls.waiting()


def _check_holds(node: "Node", tasks: dict[bytes, Task]) -> None:
    """What is held is exactly what connections, enclosing objects, tasks and detached actors hold."""
    expected: Counter[bytes] = Counter()
    for task in tasks.values():
        expected.update(task.pins or ())
    entries = node.state.objects.entries
    for oid, entry in entries.items():
        expected.update(entry.contained or ())
        named = entry.named()
        expected[oid] += len(named)
        for conn in named:
            assert conn in node.state.conns, f"{oid.hex()} is held by connection {conn}, which has gone"
        for conn in entry.waiters or ():
            assert conn in node.state.conns, f"connection {conn} waits for {oid.hex()} and has gone"
    for record in node.neighbours.lineage.kept():
        expected.update(record.pinned)
    for actor in node.actors.by_id.values():
        if actor.detached and not actor.home and actor.state is not ActorState.DEAD:
            expected[actor_object_id(actor.aid)] += 1
    for oid, entry in entries.items():
        assert entry.holds == expected[oid], f"{oid.hex()} counts {entry.holds} holds, has {expected[oid]}"
        kept = node.actors.by_id.get(oid[:16]) if oid.endswith(ACTOR_OBJECT_SUFFIX) else None
        alive = kept is not None and kept.fault is None
        assert entry.holds > 0 or alive, f"{oid.hex()} is kept for nobody"


def _check_store(node: "Node") -> None:
    """The arena holds the stored objects and nothing else."""
    arena = node.state.objects.arena
    placed = [e.data for e in node.state.objects.entries.values() if e.kind in (STORED, ALLOCATED)]
    placed += node.neighbours.foreign.pulls.places()
    doomed = arena.doomed
    assert len(placed) + len(doomed) == len(arena), f"{len(placed)} objects lie in {len(arena)} blocks"
    used = sum(arena.rounded(size) for _, size in placed) + sum(doomed)
    assert used == arena.used, "stored objects and used bytes differ"


def _check_resources(node: "Node") -> None:
    """Whatever resources come from, what is free there and what was taken are all there is."""
    whole = node.state.whole
    reserved = [(bundle.demand, bundle.gpus) for bundle in node.bundles.all()]
    _check_allotment(node, whole, reserved)
    bundles = [bundle.allotment for bundle in node.bundles.all()]
    for bundle in bundles:
        _check_allotment(node, bundle, [])
    for worker in node.state.pool.workers.values():
        assert (worker.held is None) == (worker.source is None), f"worker {worker.wid} holds what has no source"
        known = worker.source is None or any(worker.source is source for source in [whole, *bundles])
        assert known, f"worker {worker.wid} holds a part of what is no more"


def _check_allotment(node: "Node", source: Allotment, reserved: list[tuple[Demand, list[int]]]) -> None:
    """Free plus held is the total, debt counted as negative; so for each GPU."""
    ledger, balance = source.ledger, Counter[str]()
    gpus = [round(share * UNITS_PER_ONE) for share in source.gpus.shares()]
    for bundle, indices in reserved:
        for name, units in bundle.items:
            balance[name] += units
        gpus.append(sum(min(bundle.gpus, UNITS_PER_ONE) for _ in indices))
    for worker in node.state.pool.workers.values():
        if worker.source is not source:
            continue
        for demand, sign in ((worker.held, 1), (worker.lent, -1)):
            for name, units in demand.items if demand is not None else ():
                balance[name] += sign * units
        for _ in worker.gpus:
            assert worker.held is not None, f"worker {worker.wid} has GPUs and holds nothing"
            gpus.append(min(worker.held.gpus, UNITS_PER_ONE))
    for amounts, sign in ((ledger.available(), 1), (ledger.debt(), -1)):
        for name, amount in amounts.items():
            balance[name] += sign * round(amount * UNITS_PER_ONE)
    totals = {name: round(amount * UNITS_PER_ONE) for name, amount in ledger.totals().items()}
    assert {name: units for name, units in balance.items() if units} == totals, f"{dict(balance)} is not {totals}"
    assert sum(gpus) == totals.get("GPU", 0), f"shares of GPUs add up to {gpus}"


def _check_workers(node: "Node") -> None:
    """The pool's indexes are its workers' states, and who does nothing holds nothing."""
    pool = node.state.pool
    idle = [worker for group in pool.idle.values() for worker in group]
    by_state = {s: [worker for worker in pool.workers.values() if worker.state is s] for s in WorkerState}
    assert {w.wid for w in idle} == {w.wid for w in by_state[WorkerState.IDLE]}, "idle workers are those in the index"
    assert len(idle) == len({worker.wid for worker in idle}), "a worker is idle once"
    starting = Counter(worker.key for worker in by_state[WorkerState.STARTING])
    assert starting == pool.starting, f"starting are {starting}, counted {pool.starting}"
    for worker in pool.workers.values():
        _check_worker(node, worker)


def _check_worker(node: "Node", worker: Worker) -> None:
    serving = worker.state in _SERVING
    assert serving or not worker.inflight, f"{worker.state.name} worker {worker.wid} has tasks"
    assert serving or worker.held is None, f"{worker.state.name} worker {worker.wid} holds resources"
    assert (worker.state is WorkerState.ACTOR) <= (worker.actor is not None), f"worker {worker.wid} serves no actor"
    if worker.state is WorkerState.LEASED:
        assert worker.inflight or worker.fate, f"leased worker {worker.wid} has nothing to do"
        assert worker.held is not None, f"leased worker {worker.wid} holds nothing"
    for tid, task in worker.inflight.items():
        assert task.tid == tid
        assert task.worker == worker.wid, f"{tid.hex()} is at worker {worker.wid} and says {task.worker}"
        assert task.missing == 0, f"{tid.hex()} was mailed without {task.missing} arguments"
        assert task.spec.job == worker.key[0] or worker.actor, f"{tid.hex()} runs in a worker of another job"


def _check_tasks(node: "Node", tasks: dict[bytes, Task]) -> None:
    """Every task that is not over is on its way, in exactly one place; what is over holds nothing."""
    places: Counter[bytes] = Counter()
    for spec in node.state.specs.values():
        places.update(task.tid for task in spec.queue if not task.done)
        if any(not task.done for task in spec.queue):
            assert node.tasks.waiting.get(spec.cid) is spec, f"{spec.name} has a queue that nobody looks at"
    for worker in node.state.pool.workers.values():
        places.update(task.tid for task in worker.inflight.values() if not task.done)
    for actor in node.actors.by_id.values():
        places.update(task.tid for task in actor.queue)
        places.update(task.tid for task in actor.stalled)
    places.update(list(node.neighbours.offload.out))
    places.update(task.tid for task in node.neighbours.far_calls.waiting())
    awaited = Counter(
        task.tid for entry in node.state.objects.entries.values() for task in entry.dependents or () if not task.done
    )
    creations = {actor.creation.tid for actor in node.actors.by_id.values()}
    for tid, task in tasks.items():
        if task.done:
            assert not task.pins, f"{tid.hex()} is over and holds its arguments"
            continue
        assert task.missing == awaited[tid], f"{tid.hex()} misses {task.missing}, waits for {awaited[tid]}"
        if tid not in creations:
            found = places[tid]
            assert found == 1 or (found == 0 and task.missing), f"{tid.hex()} is in {found} places"
    for oid, entry in node.state.objects.entries.items():
        assert entry.task is None or not entry.task.done, f"{oid.hex()} waits for a task that is over"
        told = entry.task is not None or oid in node.neighbours.foreign.source or node.bundles.awaited(oid)
        told = told or oid in node.neighbours.lineage.lost
        assert entry.kind != PENDING or told, f"{oid.hex()} waits for nothing"
    for parent, children in node.state.children.items():
        assert parent in tasks, f"children of {parent.hex()}, which is over, are remembered"
        assert not all(child.done for child in children.values()), f"children of {parent.hex()} are over"
    mailed = {tid for worker in node.state.pool.workers.values() for tid in worker.inflight}
    for tid in node.state.bodies:
        assert tid in mailed, f"the body of {tid.hex()} is kept for no worker"
    for tid, stream in node.streams.by_task.items():
        assert stream.task.done == stream.ended, f"stream {tid.hex()} has not noticed that its task is over"
        assert not (stream.ended and stream.closed), f"stream {tid.hex()} is over and kept"
        assert stream.task.spec.num_returns == STREAMING


def _check_actors(node: "Node") -> None:
    """An actor has a worker of its own exactly while one is needed, and a name exactly while it lives."""
    for aid, actor in node.actors.by_id.items():
        assert (actor.fault is not None) == (actor.state is ActorState.DEAD), f"{actor.title()} is dead for no reason"
        if actor.state in (ActorState.STARTING, ActorState.ALIVE):
            assert (actor.worker is None) != (actor.host is None), f"{actor.title()} runs nowhere, or twice"
            assert actor.worker is None or actor.worker.actor == aid, f"the worker of {actor.title()} serves another"
        if actor.host is not None:
            mine = [tid for tid in actor.host.inflight if node.neighbours.offload.out[tid] is not actor.host.channel]
            assert not mine, f"calls of {actor.title()} are not with its host: {mine}"
        if actor.state is ActorState.DEAD:
            assert not actor.queue, f"{actor.title()} is dead and has calls"
            assert not actor.stalled.rows, f"{actor.title()} is dead and has calls that wait"
            assert actor_object_id(aid) in node.state.objects.entries, f"{actor.title()} is remembered by nobody"
        actor.stalled.check()
        if actor.home:
            assert actor.home in node.neighbours.channels.by_conn, f"the home of {actor.title()} has gone"
            continue
        ready = node.state.objects.entries.get(actor_object_id(aid))
        assert ready is not None, f"the object of {actor.title()} is gone"
        assert ready.kind >= INLINE or actor.state is not ActorState.ALIVE, f"{actor.title()} is not ready"
        over = not ready.holds and actor.state is ActorState.ALIVE and actor.idle()
        assert not over, f"{actor.title()} has no handle and nothing to do, and goes on"
    for named in node.directory.names(None):
        aid = node.directory.find(named["namespace"], named["name"]) or b""
        holder: Actor | None = node.actors.by_id.get(aid)
        if aid in node.directory.far():
            continue
        assert holder is not None, f"the name {named} belongs to nobody"
        assert holder.fault is None, f"the name {named} belongs to a dead actor"


def _check_jobs(node: "Node") -> None:
    """Nothing is left of a job that has been forgotten."""
    state = node.state
    for job in state.jobs.values():
        kept = job.driver in state.conns or any(True for _ in node.actors.detached_of(job.job))
        assert kept, f"job {job.job.hex()} is kept for nobody"
    for spec in [*state.specs.values(), *state.spec_index.values(), *node.tasks.waiting.values()]:
        assert spec.job in state.jobs, f"{spec.name} of a forgotten job is known"
    for actor in node.actors.by_id.values():
        assert actor.state is ActorState.DEAD or actor.spec.job in state.jobs, f"{actor.title()} outlived its job"
    for worker in state.pool.workers.values():
        assert worker.key[0] in state.jobs or worker.fate, f"worker {worker.wid} serves a forgotten job"


def _check_work_goes_on(node: "Node") -> None:
    """Nobody waits for what is free: an idle worker, or room for another one."""
    state = node.state
    for spec in node.tasks.waiting.values():
        if state.claims.fitting(spec.cid, spec.sources, spec.demand) is not None:
            key = (spec.job, spec.env)
            assert not state.pool.idle.get(key), f"{spec.name} waits while a worker is idle"
            coming = state.pool.starting.get(key) or state.pool.starting_total() >= STARTING_MAX
            coming = coming or node.tasks.starts.paused(key)
            assert coming, f"{spec.name} waits while there is room for a worker"
