"""Actors whose process ends: restart, what is called again and what is not, kill, exit, and crossing messages."""

from collections.abc import Callable

import pytest

from rayd.core.effect import KillWorker, RetireWorker
from rayd.wire.messages import INLINE, KILL
from world import SIGKILL, RefusedError, World, actor_object, creation, returned

# --- restart ----------------------------------------------------------------------------------------------------------


def test_an_actor_without_restarts_dies_with_its_process_and_the_exact_cause(world: World) -> None:
    driver = world.driver()
    aid, worker, (running,) = world.actor(driver, calls=1)
    waiting = driver.call(aid, driver.method())
    worker.die(SIGKILL, ["last words"])
    later = driver.call(aid, driver.method())
    for call in (running, waiting, later):
        fault = driver.fault(returned(call))
        assert (fault["code"], fault["cause"]["signal"]) == ("actor_died", "SIGKILL")
        assert f"The actor Counter ({aid.hex()}) died: it was ended by SIGKILL." in fault["message"]
        assert "last words" in fault["message"]


def test_an_actor_restarts_as_often_as_allowed(world: World) -> None:
    driver = world.driver()
    aid, worker, _ = world.actor(driver, max_restarts=2)
    for restarts in (1, 2):
        worker.die()
        assert driver.rpc("actor_info", actor_id=aid)["state"] == "RESTARTING"
        (worker,) = world.workers()
        assert worker.run() == creation(aid)
        info = driver.rpc("actor_info", actor_id=aid)
        assert (info["state"], info["restarts"], info["pid"]) == ("ALIVE", restarts, 1000 + worker.wid)
    worker.die()
    assert driver.rpc("actor_info", actor_id=aid)["state"] == "DEAD"


def test_an_actor_may_restart_without_end(world: World) -> None:
    driver = world.driver()
    aid, worker, _ = world.actor(driver, max_restarts=-1)
    for _ in range(10):
        worker.die()
        (worker,) = world.workers()
        worker.run()
    call = driver.call(aid, driver.method())
    assert worker.run() == call


def test_calls_that_were_not_read_are_never_lost_by_a_restart(world: World) -> None:
    driver = world.driver()
    aid, worker, (running,) = world.actor(driver, calls=1, max_restarts=1)
    key = driver.method()
    unread = [driver.call(aid, key) for _ in range(3)]
    worker.die()
    meanwhile = driver.call(aid, key)
    fault = driver.fault(returned(running))
    assert fault["code"] == "actor_unavailable"
    assert "max_task_retries" in fault["message"]
    (other,) = world.workers()
    assert other.run_all() == [creation(aid), *unread, meanwhile]


def test_calls_that_were_read_are_made_again_where_allowed_and_before_the_others(world: World) -> None:
    driver = world.driver()
    aid, worker, _ = world.actor(driver, max_restarts=1)
    keys = driver.method("once"), driver.method("again", max_retries=1)
    calls = [driver.call(aid, key) for key in (keys[1], keys[0], keys[1])]
    unread = [driver.call(aid, keys[0])]
    for _ in calls:
        worker.read()
    worker.die()
    assert driver.fault(returned(calls[1]))["code"] == "actor_unavailable"
    (other,) = world.workers()
    assert other.run_all() == [creation(aid), calls[0], calls[2], *unread]


def test_a_call_is_made_again_only_as_often_as_allowed(world: World) -> None:
    driver = world.driver()
    aid, worker, _ = world.actor(driver, max_restarts=-1)
    call = driver.call(aid, driver.method(max_retries=2))
    for _ in range(3):
        assert worker.read() == [call]
        worker.die()
        (worker,) = world.workers()
        worker.run()
    assert driver.fault(returned(call))["code"] == "actor_unavailable"


