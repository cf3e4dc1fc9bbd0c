"""The core under random but legal sequences of everything that drivers, workers and processes do.

Every step checks all invariants of ``rayd.core.check``. At the end everybody answers: whatever was asked for has to
come, and whatever was released has to be gone.
"""

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from rayd.core.effect import CloseConnection, Interrupt, KillWorker, RetireWorker, TakeBack
from rayd.wire import messages as m
from world import CRASH, SIGKILL, Peer, RefusedError, WorkerPeer, World, actor_object, returned

STREAMING = -1
SPECS: list[dict[str, Any]] = [
    {"name": "plain"},
    {"name": "retried", "max_retries": 2},
    {"name": "wide", "cpus": 2},
    {"name": "free", "cpus": 0},
    {"name": "disk", "resources": {"disk": 0.5}},
    {"name": "gpu", "cpus": 0.5, "resources": {"GPU": 0.5}},
    {"name": "few", "max_calls": 2},
    {"name": "none", "num_returns": 0},
    {"name": "pair", "num_returns": 2, "max_retries": 1},
    {"name": "stream", "num_returns": STREAMING, "max_retries": 1},
    {"name": "slow stream", "num_returns": STREAMING, "backpressure": 1, "max_retries": 1},
    {"name": "env", "env_vars": {"A": "1"}},
]
CLASSES: list[dict[str, Any]] = [
    {},
    {"max_restarts": 1},
    {"max_restarts": -1, "concurrency": 3},
    {"out_of_order": True},
    {"resources": {"CPU": 1}, "max_restarts": 1},
    {"placement": {"CPU": 1}},
    {"resources": {"GPU": 1}},
    {"detached": True, "actor_name": "service", "max_restarts": 1},
    {"actor_name": "named"},
]
METHODS: list[dict[str, Any]] = [{}, {"max_retries": 1}, {"num_returns": 2}, {"num_returns": STREAMING}]


