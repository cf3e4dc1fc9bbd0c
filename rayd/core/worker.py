"""Worker processes of one node as the core sees them, and the policy of how many to keep.

States: STARTING (forked, not yet connected), IDLE, LEASED (runs tasks of one spec and holds its demand), BLOCKED
(leased, but its task waits in get: demand lent out), ACTOR (serves one actor for life), DEAD.
"""

from enum import IntEnum
from typing import Final

from rayd.core.allotment import Allotment
from rayd.core.resources import Demand
from rayd.core.task import Spec, Task

# Starting more processes at once than this only makes each of them later.
STARTING_MAX: Final = 8
# Why a worker is killed, in words: its driver has gone; nobody listens to it any more.
DRIVER_ENDED: Final = "the driver has ended"
# Idle workers beyond the number of CPUs are retired after this long.
IDLE_NS_MAX: Final = 10_000_000_000


class WorkerState(IntEnum):
    STARTING = 0
    IDLE = 1
    LEASED = 2
    BLOCKED = 3
    ACTOR = 4
    DEAD = 5


class Worker:
    """One worker process.

    Attributes:
        wid: worker id, also its mailbox.
        conn: its connection, 0 until it has introduced itself.
        key: (job, environment); it serves nothing else.
        spec: what it is leased for.
        inflight: bodies mailed and not done, oldest first; of a task worker the first one is running.
        held: resources taken for it, None when none are.
        source: where they were taken from, and are given back to.
        lent: the part that others may have while it waits.
        gpus: GPU ids granted with them.
        progress_at: when it was last known to get on, in ns.
        leased_at: when the lease began, in ns.
        counted_at: from when on its job's use of the node has not been added up yet, in ns; 0 while there is none.
        actor: id of the actor it serves.
        calls: how often it has run functions that have max_calls, by export id.
        fate: why we killed it, when we did.
    """

    __slots__ = (
        "actor",
        "calls",
        "conn",
        "counted_at",
        "fate",
        "gpus",
        "held",
        "idle_at",
        "inflight",
        "key",
        "leased_at",
        "lent",
        "pid",
        "progress_at",
        "source",
        "spec",
        "state",
        "wid",
    )

    def __init__(self, wid: int, key: tuple[bytes, tuple[tuple[str, str], ...]]) -> None:
        self.wid = wid
        self.key = key
        self.conn = 0
        self.pid = 0
        self.state = WorkerState.STARTING
        self.spec: Spec | None = None
        self.inflight: dict[bytes, Task] = {}
        self.held: Demand | None = None
        self.lent: Demand | None = None
        self.source: Allotment | None = None
        self.gpus: list[int] = []
        self.progress_at = 0
        self.leased_at = 0
        self.counted_at = 0
        self.idle_at = 0
        self.actor: bytes | None = None
        self.calls: dict[bytes, int] = {}
        self.fate: str | None = None

    def take(self, source: Allotment, demand: Demand) -> None:
        """Hold ``demand`` from now on; the caller has seen that it fits."""
        self.gpus = source.take(demand)
        self.held = demand
        self.source = source

    def lend(self) -> None:
        """Let others have the CPUs it holds."""
        assert self.held is not None
        assert self.source is not None
        self.lent = self.held.only("CPU")
        self.source.ledger.give(self.lent)

    def recall(self) -> None:
        """Have the lent CPUs again, or as much of them as there is, and a debt."""
        assert self.lent is not None
        assert self.source is not None
        self.source.ledger.force_take(self.lent)
        self.lent = None

    def in_debt(self) -> bool:
        """Whether more than there is was taken from where it has its resources."""
        return self.source is not None and self.source.ledger.in_debt()

    def give_back(self) -> None:
        """Hold nothing any more."""
        if self.held is None or self.source is None:
            return
        if self.lent is not None:
            self.recall()
        self.source.give(self.held, self.gpus)
        self.held = self.source = None
        self.gpus = []

    def running(self) -> Task | None:
        """The task a task worker is at, as far as is known."""
        for task in self.inflight.values():
            return task
        return None


class Pool:
    """All workers of the node.

    Args:
        size: how many idle workers are worth keeping, about the number of CPUs.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.workers: dict[int, Worker] = {}
        self.idle: dict[tuple[bytes, tuple[tuple[str, str], ...]], list[Worker]] = {}
        self.starting: dict[tuple[bytes, tuple[tuple[str, str], ...]], int] = {}
        self._next = 1

    def new(self, key: tuple[bytes, tuple[tuple[str, str], ...]]) -> Worker:
        """A worker that is about to be forked."""
        worker = Worker(self._next, key)
        self._next += 1
        self.workers[worker.wid] = worker
        self.starting[key] = self.starting.get(key, 0) + 1
        return worker

    def started(self, worker: Worker) -> None:
        """It is no longer starting: it has connected, or it never will."""
        left = self.starting.get(worker.key, 0) - 1
        if left > 0:
            self.starting[worker.key] = left
        else:
            self.starting.pop(worker.key, None)

    def starting_total(self) -> int:
        return sum(self.starting.values())

    def put_idle(self, worker: Worker, now: int) -> None:
        worker.state = WorkerState.IDLE
        worker.spec = None
        worker.idle_at = now
        self.idle.setdefault(worker.key, []).append(worker)

    def take_idle(self, key: tuple[bytes, tuple[tuple[str, str], ...]]) -> Worker | None:
        """The most recently used idle worker, whose caches are warm."""
        idle = self.idle.get(key)
        if not idle:
            return None
        worker = idle.pop()
        if not idle:
            del self.idle[key]
        return worker

    def remove(self, worker: Worker) -> None:
        """The process is gone."""
        if worker.state is WorkerState.STARTING:
            self.started(worker)
        elif worker.state is WorkerState.IDLE:
            self.drop_idle(worker)
        worker.state = WorkerState.DEAD
        self.workers.pop(worker.wid, None)

    def drop_idle(self, worker: Worker) -> None:
        idle = self.idle.get(worker.key, [])
        if worker in idle:
            idle.remove(worker)
        if not idle:
            self.idle.pop(worker.key, None)

    def surplus(self, now: int) -> list[Worker]:
        """Idle workers to retire: beyond the pool's size and unused for a while, oldest first."""
        idle = sorted((worker for group in self.idle.values() for worker in group), key=lambda worker: worker.idle_at)
        excess = len(idle) - self.size
        return [worker for worker in idle[: max(excess, 0)] if now - worker.idle_at >= IDLE_NS_MAX]
