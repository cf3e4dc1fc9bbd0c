"""Streaming tasks: items come once, in order, as far as the consumer lets them."""

from rayd.core.effect import Interrupt
from rayd.core.streams import CONSUMER_GONE
from rayd.wire.messages import (
    CREDIT,
    ERROR,
    FAULT,
    INLINE,
    STOP_TASK,
    STORED,
    STREAM_ACK,
    STREAM_END,
    STREAM_ITEM,
    STREAM_WANT,
    VALUE,
    YIELD,
)
from world import Peer, WorkerPeer, World, returned

STREAMING = -1


def streaming(world: World, **options: object) -> tuple[Peer, WorkerPeer, bytes]:
    """A driver, a worker, and a streaming task that it has begun."""
    driver = world.driver()
    (worker,) = world.workers()
    tid = driver.submit(driver.spec("count", num_returns=STREAMING, **options))
    worker.read()
    return driver, worker, tid


def item(tid: bytes, index: int, data: bytes = b"item") -> list[object]:
    return [STREAM_ITEM, tid, index, INLINE, data]


def test_items_are_sent_as_they_come_once_the_consumer_has_asked(world: World) -> None:
    driver, worker, tid = streaming(world)
    worker.yields(tid, 0, b"a")
    assert driver.take() == []
    driver.send((STREAM_WANT, tid))
    assert driver.take() == [item(tid, 0, b"a")]
    worker.yields(tid, 1, b"b")
    assert driver.take() == [item(tid, 1, b"b")]
    worker.done(tid)
    assert driver.take() == [[STREAM_END, tid, 2]]


def test_a_stream_may_be_read_after_its_task_has_ended(world: World) -> None:
    driver, worker, tid = streaming(world)
    for index in range(3):
        worker.yields(tid, index)
    worker.done(tid)
    driver.send((STREAM_WANT, tid))
    assert driver.take() == [*(item(tid, index) for index in range(3)), [STREAM_END, tid, 3]]


def test_the_generator_itself_is_ready_when_the_stream_has_ended(world: World) -> None:
    driver, worker, tid = streaming(world)
    driver.want(returned(tid, 0))
    worker.yields(tid, 0)
    assert driver.take() == []
    worker.done(tid)
    ((tag, oid, kind, _),) = driver.take()
    assert (tag, oid, kind) == (VALUE, returned(tid, 0), INLINE)


def test_an_exception_is_the_last_item(world: World) -> None:
    driver, worker, tid = streaming(world)
    driver.send((STREAM_WANT, tid))
    worker.yields(tid, 0)
    worker.fail(tid, b"why")
    assert driver.take() == [item(tid, 0), [STREAM_ITEM, tid, 1, ERROR, b"why"], [STREAM_END, tid, 2]]


def test_the_death_of_the_worker_is_the_last_item(world: World) -> None:
    driver, worker, tid = streaming(world)
    driver.send((STREAM_WANT, tid))
    worker.yields(tid, 0)
    worker.die()
    first, fault, end = driver.take()
    assert (first, end) == (item(tid, 0), [STREAM_END, tid, 2])
    assert (fault[3], fault[4]["code"]) == (FAULT, "worker_crashed")


def test_a_second_attempt_does_not_repeat_items(world: World) -> None:
    driver, worker, tid = streaming(world, max_retries=1)
    driver.send((STREAM_WANT, tid))
    worker.yields(tid, 0, b"a")
    worker.yields(tid, 1, b"b")
    worker.die()
    (other,) = world.workers()
    other.read()
    for index, data in enumerate((b"a", b"b", b"c")):
        other.yields(tid, index, data)
    other.done(tid)
    assert driver.take() == [item(tid, 0, b"a"), item(tid, 1, b"b"), item(tid, 2, b"c"), [STREAM_END, tid, 3]]


def test_the_repeated_large_item_of_a_second_attempt_takes_no_room(world: World) -> None:
    _, worker, tid = streaming(world, max_retries=1)
    worker.yields(tid, 0)
    worker.die()
    (other,) = world.workers()
    other.read()
    scratch, _ = other.allocate(5_000)
    other.send((YIELD, tid, 0, STORED, scratch, []))
    assert world.arena.used == 0
    other.done(tid)


def test_the_producer_is_told_what_the_consumer_has_taken(world: World) -> None:
    driver, worker, tid = streaming(world, backpressure=1)
    worker.yields(tid, 0)
    driver.send((STREAM_ACK, tid, 1))
    assert worker.take() == [[CREDIT, tid, 1]]
    worker.done(tid)


def test_a_second_attempt_learns_what_the_consumer_took_of_the_first(world: World) -> None:
    driver, worker, tid = streaming(world, max_retries=1, backpressure=1)
    worker.yields(tid, 0)
    driver.send((STREAM_ACK, tid, 1))
    worker.die()
    (other,) = world.workers()
    other.read()
    other.yields(tid, 0)
    assert other.take() == [[CREDIT, tid, 1]]  # else it would wait for ever
    other.yields(tid, 1)
    assert other.take() == []
    other.done(tid)


