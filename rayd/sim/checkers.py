"""Checkers that watch a cluster from outside: what programs were told, and what ran where at what time.

They know nothing of the cores. ``begins`` and ``ends`` come from simulated workers, ``saw`` from whoever reads a value.
"""

from collections import Counter
from typing import TYPE_CHECKING, Any, NoReturn

import msgpack

from rayd.core.resources import UNITS_PER_ONE
from rayd.core.streams import GENERATOR_INDEX, NONE_PICKLED
from rayd.errors import CANCELLED, NODE_DIED, OBJECT_LOST
from rayd.ids import TASK_ID_BYTES, return_id
from rayd.sim.causes import Causes
from rayd.sim.clock import Clock
from rayd.sim.damage import Damage
from rayd.sim.name_checker import Names
from rayd.sim.stream_checker import StreamItems
from rayd.sim.violation import ViolationError
from rayd.wire import messages as m

if TYPE_CHECKING:
    from rayd.sim.daemon import Daemon
    from rayd.sim.process import Process
    from rayd.sim.worker import WorkerProcess


class Calls:
    """Every call ends once, with one outcome, and what must not run twice does not.

    Attributes:
        pending: what processes wait for, by id of the task or call.
        outcomes: how objects have turned out, for whoever was told first.
        counts: how calls have ended, for those who wait for them.
    """

    def __init__(self, checkers: "Checkers") -> None:
        self._checkers = checkers
        self.pending: dict[Process, dict[bytes, str]] = {}
        self.outcomes: dict[bytes, str] = {}
        self.counts: Counter[str] = Counter()
        self._attempts: Counter[bytes] = Counter()

    def made(self, process: "Process", tid: bytes, options: dict[str, Any], args: list[Any], aid: bytes = b"") -> None:
        """A program has submitted a task, or called an actor."""
        self.pending.setdefault(process, {})[tid] = f"{options['name']} {args[:2]}"
        self._checkers.causes.made(tid, process, aid)
        if options.get("num_returns", 1) < 0:
            self._checkers.streams.made(tid, args)

    def begins(self, tid: bytes, spec: dict[str, Any], worker: "WorkerProcess") -> None:
        """It runs somewhere."""
        self._attempts[tid] += 1
        self._checkers.causes.begins(tid, worker)
        if self._attempts[tid] > 1 and not int(spec.get("max_retries", 0)):
            self._checkers.fails("at most once", f"{spec['name']} {tid.hex()} runs for the second time")

    def attempts(self, tid: bytes) -> int:
        """How often it has run so far."""
        return self._attempts[tid]

    def saw(self, process: "Process", oid: bytes, kind: int, data: Any) -> None:
        """A program has been told how an object has turned out."""
        outcome = str(data["code"]) if kind == m.FAULT else "error" if kind >= m.ERROR else "value"
        before = self.outcomes.setdefault(oid, outcome)
        differs = before != outcome and not {OBJECT_LOST, NODE_DIED} & {before, outcome}  # who cannot reach it, lost it
        if differs and not (outcome == CANCELLED and self._checkers.causes.is_over(oid)):  # who asks is about to end
            self._checkers.fails("one outcome", f"{oid.hex()} was {before} and is {outcome}")
        if kind == m.FAULT and not self._checkers.causes.explain(process, oid, data):
            where = process.daemon.host.address
            self._checkers.fails("causes", f"{oid.hex()} ended for no reason for {process.pid} at {where}: {data}")
        tid = oid[:TASK_ID_BYTES]
        if not self._checkers.streams.is_one(tid) and self.pending.get(process, {}).pop(tid, None) is not None:
            self.counts[outcome] += 1

    def stream_ended(self, process: "Process", tid: bytes, outcome: str) -> None:
        """A program has been told the end of a stream."""
        if self.pending.get(process, {}).pop(tid, None) is not None:
            self.counts[f"stream with {outcome}"] += 1

    def forgives(self, process: "Process", oids: list[bytes]) -> None:
        """A program does not look at the outcome of these, if it has not done so."""
        pending = self.pending.get(process, {})
        for oid in oids:
            if pending.pop(oid[:TASK_ID_BYTES], None) is not None:
                self.counts["not asked for"] += 1

    def process_ended(self, process: "Process") -> None:
        """It has died, and waits for nothing any more."""
        self.counts["caller died"] += len(self.pending.pop(process, {}))


class Values:
    """A value is that of the object whose id was asked for, complete."""

    def __init__(self, checkers: "Checkers") -> None:
        self._checkers = checkers

    def saw(self, process: "Process", oid: bytes, kind: int, data: Any) -> None:
        """A program has been given a value."""
        right = data[:1] == b"v" and data[1:29] == oid if kind < m.ERROR else True
        if oid == return_id(oid[:TASK_ID_BYTES], GENERATOR_INDEX):
            right = data == NONE_PICKLED
        if not right:
            where = process.daemon.host.address
            self._checkers.fails("right value", f"{oid.hex()} is {data[:40]!r} (kind {kind}) at {where}")
        self._checkers.calls.saw(process, oid, kind, data)