class Client:
    """What a process knows: its keys, the objects and actors it holds, and tasks it may cancel."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.keys: dict[str, int] = {}
        self.held: list[bytes] = []
        self.actors: list[bytes] = []
        self.tasks: list[bytes] = []
        self.streams: list[bytes] = []

    def key(self, kind: str, index: int) -> int:
        name = f"{kind} {index}"
        if name not in self.keys:
            if kind == "task":
                self.keys[name] = self.peer.spec(**SPECS[index])
            elif kind == "method":
                self.keys[name] = self.peer.method(f"Counter.{index}", **METHODS[index])
            else:
                self.keys[name] = self.peer.actor_class(f"Class{index}", **CLASSES[index])
        return self.keys[name]

    def gets(self, tid: bytes, num_returns: int) -> None:
        """It has submitted something and holds what that will return."""
        self.tasks.append(tid)
        if num_returns == STREAMING:
            self.held.append(returned(tid, 0))
            self.streams.append(tid)
        else:
            self.held += [returned(tid, index) for index in range(1, num_returns + 1)]


class CoreMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World(cpus=3, resources={"disk": 1, "GPU": 1}, store_bytes=1 << 18)
        self.clients: dict[int, Client] = {}
        self.items: dict[bytes, int] = {}

    # ---- helpers -----------------------------------------------------------------------------------------------------

    def pick(self, data: st.DataObject, options: Any) -> Any:
        return data.draw(st.sampled_from(list(options)))

    def some(self, data: st.DataObject, options: list[bytes]) -> list[bytes]:
        return data.draw(st.lists(st.sampled_from(options), max_size=2)) if options else []

    def client(self, data: st.DataObject) -> Client:
        if not self.clients:
            self.add_client(self.world.driver())
        return self.pick(data, self.clients.values())

    def busy(self) -> list[WorkerPeer]:
        return [worker for worker in self.world.mailboxes.values() if worker.alive and worker.begun]

    def readers(self) -> list[WorkerPeer]:
        return [worker for worker in self.world.mailboxes.values() if worker.alive and worker.unread]

    def add_client(self, peer: Peer) -> None:
        self.clients[peer.conn] = Client(peer)

    def carry_out(self) -> None:
        """What the shell does at once; deaths come when a rule says so."""
        for effect in self.world.take():
            if isinstance(effect, CloseConnection):
                worker = self.world.peers[effect.conn]
                worker.connected = False
                worker.doomed = effect  # type: ignore[attr-defined]
            else:
                assert isinstance(effect, KillWorker | RetireWorker | TakeBack | Interrupt)
                if isinstance(effect, KillWorker | RetireWorker) and effect.worker in self.world.mailboxes:
                    self.world.mailboxes[effect.worker].doomed = effect  # type: ignore[attr-defined]
        for peer in self.world.peers.values():
            peer.inbox.clear()

    # ---- drivers and workers come and go -----------------------------------------------------------------------------

    @initialize()
    def first_driver(self) -> None:
        self.add_client(self.world.driver())

    @precondition(lambda self: sum(client.peer.kind == "driver" for client in self.clients.values()) < 2)
    @rule()
    def driver_comes(self) -> None:
        self.add_client(self.world.driver())

    @precondition(lambda self: any(client.peer.kind == "driver" for client in self.clients.values()))
    @rule(data=st.data())
    def driver_goes(self, data: st.DataObject) -> None:
        if data.draw(st.integers(0, 9)) == 0:
            drivers = [client for client in self.clients.values() if client.peer.kind == "driver"]
            client = self.pick(data, drivers)
            del self.clients[client.peer.conn]
            client.peer.leave()
            self.carry_out()

    @precondition(lambda self: self.world.starting)
    @rule(data=st.data())
    def worker_comes(self, data: st.DataObject) -> None:
        if data.draw(st.integers(0, 9)) == 0:  # or never
            self.world.step(self.world.exited(self.world.starting.pop(0).worker))
            return
        (worker,) = self.world.workers(1)
        if worker.job:
            self.add_client(worker)
        self.carry_out()

    @precondition(lambda self: any(worker.alive for worker in self.world.mailboxes.values()))
    @rule(data=st.data())
    def worker_dies(self, data: st.DataObject) -> None:
        alive = [worker for worker in self.world.mailboxes.values() if worker.alive]
        doomed = [worker for worker in alive if hasattr(worker, "doomed")]
        if not doomed and data.draw(st.integers(0, 4)):
            return
        worker = self.pick(data, doomed or alive)
        self.end(worker, data.draw(st.sampled_from([CRASH, SIGKILL])))

    def end(self, worker: WorkerPeer, cause: dict[str, Any]) -> None:
        self.clients.pop(worker.conn, None)
        worker.die(cause)
        self.carry_out()

    # ---- clients -----------------------------------------------------------------------------------------------------

    @rule(data=st.data())
    def submit(self, data: st.DataObject) -> None:
        client = self.client(data)
        index = data.draw(st.integers(0, len(SPECS) - 1))
        key = client.key("task", index)
        deps, contained = self.some(data, client.held), self.some(data, client.held)
        args = bytes(data.draw(st.sampled_from([0, 10, 60_000])))
        for _ in range(data.draw(st.sampled_from([1, 1, 3]))):
            tid = client.peer.submit(key, args, deps=deps, contained=contained)
            client.gets(tid, SPECS[index].get("num_returns", 1))
        self.carry_out()

    @rule(data=st.data(), size=st.sampled_from([10, 3_000, 60_000]))
    def put(self, data: st.DataObject, size: int) -> None:
        client = self.client(data)
        contained = self.some(data, client.held)
        try:
            oid = client.peer.put(contained=contained) if size == 10 else client.peer.store(size, contained)
        except RefusedError as refused:
            assert refused.fault["code"] == "store_full"  # noqa: PT017
            return
        client.held.append(oid)
        self.carry_out()

    @rule(data=st.data())
    def pass_on(self, data: st.DataObject) -> None:
        giver, taker = self.client(data), self.client(data)
        if giver.held:
            oid = self.pick(data, giver.held)
            taker.peer.hold(oid)
            if oid not in taker.held:
                taker.held.append(oid)
        self.carry_out()

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        client = self.client(data)
        if client.held:
            oid = self.pick(data, client.held)
            client.held = [held for held in client.held if held != oid]
            client.peer.release(oid)
        self.carry_out()

    @rule(data=st.data())
    def want(self, data: st.DataObject) -> None:
        client = self.client(data)
        client.peer.want(*self.some(data, client.held))
        self.carry_out()

    @rule(data=st.data(), force=st.booleans(), recursive=st.booleans())
    def cancel(self, data: st.DataObject, force: bool, recursive: bool) -> None:
        client = self.client(data)
        if client.tasks:
            tid = self.pick(data, client.tasks)
            place = 0 if tid in client.streams else 1
            client.peer.send((m.CANCEL, returned(tid, place), force, recursive))
        self.carry_out()

    @rule(data=st.data())
    def consume(self, data: st.DataObject) -> None:
        client = self.client(data)
        if client.streams:
            tid = self.pick(data, client.streams)
            client.peer.send((m.STREAM_WANT, tid), (m.STREAM_ACK, tid, data.draw(st.integers(0, 3))))
        self.carry_out()

    @rule(data=st.data())
    def create(self, data: st.DataObject) -> None:
        client = self.client(data)
        index = data.draw(st.integers(0, len(CLASSES) - 1))
        try:
            aid = client.peer.create(client.key("class", index), deps=self.some(data, client.held))
        except RefusedError as refused:
            assert refused.fault["code"] == "name_taken"  # noqa: PT017
            return
        client.actors.append(aid)
        client.held.append(actor_object(aid))
        self.carry_out()

    @rule(data=st.data())
    def call(self, data: st.DataObject) -> None:
        client = self.client(data)
        if client.actors:
            aid = self.pick(data, client.actors)
            index = data.draw(st.integers(0, len(METHODS) - 1))
            key = client.key("method", index)
            for _ in range(data.draw(st.sampled_from([1, 1, 3]))):
                tid = client.peer.call(aid, key, deps=self.some(data, client.held))
                client.gets(tid, METHODS[index].get("num_returns", 1))
        self.carry_out()

    @rule(data=st.data(), no_restart=st.booleans())
    def kill(self, data: st.DataObject, no_restart: bool) -> None:
        client = self.client(data)
        if client.actors and data.draw(st.booleans()):
            client.peer.send((m.KILL, self.pick(data, client.actors), no_restart))
        self.carry_out()

    @rule(ms=st.sampled_from([1, 6, 30, 11_000]))
    def time_passes(self, ms: int) -> None:
        self.world.wait_ms(ms)
        self.carry_out()

    # ---- workers -----------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.readers())
    @rule(data=st.data())
    def read(self, data: st.DataObject) -> None:
        worker = self.pick(data, self.readers())
        worker.read()
        for tid in list(worker.begun):
            if worker.bodies[tid] == [tid]:
                worker.bodies[tid] = (
                    worker.request(lambda req, tid=tid: (m.BODY, req, tid)) if self.heard(worker) else []
                )

    def heard(self, worker: WorkerPeer) -> bool:
        """Whether the core still listens to this worker."""
        return not self.world.node.jobs.is_over(self.world.node.state.conns[worker.conn])

    @precondition(lambda self: self.busy())
    @rule(data=st.data(), outcome=st.sampled_from(["value", "value", "value", "large", "error", "retry"]))
    def finish(self, data: st.DataObject, outcome: str) -> None:
        worker = self.pick(data, self.busy())
        self.answer(worker, worker.begun[0], outcome, data.draw(st.sampled_from([1, 500, 50_000])))

    def answer(self, worker: WorkerPeer, tid: bytes, outcome: str, run_us: int) -> None:
        spec = self.spec_of(worker, tid)
        returns = spec.num_returns if spec is not None else 1
        creation = tid.startswith(b"\xff" * 8)
        if outcome in ("error", "retry"):
            worker.fail(tid, retryable=outcome == "retry" and not creation)
        elif returns not in (1, STREAMING):
            worker.done_many(tid, *[b"v"] * returns)
        elif outcome == "large" and returns == 1 and not creation:
            if not self.heard(worker):
                worker.begun.remove(tid)
                return
            try:
                worker.done_stored(tid, 3_000)
            except RefusedError:
                worker.fail(tid)
        else:
            worker.done(tid, run_us=run_us)
        self.carry_out()

    def spec_of(self, worker: WorkerPeer, tid: bytes) -> Any:
        known = self.world.node.state.pool.workers.get(worker.wid)
        task = known.inflight.get(tid) if known is not None else None
        return task.spec if task is not None else None

    @precondition(lambda self: self.busy())
    @rule(data=st.data())
    def item(self, data: st.DataObject) -> None:
        worker = self.pick(data, self.busy())
        tid = worker.begun[0]
        spec = self.spec_of(worker, tid)
        if spec is not None and spec.num_returns == STREAMING and self.heard(worker):
            index = worker.bodies[tid][7] if len(worker.bodies[tid]) > 7 else 0
            worker.yields(tid, index)
            worker.bodies[tid] = [*worker.bodies[tid][:7], index + 1]
        self.carry_out()

    @precondition(lambda self: self.busy())
    @rule(data=st.data(), blocked=st.booleans())
    def block(self, data: st.DataObject, blocked: bool) -> None:
        worker = self.pick(data, self.busy())
        worker.blocked() if blocked else worker.resumed()
        self.carry_out()

    # ---- the end -----------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        self.everybody_answers()
        self.what_was_asked_for_has_come()
        self.everything_is_released()
        self.nothing_is_left()

    def everybody_answers(self) -> None:
        """Workers come up, run what they have, and die when they are told to."""
        for _ in range(2_000):
            self.carry_out()
            if self.world.starting:
                for worker in self.world.workers():
                    if worker.job:
                        self.add_client(worker)
            elif doomed := [w for w in self.world.mailboxes.values() if w.alive and hasattr(w, "doomed")]:
                if isinstance(doomed[0].doomed, RetireWorker) and doomed[0].unread:
                    doomed[0].read()
                self.end(doomed[0], SIGKILL)
            elif busy := self.busy():
                busy[0].resumed()
                self.answer(busy[0], busy[0].begun[0], "value", 100)
            elif readers := self.readers():
                readers[0].read()
            else:
                return
        raise AssertionError("it goes on for ever")

    def what_was_asked_for_has_come(self) -> None:
        """Only what waits for a place that there is not, or for that, may be pending."""
        world = self.world
        unplaced = {actor.aid for actor in world.node.actors.by_id.values() if actor.aid in world.node.state.placing}
        for oid, entry in world.node.state.objects.entries.items():
            task = entry.task
            if task is not None and not unplaced:
                raise AssertionError(f"{oid.hex()} of {task.spec.name} never comes")
        for peer in world.peers.values():
            peer.inbox.clear()

    def everything_is_released(self) -> None:
        for client in list(self.clients.values()):
            if client.peer.connected:
                client.peer.release(*dict.fromkeys(client.held))
                client.peer.release(*[returned(tid, index) for tid in client.streams for index in range(12)])
                for aid in client.actors:
                    client.peer.send((m.KILL, aid, True))
        self.everybody_answers()

    def nothing_is_left(self) -> None:
        detached = [actor for actor in self.world.node.actors.by_id.values() if actor.fault is None]
        killer = self.world.tool() if not self.clients else next(iter(self.clients.values())).peer
        if detached and killer.kind == "cli":
            killer = self.world.driver()
            self.add_client(killer)
        for actor in detached:
            killer.send((m.KILL, actor.aid, True))
        self.everybody_answers()
        world, state = self.world, self.world.node.state
        assert state.gpus.shares() == [1.0]
        for table in (
            world.node.tasks.waiting,
            world.node.streams.by_task,
            state.children,
            state.bodies,
            state.placing,
        ):
            assert not table
        for client in list(self.clients.values()):
            if client.peer.kind == "driver":
                client.peer.leave()
        self.everybody_answers()
        for table in (state.jobs, state.specs, state.spec_index, state.pool.workers, world.node.actors.by_id):
            assert not table


TestCore = CoreMachine.TestCase
TestCore.settings = settings(
    max_examples=40,
    stateful_step_count=50,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
