"""The end of an actor with its last handle."""

from rayd.core.effect import KillWorker, RetireWorker
from rayd.wire.messages import FAULT, INLINE
from world import World, actor_object, creation, returned


def test_an_actor_ends_in_order_when_the_last_handle_goes(world: World) -> None:
    driver = world.driver()
    aid, worker, calls = world.actor(driver, calls=2)
    driver.release(actor_object(aid))
    assert world.take() == []
    assert worker.run_all() == calls
    assert world.take() == [RetireWorker(worker.wid)]
    assert [driver.value(returned(call)) for call in calls] == [(INLINE, b"v")] * 2
    worker.die({"kind": "exit", "exit_code": 0, "text": "it ended"})
    driver.release(*map(returned, calls))
    world.expect_nothing_left()
    assert not world.node.actors.by_id


def test_an_idle_actor_ends_at_once_when_the_last_handle_goes(world: World) -> None:
    driver = world.driver()
    aid, worker, _ = world.actor(driver)
    driver.release(actor_object(aid))
    assert world.take() == [RetireWorker(worker.wid)]
    worker.die()
    world.expect_nothing_left()
    assert not world.node.actors.by_id


def test_an_actor_finishes_calls_that_still_wait_for_arguments(world: World) -> None:
    driver = world.driver()
    for out_of_order in (False, True):
        aid, worker, _ = world.actor(driver, out_of_order=out_of_order)
        tid = driver.submit(driver.spec())
        call = driver.call(aid, driver.method(), deps=[returned(tid)])
        driver.release(actor_object(aid))
        assert world.take() == []
        world.workers()
        world.worker_with(tid).run()
        assert worker.run() == call
        assert world.take() == [RetireWorker(worker.wid)]
        assert driver.value(returned(call)) == (INLINE, b"v")
        worker.die()


def test_an_actor_nobody_refers_to_before_it_has_a_place_never_starts(world: World) -> None:
    driver = world.driver()
    aid = driver.create(driver.actor_class(placement={"CPU": 9}))
    driver.release(actor_object(aid))
    assert aid not in world.node.actors.by_id
    world.expect_nothing_left()


def test_an_actor_whose_handle_goes_while_it_starts_ends_when_it_has_started(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    aid = driver.create(driver.actor_class())
    call = driver.call(aid, driver.method())
    worker.read()
    driver.release(actor_object(aid))
    worker.done(creation(aid))
    assert worker.run() == call
    assert world.take() == [RetireWorker(worker.wid)]
    worker.die()
    driver.release(returned(call))
    world.expect_nothing_left()


def test_a_cancelled_call_does_not_keep_an_actor(world: World) -> None:
    driver = world.driver()
    aid = driver.create(driver.actor_class(placement={"CPU": 9}))
    call = driver.call(aid, driver.method())
    driver.cancel(call)
    driver.release(actor_object(aid), returned(call))
    assert aid not in world.node.actors.by_id


def test_a_handle_inside_an_argument_keeps_the_actor(world: World) -> None:
    driver = world.driver()
    aid, worker, _ = world.actor(driver)
    tid = driver.submit(driver.spec(), contained=[actor_object(aid)])
    driver.release(actor_object(aid))
    (helper,) = world.workers()
    helper.read()
    helper.hold(actor_object(aid))
    helper.done(tid)
    assert world.take() == []
    helper.release(actor_object(aid))
    assert world.take() == [RetireWorker(worker.wid)]
    worker.die()


def test_an_actor_that_gets_a_handle_again_while_it_finishes_goes_on(world: World) -> None:
    driver, other = world.driver(namespace="x"), world.driver(namespace="x")
    aid, worker, (call,) = world.actor(driver, calls=1, actor_name="adder", get_if_exists=True)
    driver.release(actor_object(aid))
    other.hold(actor_object(aid))
    worker.done(call)
    assert world.take() == []
    other.release(actor_object(aid))
    assert world.take() == [RetireWorker(worker.wid)]
    worker.die()


def test_to_kill_is_the_end_of_what_runs_and_of_what_waits(world: World) -> None:
    driver = world.driver()
    aid, worker, calls = world.actor(driver, calls=2)
    driver.send((16, aid, True))  # KILL
    assert world.take() == [KillWorker(worker.wid)]
    later = driver.call(aid, driver.method())
    for call in (*calls, later):
        fault = driver.fault(returned(call))
        assert fault["code"] == "actor_died"
        assert "it was killed by ray.kill()" in fault["message"]
    worker.done(calls[0], b"too late")
    assert driver.value(returned(calls[0]))[0] == FAULT
    worker.die()
