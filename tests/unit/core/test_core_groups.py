"""Placement groups of one node, taken together and used apart, and what only other nodes could meet."""

from collections.abc import Callable
from typing import Any

import pytest

from rayd.core.affinity import accepts
from rayd.core.effect import KillWorker
from rayd.errors import ACTOR_DIED, GROUP_REMOVED, NAME_TAKEN, UNSCHEDULABLE
from rayd.wire import messages as m
from rayd.wire.frame import ProtocolError
from world import SIGKILL, RefusedError, World, actor_object, returned


def available(world: World) -> dict[str, float]:
    return world.node.state.ledger.available()


# --- reserving --------------------------------------------------------------------------------------------------------


def test_bundles_are_reserved_together_and_given_back_by_removal(new_world: Callable[..., World]) -> None:
    world = new_world(cpus=6)
    driver = world.driver()
    gid = driver.group({"CPU": 2}, {"CPU": 3})
    assert driver.group_state(gid) == "CREATED"
    assert available(world) == {"CPU": 1.0}
    driver.rpc("group_remove", group_id=gid)
    assert driver.group_state(gid) == "REMOVED"
    assert available(world) == {"CPU": 6.0}
    driver.rpc("group_remove", group_id=gid)  # a second time changes nothing
    assert available(world) == {"CPU": 6.0}


def test_a_group_takes_all_or_nothing_and_does_not_hold_back_a_smaller_one(new_world: Callable[..., World]) -> None:
    world = new_world(cpus=4)
    driver = world.driver()
    first = driver.group({"CPU": 3})
    second = driver.group({"CPU": 1}, {"CPU": 3})
    assert driver.group_state(second) == "PENDING"
    assert available(world) == {"CPU": 1.0}
    third = driver.group({"CPU": 1})
    assert driver.group_state(third) == "CREATED"
    driver.rpc("group_remove", group_id=third)
    driver.rpc("group_remove", group_id=first)
    assert driver.group_state(second) == "CREATED"


def test_gpus_of_a_bundle_are_the_ones_its_tasks_are_given(new_world: Callable[..., World]) -> None:
    world = new_world(cpus=2, resources={"GPU": 3})
    driver = world.driver()
    driver.group({"GPU": 1, "CPU": 0.5})
    gid = driver.group({"GPU": 2, "CPU": 1}, {"GPU": 0.5})
    assert driver.group_state(gid) == "PENDING"  # 2.5 of the two that are left
    driver.rpc("group_remove", group_id=gid)
    gid = driver.group({"GPU": 2, "CPU": 1})
    tid = driver.submit(driver.spec(resources={"GPU": 2}, placement_group=gid, bundle=0))
    (worker, _) = world.workers()
    worker.read()
    assert worker.body(tid)[5] == [1, 2]
    worker.done(tid)
    assert world.node.state.gpus.shares() == [0.0, 0.0, 0.0]


def test_what_no_node_could_reserve_is_reported_and_stays_pending(world: World) -> None:
    driver = world.driver()
    logs = world.tool("logs", job=driver.job)
    huge = driver.group({"CPU": 1}, {"CPU": 1})
    spread = driver.group({"CPU": 0.1}, {"CPU": 0.1}, strategy="STRICT_SPREAD")
    said = [text for _, _, text in logs.take(m.EVENT)]
    assert "asks for 2 CPU (the cluster has 1)" in said[0]
    assert "2 bundles on a node of its own, and the cluster has 1 node" in said[1]
    assert driver.group_state(huge) == driver.group_state(spread) == "PENDING"


def test_names_are_taken_and_free_again(world: World) -> None:
    driver = world.driver(namespace="here")
    gid = driver.group({"CPU": 1}, name="mine")
    assert driver.rpc("group_find", name="mine")["group_id"] == gid
    with pytest.raises(RefusedError) as refused:
        driver.group({"CPU": 1}, name="mine")
    assert refused.value.fault["code"] == NAME_TAKEN
    driver.rpc("group_remove", group_id=gid)
    with pytest.raises(RefusedError, match="no placement group named 'mine'"):
        driver.rpc("group_find", name="mine")
    driver.group({"CPU": 1}, name="mine")


