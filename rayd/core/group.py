"""The placement groups of a cluster: their life, which the head decides.

Life: PENDING (not all of it is free) -> CREATED (each bundle is reserved on a node) -> [RESCHEDULING (a node has died
with its bundles) -> CREATED ...] -> REMOVED (nothing takes from it any more; what runs in it is killed).

Rules
* All bundles that have no node are reserved, or none is: each node that is to have some is asked first (RESERVE), and
  only when all have agreed does the group exist (GROUP). If one refuses, GROUP tells the others so.
* Pending groups are tried in the order they came; one that does not fit holds back no other.
* The first that has waited for a second is tried patiently: the nodes that it would fit on if they were idle keep for
  it what becomes free (``rayd.core.claims``). One group at a time, or two might keep what the other one needs.
"""

from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Any, Final

from rayd.core.bundles import NOWHERE, Bundles
from rayd.core.channels import home_of_job
from rayd.core.cluster import HEAD, Cluster
from rayd.core.faults import largest, unsatisfiable
from rayd.core.journal import GROUP as GROUP_ROW
from rayd.core.member import Member
from rayd.core.packing import STRATEGIES, STRICT_PACK, STRICT_SPREAD, choose, together
from rayd.core.resources import Demand, Ledger
from rayd.core.state import Conn, NodeState
from rayd.errors import GROUP_REMOVED, NAME_TAKEN, Fault, fault
from rayd.ids import PLACEMENT_GROUP_ID_BYTES
from rayd.wire.messages import GROUP, RESERVE

# Removed groups that the table still shows.
REMOVED_KEPT: Final = 1_000


class GroupState(IntEnum):
    PENDING = 0
    CREATED = 1
    REMOVED = 2
    RESCHEDULING = 3


class Trial:
    """An attempt to reserve what a group lacks.

    Attributes:
        number: of the attempt, so that answers to an earlier one are known as such.
        chosen: node of each bundle.
        waiting: nodes that have not answered.
        agreed: nodes that have.
        failed: one has refused, or died.
        patient: nodes wait until there is room.
    """

    __slots__ = ("agreed", "chosen", "failed", "number", "patient", "waiting")

    def __init__(self, number: int, chosen: dict[int, int], patient: bool) -> None:
        self.number = number
        self.chosen = chosen
        self.waiting = dict.fromkeys(chosen.values())
        self.agreed: dict[int, None] = {}
        self.failed = False
        self.patient = patient


class Group:
    """One placement group.

    Attributes:
        gid: group id.
        job: who made it.
        demands: what each bundle reserves.
        nodes: number of the node of each bundle, or ``NOWHERE``.
        trial: an attempt that is under way.
        asked_at, created_at: in ns; 0 for not yet.
        waits_since: since when it is pending, or since an attempt with patience has failed, in ns.
        busy: nodes that could not even keep room for it.
    """

    __slots__ = (
        "asked_at",
        "busy",
        "created_at",
        "demands",
        "detached",
        "gid",
        "job",
        "name",
        "namespace",
        "nodes",
        "state",
        "strategy",
        "trial",
        "waits_since",
    )

    def __init__(self, gid: bytes, job: bytes, namespace: str, params: Mapping[str, Any], now: int) -> None:
        self.gid = gid
        self.job = job
        self.name = str(params.get("name") or "")
        self.namespace = namespace
        self.strategy = str(params.get("strategy", "PACK"))
        self.detached = bool(params.get("detached"))
        self.demands = [Demand.of(bundle) for bundle in params["bundles"]]
        self.nodes = [NOWHERE] * len(self.demands)
        self.trial: Trial | None = None
        self.state = GroupState.PENDING
        self.asked_at = self.waits_since = now
        self.busy: dict[int, None] = {}
        self.created_at = 0
        if len(gid) != PLACEMENT_GROUP_ID_BYTES:
            raise ValueError("a group has an id of another length")
        if self.strategy not in STRATEGIES or not self.demands or not all(self.demands):
            raise ValueError("a group has a strategy and bundles that are not empty")

    def lacking(self) -> dict[int, Demand]:
        """The bundles that have no node."""
        return {index: self.demands[index] for index, node in enumerate(self.nodes) if node == NOWHERE}

    def outlives_head(self) -> bool:
        """Whether it goes on when the head dies, and with that the drivers that are connected there."""
        return self.detached or home_of_job(self.job) != HEAD

    def record(self) -> dict[str, Any]:
        """What was asked for."""
        return {
            "job": self.job,
            "namespace": self.namespace,
            "name": self.name,
            "strategy": self.strategy,
            "detached": self.detached,
            "bundles": [demand.to_floats() for demand in self.demands],
        }

    def place(self) -> dict[str, Any]:
        """What has become of it."""
        return {"nodes": self.nodes, "took": self.created_at - self.asked_at if self.created_at else None}

    def title(self) -> str:
        """How messages call it."""
        return f"placement group {self.name!r}" if self.name else f"placement group {self.gid.hex()}"

    def removed(self) -> Fault:
        """The result of what was to run in it."""
        text = f"The {self.title()} was removed. Create another group for what shall still run."
        return fault(GROUP_REMOVED, text, group_id=self.gid.hex())

    def notice(self) -> dict[str, Any]:
        """What nodes are told of it."""
        over = self.removed() if self.state is GroupState.REMOVED else {}
        return {"nodes": self.nodes, "bundles": [demand.to_floats() for demand in self.demands], "fault": over}


