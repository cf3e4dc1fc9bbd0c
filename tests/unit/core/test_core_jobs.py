"""Jobs: what goes with a driver and what stays, and that nothing of it is left in any table."""

from collections.abc import Callable

import pytest

from rayd.core.effect import CloseConnection, KillWorker, RetireWorker, StopDaemon
from rayd.wire.messages import EVENT, EXPORT, HOLD, KILL, SPEC, STREAM_WANT, SUBMIT, WELCOME
from world import SIGKILL, Peer, WorkerPeer, World, actor_object, creation, returned


def expect_no_trace(world: World) -> None:
    """No table knows anything of any job."""
    state = world.node.state
    world.expect_nothing_left()
    assert not state.jobs
    assert not state.specs
    assert not state.spec_index
    assert not state.pool.workers
    assert not state.pool.idle
    assert not state.pool.starting
    assert not state.conns
    assert not world.node.actors.by_id
    assert not state.placing
    assert not world.node.tasks.crowded
    assert not world.node.directory.names(None)


def end_all(world: World) -> None:
    """Answer every KillWorker and RetireWorker."""
    while asked := [effect for effect in world.take() if isinstance(effect, KillWorker | RetireWorker)]:
        for effect in asked:
            worker = world.mailboxes.get(effect.worker)
            if worker is not None and worker.alive:
                worker.die(SIGKILL)
            elif worker is None:
                world.starting = [start for start in world.starting if start.worker != effect.worker]
                world.step(world.exited(effect.worker, SIGKILL))


# --- the beginning ----------------------------------------------------------------------------------------------------


def test_a_driver_is_told_its_job_and_its_first_workers_are_started(new_world: Callable[..., World]) -> None:
    world = new_world(cpus=3)
    driver = world.driver(namespace="home", env_vars={"A": "1"})
    assert driver.job == b"\0\0\0\1"
    assert driver.welcome["namespace"] == "home"
    assert [(start.worker, start.job, start.env) for start in world.starting] == [
        (number, driver.job, (("A", "1"),)) for number in (1, 2, 3)
    ]


def test_jobs_have_numbers_and_namespaces_of_their_own(world: World) -> None:
    one, two = world.driver(), world.driver()
    assert one.job != two.job
    assert one.welcome["namespace"] != two.welcome["namespace"]


def test_a_worker_is_told_what_its_driver_said_of_itself(world: World) -> None:
    world.driver(cwd="/home/me", namespace="home")
    (worker,) = world.workers()
    assert worker.welcome["job_info"]["cwd"] == "/home/me"
    assert worker.welcome["namespace"] == "home"


def test_an_equal_function_of_another_job_is_another_one(world: World) -> None:
    one, two = world.driver(), world.driver()
    one.spec()
    two.spec()
    two.spec()
    assert len(world.node.state.specs) == 2


# --- the end ----------------------------------------------------------------------------------------------------------


def busy_world(world: World) -> Peer:
    """A driver with one of everything: a task that runs, nests, is queued, waits and streams, actors, objects."""
    driver = world.driver()
    world.tool("logs", job=driver.job)
    key = driver.spec()
    running = driver.submit(key)
    world.workers()
    worker = world.worker_with(running)
    worker.read()
    nested = worker.submit(worker.spec("nested"), deps=[worker.put()])
    worker.want(returned(nested))
    worker.blocked()
    worker.allocate(10_000)
    queued = driver.submit(key, bytes(60_000), args_oid=driver.store(200_000))
    driver.submit(driver.spec("waiting"), deps=[returned(queued), returned(running)], contained=[driver.put()])
    stream = driver.submit(driver.spec("stream", num_returns=-1, backpressure=1))
    driver.send((STREAM_WANT, stream))
    driver.submit(driver.spec("nothing", num_returns=0))
    aid = driver.create(driver.actor_class(actor_name="adder", max_restarts=3))
    driver.call(aid, driver.method())
    driver.call(aid, driver.method(), deps=[returned(queued)])
    driver.create(driver.actor_class("Huge", placement={"CPU": 99}))
    driver.put(contained=[driver.store(50_000)])
    return driver


def test_nothing_is_left_of_a_driver_that_has_gone(world: World) -> None:
    driver = busy_world(world)
    world.workers()
    driver.leave()
    end_all(world)
    for peer in world.peers.values():
        if peer.connected:
            peer.leave()
    expect_no_trace(world)
    world.forgive()


