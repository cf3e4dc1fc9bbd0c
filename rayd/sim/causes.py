"""Why calls end as they do: for each fault there must be something that was really done, to whom it names.

What is known here comes from outside the cores: who was killed, cut off or cancelled, where calls ran, who made them.
"""

import re
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from rayd.core.channels import home_of_job
from rayd.core.starts import TRIES_MAX
from rayd.errors import ACTOR_DIED, ACTOR_UNAVAILABLE, CANCELLED, GROUP_REMOVED, NODE_DIED, OBJECT_LOST, WORKER_CRASHED
from rayd.ids import JOB_ID_BYTES, OBJECT_ID_BYTES, TASK_ID_BYTES, home_of, home_of_actor

if TYPE_CHECKING:
    from rayd.sim.checkers import Checkers
    from rayd.sim.process import Process
    from rayd.sim.worker import WorkerProcess

_ADDRESS: Final = re.compile(r"\d+\.\d+\.\d+\.\d+:\d+")
_CUT_OFF: Final = "to which the connection has ended"
_BY_HAND: Final = "was cancelled by ray.cancel()"


class Origin:
    """A task, a call or an actor, as far as its end may have a reason.

    Attributes:
        by: the process that has asked for it.
        since: when, in ns.
        aid: the actor that it is, or calls.
        workers: processes in which it has begun.
    """

    __slots__ = ("aid", "by", "since", "workers")

    def __init__(self, by: "Process", since: int, aid: bytes) -> None:
        self.by = by
        self.since = since
        self.aid = aid
        self.workers: list[WorkerProcess] = []


