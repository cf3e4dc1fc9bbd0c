"""Workers that do not come up: tried again with pauses, reported, and given up with the cause."""

from rayd.core.starts import PAUSE_NS, TRIES_MAX
from rayd.errors import WORKER_CRASHED, WORKER_START
from rayd.wire import messages as m
from world import Peer, World, actor_object, returned

CAUSE = {"kind": "start", "text": "the operating system made no process: Resource temporarily unavailable"}


def fail_what_is_asked_for(world: World) -> int:
    """Whatever the core has asked for ends before it connects; returns how many."""
    asked, world.starting = world.starting, []
    for effect in asked:
        world.step(world.exited(effect.worker, CAUSE))
    return len(asked)


def fail_until_given_up(world: World, tries: int = TRIES_MAX) -> None:
    for turn in range(tries):
        assert fail_what_is_asked_for(world), f"nothing was tried in turn {turn}"
        assert not world.starting, "tried again without a pause"
        world.wait_ms((PAUSE_NS << turn) / 1e6)


def test_a_worker_that_does_not_start_is_tried_again_after_a_pause_and_reported_once(world: World) -> None:
    driver = world.driver()
    logs = world.tool("logs", job=driver.job)
    tid = driver.submit(driver.spec())
    fail_until_given_up(world, 2)
    ((_, _, text),) = logs.take(m.EVENT)
    assert CAUSE["text"] in text
    (worker,) = world.workers()
    assert worker.run() == tid


def test_failures_are_counted_in_a_row(world: World) -> None:
    driver = world.driver()
    key = driver.spec(max_calls=1)
    for _ in range(3):
        tid = driver.submit(key)
        fail_until_given_up(world, TRIES_MAX - 1)
        (worker,) = world.workers()
        assert worker.run() == tid
        world.forgive()
        worker.die({"kind": "exit", "exit_code": 0, "text": "done"})


def test_what_waits_for_a_worker_that_never_starts_fails_with_the_cause(world: World) -> None:
    driver = world.driver()
    tids = [driver.submit(driver.spec()) for _ in range(3)]
    fail_until_given_up(world)
    for tid in tids:
        why = driver.fault(returned(tid))
        assert why["code"] == WORKER_CRASHED
        assert CAUSE["text"] in why["message"]


def broken_environment(driver: Peer) -> dict[str, str]:
    return {"LD_PRELOAD": "/no/such/library"}


def test_a_broken_environment_is_named_and_harms_no_other(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    env = broken_environment(driver)
    tid = driver.submit(driver.spec("broken", env_vars=env))
    aid = driver.create(driver.actor_class("Broken", env_vars=env))
    fine = driver.submit(driver.spec("fine"))
    fail_until_given_up(world)
    for oid in (returned(tid), actor_object(aid)):
        why = driver.fault(oid)
        assert why["code"] == WORKER_START
        assert "LD_PRELOAD=/no/such/library" in why["message"]
    assert worker.run() == fine
