"""Placement groups: bundles of resources reserved together, in which tasks and actors then run.

``ray.util.placement_group`` is this module, and can be called as the function of the same name.
"""

import importlib
import os
import sys
import types
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ray import _session
from ray._ids import PlacementGroupID
from ray.exceptions import RayError
from rayd.ids import PLACEMENT_GROUP_ID_BYTES

STRATEGIES: Final = ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")

__all__ = [
    "PlacementGroup",
    "get_current_placement_group",
    "get_placement_group",
    "placement_group",
    "placement_group_table",
    "remove_placement_group",
]


class PlacementGroup:
    """A handle to a placement group; it can be passed to tasks and actors. Made by ``placement_group``.

    Args:
        id: of the group.
        bundle_cache: what each bundle reserves, name of the resource to amount.
    """

    def __init__(self, id: PlacementGroupID, bundle_cache: Sequence[Mapping[str, float]] | None = None) -> None:  # noqa: A002 - the name is given
        self.id = id
        self.bundle_cache = [dict(bundle) for bundle in bundle_cache] if bundle_cache is not None else None

    @staticmethod
    def empty() -> "PlacementGroup":
        """A handle to no group; to run in it is to run anywhere."""
        return PlacementGroup(PlacementGroupID.nil(), [])

    @property
    def is_empty(self) -> bool:
        """Whether this is a handle to no group."""
        return bool(self.id.is_nil())

    def ready(self) -> Any:
        """A reference that is ready when all bundles are reserved; its value is this handle.

        ``ray.get`` of it raises ``TaskPlacementGroupRemoved`` if the group is removed before.
        """
        return _session.need().client.put_when(self.id.binary(), self)

    def wait(self, timeout_seconds: float = 30) -> bool:
        """Wait until all bundles are reserved.

        Args:
            timeout_seconds: how long to wait.

        Returns:
            whether they are.
        """
        from ray import _api

        done, _ = _api.wait([self.ready()], timeout=timeout_seconds)
        return bool(done)

    @property
    def bundle_specs(self) -> list[dict[str, float]]:
        """What each bundle reserves.

        Raises:
            ValueError: there is no such group.
        """
        if self.bundle_cache is None:
            rows = _rows(self.id)
            if not rows:
                raise ValueError(f"there is no placement group {self.id.hex()} in this cluster; create it first")
            self.bundle_cache = rows[0]["bundles"]
        return self.bundle_cache

    @property
    def bundle_count(self) -> int:
        """Number of bundles."""
        return len(self.bundle_specs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PlacementGroup) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"PlacementGroup({self.id.hex()})"


def placement_group(
    bundles: Sequence[Mapping[str, float]],
    strategy: str = "PACK",
    name: str = "",
    lifetime: str | None = None,
    _soft_target_node_id: str | None = None,
    bundle_label_selector: Sequence[Mapping[str, str]] | None = None,
) -> PlacementGroup:
    """Reserve bundles of resources, all of them or none. Returns at once; see ``PlacementGroup.ready``.

    Args:
        bundles: what each bundle reserves, such as ``[{"CPU": 2}, {"CPU": 1, "GPU": 1}]``.
        strategy: "PACK" (as few nodes as possible), "SPREAD" (as many as possible), "STRICT_PACK" (one node) or
            "STRICT_SPREAD" (a node for each bundle).
        name: under which ``get_placement_group`` finds it in this namespace.
        lifetime: "detached" lets it outlive this program; None removes it when the program ends.

    Raises:
        ValueError: no bundles, an empty one, a negative amount, an unknown strategy or lifetime, a name that is taken.
        TypeError: an argument of the wrong type.
    """
    if bundle_label_selector:
        raise ValueError("bundle_label_selector is not available in this version; leave it out")
    reserved = _checked(bundles)
    if strategy not in STRATEGIES:
        raise ValueError(f"strategy takes one of {', '.join(STRATEGIES)}, got {strategy!r}.")
    if lifetime not in (None, "detached"):
        raise ValueError(f"lifetime takes 'detached' or None, got {lifetime!r}.")
    if not isinstance(name, str):
        raise TypeError(f"name takes a str, got {name!r} of type {type(name).__name__}.")
    client = _session.need().client
    gid = PlacementGroupID(os.urandom(PLACEMENT_GROUP_ID_BYTES - len(client.job)) + client.job)
    ask = client.rpc if name else client.tell  # only a name can be refused
    ask(
        "group_create",
        group_id=gid.binary(),
        bundles=reserved,
        strategy=strategy,
        name=name,
        detached=lifetime == "detached",
    )
    return PlacementGroup(gid, reserved)