class Causes:
    """What was done, and whether it explains what has come of it.

    Attributes:
        failed_starts: how many worker processes could not be started.
        numbers: addresses of nodes, by number.
    """

    def __init__(self, checkers: "Checkers") -> None:
        self._checkers = checkers
        self._origins: dict[bytes, Origin] = {}
        self._deaths: dict[int, str] = {}
        self._over: dict[bytes, None] = {}  # jobs whose drivers have gone
        self._cancelled: dict[bytes, None] = {}
        self._recursive: dict[bytes, None] = {}  # jobs that have cancelled tasks with all that those have submitted
        self._forced: dict[bytes, None] = {}  # jobs that have cancelled tasks by force
        self._killed: Counter[bytes] = Counter()
        self._removed: dict[bytes, None] = {}
        self._let_go: dict[bytes, None] = {}
        self.failed_starts = 0
        self.numbers: dict[int, str] = {}

    # ---- what is done ------------------------------------------------------------------------------------------------

    def made(self, tid: bytes, by: "Process", aid: bytes = b"") -> None:
        """A program has submitted a task, made a call or, with the actor's id as that of the task, created an actor."""
        self._origins[tid] = Origin(by, self._checkers.clock.now, aid)

    def begins(self, tid: bytes, worker: "WorkerProcess") -> None:
        """It begins somewhere."""
        if tid in self._origins:
            self._origins[tid].workers.append(worker)

    def ended(self, process: "Process", how: str) -> None:
        """A process has ended: "by itself", "killed" by a fault, "told" so by its daemon, "lost" with its machine."""
        self._deaths[process.pid] = how
        if process.kind == "driver":
            self._over[process.job] = None

    def cancels(self, process: "Process", oid: bytes, *, force: bool, recursive: bool) -> None:
        """A program cancels a task."""
        self._cancelled[oid[:TASK_ID_BYTES]] = None
        if recursive:
            self._recursive[process.job] = None
        if force:
            self._forced[process.job] = None

    def kills(self, aid: bytes, *, no_restart: bool) -> None:
        """A program kills an actor."""
        self._killed[aid] += 1
        if no_restart:
            self._checkers.names.killed(aid)

    def lets_go(self, process: "Process", aid: bytes) -> None:
        """A program drops the handle of an actor; that is the end of those that it has created itself."""
        if self._origins[aid].by is process:
            self._let_go[aid] = None
            self._checkers.names.let_go(aid)

    def removes(self, gid: bytes) -> None:
        """A program removes a placement group."""
        self._removed[gid] = None

    # ---- what explains it --------------------------------------------------------------------------------------------

    def is_over(self, oid: bytes) -> bool:
        """Whether the driver has gone for whose job an object was to be made."""
        return oid[TASK_ID_BYTES - JOB_ID_BYTES : TASK_ID_BYTES] in self._over

    def explain(self, process: "Process", oid: bytes, fault: dict[str, Any]) -> bool:
        """Whether something was done that explains a fault.

        Args:
            process: who was told of it.
            oid: what it had asked for.
            fault: what it was told; perhaps that of an argument, which it names then.
        """
        match fault["code"]:
            case c if c == WORKER_CRASHED:
                return self._explains_death(oid, fault)
            case c if c in (ACTOR_DIED, ACTOR_UNAVAILABLE):
                return self._explains_actor(process, oid, fault)
            case c if c in (NODE_DIED, OBJECT_LOST):
                return self._explains_loss(process, oid, fault)
            case c if c == CANCELLED:
                return self._explains_end(process, oid, fault)
            case c if c == GROUP_REMOVED:
                gid = bytes.fromhex(fault["group_id"])
                return gid in self._removed or gid[-JOB_ID_BYTES:] in self._over
        return False

    def _explains_death(self, oid: bytes, fault: dict[str, Any]) -> bool:
        if fault["cause"].get("kind") == "start":
            return self.failed_starts >= TRIES_MAX
        job = oid[TASK_ID_BYTES - JOB_ID_BYTES : TASK_ID_BYTES]
        how = self._deaths.get(fault.get("pid", 0), "")
        return how == "killed" or (how == "told" and (job in self._forced or job in self._over))

    def _explains_actor(self, process: "Process", oid: bytes, fault: dict[str, Any]) -> bool:
        aid = bytes.fromhex(fault["actor_id"])
        if fault["code"] == ACTOR_DIED and self._checkers.names.is_sure(aid) and _CUT_OFF not in fault["message"]:
            return False
        origin = self._origins.get(aid)
        if origin is None:
            return False
        if aid in self._killed or (fault["code"] == ACTOR_DIED and (aid in self._let_go or not origin.by.alive)):
            return True
        if any(worker.pid in self._deaths for worker in origin.workers) or self.failed_starts >= TRIES_MAX:
            return True
        home = self.numbers.get(home_of_actor(aid), "")
        return self._is_hurt([home, *self._places(process, oid, fault)], origin.since)

    def _explains_loss(self, process: "Process", oid: bytes, fault: dict[str, Any]) -> bool:
        if self.is_over(oid):  # connections of a job end with it, and who asks is about to
            return True
        named = fault.get("object_id") or fault.get("task_id") or oid.hex()
        origin = self._origins.get(bytes.fromhex(named)[:TASK_ID_BYTES])
        return self._is_hurt(self._places(process, oid, fault), origin.since if origin is not None else 0)

    def _explains_end(self, process: "Process", oid: bytes, fault: dict[str, Any]) -> bool:
        tid = bytes.fromhex(fault["task_id"])
        origin = self._origins.get(tid)
        if origin is None or tid[-JOB_ID_BYTES:] in self._over:
            return origin is not None
        if _BY_HAND in fault["message"]:
            return tid in self._cancelled or (origin.by.kind == "worker" and tid[-JOB_ID_BYTES:] in self._recursive)
        return not origin.by.alive or self._is_hurt(self._places(process, oid, fault), origin.since)

    def _places(self, process: "Process", oid: bytes, fault: dict[str, Any]) -> list[str]:
        """Machines that have to do with what has ended: named by the fault, or where it was asked for, or has run."""
        found = [*_ADDRESS.findall(fault["message"]), process.daemon.host.address]
        ids = [oid, *(bytes.fromhex(fault[key]) for key in ("object_id", "task_id", "actor_id") if key in fault)]
        for name in ids:
            origin = self._origins.get(name[:TASK_ID_BYTES])
            if len(name) == OBJECT_ID_BYTES:
                found.append(self.numbers.get(home_of(name), ""))
                found.append(self.numbers.get(home_of_job(name[TASK_ID_BYTES - JOB_ID_BYTES : TASK_ID_BYTES]), ""))
            if origin is not None:
                found += [origin.by.daemon.host.address, *(worker.daemon.host.address for worker in origin.workers)]
        return found

    def _is_hurt(self, addresses: list[str], since: int) -> bool:
        return any(self._checkers.damage.hurt(address, since) for address in addresses)
