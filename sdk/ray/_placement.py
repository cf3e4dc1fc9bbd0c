"""Where and when a task or actor may run, as its spec says it: options of the user turned into what daemons compare.

Keys of a spec made here, each only when it says something: ``placement_group``, ``bundle`` and ``capture`` (id of the
group, number of the bundle or -1, whether children go there too), ``node`` and ``soft`` (an affinity to one node),
``selectors`` (alternatives, each a list of [label, operator, values]), ``spread`` (one node after the other),
``priority`` (higher ones of a job first).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from ray._options import NOT_GIVEN, ActorOptions, TaskOptions

if TYPE_CHECKING:
    from ray.util.placement_group import PlacementGroup

_OPERATORS: Final = {"In": "in", "NotIn": "!in", "Exists": "exists", "DoesNotExist": "!exists"}


def where(options: TaskOptions | ActorOptions, captured: bytes | None, name: str) -> dict[str, Any]:
    """The keys of a spec that say where it may run.

    Args:
        options: of the function or class.
        captured: the placement group whose task or actor submits it, if that captures its children.
        name: what is to run, for messages.

    Raises:
        ValueError: the group has no such bundle, or none that is large enough.
    """
    spec: dict[str, Any] = {}
    selectors = [_conditions(selector) for selector in _alternatives(options)]
    strategy = options.scheduling_strategy
    if strategy is None:
        if options.placement_group is not NOT_GIVEN and options.placement_group is not None:
            capture = options.placement_group_capture_child_tasks
            spec = _in_group(options, options.placement_group, options.placement_group_bundle_index, capture, name)
        elif captured and options.placement_group is NOT_GIVEN:
            spec = {"placement_group": captured, "bundle": -1, "capture": True}
    elif strategy == "SPREAD":
        spec = {"spread": True}
    elif not isinstance(strategy, str):
        from ray.util import scheduling_strategies as kinds

        if isinstance(strategy, kinds.PlacementGroupSchedulingStrategy):
            if strategy.placement_group is not None:
                index, capture = strategy.placement_group_bundle_index, strategy.placement_group_capture_child_tasks
                spec = _in_group(options, strategy.placement_group, index, capture, name)
        elif isinstance(strategy, kinds.NodeAffinitySchedulingStrategy):
            spec = {"node": bytes.fromhex(strategy.node_id), "soft": strategy.soft}
        else:
            hard = [[item.key, _OPERATORS[type(item.operator).__name__], _values(item)] for item in strategy.hard]
            selectors = [[*hard, *conditions] for conditions in selectors or [[]]]
    if any(selectors):
        spec["selectors"] = selectors
    if options.priority:
        spec["priority"] = options.priority
    if spec.get("placement_group") and spec["capture"] is None:
        spec["capture"] = spec["placement_group"] == captured
    return spec


def _in_group(
    options: TaskOptions | ActorOptions, group: "PlacementGroup", index: int, capture: bool | None, name: str
) -> dict[str, Any]:
    if group.is_empty:
        return {}
    bundles = group.bundle_specs
    if index >= len(bundles):
        raise ValueError(
            f"placement_group_bundle_index={index}: the placement group has {len(bundles)} bundles, counted from 0;"
            f" give an index up to {len(bundles) - 1}, or -1 for any of them."
        )
    candidates = bundles if index < 0 else bundles[index : index + 1]
    if not any(all(bundle.get(kind, 0) >= amount for kind, amount in options.demand.items()) for bundle in candidates):
        what = "no bundle of the placement group has" if index < 0 else f"bundle {index} of the placement group has not"
        raise ValueError(
            f"{name} asks for {dict(options.demand)}, but {what} that much (bundles: {bundles}). Ask for less with"
            " .options(num_cpus=..., resources=...), or make a group with larger bundles."
        )
    return {"placement_group": group.id.binary(), "bundle": index, "capture": capture}


def _alternatives(options: TaskOptions | ActorOptions) -> list[Mapping[str, str]]:
    fallbacks = [entry.get("label_selector") or {} for entry in options.fallback_strategy or []]
    first = options.label_selector
    return [first, *fallbacks] if first else []


def _conditions(selector: Mapping[str, str]) -> list[list[Any]]:
    """Conditions as written by the user, "v", "!v", "in(a,b)" or "!in(a,b)", as [label, operator, values]."""
    conditions: list[list[Any]] = []
    for label, text in selector.items():
        negated = text.startswith("!")
        asked = text.removeprefix("!")
        values = asked[3:-1].split(",") if asked.startswith("in(") and asked.endswith(")") else [asked]
        conditions.append([label, "!in" if negated else "in", [value.strip() for value in values]])
    return conditions


def _values(item: Any) -> list[str]:
    return list(getattr(item.operator, "values", []))
