"""Shares of jobs and priorities of tasks, with the bounds that are promised.

One slot, tasks of 30 ms: longer than a lease, so each is a lease of its own.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

import pytest

from peers import Peer
from rayd.core.event import Connected
from rayd.core.turns import AGE_NS, QUANTUM_NS
from rayd.wire.frame import ProtocolError
from world import World

TASK_MS = 30.0
AGE_MS = AGE_NS / 1e6


class Stage:
    """Drivers whose functions always have tasks queued.

    Args:
        world: their node.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self._again: dict[bytes, tuple[str, Callable[[], bytes]]] = {}

    def keep_queued(self, name: str, submit: Callable[[], bytes], count: int = 3) -> None:
        """From now on there are always some tasks of it."""
        for _ in range(count):
            self._again[submit()] = name, submit

    def run(self, rounds: int, task_ms: float | Mapping[str, float] = TASK_MS) -> list[str]:
        """Names of what began, in order."""
        names = []
        for _ in range(rounds):
            self.world.workers()
            busy = [worker for worker in self.world.mailboxes.values() if worker.alive and worker.unread]
            assert busy, "nothing runs"
            for worker in busy:
                (tid, *_) = worker.read()
                names.append(self._again[tid][0])
            took = task_ms if isinstance(task_ms, float) else task_ms[names[-1]]
            self.world.wait_ms(took)
            for worker in busy:
                for tid in list(worker.begun):
                    name, submit = self._again.pop(tid)
                    self._again[submit()] = name, submit
                    worker.done(tid, run_us=int(took * 1000))
        return names


@pytest.fixture
def stage(world: World) -> Iterator[Stage]:
    """An empty one, with one CPU."""
    yield Stage(world)
    world.forgive()


def job(stage: Stage, name: str, weight: float = 1.0, functions: int = 1) -> Peer:
    """A driver that always wants something."""
    driver = stage.world.driver(weight=weight)
    for number in range(functions):
        key = driver.spec(f"{name} {number}")
        stage.keep_queued(name, lambda key=key: driver.submit(key))  # type: ignore[misc]
    return driver


def test_jobs_share_by_weight_whatever_the_number_of_their_functions(stage: Stage) -> None:
    job(stage, "one", 1.0, functions=6)
    job(stage, "two", 2.0)
    job(stage, "three", 3.0, functions=2)
    counts = Counter(stage.run(120)[-60:])
    assert {name: round(count / 10) for name, count in counts.items()} == {"one": 1, "two": 2, "three": 3}


def test_a_light_job_waits_no_longer_than_its_weight_says(stage: Stage) -> None:
    """Of W in all, w: it gets one lease in W / w, and one more task may be under way."""
    job(stage, "heavy", 9.0)
    job(stage, "light", 1.0)
    names = stage.run(100)
    waits = [len(stretch) for stretch in "".join(name[0] for name in names).split("l")]
    assert max(waits) <= 10
    assert names.count("light") >= 9


def test_a_job_with_long_tasks_gets_as_much_time_as_one_with_short_ones(stage: Stage) -> None:
    job(stage, "short")
    job(stage, "long")
    names = Counter(stage.run(60, {"short": TASK_MS, "long": 5 * TASK_MS}))
    assert 4 <= names["short"] / names["long"] <= 6


def test_nobody_saves_up_by_waiting_and_who_comes_late_owes_nothing(stage: Stage) -> None:
    job(stage, "early")
    assert set(stage.run(100)) == {"early"}
    job(stage, "late")
    counts = Counter(stage.run(20))
    assert abs(counts["early"] - counts["late"]) <= 2


def test_jobs_that_come_at_the_same_moment_each_get_some_of_what_is_free() -> None:
    world = World(cpus=4)
    stage = Stage(world)
    first, second = world.driver(), world.driver()
    world.workers()
    for name, driver in (("first", first), ("second", second)):
        key = driver.spec(name)
        stage.keep_queued(name, lambda driver=driver, key=key: driver.submit(key), 8)  # type: ignore[misc]
    counts = Counter(stage.run(4, 5 * TASK_MS))
    assert 0.4 <= counts["first"] / counts.total() <= 0.6
    assert QUANTUM_NS < TASK_MS * 1e6


def test_the_higher_priority_goes_first_within_a_job(stage: Stage) -> None:
    driver = stage.world.driver()
    for name, level in (("low", -5), ("usual", 0), ("high", 5)):
        key = driver.spec(name, priority=level)
        stage.keep_queued(name, lambda key=key: driver.submit(key))  # type: ignore[misc]
    assert set(stage.run(20)[3:]) == {"high"}


def test_a_lower_priority_waits_at_most_a_second_a_level_longer(stage: Stage) -> None:
    driver = stage.world.driver()
    for name, level in (("high", 3), ("low", 0)):
        key = driver.spec(name, priority=level)
        stage.keep_queued(name, lambda key=key: driver.submit(key))  # type: ignore[misc]
    names = stage.run(400)
    longest = max(len(stretch) for stretch in "".join(name[0] for name in names).split("l"))
    assert 3 * AGE_MS / TASK_MS - 2 <= longest <= 3 * AGE_MS / TASK_MS + 2


def test_a_priority_takes_nothing_from_other_jobs(stage: Stage) -> None:
    urgent, other = stage.world.driver(), stage.world.driver()
    high, usual = urgent.spec("high", priority=100), other.spec("usual")
    stage.keep_queued("high", lambda: urgent.submit(high))
    stage.keep_queued("usual", lambda: other.submit(usual))
    counts = Counter(stage.run(40))
    assert abs(counts["high"] - counts["usual"]) <= 2


def test_actors_of_a_higher_priority_are_placed_first(world: World) -> None:
    driver = world.driver()
    taken = driver.submit(driver.spec())
    (worker,) = world.workers()[:1]
    worker.read()
    made = [driver.create(driver.actor_class(resources={"CPU": 1}, priority=level)) for level in (0, 7)]
    worker.done(taken)
    world.workers()
    assert [actor.worker is not None for actor in map(world.node.actors.by_id.get, made) if actor] == [False, True]
    world.forgive()


@pytest.mark.parametrize("weight", [0.0, -1.0, 1e9, float("nan"), "2"])
def test_a_weight_that_is_none_is_refused(world: World, weight: object) -> None:
    with pytest.raises(ProtocolError, match="weight"):
        world.step(Connected(77, "driver", {"weight": weight}))
