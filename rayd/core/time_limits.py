"""Tasks with ``timeout_s``: what runs for longer is interrupted, and killed if that does not help.

The time counts from the moment in which a worker is given the task; such a task is never queued behind another. It ends
at the latest ``GRACE_NS`` after its time, plus what the kernel takes to end a process.
"""

from typing import Any, Final

from rayd.core.effect import Interrupt, KillWorker
from rayd.core.state import NodeState
from rayd.core.task import Task
from rayd.core.worker import Worker
from rayd.errors import TIMED_OUT, Fault, fault
from rayd.wire.messages import ERROR, FAULT, STOP_TASK

# What a task may take to clean up after the interrupt.
GRACE_NS: Final = 2_000_000_000


class Limit:
    """One running task.

    Attributes:
        worker, task: what runs where.
        due: when the next step is taken, in ns.
        interrupted: its time is over, and it has been told.
    """

    __slots__ = ("due", "interrupted", "task", "worker")

    def __init__(self, worker: Worker, task: Task, due: int) -> None:
        self.worker = worker
        self.task = task
        self.due = due
        self.interrupted = False


class TimeLimits:
    """All running tasks of a node whose time is limited.

    Args:
        state: the node's tables.
    """

    def __init__(self, state: NodeState) -> None:
        self._state = state
        self._running: dict[int, Limit] = {}

    def begun(self, worker: Worker, task: Task) -> None:
        """A worker is given a task with a limit."""
        self._running[worker.wid] = Limit(worker, task, self._state.now + task.spec.timeout_ns)

    def outcome(self, worker: Worker, task: Task, kind: int, data: Any) -> tuple[int, Any]:
        """What a task with a limit has come to, when its worker says ``kind`` and ``data``: a value that came in spite
        of the interrupt counts.
        """
        why = self.fault_of(worker, task)
        self._running.pop(worker.wid, None)
        return (FAULT, why) if why is not None and kind >= ERROR else (kind, data)

    def fault_of(self, worker: Worker, task: Task) -> Fault | None:
        """Why a task whose time was over ends."""
        limit = self._running.get(worker.wid)
        if limit is None or limit.task is not task or not limit.interrupted:
            return None
        name, limit_s = f"{task.spec.name} ({task.tid.hex()})", task.spec.timeout_ns / 1e9
        what = f"Task {name} ran longer than its timeout_s={limit_s:g} and was ended."
        text = f"{what} Allow it more time, or split its work."
        return fault(TIMED_OUT, text, task_id=task.tid.hex(), pid=worker.pid)

    def deadline(self) -> int | None:
        """When ``check`` is due, in ns."""
        return min(limit.due for limit in self._running.values()) if self._running else None

    def check(self) -> None:
        """End what has run for too long."""
        for wid, limit in list(self._running.items()):
            worker, task = limit.worker, limit.task
            if worker.inflight.get(task.tid) is not task or task.done:
                del self._running[wid]
            elif limit.due <= self._state.now and not limit.interrupted:
                limit.interrupted = True
                limit.due = self._state.now + GRACE_NS
                task.stopped = True
                self._state.effects.sends[worker.conn].append((STOP_TASK, task.tid))
                self._state.effects.others.append(Interrupt(wid))
            elif limit.due <= self._state.now and worker.fate is None:
                worker.fate = (
                    f"its task {task.spec.name} ran longer than its timeout_s and did not end when interrupted"
                )
                self._state.effects.others.append(KillWorker(wid))
                limit.due = self._state.now + GRACE_NS

    def forget(self, worker: Worker) -> None:
        """A worker has gone."""
        self._running.pop(worker.wid, None)
