"""Random kills of workers under load: every result is right, or an error that says exactly why there is none."""

import os
import random
import signal
import threading

import pytest

import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayError, WorkerCrashedError
from rayd.shell import procfs

from .support import LIMIT_S, Record, exact, status, until, workers

KILLS = 200


@ray.remote(max_retries=-1)
def square(x):
    return x * x


@ray.remote(max_retries=0)
def once(x):
    return x + 1


@ray.remote(max_retries=-1)
def parent(x):
    return sum(ray.get([square.remote(i) for i in range(x)]))


@ray.remote(max_retries=-1)
def large(x):
    return bytes([x % 256]) * 150_000


@ray.remote(max_restarts=-1, max_task_retries=-1, num_cpus=0)
class Steady:
    def twice(self, x):
        return 2 * x


@ray.remote(max_restarts=-1, num_cpus=0)
class Shaky:
    def twice(self, x):
        return 2 * x


class Killer(threading.Thread):
    """Kills workers of a daemon at random moments until it has killed enough or is stopped."""

    def __init__(self, record: Record, kills: int, seed: int) -> None:
        super().__init__(daemon=True)
        self._record = record
        self._left = kills
        self._chance = random.Random(seed)
        self.stop = threading.Event()

    def run(self) -> None:
        while self._left and not self.stop.wait(self._chance.uniform(0.0, 0.03)):
            victims = _workers(self._record)
            if victims:
                number = self._chance.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
                self._left -= procfs.kill(self._chance.choice(victims), number)


def _workers(record: Record) -> list[int]:
    try:
        return workers(record)
    except ValueError:  # the fork server has just been replaced
        return []


def check(ref, expected) -> None:
    """A result must be the right one, an error exact."""
    try:
        value = ray.get(ref, timeout=LIMIT_S)
    except (WorkerCrashedError, ActorDiedError, ActorUnavailableError) as error:
        text = exact(error)
        assert error.signal_name in {"SIGKILL", "SIGSEGV", "SIGTERM"}, text
        assert f"it was ended by {error.signal_name}" in text
    else:
        assert value == expected


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.time_limit(50)
def test_random_kills_cost_no_result_that_may_be_computed_again(own_session: Record, seed: int) -> None:
    killer = Killer(own_session, KILLS // 2, seed)
    steady, shaky = Steady.remote(), Shaky.remote()
    killer.start()
    rounds = 0
    try:
        while killer.is_alive():
            certain = [(square.remote(i), i * i) for i in range(100)]
            certain += [(parent.remote(5), 30) for _ in range(3)]
            certain += [(large.remote(i), bytes([i]) * 150_000) for i in range(5)]
            certain += [(steady.twice.remote(i), 2 * i) for i in range(30)]
            mortal = [(once.remote(i), i + 1) for i in range(50)]
            mortal += [(shaky.twice.remote(i), 2 * i) for i in range(30)]
            for ref, expected in certain:
                assert ray.get(ref, timeout=LIMIT_S) == expected
            for ref, expected in mortal:
                check(ref, expected)
            rounds += 1
    finally:
        killer.stop.set()
        killer.join()
    assert rounds
    assert ray.get([square.remote(i) for i in range(100)]) == [i * i for i in range(100)]
    del certain, mortal, ref

    def clean() -> bool:
        now = status(own_session)
        return now["store"]["used"] == 0 and not now["demands"] and now["nodes"][0]["available"]["CPU"] == 2

    until(clean, saying=lambda: status(own_session))


def test_streams_and_their_errors_survive_kills(own_session: Record) -> None:
    @ray.remote(max_retries=-1)
    def count(n):
        for i in range(n):
            yield i, os.getpid()

    @ray.remote(max_retries=0)
    def count_once(n):
        for i in range(n):
            yield i, os.getpid()

    killer = Killer(own_session, 40, 3)
    killer.start()
    broken = 0
    try:
        while killer.is_alive():
            items = [ray.get(ref, timeout=LIMIT_S)[0] for ref in count.remote(200)]
            assert items == list(range(200))
            items = []
            try:
                for ref in count_once.remote(200):
                    items.append(ray.get(ref, timeout=LIMIT_S)[0])
                assert items == list(range(200))
            except RayError as error:
                assert items == list(range(len(items)))
                assert "ended by SIG" in exact(error)
                broken += 1
    finally:
        killer.stop.set()
        killer.join()
    assert broken
