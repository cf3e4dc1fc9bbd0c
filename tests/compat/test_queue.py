"""`ray.util.queue`: a queue shared by tasks and actors; and results in the order in which they become ready."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Iterator
from typing import Any

import pytest

import ray
from ray.util import as_completed, map_unordered
from ray.util.queue import Empty, Full, Queue

from .support import Gate, until

pytestmark = pytest.mark.usefixtures("cluster")


@pytest.fixture
def small() -> Iterator[Queue]:
    """A queue with room for two."""
    shared = Queue(maxsize=2, actor_options={"num_cpus": 0})
    yield shared
    shared.shutdown(force=True)


@ray.remote(num_cpus=0)
def double(value: int) -> int:
    return 2 * value


def test_items_come_out_in_the_order_they_went_in(small: Queue) -> None:
    small.put("a")
    small.put("b")
    assert [small.get(), small.get()] == ["a", "b"]


def test_its_size_is_known(small: Queue) -> None:
    assert (small.size(), small.qsize(), len(small), small.empty(), small.full()) == (0, 0, 0, True, False)
    small.put(1)
    small.put(2)
    assert (small.size(), small.qsize(), len(small), small.empty(), small.full()) == (2, 2, 2, False, True)
    assert small.maxsize == 2


def test_tasks_share_it(small: Queue) -> None:
    @ray.remote(num_cpus=0)
    def produce(shared: Queue) -> None:
        for number in range(5):
            shared.put(number)

    producer = produce.remote(small)
    assert [small.get() for _ in range(5)] == [0, 1, 2, 3, 4]
    ray.get(producer)


def test_an_empty_queue_raises_the_error_of_the_standard_library(small: Queue) -> None:
    for get in (small.get_nowait, lambda: small.get(block=False), lambda: small.get(timeout=0.01)):
        with pytest.raises(queue.Empty) as caught:
            get()
        assert isinstance(caught.value, Empty)


def test_a_full_queue_raises_the_error_of_the_standard_library(small: Queue) -> None:
    small.put_nowait_batch([1, 2])
    for put in (
        small.put_nowait,
        lambda item: small.put(item, block=False),
        lambda item: small.put(item, timeout=0.01),
    ):
        with pytest.raises(queue.Full) as caught:
            put(3)
        assert isinstance(caught.value, Full)
    assert small.size() == 2


def test_batches_go_wholly_or_not_at_all(small: Queue) -> None:
    with pytest.raises(Full):
        small.put_nowait_batch([1, 2, 3])
    small.put_nowait_batch([1, 2])
    with pytest.raises(Empty):
        small.get_nowait_batch(3)
    assert small.get_nowait_batch(2) == [1, 2]
    assert small.get_nowait_batch(0) == []


def test_what_makes_no_sense_is_refused(small: Queue) -> None:
    with pytest.raises(ValueError):
        small.put(1, timeout=-1)
    with pytest.raises(ValueError):
        small.get(timeout=-1)
    with pytest.raises(TypeError):
        small.put_nowait_batch(5)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        small.get_nowait_batch("2")  # type: ignore[arg-type]
    with pytest.raises(ValueError):
        small.get_nowait_batch(-1)


def test_a_waiting_get_is_served_by_a_later_put(small: Queue) -> None:
    @ray.remote(num_cpus=0)
    def take(shared: Queue, gate: Any) -> Any:
        ray.get(gate.arrive.remote())
        return shared.get(timeout=50)

    gate = Gate.remote()
    taken = take.remote(small, gate)
    until(lambda: ray.get(gate.arrived.remote()))
    small.put("late")
    assert ray.get(taken) == "late"


def test_coroutines_use_it_too(small: Queue) -> None:
    async def main() -> list[Any]:
        await small.put_async(1)
        await small.put_async(2, timeout=5)
        with pytest.raises(Full):
            await small.put_async(3, block=False)
        items = [await small.get_async(), await small.get_async(timeout=5)]
        with pytest.raises(Empty):
            await small.get_async(timeout=0.01)
        return items

    assert asyncio.run(main()) == [1, 2]


@pytest.mark.beyond_ray("a queue after its shutdown fails with an AttributeError of NoneType")
def test_after_its_shutdown_it_says_what_to_do() -> None:
    shared = Queue(actor_options={"num_cpus": 0})
    shared.put(1)
    shared.shutdown()
    shared.shutdown()
    with pytest.raises(RuntimeError, match="shut down"):
        shared.put(2)


def test_as_completed_gives_what_is_ready_first() -> None:
    gate = Gate.remote()

    @ray.remote(num_cpus=0)
    def late(gate: Any) -> str:
        ray.get(gate.wait.remote())
        return "late"

    results = as_completed([late.remote(gate), double.remote(4)], chunk_size=1)
    assert next(results) == 8
    ray.get(gate.open.remote())
    assert list(results) == ["late"]


def test_as_completed_gives_references_when_asked() -> None:
    refs = [double.remote(number) for number in range(15)]
    given = list(as_completed(refs, yield_obj_refs=True))
    assert set(given) == set(refs)
    assert list(as_completed([])) == []


def test_map_unordered_gives_all_results_of_a_generator() -> None:
    results = map_unordered(double, (number for number in range(25)), backpressure_size=3)
    assert sorted(results) == [2 * number for number in range(25)]
    assert sorted(map_unordered(double, range(5), backpressure_size=None)) == [0, 2, 4, 6, 8]
    refs = map_unordered(double, [1], yield_obj_refs=True)
    assert ray.get(list(refs)) == [2]


def test_map_unordered_takes_no_more_than_there_is_room_for() -> None:
    taken = []

    def items() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    results = map_unordered(double, items(), backpressure_size=4, chunk_size=1)
    next(results)
    assert len(taken) <= 5
    assert len(list(results)) == 99
