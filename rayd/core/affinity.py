"""Which nodes a task or actor accepts: an affinity to one node, conditions on labels."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from rayd.errors import UNSCHEDULABLE, Fault, fault

# Nodes whose labels a message tells.
SHOWN_MAX: Final = 10


def accepts(conditions: Sequence[Sequence[Any]], labels: Mapping[str, str]) -> bool:
    """Whether a node with these labels meets all of ``conditions``, each [label, operator, values].

    Operators: ``in`` (has one of the values), ``!in`` (has none of them, or not the label), ``exists``, ``!exists``.

    Raises:
        ValueError: another operator.
    """
    for label, operator, values in conditions:
        there = labels.get(label)
        match operator:
            case "in":
                met = there in values
            case "!in":
                met = there not in values
            case "exists":
                met = there is not None
            case "!exists":
                met = there is None
            case _:
                raise ValueError(f"a label has no operator {operator!r:.20}")
        if not met:
            return False
    return True


def rank(options: Mapping[str, Any], node_id: bytes, labels: Mapping[str, str]) -> int | None:
    """How well a node suits: 0 is best, None is not at all.

    Args:
        options: of a spec; those looked at are ``node`` (id, b"" for any), ``soft`` and ``selectors`` (alternatives,
            the preferred one first).
        node_id, labels: of the node.
    """
    node = bytes(options.get("node") or b"")
    near = not node or node == node_id
    if not near and not options.get("soft"):
        return None
    selectors = options.get("selectors") or [[]]
    fit = next((index for index, conditions in enumerate(selectors) if accepts(conditions, labels)), None)
    return None if fit is None else fit + (0 if near else len(selectors))


def refusal(
    options: Mapping[str, Any], nodes: Mapping[bytes, Mapping[str, str]], name: str
) -> tuple[str, Fault | None]:
    """Why no node suits.

    Args:
        options: as for ``rank``.
        nodes: labels by id of each node.
        name: of the task or actor.

    Returns:
        what is lacking, "" if nothing is; and a fault if it cannot come either.
    """
    node = bytes(options.get("node") or b"")
    if node and node not in nodes and not options.get("soft"):
        there = ", ".join(other.hex() for other in nodes)
        text = (
            f"{name} cannot be scheduled: it is bound to the node {node.hex()}, which is not in the cluster (nodes:"
            f" {there}). Name one of those, or pass soft=True to accept another."
        )
        return "", fault(UNSCHEDULABLE, text)
    wanted = " or ".join(" and ".join(map(_words, conditions)) for conditions in options.get("selectors") or [])
    if len(nodes) == 1:
        (labels,) = nodes.values()
        return (
            f"it asks for a node with {wanted}, and the cluster has one node, with the labels: {_labels(labels)}",
            None,
        )
    has = "; ".join(f"{_labels(labels)} ({there.hex()[:8]})" for there, labels in list(nodes.items())[:SHOWN_MAX])
    return f"it asks for a node with {wanted}, and the cluster has nodes with the labels: {has}", None


def _labels(labels: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted(labels.items())) or "none"


def _words(condition: Sequence[Any]) -> str:
    label, operator, values = condition
    match operator:
        case "in":
            return f"{label}={'|'.join(values)}"
        case "!in":
            return f"{label} not {'|'.join(values)}"
        case "exists":
            return f"a label {label}"
    return f"no label {label}"