def test_large_items_are_taken_over_where_they_lie(world: World) -> None:
    driver, worker, tid = streaming(world)
    scratch, offset = worker.allocate(5_000)
    worker.send((YIELD, tid, 0, STORED, scratch, []))
    driver.send((STREAM_WANT, tid))
    assert driver.take() == [[STREAM_ITEM, tid, 0, STORED, [offset, 5_000]]]
    worker.done(tid)
    driver.release(returned(tid, 1))
    assert world.arena.used == 0
    driver.release(returned(tid, 0))
    world.forgive()
    world.expect_nothing_left()


def test_items_keep_what_they_refer_to(world: World) -> None:
    driver, worker, tid = streaming(world)
    inner = worker.put()
    worker.send((YIELD, tid, 0, INLINE, b"item", [inner]))
    worker.release(inner)
    assert driver.value(inner) == (INLINE, b"v")
    worker.done(tid)
    driver.release(returned(tid, 0))
    world.expect_nothing_left()


def test_items_that_were_not_sent_go_with_the_generator(world: World) -> None:
    driver, worker, tid = streaming(world)
    driver.send((STREAM_WANT, tid))
    worker.yields(tid, 0, b"sent")
    worker.done(tid)
    driver.release(returned(tid, 0))
    assert driver.value(returned(tid, 1)) == (INLINE, b"sent")
    driver.release(returned(tid, 1))
    world.forgive()
    world.expect_nothing_left()


def test_a_producer_whose_consumer_has_gone_is_told_and_its_items_are_dropped(world: World) -> None:
    driver, worker, tid = streaming(world, backpressure=1)
    worker.yields(tid, 0)
    driver.release(returned(tid, 0))
    assert worker.take() == [[CREDIT, tid, CONSUMER_GONE]]
    worker.yields(tid, 1)
    assert worker.take() == [[CREDIT, tid, CONSUMER_GONE]]
    scratch, _ = worker.allocate(5_000)
    worker.send((YIELD, tid, 2, STORED, scratch, []))
    worker.done(tid)
    assert worker.take() == [[CREDIT, tid, CONSUMER_GONE]]
    world.expect_nothing_left()


def test_a_task_whose_consumer_went_before_it_began_is_told_at_its_first_item(world: World) -> None:
    driver = world.driver()
    tid = driver.submit(driver.spec(num_returns=STREAMING))
    driver.release(returned(tid, 0))
    (worker,) = world.workers()
    worker.read()
    worker.yields(tid, 0)
    assert worker.take() == [[CREDIT, tid, CONSUMER_GONE]]
    worker.done(tid)
    world.expect_nothing_left()


def test_a_stream_ends_with_the_process_that_consumes_it_whoever_else_knows_the_generator(world: World) -> None:
    driver, worker, tid = streaming(world)
    parent = tid
    child = worker.submit(worker.spec("child", num_returns=STREAMING))
    driver.hold(returned(child, 0))
    worker.die()
    assert driver.fault(returned(parent, 1))["code"] == "worker_crashed"
    (other,) = world.workers()
    assert other.read() == [child]
    other.yields(child, 0)
    assert other.take() == [[CREDIT, child, CONSUMER_GONE]]
    other.done(child)
    assert driver.value(returned(child, 0))[0] == INLINE
    driver.release(returned(child, 0), returned(parent, 0), returned(parent, 1))
    world.expect_nothing_left()


def test_only_the_consumer_gets_the_items(world: World) -> None:
    _, worker, tid = streaming(world)
    other = world.driver()
    other.send((STREAM_WANT, tid))
    worker.yields(tid, 0)
    worker.done(tid)
    assert other.take() == []


def test_cancelling_a_running_stream_interrupts_it_and_its_error_is_the_last_item(world: World) -> None:
    driver, worker, tid = streaming(world)
    driver.send((STREAM_WANT, tid))
    worker.yields(tid, 0)
    driver.send((15, returned(tid, 0), False, True))  # CANCEL
    assert (worker.take(), world.take()) == ([[STOP_TASK, tid]], [Interrupt(worker.wid)])
    worker.fail(tid, b"cancelled")
    assert driver.take() == [item(tid, 0), [STREAM_ITEM, tid, 1, ERROR, b"cancelled"], [STREAM_END, tid, 2]]


def test_cancelling_a_queued_stream_ends_it_at_once(world: World) -> None:
    driver = world.driver()
    tid = driver.submit(driver.spec(num_returns=STREAMING))
    driver.send((STREAM_WANT, tid), (15, returned(tid, 0), False, True))  # CANCEL
    fault, end = driver.take()
    assert (fault[:4], fault[4]["code"]) == ([STREAM_ITEM, tid, 0, FAULT], "cancelled")
    assert end == [STREAM_END, tid, 1]


def test_an_argument_that_is_an_error_is_the_only_item(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    bad = driver.submit(driver.spec())
    tid = driver.submit(driver.spec("g", num_returns=STREAMING), deps=[returned(bad)])
    worker.read()
    worker.fail(bad, b"why")
    driver.send((STREAM_WANT, tid))
    assert driver.take() == [[STREAM_ITEM, tid, 0, ERROR, b"why"], [STREAM_END, tid, 1]]


def test_calls_of_actors_stream_too(world: World) -> None:
    driver = world.driver()
    aid, worker, _ = world.actor(driver)
    tid = driver.call(aid, driver.method(num_returns=STREAMING))
    worker.read()
    driver.send((STREAM_WANT, tid))
    worker.yields(tid, 0)
    worker.done(tid)
    assert driver.take() == [item(tid, 0), [STREAM_END, tid, 1]]
