"""Nobody starves, and queued tasks cost little."""

import gc
import tracemalloc
from collections import Counter
from collections.abc import Callable

from rayd.core.leases import LEASE_NS_MAX
from rayd.wire.messages import SUBMIT
from world import World

TASK_MS = 2
LEASE_MS = LEASE_NS_MAX / 1e6


def served(world: World, keys: dict[str, int], submit: Callable[[int], bytes], rounds: int) -> list[str]:
    """Names of what began, in order, while each function always has something queued and each task takes TASK_MS."""
    names = []
    owner = {}
    for name, key in keys.items():
        for _ in range(3):
            owner[submit(key)] = name
    for _ in range(rounds):
        busy = [worker for worker in world.mailboxes.values() if worker.unread]
        for worker in busy:
            (tid,) = worker.read()
            names.append(owner[tid])
        world.wait_ms(TASK_MS)
        for worker in busy:
            tid = worker.begun[0]
            owner[submit(keys[owner[tid]])] = owner[tid]
            worker.done(tid, run_us=TASK_MS * 1000)
    world.forgive()
    return names


def longest_wait(names: list[str], name: str) -> int:
    """The longest stretch of others between two of a name."""
    longest = current = 0
    for served in names:
        current = 0 if served == name else current + 1
        longest = max(longest, current)
    return longest


def test_functions_that_compete_take_turns_of_one_lease_each(world: World) -> None:
    """With k functions on one worker each waits at most k - 1 leases: LEASE_NS_MAX and the task each is at then."""
    driver = world.driver()
    world.workers()
    keys = {name: driver.spec(name) for name in ("a", "b", "c")}
    names = served(world, keys, driver.submit, rounds=200)
    tasks_in_lease = int(LEASE_MS / TASK_MS) + 1
    for name in keys:
        assert longest_wait(names, name) <= (len(keys) - 1) * tasks_in_lease
    assert min(Counter(names).values()) >= 0.6 * len(names) / len(keys)


def test_submissions_between_leases_do_not_change_whose_turn_it_is(world: World) -> None:
    driver = world.driver()
    world.workers()
    keys = {name: driver.spec(name) for name in ("a", "b")}

    def submit_and_more(key: int) -> bytes:
        driver.put()
        driver.submit(keys["a"])  # as many events of any kind as one likes
        return driver.submit(key)

    world.checked = False  # queues grow
    names = []
    owner = {driver.submit(keys[name]): name for name in ("a", "b")}
    for _ in range(120):
        (worker,) = world.mailboxes.values()
        (tid,) = worker.read()
        names.append(owner.get(tid, "a"))
        world.wait_ms(TASK_MS)
        if owner.get(tid) == "b":
            owner[submit_and_more(keys["b"])] = "b"
        else:
            submit_and_more(keys["a"])
        worker.done(tid, run_us=TASK_MS * 1000)
    assert longest_wait(names, "b") <= int(LEASE_MS / TASK_MS) + 1
    world.forgive()


def test_drivers_that_compete_take_turns(world: World) -> None:
    one, two = world.driver(), world.driver()
    world.workers()
    keys = {"one": one.spec(), "two": two.spec()}
    owners = {keys["one"]: one, keys["two"]: two}
    if keys["one"] == keys["two"]:  # keys are each driver's own
        keys["two"] = two.spec("g")
        owners[keys["two"]] = two
    names = served(world, keys, lambda key: owners[key].submit(key), rounds=120)
    assert longest_wait(names, "one") <= int(LEASE_MS / TASK_MS) + 1
    assert longest_wait(names, "two") <= int(LEASE_MS / TASK_MS) + 1


def test_an_actor_gets_its_place_although_tasks_are_queued_without_end(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    key = driver.spec()
    for _ in range(60):
        driver.submit(key)
    worker.read()
    aid = driver.create(driver.actor_class(placement={"CPU": 1}))
    finished = 0
    while finished < 60:
        finished += 1
        world.wait_ms(TASK_MS)
        worker.done(worker.begun[0], run_us=TASK_MS * 1000)
        (tid,) = worker.read()
        if tid.endswith(aid):
            break
    assert finished <= LEASE_MS / TASK_MS + 1
    worker.done(tid)
    world.forgive()


def test_a_wide_task_gets_its_cpus_when_the_narrow_ones_are_done(new_world: Callable[..., World]) -> None:
    world = new_world(cpus=2)
    driver = world.driver()
    world.workers()
    narrow = [driver.submit(driver.spec("narrow")) for _ in range(4)]
    wide = driver.submit(driver.spec("wide", cpus=2))
    for tid in narrow:
        world.worker_with(tid).run(run_us=10_000)
    assert world.worker_with(wide).run() == wide


def test_a_queued_task_costs_less_than_600_bytes(new_world: Callable[..., World]) -> None:
    world = new_world(checked=False)
    driver = world.driver()
    key = driver.spec()
    warm_up, counted = 1_000, 20_000

    def submit(count: int) -> None:
        for _ in range(0, count, 100):
            driver.send(*[(SUBMIT, driver.new_tid(), key, b"", b"", [], []) for _ in range(100)])

    submit(warm_up)
    gc.collect()
    tracemalloc.start()
    submit(counted)
    gc.collect()
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used / counted < 600


def test_the_cost_of_a_step_does_not_grow_with_the_queue(new_world: Callable[..., World]) -> None:
    """Counted in lines executed, which does not depend on the machine."""
    import sys

    def lines_per_task(queued: int) -> float:
        world = new_world(checked=False)
        driver = world.driver()
        (worker,) = world.workers()
        key = driver.spec()
        for _ in range(0, queued, 100):
            driver.send(*[(SUBMIT, driver.new_tid(), key, b"", b"", [], []) for _ in range(100)])
        lines = 0

        def count(frame: object, event: str, arg: object) -> object:
            nonlocal lines
            lines += event == "line"
            return count

        before = sys.gettrace()
        sys.settrace(count)
        try:
            for _ in range(50):
                worker.run(run_us=1)
        finally:
            sys.settrace(before)
        world.forgive()
        return lines / 50

    assert lines_per_task(10_000) < 1.2 * lines_per_task(1_000)
