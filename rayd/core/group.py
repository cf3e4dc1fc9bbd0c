"""Placement groups of one node: bundles of resources that are taken together and given out on their own.

Life: PENDING (the node has not all of it free) -> CREATED (each bundle is an allotment, from which tasks and actors
take) -> REMOVED (nothing takes from it any more; what runs in it is killed).

Rules
* All bundles are taken in one step or none is.
* Pending groups are tried in the order they came; one that does not fit holds back no other.
* The bundles of a removed group are the node's again when the last worker that holds a part of them has gone.
"""

from enum import IntEnum
from typing import Any, Final

from rayd.core.actor import Actors
from rayd.core.allotment import Allotment
from rayd.core.dispatch import Dispatcher
from rayd.core.effect import KillWorker
from rayd.core.faults import unsatisfiable
from rayd.core.resources import UNITS_PER_ONE, Demand
from rayd.core.state import NodeState
from rayd.core.task import Spec
from rayd.core.worker import Worker, WorkerState
from rayd.errors import GROUP_REMOVED, NAME_TAKEN, Fault, fault
from rayd.ids import PLACEMENT_GROUP_ID_BYTES

STRATEGIES: Final = ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")
# Removed groups that the table still shows.
REMOVED_KEPT: Final = 1_000
FATE: Final = "its placement group was removed"


class GroupState(IntEnum):
    PENDING = 0
    CREATED = 1
    REMOVED = 2


class Group:
    """One placement group.

    Attributes:
        gid: group id.
        job: who made it.
        demands: what each bundle reserves.
        bundles: the bundles as allotments, in order; empty until they are taken.
        gpus: the GPUs taken for each bundle.
        asked_at, created_at: in ns; 0 for not yet.
    """

    __slots__ = (
        "asked_at",
        "bundles",
        "created_at",
        "demands",
        "detached",
        "gid",
        "gpus",
        "job",
        "name",
        "namespace",
        "state",
        "strategy",
    )

    def __init__(self, gid: bytes, job: bytes, namespace: str, params: dict[str, Any], now: int) -> None:
        self.gid = gid
        self.job = job
        self.name = str(params.get("name") or "")
        self.namespace = namespace
        self.strategy = str(params.get("strategy", "PACK"))
        self.detached = bool(params.get("detached"))
        self.demands = [Demand.of(bundle) for bundle in params["bundles"]]
        self.bundles: list[Allotment] = []
        self.gpus: list[list[int]] = []
        self.state = GroupState.PENDING
        self.asked_at = now
        self.created_at = 0

    def title(self) -> str:
        """How messages call it."""
        return f"placement group {self.name!r}" if self.name else f"placement group {self.gid.hex()}"

    def removed(self) -> Fault:
        """The result of what was to run in it."""
        text = f"The {self.title()} was removed. Create another group for what shall still run."
        return fault(GROUP_REMOVED, text, group_id=self.gid.hex())


