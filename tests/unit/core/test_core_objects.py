"""Objects of a node: who holds them, when they are freed, and what fills them."""

from collections.abc import Callable

import pytest

from rayd.core.effect import KillWorker
from rayd.wire import messages as m
from rayd.wire.messages import ERROR, FAULT, INLINE, STOP_TASK, STORED, VALUE
from world import RefusedError, World, holder_of, returned


def gone(world: World, *oids: bytes) -> bool:
    return not any(oid in world.node.state.objects.entries for oid in oids)


# --- holds of connections ---------------------------------------------------------------------------------------------


def test_a_put_value_is_there_at_once(world: World) -> None:
    driver = world.driver()
    oid = driver.put(b"data")
    driver.want(oid)
    assert driver.take() == [[VALUE, oid, INLINE, b"data"]]


def test_an_object_is_freed_when_the_last_process_that_refers_to_it_lets_go(world: World) -> None:
    driver, other = world.driver(), world.driver()
    oid = driver.put()
    other.hold(oid)
    driver.release(oid)
    assert holder_of(world, oid) == 1
    other.release(oid)
    assert gone(world, oid)


def test_a_process_counts_once_however_often_it_says_that_it_holds(world: World) -> None:
    driver, other = world.driver(), world.driver()
    oid = driver.put()
    other.hold(oid, oid)
    other.hold(oid)
    assert holder_of(world, oid) == 2
    other.release(oid)
    other.release(oid)  # and once when it lets go
    assert holder_of(world, oid) == 1


def test_three_processes_may_hold_one_object(world: World) -> None:
    peers = [world.driver() for _ in range(3)]
    oid = peers[0].put()
    for peer in peers:
        peer.hold(oid)
    assert holder_of(world, oid) == 3
    for peer in peers:
        peer.release(oid)
    assert gone(world, oid)


def test_a_connection_that_closes_lets_go_of_everything_it_held(world: World) -> None:
    driver, other = world.driver(), world.driver()
    mine, shared = other.put(), other.put()
    driver.hold(shared)
    place, _ = other.allocate(4096)
    other.leave()
    assert world.take() == [KillWorker(2)]
    assert gone(world, mine, place)
    assert holder_of(world, shared) == 1
    assert world.arena.used == 0


def test_who_asks_for_what_is_gone_is_told_so_at_once(world: World) -> None:
    driver = world.driver()
    oid = driver.put()
    driver.release(oid)
    fault = driver.fault(oid)
    assert fault["code"] == "object_lost"
    assert oid.hex() in fault["message"]


def test_who_waits_without_holding_is_told_when_the_object_goes(world: World) -> None:
    driver, other = world.driver(), world.driver()
    tid = driver.submit(driver.spec())
    other.want(returned(tid))
    driver.release(returned(tid))
    (value,) = other.take()
    assert value[:3] == [VALUE, returned(tid), FAULT]


# --- contained objects ------------------------------------------------------------------------------------------------


def test_a_reference_inside_a_value_keeps_the_inner_object(world: World) -> None:
    driver = world.driver()
    inner = driver.put(b"inner")
    outer = driver.put(b"outer", contained=[inner])
    driver.release(inner)
    assert driver.value(inner) == (INLINE, b"inner")
    driver.release(outer)
    assert gone(world, inner, outer)


def test_a_reference_inside_a_stored_value_keeps_the_inner_object(world: World) -> None:
    driver = world.driver()
    inner = driver.put()
    outer = driver.store(5000, contained=[inner])
    driver.release(inner)
    assert holder_of(world, inner) == 1
    driver.release(outer)
    assert gone(world, inner, outer)


def test_a_chain_of_values_of_any_length_goes_at_once(world: World) -> None:
    driver = world.driver()
    world.checked = False  # the chain is long, the checks are linear
    oid = driver.put()
    for _ in range(20_000):
        outer = driver.put(contained=[oid])
        driver.release(oid)
        oid = outer
    driver.release(oid)
    assert not world.node.state.objects.entries