def test_a_constructor_that_dies_is_run_again_where_restarts_allow(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    aid = driver.create(driver.actor_class(max_restarts=1))
    call = driver.call(aid, driver.method())
    worker.read()
    worker.die()
    (worker,) = world.workers()
    worker.read()
    worker.die()
    assert driver.fault(returned(call))["code"] == "actor_died"
    assert driver.fault(actor_object(aid))["cause"]["exit_code"] == 3


def test_a_restarted_actor_keeps_its_name_and_its_order(world: World) -> None:
    driver = world.driver()
    aid, worker, _ = world.actor(driver, max_restarts=1, actor_name="adder")
    tid = driver.submit(driver.spec())
    key = driver.method()
    stalled = driver.call(aid, key, deps=[returned(tid)])
    behind = driver.call(aid, key)
    worker.die()
    assert driver.rpc("get_actor", name="adder")["actor_id"] == aid
    world.workers()
    again = world.worker_with(creation(aid))
    again.run()
    assert again.mail() == []
    world.workers()
    world.worker_with(tid).run()
    assert again.run_all() == [stalled, behind]
    assert driver.value(returned(behind)) == driver.value(returned(stalled)) == (INLINE, b"v")


def test_a_restart_waits_for_resources_like_any_other(new_world: Callable[..., World]) -> None:
    world = new_world(resources={"seat": 1})
    driver = world.driver()
    aid, worker, _ = world.actor(driver, max_restarts=1, resources={"seat": 1})
    waiting = driver.create(driver.actor_class("Other", resources={"seat": 1}))
    worker.die()
    (other,) = world.workers()
    assert other.read() == [creation(waiting)]
    other.done(creation(waiting))
    driver.release(actor_object(waiting))
    assert world.take() == [RetireWorker(other.wid)]
    other.die()
    (again,) = world.workers()
    assert again.run() == creation(aid)


def test_a_call_that_waits_for_a_restart_can_be_cancelled(world: World) -> None:
    driver = world.driver()
    aid, worker, _ = world.actor(driver, max_restarts=1)
    call = driver.call(aid, driver.method())
    worker.die()
    driver.cancel(call)
    assert driver.fault(returned(call))["code"] == "cancelled"
    (other,) = world.workers()
    assert other.run_all() == [creation(aid)]


def test_an_actor_that_nobody_refers_to_does_not_restart_for_nothing(world: World) -> None:
    driver = world.driver()
    aid, worker, (call,) = world.actor(driver, calls=1, max_restarts=5)
    driver.release(actor_object(aid))
    worker.die()
    assert driver.fault(returned(call))["code"] in ("actor_died", "actor_unavailable")
    assert not world.starting
    assert aid not in world.node.actors.by_id


# --- kill -------------------------------------------------------------------------------------------------------------


def test_an_actor_that_is_killed_for_good_does_not_restart(world: World) -> None:
    driver = world.driver()
    aid, worker, _ = world.actor(driver, max_restarts=5)
    driver.send((KILL, aid, True))
    assert world.take() == [KillWorker(worker.wid)]
    worker.die(SIGKILL)
    assert not world.starting
    call = driver.call(aid, driver.method())
    assert "it was killed by ray.kill()" in driver.fault(returned(call))["message"]


def test_an_actor_that_is_killed_may_restart(world: World) -> None:
    driver = world.driver()
    aid, worker, (running,) = world.actor(driver, calls=1, max_restarts=1)
    driver.send((KILL, aid, False))
    assert world.take() == [KillWorker(worker.wid)]
    worker.die(SIGKILL)
    assert "it was killed by ray.kill()" in driver.fault(returned(running))["message"]
    (other,) = world.workers()
    assert other.run() == creation(aid)
    call = driver.call(aid, driver.method())
    assert other.run() == call


def test_an_actor_that_has_no_process_is_dead_as_soon_as_it_is_killed(world: World) -> None:
    driver = world.driver()
    aid = driver.create(driver.actor_class(placement={"CPU": 9}))
    call = driver.call(aid, driver.method())
    driver.send((KILL, aid, False))  # of which there is none to restart
    driver.send((KILL, aid, True))
    assert "before it had started" in driver.fault(returned(call))["message"]
    driver.send((KILL, aid, True))
    driver.send((KILL, b"x" * 16, True))
    assert world.take() == []


def test_resources_of_a_killed_actor_are_free_when_its_process_has_gone(new_world: Callable[..., World]) -> None:
    world = new_world(resources={"seat": 1})
    driver = world.driver()
    aid, worker, _ = world.actor(driver, resources={"seat": 1})
    driver.send((KILL, aid, True))
    assert "seat" not in world.node.state.ledger.available()
    assert world.take() == [KillWorker(worker.wid)]
    worker.die(SIGKILL)
    assert world.node.state.ledger.available() == {"CPU": 1.0, "seat": 1.0}


def test_the_word_of_a_constructor_that_crosses_its_kill_revives_nobody(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    aid = driver.create(driver.actor_class(actor_name="adder"))
    worker.read()
    driver.send((KILL, aid, True))
    assert world.take() == [KillWorker(worker.wid)]
    worker.done(creation(aid))
    assert driver.rpc("actor_info", actor_id=aid)["state"] == "DEAD"
    worker.die(SIGKILL)
    assert driver.fault(actor_object(aid))["code"] == "actor_died"
    driver.release(actor_object(aid))
    world.expect_nothing_left()


@pytest.mark.parametrize("several", [False, True])
def test_an_answer_that_crosses_the_end_of_everything_is_no_fault_of_the_worker(world: World, several: bool) -> None:
    driver = world.driver()
    aid, worker, _ = world.actor(driver)
    call = driver.call(aid, driver.method(num_returns=2 if several else 1))
    worker.read()
    driver.send((KILL, aid, True))
    assert world.take() == [KillWorker(worker.wid)]
    driver.release(actor_object(aid), returned(call, 1), returned(call, 2))
    assert aid not in world.node.actors.by_id
    if several:
        worker.done_many(call, b"1", b"2")
    else:
        worker.done_stored(call, 10_000)
    worker.die(SIGKILL)
    world.expect_nothing_left()


# --- exit -------------------------------------------------------------------------------------------------------------


def test_an_actor_that_exits_does_not_restart_and_says_why(world: World) -> None:
    driver = world.driver()
    aid, worker, (running,) = world.actor(driver, calls=1, max_restarts=5)
    waiting = driver.call(aid, driver.method())
    worker.rpc("exit_actor")
    worker.die({"kind": "exit", "exit_code": 0, "text": "its process exited with code 0"})
    for call in (running, waiting):
        fault = driver.fault(returned(call))
        assert fault["code"] == "actor_died"
        assert "it called ray.actor.exit_actor()" in fault["message"]
    assert not world.starting


def test_only_an_actor_can_exit_as_one(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    for peer in (driver, worker):
        with pytest.raises(RefusedError, match="only for actors"):
            peer.rpc("exit_actor")
