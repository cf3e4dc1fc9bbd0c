"""What the parts of a node core share: its tables, its clock reading of the current step, its way out."""

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from rayd.core.allotment import Allotment
from rayd.core.claims import Claims
from rayd.core.effect import Audit, Effects
from rayd.core.journal import Journal
from rayd.core.objects import Entry, ObjectTable
from rayd.core.resources import Demand, GpuSlots, Ledger
from rayd.core.task import Spec, Task
from rayd.core.worker import Pool, Worker
from rayd.errors import CANCELLED, GROUP_REMOVED
from rayd.ids import ACTOR_OBJECT_SUFFIX, JOB_ID_BYTES, TASK_ID_BYTES
from rayd.store.arena import Arena
from rayd.wire.messages import EVENT, FAULT, UNREAD
from rayd.wire.secret import JOIN

# How many finished runs are remembered for the timeline: a bounded ring, about 10 MB at most.
RUNS_KEPT: Final = 50_000
# A driver that does not listen yet has connected its second line a moment later; more than this it would not read.
UNSAID_MAX: Final = 100
# Characters of a program's command line in the log.
AUDITED_MAX: Final = 200


class Conn:
    """One connected client.

    Attributes:
        conn: connection id.
        kind: "driver", "worker", "cli", "logs" or "node".
        job: job it belongs to, b"" for tools.
        worker: worker id, 0 if it is none.
        scope: what it may do.
        specs: the static parts it has announced, by its own key.
    """

    __slots__ = ("conn", "info", "job", "kind", "scope", "specs", "worker")

    def __init__(self, conn: int, kind: str, info: dict[str, Any], job: bytes, worker: int, scope: str = JOIN) -> None:
        self.conn = conn
        self.kind = kind
        self.info = info
        self.job = job
        self.worker = worker
        self.scope = scope
        self.specs: dict[int, Spec] = {}


class Job:
    """One driver and everything that lives on its behalf.

    Attributes:
        job: job id.
        driver: connection of the driver, or of the node by which this one was drawn into the job; 0 when that has gone
            and only detached actors keep the job.
        ended: the driver has gone, and a node that knows of the job keeps it for a detached actor.
        namespace: where its named actors live.
        info: what the driver said of itself (sys_path, cwd, pid, entrypoint).
        exports: pickled functions and classes by content hash.
        logs: connections that print its workers' output.
        unsaid: what they should have been told before there were any: (level, text).
        weight: its share of a node beside other jobs, relative to theirs.
        used: what it has used of this node, see ``rayd.core.turns``.
        kept: those of ``exports`` that are in the journal.
    """

    __slots__ = (
        "driver",
        "ended",
        "exports",
        "info",
        "job",
        "kept",
        "logs",
        "namespace",
        "started_at",
        "unsaid",
        "used",
        "weight",
    )

    def __init__(self, job: bytes, driver: int, namespace: str, info: dict[str, Any], now: int) -> None:
        self.job = job
        self.driver = driver
        self.ended = False
        self.namespace = namespace
        self.info = info
        self.exports: dict[bytes, bytes] = {}
        self.logs: list[int] = []
        self.kept: dict[bytes, None] = {}
        self.unsaid: deque[tuple[str, str]] = deque(maxlen=UNSAID_MAX)
        self.started_at = now
        self.weight = float(info.get("weight", 1.0))
        self.used = 0.0

    def is_orphaned(self) -> bool:
        """Whether its driver has gone, and it is only there for what has outlived that."""
        return self.ended or not self.driver