class Groups:
    """All placement groups of a cluster; of no use except in its head.

    Args:
        state: the head's tables.
        cluster: the nodes.
        bundles: those of the head itself.
    """

    def __init__(self, state: NodeState, cluster: Cluster, bundles: Bundles) -> None:
        self.state = state
        self.cluster = cluster
        self.bundles = bundles
        self.by_id: dict[bytes, Group] = {}
        self.pending: dict[bytes, Group] = {}
        self._names: dict[tuple[str, str], Group] = {}
        self._trials = 0

    # ---- creation ----------------------------------------------------------------------------------------------------

    def create(self, job: bytes, namespace: str, params: Mapping[str, Any]) -> tuple[Fault | None, str]:
        """A new group; it is created as soon as all of it is free.

        Args:
            job: who asks.
            namespace: where its name is known.
            params: group_id, bundles [{resource: amount}], strategy, name, detached.

        Returns:
            why there is none, and what the driver should be warned of.

        Raises:
            ValueError, TypeError: this is no description of a group.
        """
        gid = bytes(params["group_id"])
        group = Group(gid, job, namespace, params, self.state.now)
        known = self.by_id.get(gid)
        if known is not None and known.record() == group.record():
            return None, ""  # it is asked again
        if known is not None:
            raise ValueError("a new group needs a new id")
        if group.name:
            if (namespace, group.name) in self._names:
                text = (
                    f"The name {group.name!r} is taken in namespace {namespace!r} by another placement group. Choose"
                    f" another name, or fetch it with ray.util.get_placement_group({group.name!r})."
                )
                return fault(NAME_TAKEN, text, name=group.name, namespace=namespace), ""
            self._names[namespace, group.name] = group
        self.by_id[gid] = self.pending[gid] = group
        self._keep(group, lambda: self.remove(gid))
        self._tell(group)
        return None, self._whyever_not(group)

    def _keep(self, group: Group, undo: Callable[[], None] | None = None) -> None:
        """Remember a group beyond this head's death, unless it ends with that."""
        if not group.outlives_head():
            return
        over = group.state is GroupState.REMOVED
        self.state.journal.put(GROUP_ROW, group.gid, None if over else group.record() | group.place(), undo)

    def restore(self, rows: list[tuple[bytes, Any]]) -> None:
        """This head has begun anew: there were these groups. Bundles that this node had are taken again."""
        for gid, row in rows:
            group = Group(gid, row["job"], row["namespace"], row, self.state.now)
            self.by_id[gid] = group
            if group.name:
                self._names[group.namespace, group.name] = group
            if not group.detached and home_of_job(group.job) not in self.cluster.members:
                self.remove(gid)
                continue
            group.asked_at -= row["took"] or 0
            group.created_at = self.state.now if row["took"] is not None else 0
            group.nodes = [node if node in self.cluster.members else NOWHERE for node in row["nodes"]]
            mine = {i: group.demands[i] for i, node in enumerate(group.nodes) if node == self.state.number}
            if mine and not self.bundles.reserve(gid, mine):  # this machine offers less than before
                group.nodes = [NOWHERE if i in mine else node for i, node in enumerate(group.nodes)]
            if NOWHERE in group.nodes:
                group.state = GroupState.RESCHEDULING if group.created_at else GroupState.PENDING
                self.pending[gid] = group
            else:
                group.state = GroupState.CREATED
            self.bundles.told(gid, group.notice())

    def _whyever_not(self, group: Group) -> str:
        totals = {member.number: member.totals for member in self.cluster.living()}
        bundles = group.lacking()
        if choose(group.strategy, bundles, totals) is not None:
            return ""
        count = len(totals)
        if group.strategy == STRICT_SPREAD and len(bundles) > count:
            return (
                f"The {group.title()} cannot be placed: STRICT_SPREAD puts each of its {len(bundles)} bundles on"
                f" a node of its own, and the cluster has {count} node{'s' if count > 1 else ''}. It stays pending"
                " until there are more; SPREAD also takes fewer nodes."
            )
        if group.strategy == STRICT_PACK or count == 1:
            missing = largest(totals.values(), together(bundles))
            return unsatisfiable(group.title(), missing, count) if missing else self._not_side_by_side(group)
        for demand in bundles.values():
            missing = largest(totals.values(), demand)
            if missing:
                return unsatisfiable(
                    f"{group.title()}, a bundle of which asks for {demand.to_floats()},", missing, count
                )
        return self._not_side_by_side(group)

    @staticmethod
    def _not_side_by_side(group: Group) -> str:
        asked = [demand.to_floats() for demand in group.demands]
        return (
            f"The {group.title()} cannot be placed: its bundles {asked} do not fit on the nodes of the cluster side by"
            f" side with strategy {group.strategy}, even when those are idle. It stays pending until there are more."
        )

    # ---- two phases --------------------------------------------------------------------------------------------------

    def dispatch(self) -> None:
        """Try to place what is pending."""
        for group in list(self.pending.values()):
            if group.trial is None:
                self._try(group)

    def _try(self, group: Group) -> None:
        others = [member for member in self.cluster.others() if member.takes_work]
        free = {member.number: member.free for member in others} | {self.state.number: Ledger(self.state.offered())}
        patient = False
        chosen = self._choose(group, free)
        if chosen is None and self._may_be_patient(group):
            patient = True
            idle = {member.number: member.totals for member in (self.cluster.me, *others)}
            chosen = self._choose(
                group, {number: totals for number, totals in idle.items() if number not in group.busy}
            )
            group.waits_since = self.state.now
            group.busy.clear()
        if chosen is not None:
            self._trials += 1
            group.trial = Trial(self._trials, chosen, patient)
            self._ask(group, group.trial)

    @staticmethod
    def _choose(group: Group, free: Mapping[int, Ledger]) -> dict[int, int] | None:
        placed = [node for node in group.nodes if node != NOWHERE]
        return choose(group.strategy, group.lacking(), dict(sorted(free.items())), placed)

    def _may_be_patient(self, group: Group) -> bool:
        if not self.state.claims.is_late(group.waits_since):
            return False
        return not any(other.trial is not None and other.trial.patient for other in self.pending.values())

    def _ask(self, group: Group, trial: Trial) -> None:
        """Ask each of the chosen nodes for its part."""
        me = self.state.number
        by_node: dict[int, dict[int, Demand]] = {}
        for index, number in trial.chosen.items():
            by_node.setdefault(number, {})[index] = group.demands[index]
        mine = by_node.pop(me, {})
        if mine and not trial.patient:
            if not self.bundles.reserve(group.gid, mine):
                group.trial = None
                return  # free, but not in one piece: GPUs in shares
            trial.agreed[me] = None
            del trial.waiting[me]
        for number, wanted in by_node.items():
            member = self.cluster.members[number]
            whole = together(wanted)
            if member.free.fits(whole):
                member.free.take(whole)
            rows = [[index, demand.to_floats()] for index, demand in wanted.items()]
            message = (RESERVE, group.gid, trial.number, rows, trial.patient)
            self.state.effects.sends[self.cluster.conn_of(number)].append(message)
        if me in trial.waiting:
            self.bundles.reserve_patiently(group.gid, mine, lambda ok: self._answered(group, trial, me, ok))
        self._settle(group)

    def _answered(self, group: Group, trial: Trial, number: int, ok: bool) -> None:
        """A node has its part, or will not."""
        if group.trial is not trial:
            return  # it has heard, or will, that the group is something else now
        trial.waiting.pop(number, None)
        if ok:
            trial.agreed[number] = None
        else:
            trial.failed = True
            group.busy[number] = None
        self._settle(group)

    def reserved(self, conn: Conn, message: Any) -> None:
        """RESERVED: a node has answered."""
        _, gid, trial, ok, free = message
        group = self.by_id.get(gid)
        member = self.cluster.member_of(conn.conn)
        if member is None:
            return
        member.free = Ledger(free)
        self.cluster.assume(member)
        if group is not None and group.trial is not None and group.trial.number == trial:
            self._answered(group, group.trial, member.number, ok)

    def _settle(self, group: Group) -> None:
        """If all nodes have answered, the attempt has an end."""
        trial = group.trial
        if trial is None or trial.waiting:
            return
        group.trial = None
        if not trial.failed:
            for index, number in trial.chosen.items():
                group.nodes[index] = number
            del self.pending[group.gid]
            group.state = GroupState.CREATED
            group.created_at = group.created_at or self.state.now
        self.state.dirty = True
        written = self.state.journal.count
        if not trial.failed:
            self._keep(group)
        self.state.journal.after(written, lambda why: self._tell(group))

    def _tell(self, group: Group) -> None:
        """Let all nodes know what has become of a group."""
        notice = group.notice()
        for conn in self.cluster.conns():
            self.state.effects.sends[conn].append((GROUP, group.gid, notice))
        self.bundles.told(group.gid, notice)

    def notice(self, gid: bytes) -> dict[str, Any]:
        """What a node has to know of a group, also of one that is not there."""
        group = self.by_id.get(gid)
        if group is not None:
            return group.notice()
        text = f"The placement group {gid.hex()} is not known to this cluster: it was removed, or is another's."
        return {"nodes": [], "bundles": [], "fault": fault(GROUP_REMOVED, text, group_id=gid.hex())}

    def notices(self) -> list[list[Any]]:
        """What a new node has to know: [group id, notice]."""
        return [[g.gid, g.notice()] for g in self.by_id.values() if g.state is not GroupState.REMOVED]

    # ---- the end -----------------------------------------------------------------------------------------------------

    def remove(self, gid: bytes) -> None:
        """Remove a group; nothing happens to one that is not there."""
        group = self.by_id.get(gid)
        if group is None or group.state is GroupState.REMOVED:
            return
        group.state = GroupState.REMOVED
        group.trial = None
        group.nodes = [NOWHERE] * len(group.nodes)
        self.pending.pop(gid, None)
        if self._names.get((group.namespace, group.name)) is group:
            del self._names[group.namespace, group.name]
        self._keep(group)
        self._tell(group)
        self._forget_old()

    def end_job(self, job: bytes) -> None:
        """The driver has gone: its groups are removed, but not detached ones."""
        for group in list(self.by_id.values()):
            if group.job == job and not group.detached:
                self.remove(group.gid)

    def node_died(self, member: Member) -> None:
        """A node has gone with its bundles, which are placed anew, and with its drivers."""
        for group in list(self.by_id.values()):
            if group.state is GroupState.REMOVED:
                continue
            if home_of_job(group.job) == member.number and not group.detached:
                self.remove(group.gid)
                continue
            # What a node has reserved is also given back when it hears that another part of the group is gone.
            if group.trial is not None and member.number in (*group.trial.chosen.values(), *group.nodes):
                group.trial.failed = True
                group.trial.waiting.pop(member.number, None)
                self._settle(group)
            if member.number in group.nodes:
                group.nodes = [NOWHERE if node == member.number else node for node in group.nodes]
                group.state = GroupState.RESCHEDULING
                self.pending[group.gid] = group
                self._keep(group)
                self._tell(group)

    def _forget_old(self) -> None:
        over = [group for group in self.by_id.values() if group.state is GroupState.REMOVED]
        for group in over[: max(len(over) - REMOVED_KEPT, 0)]:
            del self.by_id[group.gid]

    # ---- questions ---------------------------------------------------------------------------------------------------

    def find(self, namespace: str, name: str) -> Group | None:
        """The group of a name."""
        return self._names.get((namespace, name))

    def row(self, group: Group) -> dict[str, Any]:
        """What a client is told of a group."""
        members = self.cluster.members
        return {
            "group_id": group.gid,
            "name": group.name,
            "namespace": group.namespace,
            "strategy": group.strategy,
            "state": group.state.name,
            "bundles": [demand.to_floats() for demand in group.demands],
            "nodes": [members[node].node_id.hex() if node != NOWHERE else "" for node in group.nodes],
            "detached": group.detached,
            "creation_ms": (group.created_at - group.asked_at) / 1e6 if group.created_at else 0.0,
        }

    def check(self) -> None:
        """Raise AssertionError naming the first broken invariant."""
        for group in self.by_id.values():
            waits = group.state in (GroupState.PENDING, GroupState.RESCHEDULING)
            assert waits == (group.gid in self.pending), f"{group.title()} is lost"
            assert waits == (NOWHERE in group.nodes) or group.state is GroupState.REMOVED, f"{group.title()} is in part"
            assert group.trial is None or group.trial.waiting, f"{group.title()} waits for no answer"
            mine = [index for index, node in enumerate(group.nodes) if node == self.state.number]
            trial = group.trial
            if trial is not None and self.state.number in trial.agreed:
                mine += [index for index, node in trial.chosen.items() if node == self.state.number]
            here = self.bundles.here.get(group.gid, {})
            assert sorted(here) == sorted(mine), f"{group.title()} has other bundles here than it should"
