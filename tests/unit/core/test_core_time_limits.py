"""Tasks that may only run for so long."""

from rayd.core.effect import Interrupt, KillWorker
from rayd.core.time_limits import GRACE_NS
from rayd.errors import TIMED_OUT
from rayd.wire import messages as m
from world import SIGKILL, Peer, WorkerPeer, World, returned

GRACE_MS = GRACE_NS / 1e6


def running(world: World, driver: Peer, **options: object) -> tuple[bytes, WorkerPeer]:
    """A task with a limit of a second that a worker has begun."""
    tid = driver.submit(driver.spec("slow", timeout_s=1.0, **options))  # type: ignore[arg-type]
    (worker,) = world.workers()
    worker.read()
    return tid, worker


def test_what_runs_too_long_is_interrupted_and_that_is_its_result(world: World) -> None:
    driver = world.driver()
    tid, worker = running(world, driver, max_retries=3)
    world.wait_ms(999)
    assert not world.take(Interrupt)
    world.wait_ms(2)
    assert world.take(Interrupt) == [Interrupt(worker.wid)]
    assert worker.take(m.STOP_TASK) == [[m.STOP_TASK, tid]]
    worker.fail(tid, retryable=True)
    why = driver.fault(returned(tid))
    assert why["code"] == TIMED_OUT
    assert "timeout_s=1 " in why["message"]
    assert world.node.state.ledger.available() == {"CPU": 1.0}


def test_what_does_not_end_when_interrupted_is_killed(world: World) -> None:
    driver = world.driver()
    tid, worker = running(world, driver, max_retries=3)
    world.wait_ms(1_001)
    world.take(Interrupt)
    worker.take(m.STOP_TASK)
    world.wait_ms(GRACE_MS - 2)
    assert not world.take(KillWorker)
    world.wait_ms(3)
    assert world.take(KillWorker) == [KillWorker(worker.wid)]
    worker.die(SIGKILL)
    assert driver.fault(returned(tid))["code"] == TIMED_OUT
    world.wait_ms(10 * GRACE_MS)
    assert not world.take(KillWorker)


def test_a_value_that_comes_in_spite_of_the_interrupt_counts(world: World) -> None:
    driver = world.driver()
    tid, worker = running(world, driver)
    world.wait_ms(1_001)
    world.take(Interrupt)
    worker.take(m.STOP_TASK)
    worker.done(tid, b"just in time")
    assert driver.value(returned(tid)) == (m.INLINE, b"just in time")


def test_each_task_has_its_own_time_and_none_waits_behind_another_in_a_mailbox(world: World) -> None:
    driver = world.driver()
    key = driver.spec("slow", timeout_s=1.0)
    first, second = driver.submit(key), driver.submit(key)
    (worker,) = world.workers()
    assert worker.mail() == [first]
    worker.read()
    world.wait_ms(900)
    worker.done(first, run_us=10)
    assert worker.mail() == [second]
    worker.read()
    world.wait_ms(900)
    assert not world.take(Interrupt)
    worker.done(second)
    world.wait_ms(5_000)
    assert not world.take(Interrupt)


def test_a_worker_that_dies_by_itself_is_not_taken_for_one_that_was_too_slow(world: World) -> None:
    driver = world.driver()
    tid, worker = running(world, driver, max_retries=0)
    worker.die(SIGKILL)
    assert driver.fault(returned(tid))["code"] != TIMED_OUT
    world.wait_ms(5_000)
    world.forgive()
