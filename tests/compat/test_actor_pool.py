"""`ray.util.ActorPool`: calls handed to whichever actor is free."""

from __future__ import annotations

import os
from typing import Any

import pytest

import ray
from ray.util import ActorPool

from .support import Gate

pytestmark = pytest.mark.usefixtures("cluster")


@ray.remote(num_cpus=0)
class Doubler:
    def double(self, value: int) -> int:
        return 2 * value

    def pair(self, value: int) -> tuple[int, int]:
        return value, -value

    def fail(self, value: Any) -> None:
        raise ValueError(value)

    def die(self, value: Any) -> None:
        os._exit(1)

    def after(self, gate: Any, value: int) -> int:
        ray.get(gate.wait.remote(value))
        return value


def double(actor: Any, value: int) -> Any:
    return actor.double.remote(value)


def pool_of(count: int) -> ActorPool:
    return ActorPool([Doubler.remote() for _ in range(count)])


def test_map_gives_the_results_in_the_order_of_the_values() -> None:
    assert list(pool_of(2).map(double, range(10))) == [2 * value for value in range(10)]


def test_map_unordered_gives_all_results() -> None:
    assert sorted(pool_of(2).map_unordered(double, range(10))) == [2 * value for value in range(10)]


def test_map_of_nothing_gives_nothing() -> None:
    assert list(pool_of(1).map(double, [])) == []


def test_map_unordered_gives_what_is_ready_first() -> None:
    gate = Gate.remote()
    pool = pool_of(2)
    pool.submit(lambda actor, value: actor.after.remote(gate, value), 1)
    pool.submit(double, 2)
    assert pool.get_next_unordered() == 4
    ray.get(gate.open.remote())
    assert pool.get_next_unordered() == 1
    assert not pool.has_next()


def test_more_calls_than_actors_wait_for_a_free_one() -> None:
    pool = pool_of(1)
    for value in range(3):
        pool.submit(double, value)
    assert not pool.has_free()
    assert [pool.get_next() for _ in range(3)] == [0, 2, 4]
    assert pool.has_free()


@pytest.mark.beyond_ray("get_next refuses to work after get_next_unordered took a later result")
def test_both_ways_of_fetching_can_be_mixed() -> None:
    gate = Gate.remote()
    pool = pool_of(3)
    pool.submit(lambda actor, value: actor.after.remote(gate, value), 1)
    pool.submit(double, 2)
    pool.submit(lambda actor, value: actor.after.remote(gate, value), 3)
    assert pool.get_next_unordered() == 4
    ray.get(gate.open.remote())
    assert [pool.get_next(), pool.get_next()] == [1, 3]


def test_when_nothing_is_left_it_says_so() -> None:
    pool = pool_of(1)
    assert not pool.has_next()
    with pytest.raises(StopIteration):
        pool.get_next()
    with pytest.raises(StopIteration):
        pool.get_next_unordered()


def test_a_result_that_is_late_can_be_fetched_later() -> None:
    gate = Gate.remote()
    pool = pool_of(1)
    pool.submit(lambda actor, value: actor.after.remote(gate, value), 5)
    with pytest.raises(TimeoutError):
        pool.get_next(timeout=0.01)
    with pytest.raises(TimeoutError):
        pool.get_next_unordered(timeout=0.01)
    ray.get(gate.open.remote())
    assert pool.get_next() == 5


def test_a_result_that_is_late_can_be_given_up() -> None:
    gate = Gate.remote()
    pool = pool_of(1)
    pool.submit(lambda actor, value: actor.after.remote(gate, value), 5)
    with pytest.raises(TimeoutError):
        pool.get_next(timeout=0.01, ignore_if_timedout=True)
    assert not pool.has_next()
    assert pool.has_free()
    ray.get(gate.open.remote())
    assert list(pool.map(double, [4])) == [8]


def test_a_failed_call_raises_and_its_actor_goes_on() -> None:
    pool = pool_of(1)
    pool.submit(lambda actor, value: actor.fail.remote(value), "bad")
    pool.submit(double, 2)
    with pytest.raises(ValueError, match="bad"):
        pool.get_next()
    assert pool.get_next() == 4


def test_a_dead_actor_leaves_the_pool() -> None:
    pool = pool_of(1)
    pool.submit(lambda actor, value: actor.die.remote(value), 1)
    with pytest.raises(ray.exceptions.ActorDiedError):
        pool.get_next()
    assert not pool.has_free()
    pool.push(Doubler.remote())
    assert list(pool.map(double, [1])) == [2]


@pytest.mark.beyond_ray("calls that wait for a pool whose actors are all dead are forgotten silently")
def test_calls_that_wait_for_a_pool_of_dead_actors_are_not_lost() -> None:
    pool = pool_of(1)
    pool.submit(lambda actor, value: actor.die.remote(value), 1)
    pool.submit(double, 2)
    with pytest.raises(ray.exceptions.ActorDiedError):
        pool.get_next()
    assert pool.has_next()
    with pytest.raises(RuntimeError, match="push"):
        pool.get_next()
    pool.push(Doubler.remote())
    assert pool.get_next() == 4


def test_actors_come_and_go() -> None:
    pool = pool_of(1)
    actor = pool.pop_idle()
    assert actor is not None
    assert pool.pop_idle() is None
    pool.push(actor)
    with pytest.raises(ValueError):
        pool.push(actor)
    assert list(pool.map(double, [3])) == [6]


def test_a_busy_actor_cannot_be_pushed_again() -> None:
    actor = Doubler.remote()
    pool = ActorPool([actor])
    pool.submit(double, 1)
    with pytest.raises(ValueError):
        pool.push(actor)
    assert pool.get_next() == 2


def test_map_drops_what_was_submitted_before() -> None:
    pool = pool_of(1)
    for value in range(3):
        pool.submit(double, value)
    assert list(pool.map(double, [10])) == [20]


def test_a_method_with_two_results_gives_both() -> None:
    pool = pool_of(2)
    pair = list(pool.map(lambda actor, value: actor.pair.options(num_returns=2).remote(value), [1, 2]))
    assert pair == [[1, -1], [2, -2]]


def test_libraries_that_subclass_it_find_the_attributes_they_use() -> None:
    pool = pool_of(1)
    pool.submit(double, 1)
    pool.submit(double, 2)
    ((index, actor),) = pool._future_to_actor.values()
    assert pool._index_to_future == {index: next(iter(pool._future_to_actor))}
    assert (pool._idle_actors, pool._next_task_index, pool._next_return_index) == ([], 1, 0)
    assert [value for _, value in pool._pending_submits] == [2]
    assert callable(pool._return_actor)
    assert [pool.get_next(), pool.get_next()] == [2, 4]
    assert pool._idle_actors == [actor]
