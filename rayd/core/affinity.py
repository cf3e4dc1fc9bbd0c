"""Which nodes a task or actor accepts: an affinity to one node, conditions on labels. Pure, for one node at a time."""

from collections.abc import Mapping, Sequence
from typing import Any

from rayd.errors import UNSCHEDULABLE, Fault, fault


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


def refusal(
    options: Mapping[str, Any], node_id: bytes, labels: Mapping[str, str], name: str
) -> tuple[str, Fault | None]:
    """Why this node, the only one there is, is not acceptable.

    Args:
        options: of a spec; those looked at are ``node`` (id, b"" for any), ``soft`` and ``selectors`` (alternatives).
        node_id, labels: of the node.
        name: of the task or actor.

    Returns:
        what is lacking, "" if nothing is; and a fault if it cannot come either.
    """
    node = bytes(options.get("node") or b"")
    if node and node != node_id and not options.get("soft"):
        text = (
            f"{name} cannot be scheduled: it is bound to the node {node.hex()}, which is not in the cluster (nodes:"
            f" {node_id.hex()}). Name one of those, or pass soft=True to accept another."
        )
        return "", fault(UNSCHEDULABLE, text)
    selectors = options.get("selectors") or []
    if selectors and not any(accepts(conditions, labels) for conditions in selectors):
        wanted = " or ".join(" and ".join(map(_words, conditions)) for conditions in selectors)
        has = ", ".join(f"{key}={value}" for key, value in sorted(labels.items())) or "none"
        return f"it asks for a node with {wanted}, and the cluster has one node, with the labels: {has}", None
    return "", None


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
