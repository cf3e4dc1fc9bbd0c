"""Plain tasks: begun in order and within the resources, queued ahead where they are short, run again where allowed."""

from collections.abc import Callable

import pytest

from rayd.core.effect import KillWorker, RetireWorker
from rayd.core.starts import PAUSE_NS
from rayd.core.task import DEPTH_MAX
from rayd.core.worker import STARTING_MAX
from rayd.wire.messages import ERROR, EVENT, FAULT, INLINE, STORED
from world import SIGKILL, World, returned


def value(data: bytes = b"v") -> tuple[int, bytes]:
    return INLINE, data


# --- handing out ------------------------------------------------------------------------------------------------------


def test_tasks_begin_in_the_order_they_were_submitted(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    key = driver.spec()
    tids = [driver.submit(key) for _ in range(20)]
    assert worker.run_all(run_us=10_000) == tids


def test_a_task_reaches_its_worker_as_it_was_submitted(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    stored, dep = driver.store(200_000), driver.put(b"dep")
    tid = driver.submit(driver.spec(), b"args", args_oid=stored, deps=[dep])
    worker.read()
    task, cid, args, args_at, deps, gpus, more = worker.body(tid)
    assert (task, args, args_at) == (tid, b"args", [0, 200_000, stored])
    assert (deps, gpus, more) == ([[dep, INLINE, b"dep"]], [], False)
    assert worker.request(lambda req: (35, req, cid))["blob"] == b"code of f"  # FETCH


def test_no_more_runs_at_a_time_than_the_resources_allow(new_world: Callable[..., World]) -> None:
    world = new_world(cpus=4, resources={"disk": 1})
    driver = world.driver()
    workers = world.workers()
    wide, heavy = driver.spec("wide", cpus=2), driver.spec("heavy", cpus=1, resources={"disk": 0.5})
    for _ in range(4):
        driver.submit(wide)
        driver.submit(heavy)
    for _ in range(8):
        busy = [worker for worker in workers if worker.unread or worker.begun]
        names = [world.node.state.pool.workers[worker.wid].spec.name for worker in busy]
        assert 2 * names.count("wide") + names.count("heavy") <= 4
        assert names.count("heavy") <= 2
        busy[0].run(run_us=10_000)
    assert world.node.state.ledger.available() == {"CPU": 4.0, "disk": 1.0}


def test_fractions_of_a_resource_add_up(world: World) -> None:
    driver = world.driver()
    tenth = driver.spec(cpus=0.1)
    for _ in range(10):
        driver.submit(tenth)
    while world.starting:
        world.workers()
    assert len(world.node.state.pool.workers) == 10
    assert world.node.state.ledger.available() == {}
    for worker in list(world.mailboxes.values()):
        worker.run_all()
    assert world.node.state.ledger.available() == {"CPU": 1.0}


def test_each_gpu_goes_to_one_task_or_to_shares_of_it(new_world: Callable[..., World]) -> None:
    world = new_world(cpus=4, resources={"GPU": 2})
    driver = world.driver()
    world.workers()
    whole, half = driver.spec("whole", cpus=0, resources={"GPU": 1}), driver.spec("half", resources={"GPU": 0.5})
    tids = [driver.submit(key) for key in (whole, half, half, half)]
    granted = []
    for tid in tids[:3]:
        worker = world.worker_with(tid)
        worker.read()
        granted.append(worker.body(tid)[5])
    assert granted == [[0], [1], [1]]
    world.worker_with(tids[0]).done(tids[0], run_us=10_000)
    last = world.worker_with(tids[3])
    last.read()
    assert last.body(tids[3])[5] == [0]


def test_workers_are_started_for_what_may_run_now_and_not_too_many_at_a_time(new_world: Callable[..., World]) -> None:
    world = new_world(cpus=20)
    driver = world.driver()
    assert len(world.starting) == STARTING_MAX
    key = driver.spec()
    for _ in range(50):
        driver.submit(key)
    assert len(world.starting) == STARTING_MAX
    while world.starting:
        world.workers()
    assert len(world.mailboxes) == 20
    world.forgive()


def test_a_worker_that_does_not_come_up_is_replaced(world: World) -> None:
    driver = world.driver()
    tid = driver.submit(driver.spec())
    (asked,) = world.starting
    world.starting.clear()
    world.step(world.exited(asked.worker))
    world.step(world.exited(99))  # of which nobody knows
    world.wait_ms(PAUSE_NS / 1e6)
    (worker,) = world.workers()
    assert worker.run() == tid


def test_environments_do_not_share_workers(world: World) -> None:
    driver = world.driver()
    (plain,) = world.workers()
    coloured = driver.submit(driver.spec(env_vars={"COLOUR": "red"}))
    assert not plain.unread
    assert world.starting[0].env == (("COLOUR", "red"),)
    (other,) = world.workers()
    assert other.run() == coloured


def test_jobs_do_not_share_workers(world: World) -> None:
    first, second = world.driver(), world.driver()
    one, two = world.workers()
    tid = second.submit(second.spec())
    assert (one.mail(), two.mail()) == ([], [tid])
    two.run()
    tid = first.submit(first.spec())
    assert (one.mail(), two.mail()) == ([tid], [])
    one.run()


def test_what_can_never_run_is_said_once_and_stays_pending(world: World) -> None:
    driver = world.driver()
    log = world.tool("logs", job=driver.job)
    key = driver.spec("huge", cpus=64, resources={"magic": 1})
    driver.submit(key)
    driver.submit(key)
    ((tag, level, text),) = log.take()
    assert (tag, level) == (EVENT, "warning")
    assert "64 CPU (the cluster has 1), 1 magic (the cluster has 0)" in text
    assert "num_cpus=64 resources={'magic': 1}" in text
    (demand,) = driver.rpc("status")["demands"]
    assert (demand["name"], demand["count"], demand["infeasible"]) == ("huge", 2, True)


def test_who_reads_the_output_later_is_told_then(world: World) -> None:
    driver = world.driver()
    driver.submit(driver.spec("huge", cpus=64))
    log = world.tool("logs", job=driver.job)
    assert "task huge can never be scheduled" in log.take(EVENT)[0][2]


# --- arguments --------------------------------------------------------------------------------------------------------


def test_a_task_waits_for_all_its_arguments(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    key = driver.spec()
    one, two = driver.submit(key), driver.submit(key)
    both = driver.submit(key, deps=[returned(one), returned(two), returned(one)])
    assert worker.run(b"1", run_us=10_000) == one
    assert worker.run(b"2", run_us=10_000) == two
    assert worker.read() == [both]
    assert [dep[2] for dep in worker.body(both)[4]] == [b"1", b"2", b"1"]


def test_arguments_too_large_for_a_datagram_are_fetched(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    args = bytes(60_000)
    tid = driver.submit(driver.spec(), args)
    worker.read()
    assert worker.body(tid) == [tid]
    body = worker.request(lambda req: (36, req, tid))  # BODY
    assert body[:1] + body[2:3] == [tid, args]
    worker.done(tid)
    assert not world.node.state.bodies


@pytest.mark.parametrize("kind", [ERROR, FAULT])
def test_an_argument_that_is_an_error_makes_the_task_that_error(world: World, kind: int) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    bad = driver.submit(driver.spec())
    chain = [bad]
    for _ in range(3):
        chain.append(driver.submit(driver.spec(), deps=[returned(chain[-1])]))
    if kind == ERROR:
        worker.read()
        worker.fail(bad, b"why")
    else:
        driver.cancel(bad)
        driver.cancel(bad)  # the second is none
        worker.read()
        worker.fail(bad, b"why")
        world.forgive()
    assert {driver.value(returned(tid)) for tid in chain} == {(ERROR, b"why")}
    driver.release(*map(returned, chain))
    world.expect_nothing_left()


def test_errors_pass_through_a_chain_of_any_length(world: World) -> None:
    driver = world.driver()
    world.checked = False  # the chain is long, the checks are linear
    (worker,) = world.workers()
    key = driver.spec()
    first = last = driver.submit(key)
    for _ in range(5_000):
        last = driver.submit(key, deps=[returned(last)])
    worker.read()
    worker.fail(first, b"why")
    assert driver.value(returned(last)) == (ERROR, b"why")


# --- numbers of returns -----------------------------------------------------------------------------------------------


def test_a_task_without_returns_leaves_no_object(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    tid = driver.submit(driver.spec(num_returns=0), deps=[dep := driver.put()])
    driver.release(dep)
    worker.read()
    worker.done_many(tid)
    world.expect_nothing_left()


def test_each_of_several_returns_has_its_value(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    tid = driver.submit(driver.spec(num_returns=3))
    worker.read()
    worker.done_many(tid, b"a", b"b", b"c")
    assert [driver.value(returned(tid, index)) for index in (1, 2, 3)] == [value(b"a"), value(b"b"), value(b"c")]


def test_an_exception_goes_to_all_of_several_returns(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    tid = driver.submit(driver.spec(num_returns=2))
    worker.read()
    worker.fail(tid, b"why")
    assert [driver.value(returned(tid, index)) for index in (1, 2)] == [(ERROR, b"why")] * 2


def test_returns_that_were_dropped_do_not_keep_the_others_from_coming(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    tid = driver.submit(driver.spec(num_returns=2))
    driver.release(returned(tid, 1))
    worker.read()
    worker.done_many(tid, b"a", b"b")
    assert driver.value(returned(tid, 2)) == value(b"b")
    assert returned(tid, 1) not in world.node.state.objects.entries


# --- leases and queues at workers -------------------------------------------------------------------------------------


def test_one_worker_serves_a_queue_without_being_given_back(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    key = driver.spec()
    for _ in range(5):
        driver.submit(key)
    for _ in range(4):
        worker.run(run_us=10_000)
        assert world.node.state.ledger.available() == {}
    worker.run()
    assert world.node.state.ledger.available() == {"CPU": 1.0}


def test_long_tasks_are_not_queued_behind_each_other(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    key = driver.spec()
    for _ in range(10):
        driver.submit(key)
    while worker.unread:
        assert len(worker.mail()) == 1
        worker.run(run_us=50_000)


def test_short_tasks_are_mailed_ahead_as_far_as_they_are_short(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    key = driver.spec()
    for _ in range(300):
        driver.submit(key)
    worker.run(run_us=1)
    assert len(worker.mail()) == DEPTH_MAX
    depths = []
    for _ in range(80):  # now they turn out to take a millisecond
        worker.run(run_us=1_000)
        depths.append(len(worker.mail()) + 1)
    assert depths == sorted(depths, reverse=True)
    assert depths[-1] <= 3
    world.forgive()


def test_few_tasks_are_shared_out_among_the_workers(new_world: Callable[..., World]) -> None:
    world = new_world(cpus=4)
    driver = world.driver()
    workers = world.workers()
    key = driver.spec()
    driver.submit(key)
    next(worker for worker in workers if worker.unread).run(run_us=1)  # they are known to be short
    driver.send(*[(4, driver.new_tid(), key, b"", b"", [], []) for _ in range(8)])  # SUBMIT
    assert sorted(len(worker.mail()) for worker in workers) == [1, 1, 2, 3]  # and one for who is ready first
    assert sum(len(worker.run_all()) for worker in workers) == 8


def test_bodies_say_whether_another_follows_at_once(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    key = driver.spec()
    for _ in range(4):
        driver.submit(key)
    worker.run(run_us=1)
    assert [body[6] for (body,) in worker.unread] == [True, True, False]
    world.forgive()


def test_a_worker_ends_after_max_calls_even_when_they_come_one_by_one(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    key, other = driver.spec(max_calls=2), driver.spec("other")
    for submitted in (key, other, key):
        driver.submit(submitted)
        worker.run()
    assert world.take() == [RetireWorker(worker.wid)]
    assert world.node.state.ledger.available() == {"CPU": 1.0}
    worker.die({"kind": "exit", "exit_code": 0, "text": "it ended"})
    tid = driver.submit(key)
    (fresh,) = world.workers()
    assert fresh.run() == tid


def test_workers_beyond_what_is_useful_are_retired_when_idle_for_long(world: World) -> None:
    driver = world.driver()
    half = driver.spec(cpus=0.5)
    driver.submit(half)
    driver.submit(half)
    workers = [*world.workers(), *world.workers()]
    for worker in workers:
        worker.run()
    world.wait_ms(9_000)
    assert world.take() == []
    world.wait_ms(12_000)
    assert world.take() == [RetireWorker(workers[0].wid)]
    workers[0].die()
    assert len(world.node.state.pool.workers) == 1


# --- what is run again ------------------------------------------------------------------------------------------------


def test_a_task_whose_worker_died_is_run_again_as_often_as_allowed(world: World) -> None:
    driver = world.driver()
    tid = driver.submit(driver.spec(max_retries=2))
    for _ in range(3):
        (worker,) = world.workers()
        assert worker.read() == [tid]
        worker.die(SIGKILL, ["last words"])
    fault = driver.fault(returned(tid))
    assert fault["code"] == "worker_crashed"
    assert (fault["cause"]["signal"], fault["stderr"], fault["task"]) == ("SIGKILL", ["last words"], "f")
    assert f"(pid {1000 + worker.wid}) running f died: it was ended by SIGKILL." in fault["message"]
    assert "last words" in fault["message"]


def test_a_task_that_may_not_run_twice_fails_with_its_worker(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    tid = driver.submit(driver.spec())
    worker.read()
    worker.die()
    assert driver.fault(returned(tid))["cause"]["exit_code"] == 3


def test_what_a_dead_worker_had_not_read_was_never_begun(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    key = driver.spec(max_retries=0)
    driver.submit(key)
    worker.run(run_us=1)
    tids = [driver.submit(key) for _ in range(4)]
    worker.run(run_us=1)
    worker.read()
    worker.die()
    assert driver.fault(returned(tids[1]))["code"] == "worker_crashed"
    (other,) = world.workers()
    assert other.run_all() == tids[2:]


def test_tasks_that_are_run_again_keep_their_order(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    key = driver.spec(max_retries=1)
    driver.submit(key)
    worker.run(run_us=1)
    tids = [driver.submit(key) for _ in range(5)]
    worker.run(run_us=1)
    worker.read()
    worker.read()  # the result of the one before has not been sent
    worker.die()
    (other,) = world.workers()
    assert other.run_all() == tids[1:]


def test_an_exception_is_retried_only_where_the_worker_says_so(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    tid = driver.submit(driver.spec(max_retries=1))
    worker.read()
    worker.fail(tid, b"first", retryable=True)
    assert worker.read() == [tid]
    worker.fail(tid, b"second", retryable=True)
    assert driver.value(returned(tid)) == (ERROR, b"second")
    other = driver.submit(driver.spec(max_retries=1))
    worker.read()
    worker.fail(other, b"at once")
    assert driver.value(returned(other)) == (ERROR, b"at once")
    assert [row[6] for row in driver.rpc("timeline")] == [False, False, False]


def test_retries_without_end_end_only_with_success(world: World) -> None:
    driver = world.driver()
    tid = driver.submit(driver.spec(max_retries=-1))
    for _ in range(20):
        (worker,) = world.workers()
        worker.read()
        worker.die()
    (worker,) = world.workers()
    worker.run()
    assert driver.value(returned(tid)) == value()


def test_out_of_memory_is_told_apart(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    tid = driver.submit(driver.spec())
    worker.read()
    worker.die({"kind": "oom", "signal": "SIGKILL", "peak_bytes": 9, "limit_bytes": 8, "text": "no memory"})
    assert driver.fault(returned(tid))["code"] == "out_of_memory"


def test_the_large_result_of_a_worker_that_dies_while_writing_it_takes_no_room(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    driver.submit(driver.spec())
    worker.read()
    worker.allocate(100_000)
    worker.die()
    assert world.arena.used == 0


def test_results_outlive_their_worker(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    tid = driver.submit(driver.spec())
    worker.read()
    worker.done_stored(tid, 5_000)
    worker.die()
    assert driver.value(returned(tid)) == (STORED, [0, 5_000])


def test_no_task_is_given_to_a_worker_that_is_being_killed(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    key = driver.spec()
    first, second = driver.submit(key), driver.submit(key)
    worker.read()
    driver.cancel(first, force=True)
    assert world.take() == [KillWorker(worker.wid)]
    worker.done(first)  # it was a little faster
    assert driver.value(returned(first)) == value()
    assert worker.mail() == []
    worker.die(SIGKILL)
    (other,) = world.workers()
    assert other.run() == second
