"""Where the tasks and actors of a spec may run: which nodes it accepts, and what it takes there.

Most specs accept any node. An affinity to a node, labels and placement groups narrow that down; what they say is
looked up when a spec becomes known and again whenever a node comes or goes or a group changes.
"""

from collections.abc import Iterator

from rayd.core import affinity
from rayd.core.actor import Actors
from rayd.core.bundles import Bundles
from rayd.core.cluster import Cluster
from rayd.core.dispatch import Dispatcher
from rayd.core.faults import largest, unsatisfiable
from rayd.core.member import Member, minor_version
from rayd.core.pythons import Pythons
from rayd.core.resources import Demand
from rayd.core.state import NodeState
from rayd.core.task import Spec
from rayd.errors import UNSCHEDULABLE, fault


class Placement:
    """What the specs of a node accept.

    Args:
        state: the node's tables.
        cluster: the nodes.
        tasks, actors: of this node.
    """

    def __init__(self, state: NodeState, cluster: Cluster, tasks: Dispatcher, actors: Actors) -> None:
        self.state = state
        self.cluster = cluster
        self.tasks = tasks
        self.actors = actors
        self.bundles = Bundles(state, self._group_changed)
        self._pythons = Pythons(minor_version(cluster.facts.get("python")))
        state.why_never = self.why_never

    # ---- looking up --------------------------------------------------------------------------------------------------

    def bind(self, spec: Spec) -> None:
        """Say where a spec may run.

        Raises:
            ValueError: it names a bundle that its group has not.
        """
        if spec.group and spec.fault is None:
            self._bind_to_group(spec)
        elif spec.options.get("node") or spec.options.get("selectors") or self._is_strange(spec):
            self._bind_to_nodes(spec)
        if spec.fault is not None:
            for task in list(spec.queue):
                self.tasks.refuse(task)
            spec.queue.clear()

    def _bind_to_nodes(self, spec: Spec) -> None:
        ranks: dict[int, int] = {}
        for member in self.cluster.living():
            rank = affinity.rank(spec.options, member.node_id, member.labels)
            if rank is not None:
                ranks[member.number] = rank
        spec.unmet, spec.fault = "", None
        if ranks and not (ranks := {n: r for n, r in ranks.items() if self._speaks(self.cluster.members[n], spec)}):
            spec.unmet = self._why_strange(spec)
            if spec.options.get("node") and not spec.options.get("soft"):
                spec.fault = fault(UNSCHEDULABLE, f"{spec.name} cannot be scheduled: {spec.unmet}.")
        elif not ranks:
            nodes = {member.node_id: member.labels for member in self.cluster.living()}
            spec.unmet, spec.fault = affinity.refusal(spec.options, nodes, spec.name)
        able = {number: rank for number, rank in ranks.items() if self._could(self.cluster.members[number], spec)}
        fit = able or ranks
        best = min(fit.values(), default=0)
        self._accept(spec, [number for number, rank in fit.items() if rank == best])

    def _bind_to_group(self, spec: Spec) -> None:
        known = self.bundles.known.get(spec.group)
        if known is None:
            self._accept(spec, [])
            self.bundles.ask(spec.group)
            known = self.bundles.known.get(spec.group)
            if known is None:
                return
        if known.fault is None and not -1 <= spec.bundle < known.count:
            raise ValueError(f"the placement group {spec.group.hex()} has no bundle {spec.bundle}")
        spec.fault = known.fault
        spec.slots = self.bundles.slots(spec.group, spec.bundle, spec.demand)
        members = self.cluster.members
        fit = [number for number in spec.slots if number not in members or self._speaks(members[number], spec)]
        self._accept(spec, [] if spec.fault is not None else fit)

    def _python(self, spec: Spec) -> str:
        """The version of the program that a spec is of."""
        job = self.state.jobs.get(spec.job)
        return minor_version(job.info.get("python")) if job is not None else ""

    def _speaks(self, member: Member, spec: Spec) -> bool:
        """Whether a node can run the functions of a spec's program, as far as both tell their versions."""
        python = self._python(spec)
        return not python or not member.python or member.python == python

    def _is_strange(self, spec: Spec) -> bool:
        """Whether there is a node that cannot."""
        return self._pythons.differ_from(self._python(spec))

    def _why_strange(self, spec: Spec) -> str:
        others = [member for member in self.cluster.living() if not self._speaks(member, spec)]
        nodes = ", ".join(f"{member.address} (Python {member.python})" for member in others)
        mine = self._python(spec)
        return (
            f"its program runs Python {mine}, and functions cannot travel between minor versions, so not to {nodes}."
            f" Start a node with Python {mine}"
        )

    def _accept(self, spec: Spec, numbers: list[int]) -> None:
        spec.nodes = dict.fromkeys(sorted(numbers))
        if self.state.number not in spec.nodes:
            spec.sources = ()
        elif spec.group:
            spec.sources = self.bundles.sources(spec.group, spec.bundle)
        else:
            spec.sources = (self.state.whole,)

    @staticmethod
    def _could(member: Member, spec: Spec) -> bool:
        return member.could(spec.demand) and member.could(spec.placement)

    def _accepted(self, spec: Spec) -> Iterator[Member]:
        """Nodes that live and on which a spec may run."""
        return (member for member in self.cluster.living() if spec.nodes is None or member.number in spec.nodes)

    # ---- changes -----------------------------------------------------------------------------------------------------

    def node_changed(self, member: Member) -> None:
        """A node has come or gone."""
        self._pythons.note(member)
        for spec in list(self.state.specs.values()):
            if not spec.group and (spec.nodes is not None or self._is_strange(spec)):
                self.bind(spec)

    def _group_changed(self, gid: bytes) -> None:
        known = self.bundles.known[gid]
        for spec in list(self.state.specs.values()):
            if spec.group == gid:
                self._bind_late(spec)
        if known.fault is not None:
            self.actors.end_in_group(gid, known.fault)

    def _bind_late(self, spec: Spec) -> None:
        try:
            self.bind(spec)
        except ValueError as error:  # when it became known, nothing was known of its group yet
            spec.fault = fault(UNSCHEDULABLE, f"{spec.name} cannot be scheduled: {error}.")
            self.bind(spec)

    # ---- what cannot be ----------------------------------------------------------------------------------------------

    def why_never(self, spec: Spec, demand: Demand, what: str) -> str:
        """Why ``what``, which asks for ``demand``, can run on none of the nodes there are; empty if it can."""
        if spec.unmet:
            return f"The {what} cannot be scheduled: {spec.unmet}. It stays pending until there is one."
        if spec.group:
            return ""  # the bundles of a group were compared when it was chosen
        if any(member.could(demand) for member in self._accepted(spec)):
            return ""
        members = list(self._accepted(spec))
        if not members:
            return ""
        if any(member.could(demand) for member in self.cluster.living() if not self._speaks(member, spec)):
            return f"The {what} cannot be scheduled: {self._why_strange(spec)}. It stays pending until there is one."
        missing = largest([member.totals for member in members], demand)
        if missing:
            return unsatisfiable(what, missing, len(members))
        return (
            f"The {what} can never be scheduled: it asks for {demand.to_floats()}, and no node has all of that. Ask for"
            " less, or start a node that has it. It stays pending until then."
        )
