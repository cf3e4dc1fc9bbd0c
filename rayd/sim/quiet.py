"""A quiet cluster holds nothing: what has to be empty when the last driver has gone."""

from typing import TYPE_CHECKING

from rayd.sim.violation import ViolationError

if TYPE_CHECKING:
    from rayd.sim.daemon import Daemon
    from rayd.sim.simulation import Simulation


def check_quiet(sim: "Simulation") -> None:
    """Raise ViolationError unless nothing is left on any node."""
    for host in sim.hosts:
        if host.daemon is None:
            raise ViolationError("quiet", f"there is no daemon at {host.address}")
        left = {name: what for name, what in _left(host.daemon).items() if what}
        if left:
            raise ViolationError("quiet", f"left at {host.address}: {left!s:.2000}")


def _left(daemon: "Daemon") -> dict[str, object]:
    node = daemon.node
    state = node.state
    totals = state.ledger.totals()
    groups = [group for group in node.groups.by_id.values() if group.state.name != "REMOVED"]
    return {
        "objects": [oid.hex() for oid in state.objects.entries],
        "bytes in the store": daemon.arena.used,
        "resources": {} if state.ledger.available() == totals else state.ledger.available(),
        "debts": state.ledger.debt(),
        "shares of GPUs": [share for share in state.gpus.shares() if share != 1.0],
        "waiting": list(node.tasks.waiting),
        "streams": list(node.streams.by_task),
        "children": list(state.children),
        "bodies": list(state.bodies),
        "jobs": [job.hex() for job in state.jobs],
        "specs": [spec.name for spec in state.specs.values()],
        "workers": list(state.pool.workers),
        "processes": [process.pid for process in daemon.host.processes],
        "actors": [aid.hex() for aid in node.actors.by_id],
        "foreign objects": [oid.hex() for oid in node.neighbours.foreign.source],
        "tasks elsewhere": [tid.hex() for tid in node.neighbours.offload.out],
        "lineage": [oid.hex() for oid in [*node.neighbours.lineage.records, *node.neighbours.lineage.lost]],
        "channels": list(node.neighbours.channels.by_conn),
        "groups": [group.gid.hex() for group in groups],
        "bundles": [gid.hex() for gid in node.bundles.here],
        "names": node.directory.names(None),
        "transfers": list(daemon.transfers),
    }
