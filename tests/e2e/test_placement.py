"""Where tasks, actors and bundles go in a cluster of three nodes, and what happens when one of them dies."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ray
from ray.cluster_utils import Cluster
from ray.util import placement_group, placement_group_table, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

from .support import until


@pytest.fixture
def cluster(ray_tmpdir: Path) -> Iterator[Cluster]:
    """A head and two more nodes, each with two CPUs and a label."""
    with Cluster(initialize_head=True, connect=True, head_node_args={"num_cpus": 2}) as made:
        for zone in ("a", "b"):
            made.add_node(num_cpus=2, labels={"zone": zone})
        made.wait_for_nodes(20)
        yield made


@ray.remote
def node_id() -> str:
    return str(ray.get_runtime_context().get_node_id())


@ray.remote
class Where:
    def node(self) -> str:
        return str(ray.get_runtime_context().get_node_id())

    def ask(self) -> list[str]:
        return [str(found) for found in ray.get([node_id.remote() for _ in range(3)])]


def ids(cluster: Cluster) -> list[str]:
    return [node.node_id for node in cluster.list_all_nodes()]


def in_bundle(group: Any, index: int = -1, **options: Any) -> dict[str, Any]:
    return {"scheduling_strategy": PlacementGroupSchedulingStrategy(group, index, **options)}


def state(group: Any) -> str:
    return str(placement_group_table(group)["state"])


def test_spread_uses_one_node_after_the_other(cluster: Cluster) -> None:
    actors = [Where.options(scheduling_strategy="SPREAD", num_cpus=1).remote() for _ in range(6)]
    assert Counter(ray.get([actor.node.remote() for actor in actors])) == dict.fromkeys(ids(cluster), 2)
    del actors
    until(lambda: ray.available_resources().get("CPU") == 6)
    found = ray.get([node_id.options(scheduling_strategy="SPREAD").remote() for _ in range(30)])
    assert set(found) == set(ids(cluster))


def test_actors_are_packed_until_a_node_is_half_full(cluster: Cluster) -> None:
    actors = [Where.options(num_cpus=1).remote() for _ in range(5)]
    counts = Counter(ray.get([actor.node.remote() for actor in actors]))
    assert sorted(counts.values()) == [1, 2, 2]


def test_an_affinity_to_a_node_is_kept_or_refused(cluster: Cluster) -> None:
    head, first, second = ids(cluster)
    for target in (head, first, second):
        there = {"scheduling_strategy": NodeAffinitySchedulingStrategy(target, soft=False)}
        assert ray.get(node_id.options(**there, num_cpus=0).remote()) == target
        assert ray.get(node_id.options(**there).remote()) == target
        assert ray.get(Where.options(**there).remote().node.remote()) == target
    doomed = cluster.list_all_nodes()[1]
    actor = Where.options(
        scheduling_strategy=NodeAffinitySchedulingStrategy(first, soft=True), num_cpus=1, max_restarts=1
    ).remote()
    assert ray.get(actor.node.remote()) == first
    hard = {"scheduling_strategy": NodeAffinitySchedulingStrategy(first, soft=False)}
    cluster.remove_node(doomed, allow_graceful=False)
    until(lambda: ray.cluster_resources()["CPU"] == 4)
    assert ray.get(actor.node.remote()) != first
    with pytest.raises(ray.exceptions.TaskUnschedulableError, match=first):
        ray.get(node_id.options(**hard).remote())


def test_labels_choose_nodes(cluster: Cluster) -> None:
    _, first, second = ids(cluster)
    assert ray.get(node_id.options(label_selector={"zone": "b"}, num_cpus=0).remote()) == second
    fallback = {"label_selector": {"zone": "c"}, "fallback_strategy": [{"label_selector": {"zone": "a"}}]}
    assert set(ray.get([node_id.options(**fallback).remote() for _ in range(8)])) == {first}
    waiting = node_id.options(label_selector={"zone": "c"}).remote()
    assert ray.wait([waiting], timeout=0.2)[0] == []
    third = cluster.add_node(num_cpus=1, labels={"zone": "c"})
    assert ray.get(waiting) == third.node_id


def test_bundles_lie_where_their_strategy_says(cluster: Cluster) -> None:
    group = placement_group([{"CPU": 1}] * 3, strategy="STRICT_SPREAD")
    assert ray.get(group.ready()) == group
    found = [ray.get(node_id.options(**in_bundle(group, index)).remote()) for index in range(3)]
    assert set(found) == set(ids(cluster))
    table = placement_group_table(group)
    assert [table["bundles_to_node_id"][index] for index in range(3)] == found
    assert ray.available_resources()["CPU"] == 3
    actors = [Where.options(**in_bundle(group, index), num_cpus=1).remote() for index in range(3)]
    assert ray.get([actor.node.remote() for actor in actors]) == found
    remove_placement_group(group)
    with pytest.raises(ray.exceptions.RayActorError, match="placement group"):
        ray.get(actors[1].node.remote())
    until(lambda: ray.available_resources().get("CPU") == 6)

    packed = placement_group([{"CPU": 1}, {"CPU": 1}], strategy="STRICT_PACK")
    assert packed.wait(20)
    assert len(set(placement_group_table(packed)["bundles_to_node_id"].values())) == 1
    spread = placement_group([{"CPU": 1}] * 4, strategy="SPREAD")
    assert spread.wait(20)
    assert len(set(placement_group_table(spread)["bundles_to_node_id"].values())) == 2
    assert not placement_group([{"CPU": 1}], strategy="PACK").wait(0.2)


def test_children_are_captured_across_nodes(cluster: Cluster) -> None:
    head = ids(cluster)[0]
    group = placement_group([{"CPU": 2}, {"CPU": 2}], strategy="STRICT_SPREAD")
    assert group.wait(20)
    nodes = set(placement_group_table(group)["bundles_to_node_id"].values())
    actor = Where.options(**in_bundle(group, 0, placement_group_capture_child_tasks=True), num_cpus=1).remote()
    for _ in range(5):
        assert set(ray.get(actor.ask.remote())) <= nodes
    assert len(nodes) == 2
    assert head in ids(cluster)


def test_a_group_made_on_another_node_is_known_everywhere(cluster: Cluster) -> None:
    second = ids(cluster)[2]

    @ray.remote
    def makes() -> Any:
        made = placement_group([{"CPU": 1}, {"CPU": 1}], name="far", lifetime="detached", strategy="SPREAD")
        ray.get(made.ready())
        ray.get(node_id.options(**in_bundle(made, 1)).remote())
        return made

    there = {"scheduling_strategy": NodeAffinitySchedulingStrategy(second, soft=False)}
    group = ray.get(makes.options(**there).remote())
    found = ray.util.get_placement_group("far")
    assert found == group
    assert ray.get(node_id.options(**in_bundle(found, 0)).remote()) in ids(cluster)
    remove_placement_group(found)
    with pytest.raises(ValueError, match="far"):
        ray.util.get_placement_group("far")


def test_bundles_of_a_node_that_dies_are_placed_anew(cluster: Cluster) -> None:
    group = placement_group([{"CPU": 2}] * 3, strategy="STRICT_SPREAD")
    assert group.wait(20)
    doomed = cluster.list_all_nodes()[2]
    rows = placement_group_table(group)["bundles_to_node_id"]
    index = next(number for number, found in rows.items() if found == doomed.node_id)
    actor = Where.options(**in_bundle(group, index), num_cpus=1, max_restarts=1, max_task_retries=-1).remote()
    assert ray.get(actor.node.remote()) == doomed.node_id
    cluster.remove_node(doomed, allow_graceful=False)
    until(lambda: state(group) == "RESCHEDULING")
    waiting = actor.node.remote()
    fresh = cluster.add_node(num_cpus=2)
    assert ray.get(waiting) == fresh.node_id
    assert state(group) == "CREATED"


def test_what_no_node_could_hold_is_said_with_its_reason(cluster: Cluster, capfd: pytest.CaptureFixture[str]) -> None:
    group = placement_group([{"CPU": 1}] * 4, strategy="STRICT_SPREAD")
    assert not group.wait(0.1)
    wide = node_id.options(num_cpus=3).remote()
    ray.wait([wide], timeout=0.1)
    said = ""

    def told() -> bool:
        nonlocal said
        said += capfd.readouterr().err
        return "the cluster has 3 nodes" in said and "its largest node has 2" in said

    until(told)