@pytest.mark.parametrize("events", range(0, 60, 3))
def test_nothing_is_left_of_a_driver_whenever_it_goes(world: World, events: int) -> None:
    """The same story, broken off after any number of events."""
    step = world.step
    left = events

    class BrokenOffError(Exception):
        pass

    def counting(event: object) -> None:
        nonlocal left
        if left == 0:
            raise BrokenOffError
        left -= 1
        step(event)  # type: ignore[arg-type]

    world.step = counting  # type: ignore[method-assign]
    try:
        busy_world(world)
    except BrokenOffError:
        pass
    except ValueError:  # a reply of a step that was broken off
        pass
    world.step = step  # type: ignore[method-assign]
    for peer in list(world.peers.values()):
        if peer.kind != "worker" and peer.connected and peer.conn in world.node.state.conns:
            peer.leave()
    end_all(world)
    world.starting.clear()
    expect_no_trace(world)
    world.forgive()


def test_workers_are_killed_whatever_they_do(new_world: Callable[..., World]) -> None:
    world = new_world(cpus=3)
    driver = world.driver()
    world.workers(1)
    driver.submit(driver.spec())
    driver.leave()
    assert world.take() == [KillWorker(1), KillWorker(2), KillWorker(3)]
    world.starting.clear()
    world.forgive()


def test_a_worker_that_comes_up_after_its_driver_has_gone_is_not_used(world: World) -> None:
    driver = world.driver()
    driver.leave()
    assert world.take() == [KillWorker(1)]
    (worker,) = world.workers()
    assert world.take() == [CloseConnection(worker.conn)]
    assert not hasattr(worker, "welcome")
    worker.connected = False
    worker.die(SIGKILL)
    assert not world.node.state.pool.workers


def test_other_drivers_are_not_disturbed(new_world: Callable[..., World]) -> None:
    world = new_world(cpus=2)
    one, two = world.driver(), world.driver()
    world.workers()
    mine = two.submit(two.spec())
    one.submit(one.spec())
    shared = one.put()
    two.hold(shared)
    one.leave()
    end_all(world)
    assert two.value(shared)[1] == b"v"
    assert world.worker_with(mine).run() == mine


