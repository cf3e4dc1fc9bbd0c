"""The bundles of placement groups that one node has, and what it knows of the groups.

The head decides where bundles go (``rayd.core.group``). A node takes those it is to have from its resources, or refuses
(RESERVE, RESERVED), and hears what has become of the group (GROUP): from then on tasks and actors may take from its
bundles. They are the node's again when the group has been removed, or lies elsewhere, and the last worker that holds a
part of them has gone.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from rayd.core.allotment import Allotment
from rayd.core.effect import KillWorker
from rayd.core.objects import PENDING
from rayd.core.packing import together
from rayd.core.resources import TIMES_MAX, UNITS_PER_ONE, Demand
from rayd.core.state import NodeState
from rayd.core.worker import Worker, WorkerState
from rayd.errors import Fault
from rayd.wire.frame import ProtocolError
from rayd.wire.messages import FAULT, INLINE

FATE: Final = "its placement group was removed"
# In the place of a node's number: there is none yet.
NOWHERE: Final = -1


# How many new objects that wait for one group are let pass before those are looked through that nobody holds any more.
AWAITED_LOOK: Final = 64


class Bundle:
    """One bundle that this node has.

    Attributes:
        demand: what it reserves.
        gpus: which GPUs are among that.
        allotment: from which tasks and actors take.
    """

    __slots__ = ("allotment", "demand", "gpus")

    def __init__(self, demand: Demand, gpus: list[int], allotment: Allotment) -> None:
        self.demand = demand
        self.gpus = gpus
        self.allotment = allotment


class Known:
    """What a node knows of a placement group.

    Attributes:
        count: of its bundles.
        nodes: number of the node of each bundle, or ``NOWHERE``.
        demands: what each bundle reserves.
        fault: why nothing can run in it any more.
    """

    __slots__ = ("count", "demands", "fault", "nodes")

    def complete(self) -> bool:
        """Whether all bundles are reserved."""
        return self.fault is None and NOWHERE not in self.nodes

    def __init__(self, row: Mapping[str, Any]) -> None:
        self.nodes: list[int] = [int(number) for number in row["nodes"]]
        self.demands = [Demand.of(amounts) for amounts in row["bundles"]]
        self.count = len(self.demands)
        self.fault: Fault | None = row["fault"] or None


class Bundles:
    """The bundles of a node.

    Args:
        state: the node's tables.
        on_change: called with the id of a group of which something has changed.
    """

    def __init__(self, state: NodeState, on_change: Callable[[bytes], None]) -> None:
        self.state = state
        self.known: dict[bytes, Known] = {}
        self.here: dict[bytes, dict[int, Bundle]] = {}
        self.leaving: list[Bundle] = []
        self.waiting: dict[bytes, tuple[dict[int, Demand], Callable[[bool], None]]] = {}
        self.ask: Callable[[bytes], None]  # for what is known of a group
        self._on_change = on_change
        self._awaited: dict[bytes, dict[bytes, bytes]] = {}

    def reserve(self, gid: bytes, wanted: Mapping[int, Demand]) -> bool:
        """Take bundles from what is free here, all of them or none; whether that went."""
        whole = self.state.whole
        taken: dict[int, Bundle] = {}
        for index, demand in wanted.items():
            if not whole.fits(demand):
                for bundle in taken.values():
                    whole.give(bundle.demand, bundle.gpus)
                return False
            gpus = whole.take(demand)
            taken[index] = Bundle(demand, gpus, whole.part(demand, gpus))
        self.here.setdefault(gid, {}).update(taken)
        return True

    def reserve_patiently(self, gid: bytes, wanted: Mapping[int, Demand], answer: Callable[[bool], None]) -> None:
        """The same, and if there is not enough room now, keep what becomes free for that.

        Args:
            gid, wanted: as for ``reserve``.
            answer: called once with whether that went, perhaps later.
        """
        if self.reserve(gid, wanted):
            answer(True)
        elif self.state.claims.make(gid, (self.state.whole,), together(wanted)):
            self.waiting[gid] = dict(wanted), answer
        else:
            answer(False)

    def dispatch(self) -> None:
        """Answer those reservations that wait no more."""
        claims = self.state.claims
        for gid, (wanted, answer) in list(self.waiting.items()):
            if self.reserve(gid, wanted):
                claims.served(gid)
            elif claims.claim is not None and claims.claim.who == gid:
                claims.reach(gid)
                continue
            del self.waiting[gid]
            answer(gid in self.here)

    def told(self, gid: bytes, row: Mapping[str, Any]) -> None:
        """GROUP: what has become of a group; what was reserved here for it and is not in its row is given back."""
        known = self.known[gid] = Known(row)
        if self.waiting.pop(gid, None) is not None:
            self.state.claims.served(gid)
        mine = self.here.get(gid, {})
        for index in list(mine):
            if known.fault is not None or known.nodes[index] != self.state.number:
                self._leave(mine.pop(index))
        if not mine:
            self.here.pop(gid, None)
        self._on_change(gid)
        if known.fault is not None or known.complete():
            for oid, data in self._awaited.pop(gid, {}).items():
                self._fill(oid, known, data)
        if known.fault is not None:
            del self.known[gid]
        self.state.dirty = True

    def put_when(self, conn: int, oid: bytes, gid: bytes, data: bytes) -> None:
        """PUT_WHEN: an object of a client that is there once a group is, or is the error that it never will be.

        Raises:
            ProtocolError: there is such an object.
        """
        objects = self.state.objects
        if oid in objects.entries:
            raise ProtocolError(f"the object {oid.hex()} exists already")
        objects.add(oid, PENDING, None, [], conn)
        known = self.known.get(gid)
        if known is not None and known.complete():
            self._fill(oid, known, data)
            return
        waiting = self._awaited.setdefault(gid, {})
        waiting[oid] = data
        if len(waiting) % AWAITED_LOOK == 0:  # somebody asks again and again: forget whom nobody waits for any more
            self._awaited[gid] = {other: data for other, data in waiting.items() if other in objects.entries}
        if known is None:
            self.ask(gid)

    def _fill(self, oid: bytes, known: Known, data: bytes) -> None:
        kind, value = (INLINE, data) if known.fault is None else (FAULT, known.fault)
        if oid in self.state.objects.entries:
            self.state.objects.fill(oid, kind, value, None)

    def awaited(self, oid: bytes) -> bool:
        """Whether an object is there once some group is."""
        return any(oid in waiting for waiting in self._awaited.values())

    def sources(self, gid: bytes, index: int) -> tuple[Allotment, ...]:
        """What may be taken from here for a bundle of a group, or for any (-1)."""
        known = self.known[gid]
        mine = self.here.get(gid, {})
        return tuple(
            bundle.allotment
            for number, bundle in sorted(mine.items())
            if known.nodes[number] == self.state.number and index in (-1, number)
        )

    def slots(self, gid: bytes, index: int, demand: Demand) -> dict[int, int]:
        """How often a demand fits into what a group has on each node, by its number."""
        known = self.known[gid]
        found: dict[int, int] = {}
        for number, (node, bundle) in enumerate(zip(known.nodes, known.demands, strict=True)):
            times = min((bundle.units(name) // units for name, units in demand.items), default=TIMES_MAX)
            if node != NOWHERE and index in (-1, number) and times:
                found[node] = found.get(node, 0) + times
        return found

    def _leave(self, bundle: Bundle) -> None:
        for worker in self._workers(bundle):
            if worker.fate is None and worker.state is not WorkerState.ACTOR:
                worker.fate = FATE
                self.state.effects.others.append(KillWorker(worker.wid))
        self.leaving.append(bundle)
        self.release()

    def release(self) -> None:
        """Give back what nobody uses any more."""
        kept = []
        for bundle in self.leaving:
            if self._workers(bundle):
                kept.append(bundle)
            else:
                self.state.whole.give(bundle.demand, bundle.gpus)
                self.state.dirty = True
        self.leaving = kept

    def _workers(self, bundle: Bundle) -> list[Worker]:
        return [worker for worker in self.state.pool.workers.values() if worker.source is bundle.allotment]

    def all(self) -> list[Bundle]:
        """All that is reserved here, for whatever purpose."""
        return [*self.leaving, *(bundle for mine in self.here.values() for bundle in mine.values())]

    def check(self) -> None:
        """Raise AssertionError naming the first broken invariant."""
        for bundle in self.all():
            bundle.allotment.ledger.check()
            bundle.allotment.gpus.check()
            totals = bundle.allotment.ledger.totals()
            units = {name: round(amount * UNITS_PER_ONE) for name, amount in totals.items()}
            assert units == dict(bundle.demand.items), "a bundle is not what was asked for"
        for bundle in self.leaving:
            assert self._workers(bundle), "a bundle is used by nobody and not given back"