class NodeState:
    """Tables of one node.

    Args:
        node_id: 28 bytes.
        resources: total amounts by name.
        arena: the object store's allocator.
        effects: the way out, owned by the caller.
    """

    def __init__(self, node_id: bytes, resources: dict[str, float], arena: Arena, effects: Effects) -> None:
        self.node_id = node_id
        self.effects = effects
        self.journal = Journal(effects)
        self.whole = Allotment(resources)
        self.pool = Pool(max(1, int(resources.get("CPU", 1))))
        self.conns: dict[int, Conn] = {}
        self.jobs: dict[bytes, Job] = {}
        self.specs: dict[int, Spec] = {}
        self.spec_index: dict[Any, Spec] = {}
        self._next_cid = 0
        self.children: dict[bytes, dict[bytes, Task]] = {}
        self.placing: dict[bytes, Any] = {}
        self.bodies: dict[bytes, list[Any]] = {}
        self.runs: deque[tuple[str, int, int, int, bytes, bool]] = deque(maxlen=RUNS_KEPT)
        self.finished: dict[str, int] = {}
        self.now = 0
        self.number = 0
        self.dirty = False
        self.claims = Claims(self)
        self.why_never: Callable[[Spec, Demand, str], str] = _unset
        self._on_ready: Callable[[Task], None] = _unset
        self._on_unheld: Callable[[bytes, Entry], bool] = _unset
        self.objects = ObjectTable(
            # Looked up when called: ``bind`` sets them later.
            arena,
            effects,
            lambda task: self._on_ready(task),  # noqa: PLW0108
            lambda oid, entry: self._on_unheld(oid, entry),  # noqa: PLW0108
            self.report_unread,
        )

    @property
    def ledger(self) -> Ledger:
        """What this machine has, whoever holds it."""
        return self.whole.ledger

    @property
    def gpus(self) -> GpuSlots:
        """Which of this machine's GPUs are free."""
        return self.whole.gpus

    def offered(self) -> dict[str, float]:
        """What is free here for others than who has a claim, by name."""
        claim = self.claims.claim
        if claim is None or claim.source is not self.whole:
            return self.ledger.available()
        return self.ledger.available_beside(claim.demand)

    def bind(self, on_ready: Callable[[Task], None], on_unheld: Callable[[bytes, Entry], bool]) -> None:
        """Close the circle between the object table and the parts that react to it."""
        self._on_ready = on_ready
        self._on_unheld = on_unheld

    def spec_for(self, job: bytes, options: dict[str, Any]) -> Spec:
        """The one spec of this job with exactly these options."""
        key = (job, _frozen(options))
        spec = self.spec_index.get(key)
        if spec is None:
            demand = Demand.of(options.get("resources") or {})
            spec = self.spec_index[key] = self.specs[self._next_cid] = Spec(self._next_cid, job, options, demand)
            spec.job_ended = self.jobs[job].is_orphaned()
            spec.sources = (self.whole,)
            self._next_cid += 1
        return spec

    def is_abandoned(self, task: Task) -> bool:
        """Whether the task's driver has gone, and with it the process that submitted the task."""
        job = self.jobs.get(task.spec.job)
        if job is None or self.specs.get(task.spec.cid) is not task.spec:  # it may have ended here and begun anew
            return True
        if not job.is_orphaned():
            return False
        conn = self.conns.get(task.conn)
        if conn is None:
            return True
        if conn.kind == "node":  # it is for that node to say
            return False
        worker = self.pool.workers.get(conn.worker)
        return worker is None or worker.fate is not None

    def record(self, worker: Worker, task: Task, run_us: int, ok: bool) -> None:
        """Remember a finished run for the timeline and the counters."""
        name = task.spec.name
        self.runs.append((name, worker.pid, self.now, run_us, task.tid, ok))
        self.finished[name] = self.finished.get(name, 0) + 1

    def warn(self, job: bytes, text: str, level: str = "warning") -> None:
        """Tell the driver's terminal."""
        owner = self.jobs.get(job)
        if owner is None:
            return
        if not owner.logs:
            owner.unsaid.append((level, text))
        for conn in owner.logs:
            self.effects.sends[conn].append((EVENT, level, text))

    def report_unread(self, oid: bytes, kind: int, data: Any) -> None:
        """An error that nobody has asked for, nor can any more: its driver's terminal shall show it."""
        job = self.jobs.get(oid[TASK_ID_BYTES - JOB_ID_BYTES : TASK_ID_BYTES])
        intended = kind == FAULT and (data.get("intended") or data["code"] in (CANCELLED, GROUP_REMOVED))
        if intended or oid.endswith(ACTOR_OBJECT_SUFFIX):
            return
        for conn in job.logs if job is not None else ():
            self.effects.sends[conn].append((UNREAD, kind, data))

    def warn_all(self, text: str) -> None:
        """Tell all drivers that are connected here."""
        for job in self.jobs.values():
            if job.driver in self.conns and self.conns[job.driver].kind == "driver":
                self.warn(job.job, text)

    def audit(self, text: str, conn: Conn) -> None:
        """Let the log tell what a client has done; text begins with the client's doing."""
        said = conn.info.get("entrypoint", "")
        program = f" running {said[:AUDITED_MAX]!r}" if said else ""
        who = f"{self.describe_conn(conn.conn)}{program} from {conn.info.get('peer') or 'this machine'}"
        self.effects.others.append(Audit(f"{text} by {who}, token for {conn.scope}"))

    def describe_conn(self, conn: int) -> str:
        """A connection in words, for messages."""
        known = self.conns.get(conn)
        if known is None:
            return "a process that has gone"
        if known.worker:
            worker = self.pool.workers.get(known.worker)
            what = f" running {worker.spec.name}" if worker and worker.spec else ""
            return f"worker pid {worker.pid if worker else '?'}{what}"
        return f"{known.kind} pid {known.info.get('pid', '?')}"


def _frozen(value: Any) -> Any:
    if isinstance(value, dict):
        return tuple(sorted((key, _frozen(item)) for key, item in value.items()))
    if isinstance(value, list):
        return tuple(_frozen(item) for item in value)
    return value


def _unset(*_: Any) -> Any:
    raise RuntimeError("NodeState.bind has not been called")
