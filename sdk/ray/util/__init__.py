"""Utilities on top of the core; imported when first used, so that ``import ray`` stays fast."""

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ray.util.actor_pool import ActorPool
    from ray.util.check_serialize import inspect_serializability
    from ray.util.cluster import get_node_ip_address, list_named_actors
    from ray.util.debug import disable_log_once_globally, enable_periodic_logging, log_once
    from ray.util.helpers import as_completed, map_unordered
    from ray.util.placement_group import (
        PlacementGroup,
        get_current_placement_group,
        get_placement_group,
        placement_group,
        placement_group_table,
        remove_placement_group,
    )
    from ray.util.serialization import deregister_serializer, register_serializer

_HOMES: Final = {
    "ActorPool": "actor_pool",
    "PlacementGroup": "placement_group",
    "get_current_placement_group": "placement_group",
    "get_placement_group": "placement_group",
    "placement_group_table": "placement_group",
    "remove_placement_group": "placement_group",
    "as_completed": "helpers",
    "deregister_serializer": "serialization",
    "disable_log_once_globally": "debug",
    "enable_periodic_logging": "debug",
    "get_node_ip_address": "cluster",
    "inspect_serializability": "check_serialize",
    "list_named_actors": "cluster",
    "log_once": "debug",
    "map_unordered": "helpers",
    "register_serializer": "serialization",
}
_SUBMODULES: Final = ("accelerators", "annotations", "queue", "scheduling_strategies", *sorted(set(_HOMES.values())))

__all__ = [
    "ActorPool",
    "PlacementGroup",
    "as_completed",
    "deregister_serializer",
    "disable_log_once_globally",
    "enable_periodic_logging",
    "get_current_placement_group",
    "get_node_ip_address",
    "get_placement_group",
    "inspect_serializability",
    "list_named_actors",
    "log_once",
    "map_unordered",
    "placement_group",
    "placement_group_table",
    "register_serializer",
    "remove_placement_group",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    if name in _SUBMODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_SUBMODULES})
