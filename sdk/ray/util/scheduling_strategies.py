"""Where a task or actor may be placed: values for the option ``scheduling_strategy``."""

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from ray._ids import NodeID
from ray._option_rules import bundle_index


class PlacementGroupSchedulingStrategy:
    """Run inside a placement group.

    Args:
        placement_group: the group.
        placement_group_bundle_index: number of the bundle to use, counted from 0; -1 takes any.
        placement_group_capture_child_tasks: whether tasks started from inside run in the group too; None inherits.

    Raises:
        TypeError: ``placement_group_bundle_index`` is no whole number.
        ValueError: it is below -1.
    """

    def __init__(
        self,
        placement_group: Any,
        placement_group_bundle_index: int = -1,
        placement_group_capture_child_tasks: bool | None = None,
    ) -> None:
        bundle_index("placement_group_bundle_index", placement_group_bundle_index)
        self.placement_group = placement_group
        self.placement_group_bundle_index = placement_group_bundle_index
        self.placement_group_capture_child_tasks = placement_group_capture_child_tasks

    def __repr__(self) -> str:
        return f"PlacementGroupSchedulingStrategy({self.placement_group!r}, {self.placement_group_bundle_index})"


class NodeAffinitySchedulingStrategy:
    """Run on one node.

    Args:
        node_id: hexadecimal id of the node, from ``ray.nodes()``.
        soft: whether another node may be taken when this one is gone or cannot fit the demand.
        _spill_on_unavailable: with ``soft``, whether another node may be taken when this one is busy.
        _fail_on_unavailable: without ``soft``, whether to fail when this one is busy.

    Raises:
        TypeError: ``node_id`` is no string.
        ValueError: it is no node id, or the options contradict each other.
    """

    def __init__(
        self, node_id: str, soft: bool, _spill_on_unavailable: bool = False, _fail_on_unavailable: bool = False
    ) -> None:
        if not isinstance(node_id, str):
            raise TypeError(
                f"node_id takes the hexadecimal id of a node, got {node_id!r} of type {type(node_id).__name__}"
            )
        try:
            NodeID.from_hex(node_id)
        except ValueError as reason:
            raise ValueError(f"node_id is no id of a node ({reason}); ray.nodes() lists them under 'NodeID'") from None
        if _spill_on_unavailable and not soft:
            raise ValueError("_spill_on_unavailable needs soft=True: a hard affinity never takes another node")
        if _fail_on_unavailable and soft:
            raise ValueError(
                "_fail_on_unavailable needs soft=False: a soft affinity takes another node instead of failing"
            )
        self.node_id = node_id
        self.soft = soft
        self._spill_on_unavailable = _spill_on_unavailable
        self._fail_on_unavailable = _fail_on_unavailable

    def __repr__(self) -> str:
        return f"NodeAffinitySchedulingStrategy({self.node_id!r}, soft={self.soft})"


class _ValuesOperator:
    """An operator of a label that has values."""

    def __init__(self, *values: str) -> None:
        name = type(self).__name__
        if not values:
            raise ValueError(f'{name} needs at least one value, for example {name}("a", "b")')
        for value in values:
            if not isinstance(value, str):
                raise ValueError(f"{name} takes strings, got {value!r} of type {type(value).__name__}")
        self.values = list(values)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.values == self.values

    def __hash__(self) -> int:
        return hash((type(self), *self.values))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.values))})"


class _PresenceOperator:
    """An operator of a label that has no values."""

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self)

    def __hash__(self) -> int:
        return hash(type(self))

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class In(_ValuesOperator):
    """The label has one of the values."""


class NotIn(_ValuesOperator):
    """The label has none of the values, or is missing."""


class Exists(_PresenceOperator):
    """The node has the label."""


class DoesNotExist(_PresenceOperator):
    """The node does not have the label."""


LabelOperator: TypeAlias = In | NotIn | Exists | DoesNotExist
_OPERATORS: Final = (In, NotIn, Exists, DoesNotExist)


class _LabelMatchExpression:
    """One label and what is asked of it."""

    def __init__(self, key: str, operator: LabelOperator) -> None:
        self.key = key
        self.operator = operator

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _LabelMatchExpression) and (self.key, self.operator) == (other.key, other.operator)

    def __hash__(self) -> int:
        return hash((self.key, self.operator))

    def __repr__(self) -> str:
        return f"{self.key}: {self.operator!r}"


class NodeLabelSchedulingStrategy:
    """Run on a node with certain labels.

    Args:
        hard: label to operator; all must hold.
        soft: label to operator; nodes for which they hold are preferred.

    Raises:
        ValueError: both are empty, a label is no string or its operator is none.
    """

    def __init__(
        self, hard: Mapping[str, LabelOperator] | None = None, *, soft: Mapping[str, LabelOperator] | None = None
    ) -> None:
        self.hard = _expressions("hard", hard or {})
        self.soft = _expressions("soft", soft or {})
        if not self.hard and not self.soft:
            raise ValueError(
                'give at least one label, for example NodeLabelSchedulingStrategy(hard={"region": In("eu")})'
            )

    def __repr__(self) -> str:
        return f"NodeLabelSchedulingStrategy(hard={self.hard!r}, soft={self.soft!r})"


def _expressions(parameter: str, labels: Mapping[str, LabelOperator]) -> list[_LabelMatchExpression]:
    if not isinstance(labels, Mapping):
        raise ValueError(f'{parameter} takes a dict such as {{"region": In("eu")}}, got {labels!r}')
    for key, operator in labels.items():
        if not isinstance(key, str):
            raise ValueError(f"{parameter} takes labels by name, got the key {key!r} of type {type(key).__name__}")
        if not isinstance(operator, _OPERATORS):
            raise ValueError(
                f"{parameter}[{key!r}] takes In(...), NotIn(...), Exists() or DoesNotExist(), "
                f"got {operator!r} of type {type(operator).__name__}"
            )
    return [_LabelMatchExpression(key, operator) for key, operator in labels.items()]


STRATEGIES: Final = (PlacementGroupSchedulingStrategy, NodeAffinitySchedulingStrategy, NodeLabelSchedulingStrategy)
