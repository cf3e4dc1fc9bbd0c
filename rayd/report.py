"""What a daemon says about itself, as text for people."""

from collections.abc import Mapping
from typing import Any

_LINE = "-" * 60
_BYTES = frozenset({"memory", "object_store_memory"})
# These exist so that tasks can be bound to nodes; as amounts they tell nothing.
_INTERNAL_PREFIXES = ("node:", "bundle_group_", "CPU_group_", "GPU_group_", "memory_group_")


def size(count: float) -> str:
    """A number of bytes with a unit: "0B", "512.00MiB", "4.00GiB"."""
    if count < 1024:
        return f"{count:.0f}B"
    for unit in ("KiB", "MiB", "GiB"):
        count /= 1024
        if count < 1024:
            return f"{count:.2f}{unit}"
    return f"{count / 1024:.2f}TiB"


def status_text(status: Mapping[str, Any], at: str) -> str:
    """The output of ``rayd status``.

    Args:
        status: the daemon's answer to the RPC "status".
        at: the time of the answer.
    """
    nodes = status["nodes"]
    active = [node for node in nodes if node["alive"] and _is_active(node)]
    idle = [node for node in nodes if node["alive"] and not _is_active(node)]
    dead = [node for node in nodes if not node["alive"]]
    lines = [
        f"======== Autoscaler status: {at} ========",
        "Node status",
        _LINE,
        "Active:",
        *_nodes(active, "(no active nodes)"),
        "Idle:",
        *_nodes(idle, "(no idle nodes)"),
        "Pending:",
        " (no pending nodes)",
        "Recent failures:",
        *_nodes(dead, "(no failures)"),
        "",
        "Resources",
        _LINE,
        "Total Usage:",
        *_usage(nodes, status["store"]),
        "",
        "Total Constraints:",
        " (no request_resources() constraints)",
        "Total Demands:",
        *_demands(status["demands"]),
    ]
    return "\n".join(lines)


def _is_active(node: Mapping[str, Any]) -> bool:
    available = node["available"]
    return node["actors"] > 0 or any(available.get(name, 0.0) < total for name, total in node["total"].items())


def _nodes(nodes: list[Mapping[str, Any]], none: str) -> list[str]:
    if not nodes:
        return [f" {none}"]
    return [
        f" 1 node_{node['node_id']} ({'head, ' if node['is_head'] else ''}{node['hostname']}, {node['address']}): "
        f"{node['workers']} workers, {node['actors']} actors{_trouble(node)}"
        for node in nodes
    ]


def _trouble(node: Mapping[str, Any]) -> str:
    if not node["alive"]:
        return ""
    return _draining(node) + (", not heard of now" if node.get("silent") else "")


def _draining(node: Mapping[str, Any]) -> str:
    if not node.get("draining"):
        return ""
    waits = waits_text(node["waits_for"])
    return f", draining, waits for {waits}" if waits else ", draining"


def waits_text(waits_for: Mapping[str, int]) -> str:
    """What keeps a node that drains: "1 task, 2 actors"; "" if nothing does."""
    return ", ".join(f"{count} {what[:-1] if count == 1 else what}" for what, count in waits_for.items())


def _usage(nodes: list[Mapping[str, Any]], store: Mapping[str, Any]) -> list[str]:
    total: dict[str, float] = {}
    used: dict[str, float] = {}
    for node in nodes:
        if node["alive"]:
            for name, amount in node["total"].items():
                total[name] = total.get(name, 0.0) + amount
                used[name] = used.get(name, 0.0) + amount - node["available"].get(name, 0.0)
    total["object_store_memory"], used["object_store_memory"] = store["capacity"], store["used"]
    lines = []
    for name in sorted(total, key=lambda name: (name in _BYTES, name)):
        if name in _BYTES:
            lines.append(f" {size(used[name])}/{size(total[name])} {name}")
        elif not name.startswith(_INTERNAL_PREFIXES):
            lines.append(f" {_amount(used[name])}/{_amount(total[name])} {name}")
    lines[-1] += f" ({store['objects']} objects)"
    return lines


def _amount(value: float) -> str:
    """At least one decimal, at most the four that resources have."""
    rounded = round(value, 4)
    return f"{rounded:.1f}" if rounded == round(rounded, 1) else f"{rounded:g}"


def _demands(demands: list[Mapping[str, Any]]) -> list[str]:
    if not demands:
        return [" (no resource demands)"]
    lines = []
    for demand in demands:
        line = f" {dict(demand['resources'])}: {demand['count']}+ {demand['what']}"
        if demand["name"]:
            line += f" ({demand['name']})"
        if demand["infeasible"]:
            line += "; no node has that much: lower the demand or start a node that has it"
        lines.append(line)
    return lines
