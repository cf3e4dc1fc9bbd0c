"""Actors: creation, order of calls, names, and their intended ends."""

from collections.abc import Callable

import pytest

from rayd.core.actor_record import WINDOW_AHEAD
from rayd.core.effect import RetireWorker
from rayd.wire.messages import CALL, CREATE, ERROR, EVENT, INLINE, REPLY, STOP_TASK, VALUE
from world import RefusedError, World, actor_object, creation, returned

# --- creation ---------------------------------------------------------------------------------------------------------


def test_an_actor_is_ready_when_its_constructor_has_returned(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    aid = driver.create(driver.actor_class())
    driver.want(actor_object(aid))
    assert worker.read() == [creation(aid)]
    assert driver.take() == []
    worker.done(creation(aid), b"None")
    assert driver.take() == [[VALUE, actor_object(aid), INLINE, b"None"]]


def test_calls_made_before_the_actor_is_ready_wait_for_it(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    aid = driver.create(driver.actor_class())
    call = driver.call(aid, driver.method())
    assert worker.read() == [creation(aid)]
    assert worker.mail() == []
    worker.done(creation(aid))
    assert worker.run(b"1") == call
    assert driver.value(returned(call)) == (INLINE, b"1")


def test_the_constructor_waits_for_its_arguments_and_they_live_until_it_has_returned(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    tid = driver.submit(driver.spec())
    aid = driver.create(driver.actor_class(), deps=[returned(tid)])
    driver.release(returned(tid))
    assert worker.run(b"argument") == tid
    assert worker.read() == [creation(aid)]
    assert worker.body(creation(aid))[4] == [[returned(tid), INLINE, b"argument"]]
    worker.done(creation(aid))
    assert returned(tid) not in world.node.state.objects.entries


def test_an_actor_that_may_restart_keeps_its_arguments(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    dep = driver.put(b"argument")
    aid = driver.create(driver.actor_class(max_restarts=1), deps=[dep])
    driver.release(dep)
    worker.run()
    worker.die()
    (other,) = world.workers()
    assert other.read() == [creation(aid)]
    assert other.body(creation(aid))[4] == [[dep, INLINE, b"argument"]]
    other.done(creation(aid))
    assert dep not in world.node.state.objects.entries  # that was the last time


def test_an_actor_waits_for_its_resources_and_keeps_them_for_life(new_world: Callable[..., World]) -> None:
    world = new_world(resources={"seat": 1})
    driver = world.driver()
    world.workers()
    key = driver.actor_class(resources={"seat": 1})
    first, second = driver.create(key), driver.create(key)
    (one,) = [worker for worker in world.mailboxes.values() if worker.unread]
    assert one.run() == creation(first)
    assert world.node.state.ledger.available() == {"CPU": 1.0}
    driver.release(actor_object(first))
    assert world.take() == [RetireWorker(one.wid)]
    one.die()
    (two,) = world.workers()
    assert two.run() == creation(second)


def test_an_actor_needs_a_cpu_to_be_placed_but_not_to_live(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    tid = driver.submit(driver.spec())
    worker.read()
    aid = driver.create(driver.actor_class(placement={"CPU": 1}))
    assert not world.starting
    worker.done(tid)
    assert worker.run() == creation(aid)
    assert world.node.state.ledger.available() == {"CPU": 1.0}


def test_actors_are_given_gpus_for_life(new_world: Callable[..., World]) -> None:
    world = new_world(resources={"GPU": 2})
    driver = world.driver()
    world.workers()
    aid, worker, _ = world.actor(driver, resources={"GPU": 2})
    assert world.node.state.gpus.shares() == [0.0, 0.0]
    worker.die()
    assert world.node.state.gpus.shares() == [1.0, 1.0]
    assert driver.fault(returned(driver.call(aid, driver.method())))["code"] == "actor_died"


def test_an_actor_that_can_never_be_placed_is_reported(world: World) -> None:
    driver = world.driver()
    log = world.tool("logs", job=driver.job)
    aid = driver.create(driver.actor_class("Huge", placement={"CPU": 9}))
    ((_, level, text),) = log.take(EVENT)
    assert level == "warning"
    assert f"actor Huge ({aid.hex()}) can never be scheduled: it asks for 9 CPU (the cluster has 1)" in text
    assert driver.rpc("status")["demands"][0]["infeasible"] is True


def test_an_exception_in_the_constructor_is_the_end_and_goes_to_every_call(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    aid = driver.create(driver.actor_class(max_restarts=5))
    early = driver.call(aid, driver.method())
    worker.read()
    worker.fail(creation(aid), b"pickled")
    late = driver.call(aid, driver.method())
    for oid in (returned(early), returned(late), actor_object(aid)):
        fault = driver.fault(oid)
        assert (fault["code"], fault["init_failed"], fault["error"]) == ("actor_died", True, b"pickled")
    assert world.take() == [RetireWorker(worker.wid)]
    worker.die()


def test_an_argument_of_the_constructor_that_is_an_error_is_the_end_too(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    bad = driver.submit(driver.spec())
    aid = driver.create(driver.actor_class(), deps=[returned(bad)])
    call = driver.call(aid, driver.method())
    worker.read()
    worker.fail(bad, b"pickled")
    fault = driver.fault(returned(call))
    assert (fault["code"], fault["init_failed"], fault["error"]) == ("actor_died", True, b"pickled")
    assert "an argument of its constructor is an error" in fault["message"]


# --- order of calls ---------------------------------------------------------------------------------------------------


def test_calls_of_a_caller_are_read_in_the_order_they_were_made(world: World) -> None:
    driver = world.driver()
    aid, worker, _ = world.actor(driver)
    key = driver.method()
    calls = [driver.call(aid, key) for _ in range(50)]
    assert worker.run_all() == calls


def test_a_call_that_waits_for_an_argument_holds_back_later_calls_of_its_caller_only(world: World) -> None:
    driver = world.driver()
    aid, worker, _ = world.actor(driver)
    other = world.tool()  # stands for another process of the same job
    other_key = driver.method("other")
    tid = driver.submit(driver.spec())
    key = driver.method()
    first = driver.call(aid, key)
    stalled = driver.call(aid, key, deps=[returned(tid)])
    behind = [driver.call(aid, key), driver.call(aid, key, deps=[driver.put()])]
    assert worker.run_all() == [first]
    (running,) = world.workers()
    helper_call = running.call(aid, running.method())
    assert worker.run_all() == [helper_call]
    running.run(b"argument")
    assert worker.run_all() == [stalled, *behind]
    assert (other.take(), other_key) == ([], other_key)


@pytest.mark.parametrize("out_of_order", [False, True])
def test_calls_that_wait_for_the_same_argument_are_made_once_each(world: World, out_of_order: bool) -> None:
    driver = world.driver()
    aid, worker, _ = world.actor(driver, out_of_order=out_of_order)
    tid = driver.submit(driver.spec())
    key = driver.method()
    calls = [driver.call(aid, key, deps=[returned(tid)] * count) for count in (1, 2, 1)]
    (running,) = world.workers()
    running.run()
    assert sorted(worker.run_all()) == sorted(calls)


def test_a_cancelled_call_no_longer_holds_back_the_others(world: World) -> None:
    driver = world.driver()
    aid, worker, _ = world.actor(driver)
    tid = driver.submit(driver.spec())
    key = driver.method()
    first, second, third = (driver.call(aid, key, deps=[returned(tid)]) for _ in range(3))
    free = driver.call(aid, key)
    for call in (first, third, second):
        assert worker.mail() == []
        driver.cancel(call)
    assert worker.run_all() == [free]
    assert driver.fault(returned(second))["code"] == "cancelled"


def test_calls_may_overtake_each_other_where_the_actor_allows_it(world: World) -> None:
    driver = world.driver()
    aid, worker, _ = world.actor(driver, out_of_order=True)
    tid = driver.submit(driver.spec())
    key = driver.method()
    stalled = driver.call(aid, key, deps=[returned(tid)])
    free = driver.call(aid, key)
    assert worker.run_all() == [free]
    (running,) = world.workers()
    running.run()
    assert worker.run_all() == [stalled]


def test_an_argument_that_is_an_error_fails_that_call_alone(world: World) -> None:
    driver = world.driver()
    aid, worker, _ = world.actor(driver)
    bad = driver.submit(driver.spec())
    key = driver.method()
    calls = [driver.call(aid, key), driver.call(aid, key, deps=[returned(bad)]), driver.call(aid, key)]
    (running,) = world.workers()
    running.read()
    running.fail(bad, b"why")
    assert worker.run_all() == [calls[0], calls[2]]
    assert driver.value(returned(calls[1])) == (ERROR, b"why")


def test_no_more_calls_are_mailed_than_the_window_allows(world: World) -> None:
    driver = world.driver()
    aid, worker, _ = world.actor(driver, concurrency=4)
    key = driver.method()
    calls = [driver.call(aid, key) for _ in range(200)]
    assert worker.mail() == calls[: 4 + WINDOW_AHEAD]
    worker.read()
    worker.done(calls[0])
    assert worker.mail()[-1] == calls[4 + WINDOW_AHEAD]
    assert worker.run_all() == calls[1:]


def test_calls_that_come_together_are_mailed_together(world: World) -> None:
    driver = world.driver()
    aid, worker, _ = world.actor(driver)
    key = driver.method()
    tids = [driver.new_tid() for _ in range(3)]
    driver.send(*[(CALL, tid, aid, key, b"", b"", [], []) for tid in tids])
    assert worker.read() == tids
    for tid in reversed(tids):  # a concurrent actor answers in any order
        worker.done(tid)


def test_a_call_of_an_actor_nobody_knows_says_so(world: World) -> None:
    driver = world.driver()
    call = driver.call(b"x" * 16, driver.method())
    fault = driver.fault(returned(call))
    assert fault["code"] == "actor_died"
    assert "from an earlier session" in fault["message"]


def test_an_exception_of_a_call_leaves_the_actor_alive(world: World) -> None:
    driver = world.driver()
    aid, worker, (call,) = world.actor(driver, calls=1)
    worker.fail(call, b"why")
    assert driver.value(returned(call)) == (ERROR, b"why")
    assert worker.mail() == []
    later = driver.call(aid, driver.method())
    assert worker.run() == later


def test_a_call_is_tried_again_for_an_exception_where_allowed(world: World) -> None:
    driver = world.driver()
    aid, worker, _ = world.actor(driver)
    call = driver.call(aid, driver.method(max_retries=1))
    worker.read()
    worker.fail(call, retryable=True)
    assert worker.read() == [call]
    worker.fail(call, b"again", retryable=True)
    assert driver.value(returned(call)) == (ERROR, b"again")


# --- cancellation -----------------------------------------------------------------------------------------------------


def test_a_call_that_has_not_been_mailed_is_cancelled_here(world: World) -> None:
    driver = world.driver()
    aid = driver.create(driver.actor_class())
    call = driver.call(aid, driver.method())
    driver.cancel(call)
    assert driver.fault(returned(call))["code"] == "cancelled"
    (worker,) = world.workers()
    assert worker.run_all() == [creation(aid)]


def test_a_call_that_runs_is_told_and_decides_itself(world: World) -> None:
    driver = world.driver()
    _, worker, (call,) = world.actor(driver, calls=1)
    driver.cancel(call)
    assert worker.take() == [[STOP_TASK, call]]
    worker.done(call, b"all the same")
    assert driver.value(returned(call)) == (INLINE, b"all the same")


def test_a_call_that_was_mailed_behind_others_is_over_at_once(world: World) -> None:
    driver = world.driver()
    aid, worker, (running,) = world.actor(driver, calls=1)
    call = driver.call(aid, driver.method())
    driver.cancel(call)
    assert driver.fault(returned(call))["code"] == "cancelled"
    assert worker.take() == [[STOP_TASK, call]]
    assert worker.run_all() == [running, call]
    assert driver.fault(returned(call))["code"] == "cancelled"


# --- names ------------------------------------------------------------------------------------------------------------


def test_a_name_leads_to_its_actor_within_its_namespace(world: World) -> None:
    driver, other = world.driver(namespace="home"), world.driver(namespace="away")
    aid, _, _ = world.actor(driver, actor_name="adder", meta=b"meta")
    assert driver.rpc("get_actor", name="adder") == {"actor_id": aid, "meta": b"meta", "name": "adder"}
    assert other.rpc("get_actor", name="adder", namespace="home")["actor_id"] == aid
    with pytest.raises(RefusedError, match="no actor named 'adder' in namespace 'away'"):
        other.rpc("get_actor", name="adder")
    assert driver.rpc("list_named_actors") == [{"name": "adder", "namespace": "home"}]
    assert other.rpc("list_named_actors") == []
    assert other.rpc("list_named_actors", all_namespaces=True) == [{"name": "adder", "namespace": "home"}]


def test_a_name_that_is_taken_is_refused_with_the_remedies(world: World) -> None:
    driver = world.driver()
    aid = driver.create(driver.actor_class(actor_name="adder"))
    with pytest.raises(RefusedError) as refused:
        driver.create(driver.actor_class(actor_name="adder"))
    assert refused.value.fault["code"] == "name_taken"
    assert f"'adder' ({aid.hex()})" in str(refused.value)
    assert "get_if_exists=True" in str(refused.value)


def test_whoever_asks_for_the_actor_if_it_exists_gets_it_and_holds_it(world: World) -> None:
    driver, other = world.driver(namespace="home"), world.driver(namespace="home")
    key = driver.actor_class(actor_name="adder", get_if_exists=True)
    aid = driver.create(key)
    found = other.request(
        lambda req: (
            CREATE,
            req,
            b"y" * 16,
            other.actor_class(actor_name="adder", get_if_exists=True),
            b"",
            b"",
            [],
            [],
        )
    )
    assert found["actor_id"] == aid
    driver.release(actor_object(aid))
    assert world.node.actors.by_id[aid].fault is None
    other.release(actor_object(aid))
    assert aid not in world.node.actors.by_id


@pytest.mark.parametrize("end", ["killed", "failed", "crashed", "dropped"])
def test_a_name_is_free_again_when_its_actor_has_ended(world: World, end: str) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    aid = driver.create(driver.actor_class(actor_name="adder"))
    worker.read()
    if end == "failed":
        worker.fail(creation(aid))
    else:
        worker.done(creation(aid))
    if end == "killed":
        driver.send((16, aid, True))  # KILL
    elif end == "crashed":
        worker.die()
    elif end == "dropped":
        driver.release(actor_object(aid))
    world.forgive()
    assert driver.rpc("list_named_actors") == []
    again = driver.create(driver.actor_class(actor_name="adder"))
    assert driver.rpc("get_actor", name="adder")["actor_id"] == again
    world.forgive()


def test_an_actor_that_could_not_be_created_has_no_name(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    bad = driver.submit(driver.spec())
    worker.read()
    worker.fail(bad)
    driver.create(driver.actor_class(actor_name="adder"), deps=[returned(bad)])
    assert driver.rpc("list_named_actors") == []


def test_creation_without_a_name_is_not_answered(world: World) -> None:
    driver = world.driver()
    key = driver.actor_class()
    driver.send((CREATE, 0, b"z" * 16, key, b"", b"", [], []))
    assert driver.take() == []
    driver.send((CREATE, 7, b"w" * 16, key, b"", b"", [], []))
    assert driver.take() == [[REPLY, 7, True, None]]
