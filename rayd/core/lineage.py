"""Results that are computed again when the node that had them dies.

A large result stays on the node where its task ran. The node to which the task was submitted keeps the task for as long
as somebody refers to such a result, with its small arguments. Of its large arguments it only keeps how they were made:
if they are gone as well when they are needed, they are computed again first, and so on. What cannot be computed again
is what was put by ``ray.put``, returned by an actor, or made with ``max_retries=0``.

A lost result waits until somebody wants it.
"""

from collections import deque
from collections.abc import Iterable
from typing import Final

from rayd.core.dispatch import Dispatcher
from rayd.core.object_faults import lost_for_good
from rayd.core.objects import AWAY, PENDING, Entry
from rayd.core.state import NodeState
from rayd.core.task import STREAMING, Task
from rayd.ids import ACTOR_OBJECT_SUFFIX, return_id
from rayd.wire.messages import FAULT, INLINE

# Serialized arguments that are kept for no other purpose, in all; beyond it results are not remembered.
ARGS_BYTES_MAX: Final = 64 << 20


class Record:
    """How some results were made.

    Attributes:
        task: what made them.
        pinned: small arguments, held.
        large: other arguments, not held.
        needs: how those were made, as far as they can be made again.
        results: results that are known still.
        users: records that need this one.
    """

    __slots__ = ("large", "needs", "pinned", "results", "task", "users")

    def __init__(self, task: Task, pinned: list[bytes], large: list[bytes], needs: "list[Record]") -> None:
        self.task = task
        self.pinned = pinned
        self.large = large
        self.needs = needs
        self.results: dict[bytes, None] = {}
        self.users = 0


class Lineage:
    """The records of a node.

    Args:
        state: the node's tables.
        tasks: where tasks are run again.
    """

    def __init__(self, state: NodeState, tasks: Dispatcher) -> None:
        self.state = state
        self.tasks = tasks
        self.records: dict[bytes, Record] = {}
        self.lost: dict[bytes, str] = {}  # results that are to be made when somebody wants them: where they were
        self._bytes = 0
        self._kept: dict[Record, None] = {}
        self._wanted: deque[bytes] = deque()
        self._recovering = False

    def keep(self, task: Task) -> None:
        """A task has ended on another node; called while its arguments are still held."""
        spec = task.spec
        if spec.retries_max == 0 or spec.num_returns == STREAMING or task.actor is not None:
            return
        entries = self.state.objects.entries
        names = [return_id(task.tid, index) for index in range(1, spec.num_returns + 1)]
        away = [oid for oid in names if oid in entries and entries[oid].kind == AWAY]
        if not away or away[0] in self.records or self._bytes + len(task.args) > ARGS_BYTES_MAX:
            return
        given = [oid for oid in task.pins or () if oid not in names]
        small = [oid for oid in given if _is_small(oid, entries[oid])]
        large = [oid for oid in given if oid not in small]
        needs = [self.records[oid] for oid in large if oid in self.records]
        record = Record(task, self.state.objects.pin(small), large, needs)
        self._kept[record] = None
        self._bytes += len(task.args)
        for oid in away:
            self.records[oid] = record
            record.results[oid] = None
        for needed in needs:
            needed.users += 1

    def freed(self, oid: bytes) -> None:
        """Nobody refers to an object any more."""
        self.lost.pop(oid, None)
        record = self.records.get(oid)
        if record is None:
            return
        record.results.pop(oid, None)
        unused = [record]
        while unused:
            record = unused.pop()
            if record.results or record.users or record not in self._kept:
                continue
            del self._kept[record]
            self._bytes -= len(record.task.args)
            for name in [name for name, other in self.records.items() if other is record]:
                del self.records[name]
            for needed in record.needs:
                needed.users -= 1
                unused.append(needed)
            record.needs = []
            self.state.objects.unpin(record.pinned)

    # ---- loss --------------------------------------------------------------------------------------------------------

    def lose(self, oid: bytes, where: str) -> bool:
        """The node that had the bytes of an object has died; whether it is known here what becomes of it.

        Args:
            oid: the object.
            where: the node, in words.
        """
        record = self.records.get(oid)
        entry = self.state.objects.entries.get(oid)
        if record is None or entry is None or record.task.spec.job not in self.state.jobs:
            return False
        entry.kind, entry.data, entry.task = PENDING, None, None
        if record.task.retries == 0:
            name = record.task.spec.name
            self.state.objects.fill(oid, FAULT, lost_for_good(oid, where, name, []), None)
            return True
        if not record.task.done:  # it is being made again already
            entry.task = record.task
            return True
        self.lost[oid] = where
        if entry.waiters or entry.dependents or self.state.objects.is_probed(oid):
            self.recover(oid)
        return True

    def recover(self, oid: bytes) -> None:
        """Somebody wants a lost object: make it again, and before it what it takes."""
        self._wanted.append(oid)  # what that takes is wanted in turn: a loop, as chains may be of any length
        if self._recovering:
            return
        self._recovering = True
        try:
            while self._wanted:
                name = self._wanted.popleft()
                if name in self.lost:
                    self._run_again(name)
        finally:
            self._recovering = False

    def _run_again(self, oid: bytes) -> None:
        objects = self.state.objects
        record, where = self.records[oid], self.lost[oid]
        task = record.task
        task.done = task.stopped = task.stays = False
        task.worker = 0
        for name in [name for name in self.lost if self.records[name] is record]:
            del self.lost[name]
            objects.entries[name].task = task
        gone = [name for name in record.large if name not in objects.entries and not self._revive(name, where)]
        task.pins = objects.pin([*record.pinned, *record.large])
        if gone or task.retries == 0:
            self.tasks.finish(task, FAULT, lost_for_good(oid, where, task.spec.name, gone), None)
            return
        task.retries -= task.retries > 0
        if objects.subscribe(task, task.deps or ()) == 0:
            self.tasks.ready(task)

    def _revive(self, oid: bytes, where: str) -> bool:
        """An argument that nobody referred to any more is needed again; whether it can be made."""
        record = self.records.get(oid)
        if record is None or record.task.retries == 0:
            return False
        self.state.objects.entries[oid] = Entry(PENDING, None, None)  # held by who needs it in a moment
        record.results[oid] = None
        self.lost[oid] = where
        return True

    def kept(self) -> Iterable[Record]:
        """All records."""
        return self._kept

    def check(self) -> None:
        """Raise AssertionError naming the first broken invariant."""
        entries = self.state.objects.entries
        for oid, record in self.records.items():
            assert record.results or record.users, f"how {oid.hex()} was made is kept for nobody"
        for oid in self.lost:
            assert oid in self.records, f"{oid.hex()} is lost for good"
            assert entries[oid].kind == PENDING, f"{oid.hex()} is lost and here"
        for record in self._kept:
            users = sum(other.needs.count(record) for other in self._kept)
            assert record.users == users, f"{record.task.tid.hex()} counts {record.users} users and has {users}"
            assert all(self.records[oid] is record for oid in record.results), "a result has another record"


def _is_small(oid: bytes, entry: Entry) -> bool:
    """Whether an argument is held for the case that it is needed again; a handle would keep its actor alive."""
    return entry.kind == INLINE and not oid.endswith(ACTOR_OBJECT_SUFFIX)