def _checked(bundles: Any) -> list[dict[str, float]]:
    if not isinstance(bundles, Sequence) or isinstance(bundles, str):
        raise TypeError(f"bundles takes a list of dicts such as [{{'CPU': 2}}], got {bundles!r}.")
    if not bundles:
        raise ValueError("bundles is empty; a placement group needs at least one, such as [{'CPU': 1}].")
    reserved = []
    for index, bundle in enumerate(bundles):
        if not isinstance(bundle, Mapping):
            raise TypeError(f"bundles[{index}] takes a dict such as {{'CPU': 2}}, got {bundle!r}.")
        amounts = {}
        for kind, amount in bundle.items():
            if not isinstance(kind, str):
                raise TypeError(f"bundles[{index}] takes names of resources as keys, got {kind!r}.")
            if not isinstance(amount, int | float) or isinstance(amount, bool):
                raise TypeError(f"bundles[{index}][{kind!r}] takes a number, got {amount!r}.")
            if not 0 <= amount < float("inf"):
                raise ValueError(f"bundles[{index}][{kind!r}] takes an amount from 0, got {amount!r}.")
            amounts[kind] = amount
        if not any(amounts.values()):
            raise ValueError(f"bundles[{index}] reserves nothing: {dict(bundle)!r}; name a resource and an amount.")
        reserved.append({kind: amount for kind, amount in amounts.items() if amount})
    return reserved


def remove_placement_group(placement_group: PlacementGroup) -> None:
    """Give the bundles of a group back; what runs in it is killed, what waits for it fails.

    Args:
        placement_group: the group; nothing happens if it was removed before.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(placement_group, PlacementGroup):
        raise TypeError(f"remove_placement_group takes a PlacementGroup, got {placement_group!r}.")
    _session.need().client.tell("group_remove", group_id=placement_group.id.binary())


def get_placement_group(placement_group_name: str) -> PlacementGroup:
    """The group of a name in this program's namespace.

    Raises:
        ValueError: there is none.
    """
    if not placement_group_name:
        raise ValueError("give the name of a placement group, as it was passed to placement_group(name=...).")
    try:
        row = _session.need().client.rpc("group_find", name=placement_group_name)
    except (RayError, ValueError) as error:
        raise ValueError(str(error)) from None
    return PlacementGroup(PlacementGroupID(row["group_id"]), row["bundles"])


def get_current_placement_group() -> PlacementGroup | None:
    """The group in which the calling task or actor runs; None for none."""
    from ray._context import get_runtime_context

    text = get_runtime_context().get_placement_group_id()
    return PlacementGroup(PlacementGroupID.from_hex(text)) if text else None


def placement_group_table(placement_group: PlacementGroup | None = None) -> dict[str, Any]:
    """What is known of a group, or of all groups by id.

    Args:
        placement_group: the group; None for all.

    Returns:
        placement_group_id, name, bundles {index: amounts}, bundles_to_node_id, strategy, state (PENDING, CREATED,
        REMOVED) and stats; an empty dict for a group that is not known.
    """
    if placement_group is None:
        return {row["group_id"].hex(): _table_row(row) for row in _rows(None)}
    rows = _rows(placement_group.id)
    return _table_row(rows[0]) if rows else {}


def _rows(gid: PlacementGroupID | None) -> list[dict[str, Any]]:
    params: dict[str, Any] = {} if gid is None else {"group_id": gid.binary()}
    rows: list[dict[str, Any]] = _session.need().client.rpc("group_table", **params)
    return rows


def _table_row(row: dict[str, Any]) -> dict[str, Any]:
    nodes = dict(enumerate(row["nodes"]))
    return {
        "placement_group_id": row["group_id"].hex(),
        "name": row["name"],
        "bundles": dict(enumerate(row["bundles"])),
        "bundles_to_node_id": {index: nodes.get(index) for index in range(len(row["bundles"]))},
        "strategy": row["strategy"],
        "state": row["state"],
        "stats": {
            "end_to_end_creation_latency_ms": row["creation_ms"],
            "scheduling_latency_ms": row["creation_ms"],
            "scheduling_attempt": int(row["state"] == "CREATED"),
            "highest_retry_delay_ms": 0.0,
            "scheduling_state": "FINISHED" if row["state"] == "CREATED" else row["state"],
        },
    }


class _Callable(types.ModuleType):
    """The name ``ray.util.placement_group`` is a module and a function: importing one must not hide the other."""

    def __call__(self, *args: Any, **kwargs: Any) -> PlacementGroup:
        return placement_group(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return importlib.import_module, (self.__name__,)  # a task that uses the name takes it along


sys.modules[__name__].__class__ = _Callable