def test_what_a_dying_worker_still_says_is_not_listened_to(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    driver.submit(driver.spec())
    worker.read()
    driver.leave()
    end = world.take()
    worker.send((EXPORT, b"late", b"code"), (SPEC, 77, {"function": b"late", "name": "late"}))
    worker.send((SUBMIT, worker.new_tid(), 77, b"", b"", [], []), (HOLD, [b"x" * 28]))
    worker.done(worker.begun[0])
    world.others = end
    end_all(world)
    expect_no_trace(world)


def test_nobody_waits_for_a_task_of_a_driver_that_has_gone(world: World) -> None:
    one, two = world.driver(), world.driver()
    world.workers()
    running, queued = (one.submit(one.spec()) for _ in range(2))
    for tid in (running, queued):
        two.hold(returned(tid))
        two.want(returned(tid))
    world.worker_with(running).read()
    one.leave()
    end_all(world)
    codes = {value[1]: value[3]["code"] for value in two.take()}
    assert codes[returned(queued)] == "cancelled"
    assert codes[returned(running)] in ("cancelled", "worker_crashed")


# --- what stays -------------------------------------------------------------------------------------------------------


def detached(world: World, **options: object) -> tuple[Peer, bytes, WorkerPeer]:
    """A driver with a detached actor."""
    driver = world.driver(namespace="home")
    aid, worker, _ = world.actor(driver, actor_name="service", detached=True, **options)
    return driver, aid, worker


def test_a_detached_actor_survives_its_driver_and_the_last_handle(world: World) -> None:
    driver, aid, worker = detached(world)
    driver.release(actor_object(aid))
    driver.leave()
    assert world.take() == []
    other = world.driver(namespace="home")
    found = other.rpc("get_actor", name="service")
    assert found["actor_id"] == aid
    call = other.call(aid, other.method())
    assert worker.run() == call
    assert other.value(returned(call))[1] == b"v"


def test_a_detached_actor_restarts_after_its_driver_has_gone(world: World) -> None:
    driver, aid, worker = detached(world, max_restarts=1)
    driver.leave()
    worker.die()
    (again,) = world.workers()
    assert again.run() == creation(aid)
    other = world.driver()
    call = other.call(aid, other.method())
    assert again.run() == call


def test_what_a_detached_actor_has_submitted_goes_on(new_world: Callable[..., World]) -> None:
    world = new_world(cpus=2)
    driver, aid, worker = detached(world)
    call = driver.call(aid, driver.method())
    worker.read()
    child = worker.submit(worker.spec("child"))
    helpers = worker.create(worker.actor_class("Helper"))
    while world.starting:
        world.workers()
    assert world.worker_with(creation(helpers)).run() == creation(helpers)
    driver.leave()
    survivors = [child, worker.submit(worker.spec("grandchild"))]
    kills = world.take()
    assert KillWorker(world.worker_with(child).wid) not in kills
    world.others = kills
    end_all(world)
    while world.starting:
        world.workers()
    for tid in survivors:
        assert world.worker_with(tid).run_all()
        assert worker.value(returned(tid))[1] == b"v"
    helper_call = worker.call(helpers, worker.method())
    assert world.worker_with(helper_call).run() == helper_call
    worker.done(call)
    world.forgive()


def test_a_job_is_forgotten_with_its_last_detached_actor(world: World) -> None:
    driver, aid, worker = detached(world)
    driver.leave()
    end_all(world)
    tool = world.tool()
    other = world.driver()
    other.send((16, aid, True))  # KILL
    other.leave()
    end_all(world)
    worker.die(SIGKILL) if worker.alive else None
    tool.leave()
    world.starting.clear()
    end_all(world)
    expect_no_trace(world)


def test_tasks_of_a_detached_actor_end_with_it(new_world: Callable[..., World]) -> None:
    world = new_world(cpus=2)
    driver, aid, worker = detached(world)
    driver.call(aid, driver.method())
    worker.read()
    for _ in range(4):
        worker.submit(worker.spec("child"), deps=[worker.put()])
    driver.leave()
    end_all(world)
    while world.starting:
        world.workers()
    worker.die()
    end_all(world)
    expect_no_trace(world)
    world.forgive()


# --- tools ------------------------------------------------------------------------------------------------------------


def test_a_tool_asks_and_leaves_no_trace(world: World) -> None:
    tool = world.tool()
    assert tool.rpc("ping") is None
    status = tool.rpc("status")
    assert status["nodes"][0]["total"] == {"CPU": 1.0}
    assert (status["demands"], status["store"]["used"]) == ([], 0)
    tool.leave()
    expect_no_trace(world)


def test_a_tool_can_stop_the_daemon(world: World) -> None:
    assert world.tool().rpc("stop", reason="enough") is None
    assert world.take() == [StopDaemon("enough")]


def test_a_reader_of_output_that_has_gone_is_told_nothing_more(world: World) -> None:
    driver = world.driver()
    log = world.tool("logs", job=driver.job)
    log.leave()
    driver.submit(driver.spec(cpus=99))
    again = world.tool("logs", job=driver.job)
    assert [message[0] for message in again.take()] == [EVENT]
    assert WELCOME not in {message[0] for message in again.inbox}


def test_the_log_tells_who_has_begun_and_killed_what(world: World) -> None:
    driver = world.driver(entrypoint="python x.py --secret-free\nforged line", peer="10.0.0.9:1")
    aid = driver.create(driver.actor_class())
    driver.send((KILL, aid, True))
    world.tool().rpc("stop")
    driver.leave()
    program = repr("python x.py --secret-free\nforged line")
    who = f"driver pid 900 running {program} from 10.0.0.9:1, token for join"
    assert world.audits == [
        f"job 00000001 was begun by {who}",
        f"actor {aid.hex()} was killed by {who}",
        "stop was ordered by cli pid 800 from this machine, token for join",
        "job 00000001 has ended",
    ]
    assert not any("\n" in line for line in world.audits)
    world.forgive()


def test_an_actor_that_ends_with_its_driver_is_not_listened_to_any_more(world: World) -> None:
    driver = world.driver()
    world.actor(driver, detached=True, actor_name="stays", resources={"CPU": 0.1})
    _, worker, _ = world.actor(driver, resources={"CPU": 0.1})
    driver.leave()
    assert worker.put() not in world.node.state.objects.entries
    world.forgive()
