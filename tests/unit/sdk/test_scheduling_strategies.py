"""Placement strategies: what they take."""

import pytest

from ray.util.scheduling_strategies import (
    DoesNotExist,
    Exists,
    In,
    NodeAffinitySchedulingStrategy,
    NodeLabelSchedulingStrategy,
    NotIn,
    PlacementGroupSchedulingStrategy,
)

NODE = "ab" * 28


def test_they_keep_what_they_are_given():
    group = object()
    strategy = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=2)
    assert strategy.placement_group is group
    assert strategy.placement_group_bundle_index == 2
    assert strategy.placement_group_capture_child_tasks is None
    affinity = NodeAffinitySchedulingStrategy(node_id=NODE, soft=True, _spill_on_unavailable=True)
    assert (affinity.node_id, affinity.soft, affinity._spill_on_unavailable) == (NODE, True, True)
    labels = NodeLabelSchedulingStrategy({"a": In("x", "y")}, soft={"b": Exists()})
    assert [(entry.key, entry.operator) for entry in labels.hard] == [("a", In("x", "y"))]
    assert [(entry.key, entry.operator) for entry in labels.soft] == [("b", Exists())]


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: PlacementGroupSchedulingStrategy(None, -2), ValueError, "-1 takes any"),
        (lambda: PlacementGroupSchedulingStrategy(None, "0"), TypeError, "int"),
        (lambda: NodeAffinitySchedulingStrategy("ab", soft=False), ValueError, "ray.nodes"),
        (lambda: NodeAffinitySchedulingStrategy("zz" * 28, soft=False), ValueError, "hexadecimal"),
        (lambda: NodeAffinitySchedulingStrategy(5, soft=False), TypeError, "node_id"),
        (lambda: NodeAffinitySchedulingStrategy(NODE, soft=False, _spill_on_unavailable=True), ValueError, "soft=True"),
        (lambda: NodeAffinitySchedulingStrategy(NODE, soft=True, _fail_on_unavailable=True), ValueError, "soft=False"),
        (In, ValueError, "at least one"),
        (lambda: NotIn("a", 1), ValueError, "strings"),
        (lambda: NodeLabelSchedulingStrategy({}), ValueError, "at least one label"),
        (lambda: NodeLabelSchedulingStrategy(None), ValueError, "at least one label"),
        (lambda: NodeLabelSchedulingStrategy({"a": "x"}), ValueError, r"hard\['a'\]"),
        (lambda: NodeLabelSchedulingStrategy({}, soft={1: In("x")}), ValueError, "key 1"),
        (lambda: NodeLabelSchedulingStrategy(["a"]), ValueError, "dict"),
    ],
)
def test_what_makes_no_sense_is_refused(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_operators_compare_by_what_they_ask():
    assert In("a") == In("a") != In("b")
    assert In("a") != NotIn("a")
    assert Exists() == Exists() != DoesNotExist()
    assert len({In("a"), In("a"), Exists(), Exists()}) == 2
    assert repr(In("a", "b")) == "In('a', 'b')"
    assert repr(DoesNotExist()) == "DoesNotExist()"
