"""Cancellation of plain tasks in each of their states."""

from collections.abc import Callable

from rayd.core.effect import Interrupt, KillWorker
from rayd.wire.messages import INLINE, STOP_TASK
from world import SIGKILL, World, returned


def is_cancelled(fault: dict[str, object], tid: bytes) -> bool:
    return fault["code"] == "cancelled" and fault["task_id"] == tid.hex()


def test_a_queued_task_never_runs(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    key = driver.spec()
    first, second, third = (driver.submit(key) for _ in range(3))
    driver.cancel(second)
    assert is_cancelled(driver.fault(returned(second)), second)
    assert worker.run_all(run_us=10_000) == [first, third]


def test_a_task_that_waits_for_an_argument_never_runs_and_lets_go_of_it(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    first = driver.submit(driver.spec())
    second = driver.submit(driver.spec(), deps=[returned(first)])
    driver.release(returned(first))
    driver.cancel(second)
    assert is_cancelled(driver.fault(returned(second)), second)
    assert worker.run_all() == [first]
    driver.release(returned(second))
    world.expect_nothing_left()


def test_a_mailed_task_that_has_not_begun_is_over_at_once(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    key = driver.spec()
    driver.submit(key)
    worker.run(run_us=1)
    tids = [driver.submit(key) for _ in range(4)]
    worker.run(run_us=1)
    worker.read()
    driver.cancel(tids[2])
    assert is_cancelled(driver.fault(returned(tids[2])), tids[2])
    assert worker.take() == [[STOP_TASK, tids[2]]]
    worker.run_all()
    assert is_cancelled(driver.fault(returned(tids[2])), tids[2])


def test_a_mailed_task_with_large_arguments_can_still_be_fetched_after_it_was_cancelled(world: World) -> None:
    """Its worker learns from STOP_TASK not to run it; a body that is refused would leave it with nothing to answer."""
    driver = world.driver()
    (worker,) = world.workers()
    key = driver.spec()
    driver.submit(key)
    worker.run(run_us=1)
    tids = [driver.submit(key, bytes(60_000)) for _ in range(3)]
    worker.run(run_us=1)
    worker.read()
    driver.cancel(tids[2])
    assert worker.take() == [[STOP_TASK, tids[2]]]
    worker.done(tids[1])
    worker.read()
    assert worker.request(lambda req: (36, req, tids[2]))[0] == tids[2]  # BODY
    worker.fail(tids[2])
    assert not world.node.state.bodies
    assert is_cancelled(driver.fault(returned(tids[2])), tids[2])


def test_a_running_task_is_interrupted_and_its_own_answer_counts(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    tid = driver.submit(driver.spec(max_retries=5))
    worker.read()
    driver.cancel(tid)
    assert worker.take() == [[STOP_TASK, tid]]
    assert world.take() == [Interrupt(worker.wid)]
    worker.fail(tid, b"cancelled", retryable=True)
    assert driver.value(returned(tid))[1] == b"cancelled"
    assert not worker.mail()


def test_a_running_task_that_does_not_mind_finishes(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    tid = driver.submit(driver.spec())
    worker.read()
    driver.cancel(tid)
    worker.done(tid, b"all the same")
    assert driver.value(returned(tid)) == (INLINE, b"all the same")
    assert len(worker.take() + world.take()) == 2


def test_a_cancelled_task_is_not_run_again_when_its_worker_dies(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    tid = driver.submit(driver.spec(max_retries=5))
    worker.read()
    driver.cancel(tid)
    worker.take()
    assert world.take() == [Interrupt(worker.wid)]
    worker.die()
    assert driver.fault(returned(tid))["code"] == "worker_crashed"
    assert not world.starting


def test_force_kills_the_worker_and_says_so(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    tid = driver.submit(driver.spec(max_retries=5))
    worker.read()
    driver.cancel(tid, force=True)
    assert world.take() == [KillWorker(worker.wid)]
    worker.die(SIGKILL)
    fault = driver.fault(returned(tid))
    assert fault["code"] == "worker_crashed"
    assert "died: the task was cancelled with force=True while it ran f." in fault["message"]


def test_force_harms_nothing_that_is_queued_behind(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    key = driver.spec(max_retries=0)
    driver.submit(key)
    worker.run(run_us=1)
    tids = [driver.submit(key) for _ in range(4)]
    worker.run(run_us=1)
    worker.read()
    driver.cancel(tids[1], force=True)
    assert world.take() == [KillWorker(worker.wid)]
    worker.die(SIGKILL)
    (other,) = world.workers()
    assert other.run_all() == tids[2:]


def test_who_had_begun_behind_a_task_that_is_killed_may_be_run_again(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    key = driver.spec(max_retries=1)
    driver.submit(key)
    worker.run(run_us=1)
    tids = [driver.submit(key) for _ in range(3)]
    worker.run(run_us=1)
    worker.read()
    worker.read()  # the result of the one before is on its way
    driver.cancel(tids[1], force=True)
    assert world.take() == [KillWorker(worker.wid)]
    worker.die(SIGKILL)
    assert is_cancelled(driver.fault(returned(tids[1])), tids[1])
    (other,) = world.workers()
    assert other.run_all() == tids[2:]


def test_a_task_that_turns_out_not_to_have_begun_is_not_handed_out_again(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    tid = driver.submit(driver.spec(max_retries=5))
    driver.cancel(tid)  # for all that is known it runs
    assert (worker.take(), world.take()) == ([[STOP_TASK, tid]], [Interrupt(worker.wid)])
    worker.die()
    assert is_cancelled(driver.fault(returned(tid)), tid)
    assert not world.starting


def test_to_cancel_what_is_finished_does_nothing(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    tid = driver.submit(driver.spec())
    worker.run()
    driver.cancel(tid)
    driver.cancel(driver.new_tid())
    assert driver.value(returned(tid)) == (INLINE, b"v")


def test_to_cancel_an_actor_by_its_object_does_nothing(world: World) -> None:
    driver = world.driver()
    aid = driver.create(driver.actor_class(), deps=[dep := driver.put()])
    driver.send((15, aid + b"\xff" * 12, False, True))  # CANCEL
    driver.release(dep)
    (worker,) = world.workers()
    worker.read()
    assert worker.body(b"\xff" * 8 + aid)[4] == [[dep, INLINE, b"v"]]
    worker.done(b"\xff" * 8 + aid)


def test_a_task_may_be_cancelled_by_any_of_its_returns(world: World) -> None:
    driver = world.driver()
    tid = driver.submit(driver.spec(num_returns=2))
    driver.release(returned(tid, 1))
    driver.send((15, returned(tid, 2), False, True))  # CANCEL
    assert is_cancelled(driver.fault(returned(tid, 2)), tid)


def test_children_are_cancelled_with_their_parent_down_to_the_last(new_world: Callable[..., World]) -> None:
    world = new_world(cpus=2)
    driver = world.driver()
    world.workers()
    parent = driver.submit(driver.spec("parent"))
    outer = world.worker_with(parent)
    outer.read()
    child = outer.submit(outer.spec("child"))
    inner = world.worker_with(child)
    inner.read()
    grandchildren = [inner.submit(inner.spec("grandchild")) for _ in range(2)]
    driver.cancel(parent)
    assert world.take() == [Interrupt(inner.wid), Interrupt(outer.wid)]
    assert (inner.take(), outer.take()) == ([[STOP_TASK, child]], [[STOP_TASK, parent]])
    assert all(is_cancelled(inner.fault(returned(tid)), tid) for tid in grandchildren)
    inner.fail(child)
    outer.fail(parent)
    assert not world.node.state.children


def test_calls_of_actors_that_a_task_has_made_are_cancelled_with_it(new_world: Callable[..., World]) -> None:
    world = new_world(cpus=2)
    driver = world.driver()
    aid, serving, _ = world.actor(driver)
    parent = driver.submit(driver.spec("parent"))
    outer = world.worker_with(parent)
    outer.read()
    call = outer.call(aid, outer.method())
    driver.cancel(parent)
    assert serving.take() == [[STOP_TASK, call]]
    assert outer.take() == [[STOP_TASK, parent]]
    assert world.take() == [Interrupt(outer.wid)]
    serving.run_all()
    outer.fail(parent)


def test_children_stay_when_only_the_parent_is_cancelled(new_world: Callable[..., World]) -> None:
    world = new_world(cpus=2)
    driver = world.driver()
    world.workers()
    parent = driver.submit(driver.spec("parent"))
    outer = world.worker_with(parent)
    outer.read()
    child = outer.submit(outer.spec("child"))
    driver.cancel(parent, recursive=False)
    assert outer.take() == [[STOP_TASK, parent]]
    assert world.take() == [Interrupt(outer.wid)]
    outer.fail(parent)
    assert world.worker_with(child).run() == child


def test_children_of_a_parent_that_goes_on_and_on_are_forgotten_as_they_finish(new_world: Callable[..., World]) -> None:
    world = new_world(cpus=2)
    driver = world.driver()
    world.workers()
    parent = driver.submit(driver.spec("parent"))
    outer = world.worker_with(parent)
    outer.read()
    key = outer.spec("child")
    for _ in range(50):
        child = outer.submit(key)
        world.worker_with(child).run()
        outer.release(returned(child))
        assert not world.node.state.children
    outer.done(parent)