class Groups:
    """All placement groups of a node.

    Args:
        state: the node's tables.
        tasks, actors: what runs in them.
    """

    def __init__(self, state: NodeState, tasks: Dispatcher, actors: Actors) -> None:
        self.state = state
        self.tasks = tasks
        self.actors = actors
        self.by_id: dict[bytes, Group] = {}
        self.pending: dict[bytes, Group] = {}
        self.leaving: dict[bytes, Group] = {}
        self._names: dict[tuple[str, str], Group] = {}

    # ---- creation ----------------------------------------------------------------------------------------------------

    def create(self, job: bytes, namespace: str, params: dict[str, Any]) -> Fault | None:
        """A new group; it is created as soon as all of it is free. Returns why not.

        Args:
            job: who asks.
            namespace: where its name is known.
            params: group_id, bundles [{resource: amount}], strategy, name, detached.

        Raises:
            ValueError, TypeError: this is no description of a group.
        """
        gid = bytes(params["group_id"])
        group = Group(gid, job, namespace, params, self.state.now)
        if len(gid) != PLACEMENT_GROUP_ID_BYTES or gid in self.by_id:
            raise ValueError("a new group needs a new id")
        if group.strategy not in STRATEGIES or not group.demands or not all(group.demands):
            raise ValueError("a group has a strategy and bundles that are not empty")
        if group.name:
            if (namespace, group.name) in self._names:
                text = (
                    f"The name {group.name!r} is taken in namespace {namespace!r} by another placement group. Choose"
                    f" another name, or fetch it with ray.util.get_placement_group({group.name!r})."
                )
                return fault(NAME_TAKEN, text, name=group.name, namespace=namespace)
            self._names[namespace, group.name] = group
        self.by_id[gid] = self.pending[gid] = group
        self.state.dirty = True
        never = self._whyever_not(group)
        if never:
            self.state.warn(job, never)
        return None

    def _whyever_not(self, group: Group) -> str:
        if group.strategy == "STRICT_SPREAD" and len(group.demands) > 1:
            return (
                f"The {group.title()} cannot be placed: STRICT_SPREAD puts each of its {len(group.demands)} bundles on"
                " a node of its own, and the cluster has 1 node. It stays pending until there are more; SPREAD also"
                " takes fewer nodes."
            )
        totals: dict[str, int] = {}
        for demand in group.demands:
            for name, units in demand.items:
                totals[name] = totals.get(name, 0) + units
        missing = self.state.ledger.can_ever_fit(Demand.from_units(totals.items()))
        return unsatisfiable(group.title(), missing) if missing else ""

    def dispatch(self) -> None:
        """Take back the bundles of removed groups that nobody uses any more, then place what fits."""
        for group in list(self.leaving.values()):
            self._leave(group)
        for group in list(self.pending.values()):
            if (group.strategy != "STRICT_SPREAD" or len(group.demands) == 1) and self._reserve(group):
                del self.pending[group.gid]
                group.state = GroupState.CREATED
                group.created_at = self.state.now
                for spec in self._specs(group):
                    self.bind(spec)

    def _reserve(self, group: Group) -> bool:
        """Take all bundles, or none."""
        whole = self.state.whole
        taken: list[list[int]] = []
        for demand in group.demands:
            if not whole.fits(demand):
                for given, gpus in zip(group.demands, taken, strict=False):
                    whole.give(given, gpus)
                return False
            taken.append(whole.take(demand))
        group.gpus = taken
        group.bundles = [whole.part(demand, gpus) for demand, gpus in zip(group.demands, taken, strict=True)]
        return True

    # ---- use ---------------------------------------------------------------------------------------------------------

    def bind(self, spec: Spec) -> None:
        """Say where a spec takes its resources from, if it names a group.

        Raises:
            ValueError: the group has no such bundle.
        """
        gid = bytes(spec.options.get("placement_group") or b"")
        if not gid:
            return
        group = self.by_id.get(gid)
        if group is None:
            text = f"The placement group {gid.hex()} is not known to this cluster: it was removed, or is another's."
            spec.fault = fault(GROUP_REMOVED, text, group_id=gid.hex())
            return
        index = int(spec.options.get("bundle", -1))
        if not -1 <= index < len(group.demands):
            raise ValueError(f"{group.title()} has no bundle {index}")
        if group.state is GroupState.REMOVED:
            spec.fault = group.removed()
        elif index < 0:
            spec.sources = tuple(group.bundles)
        else:
            spec.sources = tuple(group.bundles[index : index + 1])

    def _specs(self, group: Group) -> list[Spec]:
        return [spec for spec in self.state.specs.values() if spec.options.get("placement_group") == group.gid]

    # ---- the end -----------------------------------------------------------------------------------------------------

    def remove(self, gid: bytes) -> None:
        """Remove a group; nothing happens to one that is not there."""
        group = self.by_id.get(gid)
        if group is None or group.state is GroupState.REMOVED:
            return
        group.state = GroupState.REMOVED
        self.pending.pop(gid, None)
        if self._names.get((group.namespace, group.name)) is group:
            del self._names[group.namespace, group.name]
        why = group.removed()
        for spec in self._specs(group):
            spec.fault = why
            spec.sources = ()
            for task in list(spec.queue):
                self.tasks.refuse(task)
            spec.queue.clear()
        self.actors.end_in_group(gid, why)
        for worker in self._workers(group):
            if worker.fate is None and worker.state is not WorkerState.ACTOR:
                worker.fate = FATE
                self.state.effects.others.append(KillWorker(worker.wid))
        self.leaving[gid] = group
        self.state.dirty = True
        self._forget_old()

    def _workers(self, group: Group) -> list[Worker]:
        workers = self.state.pool.workers.values()
        return [worker for worker in workers if any(worker.source is bundle for bundle in group.bundles)]

    def _leave(self, group: Group) -> None:
        if self._workers(group):
            return
        for demand, gpus in zip(group.demands, group.gpus, strict=False):
            self.state.whole.give(demand, gpus)
        group.bundles, group.gpus = [], []
        del self.leaving[group.gid]

    def end_job(self, job: bytes) -> None:
        """The driver has gone: its groups are removed, but not detached ones."""
        for group in list(self.by_id.values()):
            if group.job == job and not group.detached:
                self.remove(group.gid)

    def _forget_old(self) -> None:
        over = [g for g in self.by_id.values() if g.state is GroupState.REMOVED and g.gid not in self.leaving]
        for group in over[: max(len(over) - REMOVED_KEPT, 0)]:
            del self.by_id[group.gid]

    # ---- questions ---------------------------------------------------------------------------------------------------

    def find(self, namespace: str, name: str) -> Group | None:
        """The group of a name."""
        return self._names.get((namespace, name))

    def row(self, group: Group) -> dict[str, Any]:
        """What a client is told of a group."""
        return {
            "group_id": group.gid,
            "name": group.name,
            "namespace": group.namespace,
            "strategy": group.strategy,
            "state": group.state.name,
            "bundles": [demand.to_floats() for demand in group.demands],
            "nodes": [self.state.node_id.hex()] * len(group.bundles),
            "detached": group.detached,
            "creation_ms": (group.created_at - group.asked_at) / 1e6 if group.created_at else 0.0,
        }

    def check(self) -> None:
        """Raise AssertionError naming the first broken invariant."""
        for group in self.by_id.values():
            assert (group.state is GroupState.PENDING) == (group.gid in self.pending), f"{group.title()} is lost"
            taken = group.state is GroupState.CREATED or (group.gid in self.leaving and bool(group.gpus))
            assert bool(group.bundles) == taken, f"{group.title()} has bundles it has not taken"
            for demand, bundle in zip(group.demands, group.bundles, strict=bool(group.bundles)):
                bundle.ledger.check()
                bundle.gpus.check()
                total = {name: round(amount * UNITS_PER_ONE) for name, amount in bundle.ledger.totals().items()}
                assert total == dict(demand.items), f"a bundle of {group.title()} is not what was asked for"
        for group in self.leaving.values():
            assert self._workers(group), f"{group.title()} is removed, used by nobody, and not given back"
