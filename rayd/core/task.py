"""Tasks and what they have in common.

A million queued tasks cost memory, not time: a ``Task`` holds only what differs between calls, everything else lives
once in its ``Spec`` (function + resources + options = the scheduling class). Queues, leases and the duration estimate
belong to the spec.
"""

from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from rayd.core.allotment import Allotment
from rayd.core.resources import Demand
from rayd.core.rooms import Rooms
from rayd.errors import Fault

STREAMING: Final = -1
# A task's queue at its worker is kept at about this much work, so that a round trip costs nothing and a wrong guess
# little.
QUEUE_US: Final = 2_000
DEPTH_MAX: Final = 32
# Each return of each task costs an entry from its submission on, so a client must not be able to ask for any number.
RETURNS_MAX: Final = 1_000_000


class Spec:
    """The static part of tasks or actor calls: one scheduling class.

    Attributes:
        cid: number by which workers fetch and cache it.
        name: what users see.
        function: export id of the function or class.
        job: job id; workers never serve two jobs.
        demand: resources held while running.
        placement: resources that must be free to start it besides, of an actor.
        wanted: what room has to be kept for it: its placement if there is one, else its demand.
        num_returns: 0, 1, n, or STREAMING.
        retries_max: further attempts after a system failure (-1: without end).
        timeout_ns: how long one run may take; 0 for any time.
        priority: higher ones of a job go first.
        waits_since: since when something of it is queued and nothing has begun, in ns.
        env: environment variables of the worker process, sorted pairs.
        options: what only workers and actors read, as sent by the client.
        queue: ready tasks, oldest first.
        depth: how many tasks a leased worker may have, from ``average_us``.
        job_ended: the job's driver has gone; its tasks run only for those who survive it.
        judged: the driver has been told if none of the nodes that there are can ever run it.
        nodes: numbers of the nodes that it accepts; None for any.
        sources: where on this node its demand may be taken from; empty while that is nowhere.
        group, bundle: id of its placement group, b"" for none, and number of the bundle, -1 for any.
        slots: how often its demand fits into what its group has on each node, by number.
        rooms: where else there is room for it, as far as it was looked for.
        spread: its tasks and actors go to one node after the other.
        unmet: why there is none, when nothing but another node could change that.
        fault: why its tasks can never run, which is their result then.
    """

    __slots__ = (
        "average_us",
        "bundle",
        "cid",
        "demand",
        "depth",
        "env",
        "fault",
        "function",
        "group",
        "job",
        "job_ended",
        "judged",
        "max_calls",
        "name",
        "nodes",
        "num_returns",
        "options",
        "placement",
        "priority",
        "queue",
        "retries_max",
        "rooms",
        "slots",
        "sources",
        "spread",
        "timeout_ns",
        "unmet",
        "waits_since",
        "wanted",
    )

    def __init__(self, cid: int, job: bytes, options: dict[str, Any], demand: Demand) -> None:
        self.cid = cid
        self.job = job
        self.demand = demand
        self.options = options
        self.name = str(options.get("name", "task"))
        self.function: bytes = options["function"]
        self.num_returns = int(options.get("num_returns", 1))
        if not STREAMING <= self.num_returns <= RETURNS_MAX:
            raise ValueError(f"num_returns is {self.num_returns}; at most {RETURNS_MAX} are possible")
        self.retries_max = int(options.get("max_retries", 0))
        self.max_calls = int(options.get("max_calls", 0))
        self.placement = Demand.of(options.get("placement") or {})
        self.wanted = self.placement or self.demand
        self.timeout_ns = int(float(options.get("timeout_s") or 0) * 1e9)
        self.priority = int(options.get("priority", 0))
        self.waits_since = 0
        self.env: tuple[tuple[str, str], ...] = tuple(sorted(dict(options.get("env_vars") or {}).items()))
        self.queue: deque[Task] = deque()
        self.average_us = 0.0
        self.depth = 1
        self.judged = False
        self.job_ended = False
        self.nodes: dict[int, None] | None = None
        self.rooms: Rooms | None = None
        self.sources: Sequence[Allotment] = ()
        self.group = bytes(options.get("placement_group") or b"")
        self.bundle = int(options.get("bundle", -1))
        self.slots: dict[int, int] = {}
        self.spread = bool(options.get("spread"))
        self.unmet = ""
        self.fault: Fault | None = None

    def observe(self, run_us: int) -> None:
        """Learn from one finished run how many tasks a worker may have waiting."""
        average = self.average_us
        average = run_us + 1.0 if average == 0.0 else average + (run_us - average) * 0.125
        self.average_us = average
        if self.max_calls or self.timeout_ns:
            return
        depth = int(QUEUE_US / (average + 20.0))
        self.depth = 1 if depth < 1 else min(depth, DEPTH_MAX)

    def distrust(self) -> None:
        """A worker was slow: do not queue behind it until short runs are seen again."""
        self.average_us = float(max(self.average_us, QUEUE_US))
        self.depth = 1


class Task:
    """One submitted task or actor call.

    Attributes:
        tid: task id.
        spec: its scheduling class or method.
        args, args_oid: serialized arguments, or the object that holds them when they are large.
        deps: top-level arguments, resolved before the task starts.
        pins: everything held until the task ends (deps, nested references, stored arguments).
        missing: dependencies not filled yet.
        retries: attempts left after this one.
        conn: who submitted it.
        parent: id of the task that submitted it, if a task did.
        actor: id of the actor it calls or creates.
        worker: where it was mailed to; 0 while it waits here.
        stopped: cancelled when it may have begun; it is not run again.
        done: cancelled or finished; a queue that still has it skips it.
        stays: it runs on this node, so all its arguments have to come here.
    """

    __slots__ = (
        "actor",
        "args",
        "args_oid",
        "conn",
        "deps",
        "done",
        "missing",
        "parent",
        "pins",
        "retries",
        "spec",
        "stays",
        "stopped",
        "tid",
        "worker",
    )

    def __init__(self, tid: bytes, spec: Spec, args: bytes, args_oid: bytes, deps: list[bytes], conn: int) -> None:
        self.tid = tid
        self.spec = spec
        self.args = args
        self.args_oid = args_oid
        self.deps = deps or None
        self.pins: list[bytes] | None = None
        self.missing = 0
        self.retries = spec.retries_max
        self.conn = conn
        self.parent: bytes | None = None
        self.actor: bytes | None = None
        self.worker = 0
        self.stopped = False
        self.done = False
        self.stays = False

    def arguments(self) -> Sequence[bytes]:
        """All objects that it takes: its top-level arguments, and what holds the arguments if they are large."""
        deps = self.deps or ()
        return (*deps, self.args_oid) if self.args_oid else deps
