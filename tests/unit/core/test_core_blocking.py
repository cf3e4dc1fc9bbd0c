"""Workers that wait or turn out to be slow: what they hold is lent, what they have queued is taken back."""

from collections.abc import Callable

import pytest

from rayd.core.dispatch import SLOW_NS_MIN
from rayd.core.effect import TakeBack
from rayd.wire.messages import INLINE, STOP_TASK, VALUE
from world import Peer, WorkerPeer, World, creation, returned

# Looked at every SLOW_NS_MIN, so noticed after two of them at the latest.
SLOW_MS = 2 * SLOW_NS_MIN / 1e6


def short(world: World, driver: Peer, worker: WorkerPeer, count: int) -> tuple[int, list[bytes]]:
    """A function known to be short and so many tasks: the worker has begun the first, the others lie in its mailbox."""
    key = driver.spec()
    driver.submit(key)
    worker.run(run_us=1)
    first = driver.submit(key)
    tids = [first, *(driver.submit(key) for _ in range(count))]
    worker.run(run_us=1)
    worker.read()
    return key, tids[1:]


# --- a task that waits ------------------------------------------------------------------------------------------------


def test_a_task_that_waits_lends_its_cpu_to_what_it_waits_for(world: World) -> None:
    driver = world.driver()
    (outer,) = world.workers()
    parent = driver.submit(driver.spec("parent"))
    outer.read()
    child = outer.submit(outer.spec("child"))
    outer.want(returned(child))
    assert not world.starting
    outer.blocked()
    (inner,) = world.workers()
    assert inner.run(b"child's") == child
    assert outer.take() == [[VALUE, returned(child), INLINE, b"child's"]]
    outer.resumed()
    outer.done(parent)
    assert world.node.state.ledger.available() == {"CPU": 1.0}


