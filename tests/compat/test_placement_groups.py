"""Placement groups on one machine: reserving bundles, running in them, giving them back."""

from __future__ import annotations

import pytest

import ray
from ray.exceptions import GetTimeoutError

from .support import until

groups = pytest.importorskip("ray.util.placement_group", reason="placement groups are not part of this version")
strategies = pytest.importorskip("ray.util.scheduling_strategies")
placement_group, remove_placement_group = groups.placement_group, groups.remove_placement_group


@pytest.fixture(scope="module", autouse=True)
def _cluster():
    ray.init(num_cpus=12, num_gpus=2, include_dashboard=False)
    yield
    ray.shutdown()


@pytest.fixture
def group():
    made = placement_group([{"CPU": 4}] * 3, strategy="PACK")
    yield made
    remove_placement_group(made)
    until(lambda: ray.available_resources().get("CPU") == 12.0)


@ray.remote
class Worker:
    def where(self):
        return ray.get_runtime_context().get_placement_group_id()

    def ping(self):
        return "pong"


@ray.remote
def where():
    return ray.get_runtime_context().get_placement_group_id()


def strategy(group, index=-1, **options):
    return strategies.PlacementGroupSchedulingStrategy(
        placement_group=group, placement_group_bundle_index=index, **options
    )


def test_a_group_becomes_ready_and_reserves_its_bundles(group):
    ray.get(group.ready(), timeout=30)
    assert group.wait(timeout_seconds=30)
    until(lambda: ray.available_resources().get("CPU", 0.0) == 0.0)
    assert group.bundle_count == 3
    assert group.bundle_specs == [{"CPU": 4}] * 3


def test_actors_run_in_the_bundles_that_were_chosen_for_them(group):
    ray.get(group.ready(), timeout=30)
    workers = [Worker.options(num_cpus=4, scheduling_strategy=strategy(group, i)).remote() for i in range(3)]
    assert ray.get([worker.where.remote() for worker in workers], timeout=30) == [group.id.hex()] * 3
    one_more = Worker.options(num_cpus=1, scheduling_strategy=strategy(group, 0)).remote()
    with pytest.raises(GetTimeoutError):
        ray.get(one_more.ping.remote(), timeout=0.3)


def test_tasks_may_use_any_bundle(group):
    ray.get(group.ready(), timeout=30)
    task = where.options(num_cpus=2, scheduling_strategy=strategy(group))
    assert ray.get([task.remote() for _ in range(6)], timeout=30) == [group.id.hex()] * 6


def test_what_is_outside_of_the_group_does_not_get_its_resources(group):
    ray.get(group.ready(), timeout=30)
    outside = where.remote()
    with pytest.raises(GetTimeoutError):
        ray.get(outside, timeout=0.3)
    ray.cancel(outside)


def test_removing_a_group_gives_everything_back():
    group = placement_group([{"CPU": 6}])
    ray.get(group.ready(), timeout=30)
    until(lambda: ray.available_resources().get("CPU") == 6.0)
    remove_placement_group(group)
    until(lambda: ray.available_resources().get("CPU") == 12.0)


def test_a_group_that_does_not_fit_is_not_ready():
    group = placement_group([{"CPU": 100}])
    assert not group.wait(timeout_seconds=0.3)
    remove_placement_group(group)


def test_a_second_group_waits_for_the_first_to_be_removed():
    first = placement_group([{"CPU": 8}])
    assert first.wait(timeout_seconds=30)
    second = placement_group([{"CPU": 8}])
    assert not second.wait(timeout_seconds=0.3)
    remove_placement_group(first)
    assert second.wait(timeout_seconds=30)
    remove_placement_group(second)
    until(lambda: ray.available_resources().get("CPU") == 12.0)


@pytest.mark.parametrize("kind", ["PACK", "SPREAD", "STRICT_PACK"])
def test_strategies_that_one_machine_can_meet_become_ready(kind):
    group = placement_group([{"CPU": 1}, {"CPU": 1}], strategy=kind)
    assert group.wait(timeout_seconds=30)
    remove_placement_group(group)


def test_strict_spread_needs_as_many_machines_as_bundles():
    group = placement_group([{"CPU": 1}, {"CPU": 1}], strategy="STRICT_SPREAD")
    assert not group.wait(timeout_seconds=0.3)
    remove_placement_group(group)


def test_the_table_lists_groups_with_their_bundles_and_state(group):
    ray.get(group.ready(), timeout=30)
    row = groups.placement_group_table(group)
    assert row["placement_group_id"] == group.id.hex()
    assert row["strategy"] == "PACK"
    assert row["state"] == "CREATED"
    assert row["bundles"] == {0: {"CPU": 4.0}, 1: {"CPU": 4.0}, 2: {"CPU": 4.0}}
    assert group.id.hex() in groups.placement_group_table()


def test_children_run_in_the_group_of_their_parent_when_asked_to(group):
    ray.get(group.ready(), timeout=30)

    @ray.remote(num_cpus=1)
    def parent():
        return ray.get(where.options(num_cpus=1).remote())

    capturing = parent.options(scheduling_strategy=strategy(group, placement_group_capture_child_tasks=True))
    assert ray.get(capturing.remote(), timeout=30) == group.id.hex()


def test_a_group_can_be_given_to_a_task(group):
    ray.get(group.ready(), timeout=30)

    @ray.remote(num_cpus=0)
    def launch(given):
        return ray.get(where.options(num_cpus=1, scheduling_strategy=strategy(given, 1)).remote())

    assert ray.get(launch.remote(group), timeout=30) == group.id.hex()


@pytest.mark.parametrize(
    ("bundles", "options"),
    [([], {}), ([{}], {}), ([{"CPU": 0}], {}), ([{"CPU": 1}], {"strategy": "BOGUS"}),
     ([{"CPU": 1}], {"lifetime": "bogus"})],
)  # fmt: skip
def test_bad_groups_are_refused(bundles, options):
    with pytest.raises((ValueError, TypeError)):
        placement_group(bundles, **options)


@pytest.mark.beyond_ray("places the group and aborts when a later group is removed", run=False)
def test_a_negative_bundle_is_refused():
    with pytest.raises(ValueError):
        placement_group([{"CPU": -1}])


def test_a_bundle_index_that_does_not_exist_is_refused(group):
    ray.get(group.ready(), timeout=30)
    with pytest.raises(ValueError):
        where.options(scheduling_strategy=strategy(group, 5)).remote()


@pytest.mark.filterwarnings("ignore")
def test_the_old_options_for_placement_groups_still_work(group):
    ray.get(group.ready(), timeout=30)
    task = where.options(num_cpus=1, placement_group=group, placement_group_bundle_index=0)
    assert ray.get(task.remote(), timeout=30) == group.id.hex()
    with pytest.raises(ValueError):
        where.options(placement_group=group, scheduling_strategy="SPREAD").remote()