@pytest.mark.parametrize(
    "params",
    [
        {"bundles": []},
        {"bundles": [{}]},
        {"bundles": [{"CPU": -1}]},
        {"bundles": [{"CPU": "many"}]},
        {"bundles": 7},
        {"bundles": [{"CPU": 1}], "strategy": "SOMEHOW"},
        {"bundles": [{"CPU": 1}], "group_id": b"short"},
    ],
)
def test_nonsense_is_a_breach_of_the_protocol_and_takes_nothing(world: World, params: dict[str, Any]) -> None:
    driver = world.driver()
    with pytest.raises(ProtocolError):
        driver.rpc("group_create", **{"group_id": b"g" * 18, **params})
    assert available(world) == {"CPU": 1.0}
    assert not world.node.groups.by_id


# --- running in a group -----------------------------------------------------------------------------------------------


def test_tasks_take_from_their_bundle_and_from_nowhere_else(new_world: Callable[..., World]) -> None:
    world = new_world(cpus=3)
    driver = world.driver()
    gid = driver.group({"CPU": 1}, {"CPU": 1})
    key = driver.spec(placement_group=gid, bundle=1, max_calls=1)
    first, second = driver.submit(key), driver.submit(key)
    outside = driver.submit(driver.spec("outside"))
    one, two, three = world.workers()
    running = {tid for worker in (one, two, three) for tid in worker.mail()}
    assert running == {first, outside}
    world.worker_with(first).run()
    assert second in {tid for worker in world.mailboxes.values() for tid in worker.mail()} or world.starting
    world.forgive()


def test_any_bundle_will_do_for_index_minus_one(new_world: Callable[..., World]) -> None:
    world = new_world(cpus=2)
    driver = world.driver()
    gid = driver.group({"CPU": 1}, {"CPU": 1})
    key = driver.spec(placement_group=gid, bundle=-1)
    tids = [driver.submit(key), driver.submit(key)]
    assert available(world) == {}
    assert sorted(worker.run() for worker in world.workers()) == sorted(tids)


def test_what_waits_for_a_pending_group_runs_once_it_is_created(world: World) -> None:
    driver = world.driver()
    first = driver.group({"CPU": 1})
    second = driver.group({"CPU": 1})
    tid = driver.submit(driver.spec(placement_group=second, bundle=0))
    aid = driver.create(driver.actor_class(placement_group=second, bundle=0))
    (worker,) = world.workers()
    assert not worker.unread
    driver.rpc("group_remove", group_id=first)
    world.workers()
    world.worker_with(tid).run()
    assert aid in {found.actor for found in world.node.state.pool.workers.values()}
    world.forgive()


def test_a_task_that_waits_lends_its_cpu_to_its_own_bundle(new_world: Callable[..., World]) -> None:
    world = new_world(cpus=2)
    driver = world.driver()
    gid = driver.group({"CPU": 1})
    parent = driver.submit(driver.spec("parent", placement_group=gid, bundle=0))
    world.workers()
    outer = world.worker_with(parent)
    outer.read()
    child = outer.submit(outer.spec("child", placement_group=gid, bundle=-1))
    assert child not in {tid for worker in world.mailboxes.values() for tid in worker.mail()}
    outer.blocked()
    world.worker_with(child).run()
    outer.resumed()
    outer.done(parent)
    assert available(world) == {"CPU": 1.0}


def test_a_bundle_that_does_not_exist_is_a_breach_of_the_protocol(world: World) -> None:
    driver = world.driver()
    gid = driver.group({"CPU": 1})
    with pytest.raises(ProtocolError, match="no bundle 1"):
        driver.spec(placement_group=gid, bundle=1)


# --- removal ----------------------------------------------------------------------------------------------------------


