"""Random but legal doings of drivers, workers and processes, one method each.

Every choice is drawn from the ``random.Random`` that is passed in: Hypothesis passes one whose draws it can shrink, the
test of determinism a seeded one.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from random import Random
from typing import Any

from rayd.core.allotment import fitting
from rayd.core.effect import CloseConnection, KillWorker, RetireWorker
from rayd.core.task import STREAMING, Spec
from rayd.wire import messages as m
from world import CRASH, SIGKILL, Peer, RefusedError, WorkerPeer, World, actor_object, returned

SPECS: list[dict[str, Any]] = [
    {"name": "plain", "max_retries": 3},
    {"name": "retried", "max_retries": 2},
    {"name": "wide", "cpus": 2},
    {"name": "free", "cpus": 0},
    {"name": "disk", "resources": {"disk": 0.5}, "max_retries": 3},
    {"name": "gpu", "cpus": 0.5, "resources": {"GPU": 0.5}},
    {"name": "few", "max_calls": 2},
    {"name": "none", "num_returns": 0},
    {"name": "pair", "num_returns": 2, "max_retries": 1},
    {"name": "stream", "num_returns": STREAMING, "max_retries": 1},
    {"name": "slow stream", "num_returns": STREAMING, "backpressure": 1, "max_retries": 1},
    {"name": "env", "env_vars": {"A": "1"}},
    {"name": "spread", "spread": True, "max_retries": 3},
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
    {"detached": True, "resources": {"CPU": 1}},
    {"actor_name": "named"},
    {"spread": True, "resources": {"CPU": 0.5}, "max_restarts": 1},
]
METHODS: list[dict[str, Any]] = [{}, {"max_retries": 1}, {"num_returns": 2}, {"num_returns": STREAMING}]


class Client:
    """What a process knows: its keys, the objects and actors it holds, and tasks it may cancel."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.keys: dict[str, int] = {}
        self.held: list[bytes] = []
        self.unsure: list[bytes] = []  # held, if its actor has come about
        self.actors: list[bytes] = []
        self.tasks: list[bytes] = []
        self.streams: list[bytes] = []

    def key(self, kind: str, index: int) -> int:
        """The key of a function, method or class, announced at first use."""
        name = f"{kind} {index}"
        if name not in self.keys:
            if kind == "task":
                self.keys[name] = self.peer.spec(**SPECS[index])
            elif kind == "method":
                self.keys[name] = self.peer.method(f"Counter.{index}", **METHODS[index])
            else:
                self.keys[name] = self.peer.actor_class(f"Class{index}", **CLASSES[index])
        return self.keys[name]

    def awaits(self, tid: bytes, num_returns: int) -> None:
        """It has submitted something and holds what that will return."""
        self.tasks.append(tid)
        if num_returns == STREAMING:
            self.held.append(returned(tid, 0))
            self.streams.append(tid)
        else:
            self.held += [returned(tid, index) for index in range(1, num_returns + 1)]