def test_tasks_may_be_nested_deeper_than_there_are_cpus(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    chain = [(worker, driver.submit(driver.spec()))]
    worker.read()
    for _ in range(10):
        tid = worker.submit(worker.spec())
        worker.blocked()
        (worker,) = world.workers()
        assert worker.read() == [tid]
        chain.append((worker, tid))
    for worker, tid in reversed(chain):
        worker.done(tid)
        world.wait_ms(1)
        for other, _ in chain[: chain.index((worker, tid))][-1:]:
            other.resumed()
    assert world.node.state.ledger.available() == {"CPU": 1.0}


def test_only_cpus_are_lent(new_world: Callable[..., World]) -> None:
    world = new_world(cpus=2, resources={"GPU": 1, "disk": 1})
    driver = world.driver()
    worker, *_ = world.workers()
    tid = driver.submit(driver.spec(cpus=2, resources={"GPU": 1, "disk": 1}))
    worker = world.worker_with(tid)
    worker.read()
    worker.blocked()
    assert world.node.state.ledger.available() == {"CPU": 2.0}
    worker.resumed()
    assert world.node.state.ledger.available() == {}
    worker.done(tid)


def test_a_task_goes_on_at_once_although_its_cpu_is_in_use_and_that_is_paid_back_first(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    key = driver.spec()
    first = driver.submit(key)
    worker.read()
    worker.blocked()
    others = [driver.submit(key) for _ in range(2)]
    (other,) = world.workers()
    assert other.read() == others[:1]
    worker.resumed()
    assert world.node.state.ledger.debt() == {"CPU": 1.0}
    worker.done(first, run_us=10_000)
    assert not world.node.state.ledger.debt()
    assert other.begun == others[:1]
    assert not worker.mail()  # one CPU, and the other has it
    other.done(others[0], run_us=10_000)
    assert world.worker_with(others[1]).run() == others[1]


def test_what_is_queued_behind_a_task_that_waits_is_taken_back(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    _, tids = short(world, driver, worker, 3)
    running = worker.begun[0]
    assert worker.mail() == tids[1:]
    worker.blocked()
    assert world.take() == [TakeBack(worker.wid)]
    (other,) = world.workers()
    assert other.run_all() == tids[1:]
    worker.resumed()
    worker.done(running)


def test_a_worker_that_dies_while_it_waits_gives_back_what_it_still_holds(new_world: Callable[..., World]) -> None:
    world = new_world(resources={"disk": 1})
    driver = world.driver()
    (worker,) = world.workers()
    driver.submit(driver.spec(resources={"disk": 1}))
    worker.read()
    worker.blocked()
    worker.die()
    assert world.node.state.ledger.available() == {"CPU": 1.0, "disk": 1.0}


def test_a_worker_that_dies_while_its_cpu_is_lent_pays_no_debt(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    key = driver.spec()
    driver.submit(key)
    worker.read()
    worker.blocked()
    second = driver.submit(key)
    (other,) = world.workers()
    other.read()
    worker.die()
    assert world.node.state.ledger.available() == {}
    other.done(second)
    assert world.node.state.ledger.available() == {"CPU": 1.0}


def test_words_about_waiting_that_come_too_late_or_twice_change_nothing(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    worker.blocked()
    worker.resumed()
    tid = driver.submit(driver.spec())
    worker.read()
    worker.resumed()
    worker.blocked()
    worker.blocked()
    assert world.node.state.ledger.available() == {"CPU": 1.0}
    worker.resumed()
    worker.resumed()
    assert world.node.state.ledger.available() == {}
    worker.done(tid)


def test_a_worker_of_which_another_thread_still_waits_holds_all_it_needs_for_its_next_task(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    key = driver.spec()
    tids = [driver.submit(key) for _ in range(2)]
    worker.read()
    worker.blocked()
    driver.cancel(tids[1])
    worker.done(tids[0], run_us=10_000)
    third = driver.submit(key)
    assert worker.read() == [third]
    assert world.node.state.ledger.available() == {}
    worker.resumed()
    worker.done(third)


def test_an_actor_that_waits_lends_its_cpu_too(world: World) -> None:
    driver = world.driver()
    _, worker, (call,) = world.actor(driver, calls=1, resources={"CPU": 1})
    child = worker.submit(worker.spec())
    worker.blocked()
    (other,) = world.workers()
    assert other.run() == child
    worker.resumed()
    assert world.node.state.ledger.available() == {}
    worker.done(call)


# --- a worker that turns out to be slow -------------------------------------------------------------------------------


def test_what_is_queued_behind_a_slow_task_goes_to_another_worker(new_world: Callable[..., World]) -> None:
    world = new_world(cpus=1, resources={"spare": 1})
    driver = world.driver()
    (worker,) = world.workers()
    _, tids = short(world, driver, worker, 4)
    running = worker.begun[0]
    world.wait_ms(SLOW_MS)
    assert world.take() == [TakeBack(worker.wid)]
    assert worker.mail() == []
    worker.done(running)
    assert worker.mail() == tids[1:2]  # one at a time from now on
    assert worker.run_all(run_us=10_000) == tids[1:]


def test_the_queue_of_a_slow_worker_goes_to_one_that_becomes_free(new_world: Callable[..., World]) -> None:
    world = new_world(cpus=2)
    driver = world.driver()
    workers = world.workers()
    key = driver.spec()
    driver.submit(key)
    next(worker for worker in workers if worker.unread).run(run_us=1)
    driver.send(*[(4, driver.new_tid(), key, b"", b"", [], []) for _ in range(12)])  # SUBMIT
    slow, quick = workers
    slow.read()
    queued = slow.mail()
    assert queued
    quick.run_all(run_us=1)
    world.wait_ms(SLOW_MS)
    assert world.take() == [TakeBack(slow.wid)]
    assert quick.run_all(run_us=1) == queued
    slow.done(slow.begun[0])


def test_a_task_that_is_as_long_as_usual_is_not_slow(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    short(world, driver, worker, 3)
    world.wait_ms(SLOW_MS / 2 - 1)
    assert world.take() == []
    worker.run_all()


def test_nothing_is_asked_of_the_clock_while_no_queue_is_behind_anything(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    driver.submit(driver.spec())
    worker.read()
    assert world.node.next_deadline() is None
    worker.done(worker.begun[0])


@pytest.mark.parametrize("read_meanwhile", [0, 1, 3])
def test_what_a_slow_worker_has_read_meanwhile_stays_its_own(world: World, read_meanwhile: int) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    _, tids = short(world, driver, worker, 4)
    for _ in range(read_meanwhile):
        worker.read()
    world.wait_ms(SLOW_MS)
    world.take()
    begun = list(worker.begun)
    assert len(begun) == 1 + read_meanwhile
    assert worker.run_all(run_us=10_000) == [*begun, *tids[1 + read_meanwhile :]]


def test_what_a_worker_reads_while_its_mailbox_is_drained_stays_its_own_whatever_lies_before_it(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    _, tids = short(world, driver, worker, 5)
    snatches = iter([False, True, False, True])
    world.snatches = lambda: next(snatches)
    worker.blocked()
    assert world.take() == [TakeBack(worker.wid)]
    assert worker.begun == [tids[0], tids[2], tids[4]]
    (other,) = world.workers()
    assert other.run_all(run_us=10_000) == [tids[1], tids[3]]
    worker.resumed()
    worker.run_all()


def test_a_cancelled_task_that_is_taken_back_is_not_mailed_again(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    _, tids = short(world, driver, worker, 4)
    driver.cancel(tids[2])
    world.wait_ms(SLOW_MS)
    assert worker.take() == [[STOP_TASK, tids[2]]]
    assert world.take() == [TakeBack(worker.wid)]
    assert worker.run_all(run_us=10_000) == [tids[0], tids[1], tids[3]]


def test_a_worker_that_has_become_an_actor_before_its_mailbox_is_drained_keeps_what_it_is_for(world: World) -> None:
    """TakeBack is carried out after the step, in which the same worker may have been given to an actor."""
    driver = world.driver()
    (worker,) = world.workers()
    _, (running, queued) = short(world, driver, worker, 2)
    aid = driver.create(driver.actor_class(placement={"CPU": 1}))
    worker.read()
    with worker.together():  # it waited, went on and finished both before the core looked
        worker.blocked()
        worker.resumed()
        worker.done(running)
        worker.done(queued)
    assert world.take() == [TakeBack(worker.wid)]
    assert worker.run_all() == [creation(aid)]