def test_removal_ends_what_waits_at_once_and_what_runs_with_its_worker(new_world: Callable[..., World]) -> None:
    world = new_world(cpus=2)
    driver = world.driver()
    gid = driver.group({"CPU": 1})
    key = driver.spec(placement_group=gid, bundle=0, max_retries=3)
    running, waiting = driver.submit(key), driver.submit(key)
    world.workers()
    worker = world.worker_with(running)
    worker.read()
    driver.rpc("group_remove", group_id=gid)
    assert driver.fault(returned(waiting))["code"] == GROUP_REMOVED
    assert world.take(KillWorker) == [KillWorker(worker.wid)]
    assert available(world) == {"CPU": 1.0}  # the worker still has the rest
    worker.die(SIGKILL)
    assert driver.fault(returned(running))["code"] == GROUP_REMOVED
    assert available(world) == {"CPU": 2.0}
    late = driver.submit(key)
    assert driver.fault(returned(late))["code"] == GROUP_REMOVED


def test_removal_ends_actors_without_a_restart(new_world: Callable[..., World]) -> None:
    world = new_world(cpus=2)
    driver = world.driver()
    gid = driver.group({"CPU": 1})
    aid, worker, (call,) = world.actor(
        driver, calls=1, placement_group=gid, bundle=0, resources={"CPU": 1}, max_restarts=-1
    )
    waiting = driver.create(driver.actor_class("Waits", placement_group=gid, bundle=0, placement={"CPU": 1}))
    driver.rpc("group_remove", group_id=gid)
    for tid in (call, driver.call(aid, driver.method())):
        died = driver.fault(returned(tid))
        assert died["code"] == ACTOR_DIED
        assert "placement group" in died["message"]
    assert driver.fault(actor_object(waiting))["code"] == GROUP_REMOVED
    worker.die(SIGKILL)
    world.take(KillWorker)
    assert available(world) == {"CPU": 2.0}


def test_groups_end_with_their_driver_but_detached_ones_do_not(new_world: Callable[..., World]) -> None:
    world = new_world(cpus=3)
    driver = world.driver()
    driver.group({"CPU": 1})
    kept = driver.group({"CPU": 1}, detached=True)
    driver.leave()
    world.take(KillWorker)
    assert available(world) == {"CPU": 2.0}
    other = world.driver()
    assert other.group_state(kept) == "CREATED"
    other.rpc("group_remove", group_id=kept)
    assert available(world) == {"CPU": 3.0}


# --- other demands on the node ----------------------------------------------------------------------------------------


def test_a_hard_affinity_to_an_unknown_node_is_an_error_and_a_soft_one_is_not(world: World) -> None:
    driver = world.driver()
    tid = driver.submit(driver.spec(node=b"x" * 28, soft=False))
    why = driver.fault(returned(tid))
    assert why["code"] == UNSCHEDULABLE
    assert (b"x" * 28).hex() in why["message"]
    assert (b"n" * 28).hex() in why["message"]
    aid = driver.create(driver.actor_class(node=b"x" * 28, soft=False))
    assert driver.fault(actor_object(aid))["code"] == UNSCHEDULABLE
    for options in ({"node": b"x" * 28, "soft": True}, {"node": b"n" * 28, "soft": False}):
        driver.submit(driver.spec(**options))
    (worker,) = world.workers()
    assert len(worker.run_all()) == 2


def test_labels_that_the_node_has_not_keep_work_pending_and_are_reported(world: World) -> None:
    driver = world.driver()
    logs = world.tool("logs", job=driver.job)
    world.node.neighbours.cluster.me.facts["labels"] = {"region": "eu"}
    driver.submit(driver.spec("far", selectors=[[["region", "in", ["us"]]]]))
    near = driver.submit(driver.spec("near", selectors=[[["region", "in", ["us"]]], [["region", "in", ["eu"]]]]))
    ((_, _, text),) = logs.take(m.EVENT)
    assert "far" in text
    assert "region=us" in text
    assert "region=eu" in text
    (worker,) = world.workers()
    assert worker.run_all() == [near]


@pytest.mark.parametrize(
    ("condition", "met"),
    [
        (["zone", "in", ["a", "b"]], True),
        (["zone", "in", ["b"]], False),
        (["zone", "!in", ["b"]], True),
        (["zone", "!in", ["a"]], False),
        (["other", "!in", ["a"]], True),
        (["zone", "exists", []], True),
        (["other", "exists", []], False),
        (["other", "!exists", []], True),
        (["zone", "!exists", []], False),
    ],
)
def test_conditions_on_labels(condition: list[Any], met: bool) -> None:
    assert accepts([condition], {"zone": "a"}) is met