class Play:
    """A world and everybody's doings in it."""

    def __init__(self, world: World | None = None) -> None:
        self.world = world or World(cpus=3, resources={"disk": 1, "GPU": 1}, store_bytes=1 << 18)
        self.clients: dict[int, Client] = {}
        self.doomed: dict[int, bool] = {}
        self.items: dict[bytes, int] = {}
        self.groups: list[bytes] = []
        self.outcomes = ["value", "value", "value", "large", "error", "retry"]
        self.add(self.world.driver())

    def add(self, peer: Peer) -> Client:
        self.clients[peer.conn] = Client(peer)
        return self.clients[peer.conn]

    def heard(self, peer: Peer) -> bool:
        """Whether the core still listens to a process."""
        conn = self.world.node.state.conns.get(peer.conn)
        return conn is not None and not (conn.worker and self.world.node.jobs.is_over(conn))

    def client(self, rng: Random) -> Client:
        """One that is heard."""
        heard = [client for client in self.clients.values() if self.heard(client.peer)]
        return rng.choice(heard) if heard else self.add(self.world.driver())

    def drivers(self) -> list[Client]:
        return [client for client in self.clients.values() if client.peer.kind == "driver"]

    def busy(self) -> list[WorkerPeer]:
        """Workers that have begun something."""
        return [worker for worker in self.world.mailboxes.values() if worker.alive and worker.begun]

    def readers(self) -> list[WorkerPeer]:
        """Workers that have mail."""
        return [worker for worker in self.world.mailboxes.values() if worker.alive and worker.unread]

    def spec_of(self, worker: WorkerPeer, tid: bytes) -> Spec | None:
        known = self.world.node.state.pool.workers.get(worker.wid)
        task = known.inflight.get(tid) if known is not None else None
        return task.spec if task is not None else None

    def carry_out(self) -> None:
        """The part of the shell that is not done at once: processes end later, by ``worker_dies``."""
        for effect in self.world.take():
            if isinstance(effect, KillWorker | RetireWorker):
                self.doomed[effect.worker] = isinstance(effect, RetireWorker)
            elif isinstance(effect, CloseConnection):
                worker = self.world.peers[effect.conn]
                worker.connected = False
                assert isinstance(worker, WorkerPeer)
                self.doomed[worker.wid] = False
        for peer in self.world.peers.values():
            peer.inbox.clear()

    # ---- drivers and workers come and go -----------------------------------------------------------------------------

    def driver_comes(self, rng: Random) -> None:
        if len(self.drivers()) < 2:
            self.add(self.world.driver())

    def driver_goes(self, rng: Random) -> None:
        if self.drivers() and rng.randrange(10) == 0:
            client = rng.choice(self.drivers())
            del self.clients[client.peer.conn]
            client.peer.leave()

    def worker_comes(self, rng: Random) -> None:
        if not self.world.starting:
            return
        if rng.randrange(10) == 0:  # or never
            self.world.step(self.world.exited(self.world.starting.pop(0).worker))
            return
        self.start_one()

    def start_one(self) -> None:
        (worker,) = self.world.workers(1)
        if worker.job:
            self.add(worker)

    def worker_dies(self, rng: Random) -> None:
        alive = [worker for worker in self.world.mailboxes.values() if worker.alive]
        doomed = [worker for worker in alive if worker.wid in self.doomed]
        if doomed or (alive and rng.randrange(5) == 0):
            self.end(rng.choice(doomed or alive), rng.choice([CRASH, SIGKILL]))

    def end(self, worker: WorkerPeer, cause: dict[str, Any]) -> None:
        self.clients.pop(worker.conn, None)
        self.doomed.pop(worker.wid, None)
        worker.die(cause)

    def time_passes(self, rng: Random) -> None:
        self.world.wait_ms(rng.choice([1, 6, 30, 11_000]))

    # ---- clients -----------------------------------------------------------------------------------------------------

    def some(self, rng: Random, oids: Sequence[bytes]) -> list[bytes]:
        return [rng.choice(oids) for _ in range(rng.choice([0, 0, 1, 2]))] if oids else []

    def submit(self, rng: Random) -> None:
        client = self.client(rng)
        index = rng.randrange(len(SPECS))
        key = client.key("task", index)
        args = bytes(rng.choice([0, 10, 60_000]))
        for _ in range(rng.choice([1, 1, 4])):
            with self.stored_arguments(client, rng) as args_oid:
                deps, contained = self.some(rng, client.held), self.some(rng, client.held)
                tid = client.peer.submit(key, args, args_oid=args_oid, deps=deps, contained=contained)
            client.awaits(tid, SPECS[index].get("num_returns", 1))

    @contextmanager
    def stored_arguments(self, client: Client, rng: Random) -> Iterator[bytes]:
        """Now and then, large arguments: an object that nobody but the task holds."""
        args_oid = b""
        if rng.randrange(6) == 0 and not self.world.waits():
            with suppress(RefusedError):  # the store is full
                args_oid = client.peer.store(3_000)
        try:
            yield args_oid
        finally:
            if args_oid:
                client.peer.release(args_oid)

    def put(self, rng: Random) -> None:
        client = self.client(rng)
        contained = self.some(rng, client.held)
        size = rng.choice([10, 3_000, 60_000])
        try:
            oid = client.peer.put(contained=contained) if size == 10 else client.peer.store(size, contained)
        except RefusedError as refused:
            assert refused.fault["code"] == "store_full"
            return
        client.held.append(oid)

    def pass_on(self, rng: Random) -> None:
        giver, taker = self.client(rng), self.client(rng)
        if giver.held:
            oid = rng.choice(giver.held)
            taker.peer.hold(oid)
            if oid not in taker.held:
                taker.held.append(oid)

    def release(self, rng: Random) -> None:
        client = self.client(rng)
        if client.held:
            oid = rng.choice(client.held)
            client.held = [held for held in client.held if held != oid]
            client.peer.release(oid)

    def want(self, rng: Random) -> None:
        client = self.client(rng)
        client.peer.want(*self.some(rng, client.held))
        client.peer.send((m.PROBE, self.some(rng, client.held)))

    def cancel(self, rng: Random) -> None:
        client = self.client(rng)
        if client.tasks:
            tid = rng.choice(client.tasks)
            oid = returned(tid, 0 if tid in client.streams else 1)
            client.peer.send((m.CANCEL, oid, rng.random() < 0.5, rng.random() < 0.5))

    def consume(self, rng: Random) -> None:
        client = self.client(rng)
        if client.streams:
            tid = rng.choice(client.streams)
            client.peer.send((m.STREAM_WANT, tid), (m.STREAM_ACK, tid, rng.randrange(4)))

    def group(self, rng: Random) -> None:
        """A placement group, and something in it; which of its bundles, or any."""
        client = self.client(rng)
        gid = bytes([self.world.node.state.number, len(self.groups)]) * 7 + client.peer.job
        bundles = rng.choice([[{"CPU": 1}], [{"CPU": 1}, {"CPU": 2}], [{"CPU": 0.5, "GPU": 0.5}], [{"CPU": 9}]])
        self.groups.append(gid)
        client.peer.rpc("group_create", group_id=gid, bundles=bundles, detached=rng.random() < 0.2)
        oid = client.peer.new_tid() + (1).to_bytes(4, "little")
        client.peer.send((m.PUT_WHEN, oid, gid, b"ready"))
        client.held.append(oid)
        place = {"placement_group": gid, "bundle": rng.randrange(-1, len(bundles))}
        if rng.random() < 0.5:
            tid = client.peer.submit(client.peer.spec(cpus=rng.choice([0, 0.5, 1]), max_retries=1, **place))
            client.awaits(tid, 1)
        else:
            resources = {"CPU": rng.choice([0.5, 1])}
            aid = client.peer.create(client.peer.actor_class(resources=resources, max_restarts=1, **place))
            client.actors.append(aid)
            client.held.append(actor_object(aid))

    def ungroup(self, rng: Random) -> None:
        if self.groups:
            self.client(rng).peer.rpc("group_remove", group_id=rng.choice(self.groups))

    def create(self, rng: Random) -> None:
        client = self.client(rng)
        index = rng.randrange(len(CLASSES))
        try:
            with self.stored_arguments(client, rng) as args_oid:
                aid = client.peer.create(
                    client.key("class", index), args_oid=args_oid, deps=self.some(rng, client.held)
                )
        except RefusedError as refused:
            assert refused.fault["code"] == "name_taken"
            return
        if self.world.waits():
            client.unsure.append(actor_object(aid))
            return
        client.actors.append(aid)
        client.held.append(actor_object(aid))

    def call(self, rng: Random) -> None:
        client = self.client(rng)
        if client.actors:
            aid = rng.choice(client.actors)
            index = rng.randrange(len(METHODS))
            key = client.key("method", index)
            for _ in range(rng.choice([1, 1, 4])):
                with self.stored_arguments(client, rng) as args_oid:
                    tid = client.peer.call(aid, key, args_oid=args_oid, deps=self.some(rng, client.held))
                client.awaits(tid, METHODS[index].get("num_returns", 1))

    def kill(self, rng: Random) -> None:
        client = self.client(rng)
        if client.actors and rng.random() < 0.5:
            client.peer.send((m.KILL, rng.choice(client.actors), rng.random() < 0.5))

    # ---- workers -----------------------------------------------------------------------------------------------------

    def read(self, rng: Random) -> None:
        if self.readers():
            worker = rng.choice(self.readers())
            for tid in worker.read():
                if worker.bodies[tid] == [tid]:
                    worker.send((m.BODY, 1, tid))  # answered with a fault if the task has been cancelled meanwhile

    def finish(self, rng: Random) -> None:
        if self.busy():
            worker = rng.choice(self.busy())
            tid = worker.begun[0] if rng.random() < 0.7 else rng.choice(worker.begun)
            self.answer(worker, tid, rng.choice(self.outcomes), rng.choice([1, 500, 50_000]))

    def answer(self, worker: WorkerPeer, tid: bytes, outcome: str, run_us: int = 100) -> None:
        """A task is done, in a way that is legal for it."""
        spec = self.spec_of(worker, tid)
        returns = spec.num_returns if spec is not None else 1
        plain = returns == 1 and not tid.startswith(b"\xff" * 8)
        if outcome in ("error", "retry"):
            worker.fail(tid, retryable=outcome == "retry" and plain)
        elif returns not in (1, STREAMING):
            worker.done_many(tid, *[b"v"] * returns)
        elif outcome == "large" and plain and self.heard(worker):
            try:
                worker.done_stored(tid, 3_000)
            except RefusedError:
                worker.fail(tid)
        else:
            worker.done(tid, run_us=run_us)

    def item(self, rng: Random) -> None:
        """A streaming task yields, from its first item on in each attempt."""
        if self.busy():
            worker = rng.choice(self.busy())
            tid = rng.choice(worker.begun)
            spec = self.spec_of(worker, tid)
            if spec is not None and spec.num_returns == STREAMING:
                attempt = tid + bytes([worker.wid % 256])
                index = self.items.get(attempt, 0)
                self.items[attempt] = index + 1
                worker.yields(tid, index)

    def block(self, rng: Random) -> None:
        if self.busy():
            worker = rng.choice(self.busy())
            worker.blocked() if rng.random() < 0.6 else worker.resumed()

    def burst(self, rng: Random) -> None:
        """A worker does several things, of which the core hears at once."""
        if not self.busy():
            return
        worker = rng.choice(self.busy())
        if not self.heard(worker):
            return
        with worker.together():
            worker.blocked()
            if rng.random() < 0.8:
                worker.resumed()
            for tid in worker.begun[: rng.randrange(1, 4)]:
                self.answer(worker, tid, rng.choice(["value", "value", "error"]), 1)
            if rng.random() < 0.3:
                worker.send((m.RELEASE, []), (m.HOLD, []), (m.WANT, []))

    def exit_actor(self, rng: Random) -> None:
        if self.busy() and rng.random() < 0.2:
            worker = rng.choice(self.busy())
            if worker.alive and self.heard(worker):
                worker.send((m.RPC, 1, "exit_actor", {}))

    # ---- the end -----------------------------------------------------------------------------------------------------

    def everybody_answers(self, carry_out: Callable[[], None] | None = None) -> None:
        """Workers come up, run what they have, and die when they are told to, until nothing happens any more."""
        for _ in range(5_000):
            (carry_out or self.carry_out)()
            doomed = [worker for worker in self.world.mailboxes.values() if worker.alive and worker.wid in self.doomed]
            if self.world.starting:
                self.start_one()
            elif doomed and not (self.doomed[doomed[0].wid] and (doomed[0].unread or doomed[0].begun)):
                self.end(doomed[0], SIGKILL)
            elif self.busy():
                worker = self.busy()[0]
                worker.resumed()
                self.answer(worker, worker.begun[0], "value")
            elif self.readers():
                self.readers()[0].read()
            elif (resumed := self.world.node.tasks.starts.deadline()) is not None:
                self.world.wait_ms((resumed - self.world.now) / 1e6 + 1)
            else:
                return
        raise AssertionError("it goes on for ever")

    def expect_all_has_come(self) -> None:
        """Only what waits for resources that somebody keeps may be pending, and what waits for that."""
        if not self.short():
            self.expect_nothing_pending()

    def short(self) -> list[Any]:
        """What waits for resources that somebody keeps."""
        placing = list(self.world.node.state.placing.values())
        short: list[Any] = [actor for actor in placing if fitting(actor.spec.sources, actor.spec.placement) is None]
        short += [actor for actor in placing if fitting(actor.spec.sources, actor.spec.demand) is None]
        short += self.world.node.groups.pending.values()
        return short + list(self.world.node.tasks.waiting.values())

    def expect_nothing_pending(self) -> None:
        for oid, entry in self.world.node.state.objects.entries.items():
            assert entry.task is None, f"{oid.hex()} of {entry.task.spec.name} never comes"
            assert not entry.waiters, f"{oid.hex()} never comes"

    def release_everything(self, everybody_answers: Callable[[], None] | None = None) -> None:
        """Everybody lets go of all objects and kills all actors, detached ones too."""
        go_on = everybody_answers or self.everybody_answers
        for client in list(self.clients.values()):
            client.peer.release(*dict.fromkeys(client.held), *client.unsure)
            for aid in client.actors:
                client.peer.send((m.KILL, aid, True))
        go_on()
        for group in list(self.world.node.groups.by_id):
            self.client(Random(0)).peer.rpc("group_remove", group_id=group)
        go_on()
        killer = next((client.peer for client in self.drivers()), None) or self.add(self.world.driver()).peer
        for actor in list(self.world.node.actors.by_id.values()):
            killer.send((m.KILL, actor.aid, True))
        go_on()
        for client in self.clients.values():  # items that came although nobody wanted them any more
            client.peer.release(*[returned(tid, index) for tid in client.streams for index in range(1, 30)])

    def expect_nothing_left(self, everybody_answers: Callable[[], None] | None = None) -> None:
        """No object, task, actor or debt; and once the drivers have gone no job, function or worker."""
        go_on = everybody_answers or self.everybody_answers
        self.world.expect_nothing_left()
        assert self.world.node.state.gpus.shares() == [1.0]
        for client in self.drivers():
            client.peer.leave()
        go_on()
        state = self.world.node.state
        for table in (state.jobs, state.specs, state.spec_index, state.pool.workers, self.world.node.actors.by_id):
            assert not table

    def finale(self) -> None:
        """Everybody answers: what was asked for has to come, and what was released has to be gone."""
        self.everybody_answers()
        self.expect_all_has_come()
        self.release_everything()
        self.expect_nothing_left()


# Each with how often it is done in a long random play.
DOINGS: dict[Callable[[Play, Random], None], int] = {
    Play.driver_comes: 1,
    Play.driver_goes: 1,
    Play.worker_comes: 8,
    Play.worker_dies: 2,
    Play.time_passes: 2,
    Play.submit: 8,
    Play.put: 3,
    Play.pass_on: 4,
    Play.release: 10,
    Play.group: 1,
    Play.ungroup: 1,
    Play.want: 3,
    Play.cancel: 2,
    Play.consume: 3,
    Play.create: 2,
    Play.call: 6,
    Play.kill: 1,
    Play.read: 16,
    Play.finish: 14,
    Play.item: 4,
    Play.block: 3,
    Play.burst: 6,
    Play.exit_actor: 1,
}


def play(seed: int, steps: int) -> Play:
    """A long random play, with its finale."""
    rng = Random(seed)
    stage = Play()
    stage.world.snatches = lambda: rng.random() < 0.3
    doings, weights = list(DOINGS), list(DOINGS.values())
    for doing in rng.choices(doings, weights, k=steps):
        doing(stage, rng)
        stage.carry_out()
    stage.finale()
    return stage