class Grants:
    """What runs on a machine at a time never needs more than it has."""

    def __init__(self, checkers: "Checkers") -> None:
        self._checkers = checkers
        self._held: dict[WorkerProcess, tuple[dict[str, int], list[int]]] = {}
        self._used: dict[Daemon, Counter[str]] = {}

    def begins(self, worker: "WorkerProcess", resources: dict[str, float], gpus: list[int]) -> None:
        """A worker begins something that needs this."""
        units = {name: round(amount * UNITS_PER_ONE) for name, amount in resources.items()}
        for gpu in gpus:
            units[f"GPU {gpu}"] = min(units["GPU"], UNITS_PER_ONE)
        self._held[worker] = (units, gpus)
        used = self._used.setdefault(worker.daemon, Counter())
        used.update(units)
        for name in units:
            whole = worker.daemon.totals.get(name, 1.0 if name.startswith("GPU ") else 0.0)
            if used[name] > round(whole * UNITS_PER_ONE):
                where = worker.daemon.host.address
                self._checkers.fails(
                    "no resource twice", f"{used[name]} units of {name} of {whole} are used at {where}"
                )

    def blocked(self, worker: "WorkerProcess") -> None:
        """What it runs waits: others may have its CPUs, and when it goes on there may be a debt."""
        units, _ = self._held.get(worker, ({}, []))
        lent = units.pop("CPU", 0)
        if lent:
            self._used[worker.daemon]["CPU"] -= lent

    def ends(self, worker: "WorkerProcess") -> None:
        """It needs nothing any more."""
        units, _ = self._held.pop(worker, ({}, []))
        if units:
            self._used[worker.daemon].subtract(units)

    def forget(self, daemon: "Daemon") -> None:
        """A daemon has ended with all its workers."""
        self._used.pop(daemon, None)


class Order:
    """Calls of one caller to one actor begin in the order in which they were made."""

    def __init__(self, checkers: "Checkers") -> None:
        self._checkers = checkers
        self._turns: Counter[tuple[int, bytes]] = Counter()
        self._last: dict[tuple[int, int], int] = {}

    def calls(self, process: "Process", aid: bytes) -> int:
        """A program makes its next call to an actor; returns its number."""
        self._turns[process.pid, aid] += 1
        return self._turns[process.pid, aid]

    def begins(self, worker: "WorkerProcess", caller: int, turn: int) -> None:
        """A call begins."""
        last = self._last.get((worker.pid, caller), 0)
        if turn <= last:
            self._checkers.fails("order of calls", f"call {turn} of {caller} to {worker.aid.hex()} after {last}")
        self._last[worker.pid, caller] = turn


class ActorRuns:
    """No actor runs twice at a time, and none more often than it may."""

    def __init__(self, checkers: "Checkers") -> None:
        self._checkers = checkers
        self._at: dict[bytes, WorkerProcess] = {}
        self._starts: Counter[bytes] = Counter()
        self._restarts_max: dict[bytes, int] = {}

    def made(self, aid: bytes, options: dict[str, Any], by: "Process") -> None:
        """A program has created an actor."""
        self._checkers.causes.made(aid, by, aid)
        self._restarts_max[aid] = int(options.get("max_restarts", 0))

    def begins(self, worker: "WorkerProcess", aid: bytes) -> None:
        """Its constructor runs."""
        other = self._at.get(aid)
        if other is not None and other.alive and other is not worker:
            here, there = worker.daemon.host.address, other.daemon.host.address
            self._checkers.fails("one actor", f"{aid.hex()} begins at {here} and still runs at {there}")
        self._at[aid] = worker
        self._checkers.causes.begins(aid, worker)
        self._starts[aid] += 1
        if 0 <= self._restarts_max[aid] < self._starts[aid] - 1:
            self._checkers.fails("restarts", f"{aid.hex()} has begun {self._starts[aid]} times")


class Checkers:
    """All of them.

    Args:
        clock: of the simulation.

    Attributes:
        damage: what was done to machines.
        causes: what explains how calls end.
        disk_was_full: the head could not write its journal at times.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.damage = Damage(clock)
        self.causes = Causes(self)
        self.disk_was_full = False
        self.streams = StreamItems(self)
        self.names = Names(self)
        self.calls = Calls(self)
        self.values = Values(self)
        self.grants = Grants(self)
        self.order = Order(self)
        self.actors = ActorRuns(self)

    def fails(self, checker: str, text: str) -> NoReturn:
        """What must not be is.

        Raises:
            ViolationError: always.
        """
        raise ViolationError(checker, text)

    def group_failed(self, why: dict[str, Any]) -> None:
        """A placement group could not be made; only a journal that cannot be written is a reason."""
        if not self.disk_was_full:
            self.fails("causes", f"a group was refused for no reason: {why}")

    def reads(self, worker: "WorkerProcess", body: list[Any]) -> None:
        """A worker takes something out of its mailbox to do it now."""
        if worker.aid and len(body) > 1:
            what, _, *more = msgpack.unpackb(body[2])
            if what == "add":
                self.order.begins(worker, more[0], more[1])

    def begins(
        self, worker: "WorkerProcess", tid: bytes, spec: dict[str, Any], args: list[Any], gpus: list[int]
    ) -> None:
        """A task, a call or a constructor begins in a worker."""
        kind = spec["kind"]
        if kind == "actor":
            worker.aid = tid[8:]
            self.actors.begins(worker, worker.aid)
        else:
            self.calls.begins(tid, spec, worker)
        if kind != "method":
            self.grants.begins(worker, spec["resources"], gpus)

    def ends(self, worker: "WorkerProcess", tid: bytes) -> None:
        """It has ended."""
        if not worker.aid:
            self.grants.ends(worker)

    def process_ended(self, process: "Process", how: str) -> None:
        """A driver or worker has ended, however; see ``Causes.ended``."""
        self.causes.ended(process, how)
        self.calls.process_ended(process)
        self.grants.ends(process)  # type: ignore[arg-type]