def test_a_result_keeps_what_it_refers_to(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    tid = driver.submit(driver.spec())
    worker.read()
    inner = worker.put()
    worker.done(tid, contained=[inner])
    worker.release(inner)
    assert holder_of(world, inner) == 1
    driver.release(returned(tid))
    world.expect_nothing_left()


# --- pins of tasks ----------------------------------------------------------------------------------------------------


def test_arguments_live_until_their_task_has_ended(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    dep, nested, args = driver.put(), driver.put(), driver.store(200_000)
    tid = driver.submit(driver.spec(), args_oid=args, deps=[dep], contained=[nested])
    driver.release(dep, nested, args)
    assert [holder_of(world, oid) for oid in (dep, nested, args)] == [1, 1, 1]
    worker.run()
    assert gone(world, dep, nested, args)
    driver.release(returned(tid))
    world.expect_nothing_left()


def test_the_same_object_may_be_several_arguments(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    oid = driver.put()
    tid = driver.submit(driver.spec(), deps=[oid, oid], contained=[oid])
    driver.release(oid)
    worker.run()
    driver.release(returned(tid))
    world.expect_nothing_left()


def test_an_argument_that_was_lost_fails_the_task_and_does_not_unsettle_its_later_twin(world: World) -> None:
    driver = world.driver()
    world.workers()
    lost = driver.new_tid() + b"\1\0\0\0"
    other = driver.submit(driver.spec(), deps=[lost])
    assert driver.fault(returned(other))["code"] == "object_lost"
    assert gone(world, lost)


def test_a_pin_on_what_was_not_there_is_none_when_it_comes_later(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    late = driver.new_tid() + b"\1\0\0\0"
    driver.submit(driver.spec(), contained=[late])
    driver.send((7, late, b"late", []))  # PUT
    worker.run()
    assert driver.value(late) == (INLINE, b"late")


# --- filled once ------------------------------------------------------------------------------------------------------


def test_a_result_goes_to_everyone_who_waits_for_it(world: World) -> None:
    driver, other = world.driver(), world.driver()
    worker, _ = world.workers()
    tid = driver.submit(driver.spec())
    other.hold(returned(tid))
    other.want(returned(tid))
    driver.want(returned(tid))
    worker.run(b"result")
    assert driver.take() == other.take() == [[VALUE, returned(tid), INLINE, b"result"]]


def test_a_value_that_is_there_never_changes(world: World) -> None:
    driver = world.driver()
    oid = driver.put(b"first")
    driver.send((7, oid, b"second", []))  # PUT
    assert driver.value(oid) == (INLINE, b"first")


def test_the_late_twin_of_a_result_is_dropped(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    tid = driver.submit(driver.spec())
    worker.read()
    worker.done(tid, b"first")
    worker.begun.append(tid)
    worker.done(tid, b"second")
    assert driver.value(returned(tid)) == (INLINE, b"first")


def test_the_large_result_of_a_cancelled_task_takes_no_room(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    key = driver.spec()
    driver.submit(key)
    worker.run(run_us=1)  # so that the next ones are mailed ahead
    tids = [driver.submit(key) for _ in range(3)]
    worker.run(run_us=1)
    assert worker.mail() == tids[1:]
    driver.cancel(tids[2])
    worker.run()
    worker.read()
    worker.done_stored(tids[2], 10_000)
    assert world.arena.used == 0
    assert driver.fault(returned(tids[2]))["code"] == "cancelled"
    assert worker.take() == [[STOP_TASK, tids[2]]]


def test_a_result_that_nobody_waits_for_any_more_is_dropped_with_its_bytes(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    tid = driver.submit(driver.spec())
    driver.release(returned(tid))
    worker.read()
    worker.done_stored(tid, 10_000)
    world.expect_nothing_left()


# --- the store --------------------------------------------------------------------------------------------------------


def test_a_large_value_is_seen_once_it_is_sealed(world: World) -> None:
    driver, other = world.driver(), world.driver()
    oid, offset = driver.allocate(5000)
    other.want(oid)
    assert not other.take(VALUE)
    driver.send((9, oid, []))  # SEAL
    assert other.take() == [[VALUE, oid, STORED, [offset, 5000]]]


def test_a_large_result_is_taken_over_where_it_lies(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    tid = driver.submit(driver.spec())
    worker.read()
    worker.done_stored(tid, 10_000)
    assert driver.value(returned(tid)) == (STORED, [0, 10_000])
    assert len(world.node.state.objects.entries) == 1  # the name it was written under is gone
    driver.release(returned(tid))
    world.expect_nothing_left()


def test_large_results_of_several_returns_are_taken_over_one_by_one(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    tid = driver.submit(driver.spec(num_returns=2))
    worker.read()
    scratch = [worker.allocate(3000)[0] for _ in range(2)]
    worker.send((33, tid, [[STORED, oid, []] for oid in scratch], 10))  # DONE_MANY
    assert driver.value(returned(tid, 1)) == (STORED, [0, 3000])
    assert driver.value(returned(tid, 2))[0] == STORED
    driver.release(returned(tid, 1), returned(tid, 2))
    world.expect_nothing_left()


def test_freed_room_is_handed_out_again(world: World) -> None:
    driver = world.driver()
    first, offset = driver.allocate(100_000)
    driver.release(first)
    assert driver.allocate(100_000)[1] == offset


def test_a_full_store_names_sizes_and_the_largest_holders(new_world: Callable[..., World]) -> None:
    world = new_world(store_bytes=1 << 20)
    driver = world.driver()
    big = driver.store(600_000)
    driver.store(100_000)
    with pytest.raises(RefusedError) as refused:
        driver.allocate(500_000)
    fault = refused.value.fault
    assert fault["code"] == "store_full"
    assert (fault["asked"], fault["capacity"]) == (500_000, 1 << 20)
    assert fault["holders"] == [["held by driver pid 900", 600_000], ["held by driver pid 900", 100_000]]
    assert "585.9 KiB held by driver pid 900" in fault["message"]
    driver.release(big)
    driver.allocate(500_000)


def test_more_than_the_whole_store_is_refused_as_such(new_world: Callable[..., World]) -> None:
    world = new_world(store_bytes=1 << 20)
    driver = world.driver()
    with pytest.raises(RefusedError, match="larger than the whole store"):
        driver.allocate(2 << 20)


@pytest.mark.parametrize("held_before", [1, 2, 3])
def test_what_only_other_objects_hold_is_named_so(new_world: Callable[..., World], held_before: int) -> None:
    world = new_world(store_bytes=1 << 20)
    driver = world.driver()
    inner = driver.store(900_000)
    driver.put(contained=[inner])
    for other in [world.driver() for _ in range(held_before - 1)]:
        other.hold(inner)
        other.release(inner)
    driver.release(inner)
    with pytest.raises(RefusedError) as refused:
        driver.allocate(500_000)
    assert refused.value.fault["holders"] == [["held by another object or a pending task", 900_000]]


def test_an_error_is_a_value_too(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    tid = driver.submit(driver.spec())
    worker.read()
    worker.fail(tid, b"pickled error")
    assert driver.value(returned(tid)) == (ERROR, b"pickled error")


# --- errors that nobody asked for -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dropped_first", [True, False])
def test_an_error_that_nobody_asked_for_is_shown_where_output_is_shown(world: World, dropped_first: bool) -> None:
    driver = world.driver()
    logs = world.tool("logs", job=driver.job)
    (worker,) = world.workers()
    tid = driver.submit(driver.spec())
    worker.read()
    if dropped_first:
        driver.release(returned(tid))
    worker.fail(tid, b"trouble")
    if not dropped_first:
        driver.release(returned(tid))
    assert logs.take() == [[m.UNREAD, m.ERROR, b"trouble"]]


def test_an_error_that_was_asked_for_or_intended_is_not_shown(world: World) -> None:
    driver = world.driver()
    logs = world.tool("logs", job=driver.job)
    (worker,) = world.workers()
    key = driver.spec()
    read, cancelled = driver.submit(key), driver.submit(key)
    driver.cancel(cancelled)
    worker.read()
    worker.fail(read, b"trouble")
    assert driver.value(returned(read)) == (m.ERROR, b"trouble")
    driver.release(returned(read), returned(cancelled))
    assert logs.take() == []
    world.forgive()


@pytest.mark.parametrize("stored", [True, False])
def test_a_value_that_names_itself_as_its_content_does_not_hold_itself(world: World, stored: bool) -> None:
    driver = world.driver()
    if stored:
        oid, _ = driver.allocate(1000)
        driver.send((m.SEAL, oid, [oid]))
    else:
        (worker,) = world.workers()
        tid = driver.submit(driver.spec())
        oid = returned(tid)
        worker.read()
        worker.done(tid, contained=[oid])
    driver.release(oid)
    world.expect_nothing_left()
