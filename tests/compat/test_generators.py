"""Generator tasks: results that stream while the task runs, and the older forms with a fixed or dynamic number."""

from __future__ import annotations

import asyncio
import gc
import os

import numpy as np
import pytest

import ray
from ray import DynamicObjectRefGenerator, ObjectRefGenerator
from ray.exceptions import ActorDiedError, RayActorError, TaskCancelledError, WorkerCrashedError

from .support import Gate, count_up, marks, until, until_arrived, wait_at

pytestmark = pytest.mark.usefixtures("cluster")


# Loops instead of `yield from`, because upstream cannot stream from a generator that delegates to an iterator.


@ray.remote
def count(n):
    for i in range(n):  # noqa: UP028
        yield i


@ray.remote
def count_and_fail(n):
    for i in range(n):  # noqa: UP028
        yield i
    raise ValueError("after the last item")


@ray.remote
def count_at(gate, n):
    """Yields one item, then waits at the gate before each of the others."""
    yield 0
    for i in range(1, n):
        wait_at(gate, i)
        yield i


@ray.remote
class Source:
    def count(self, n):
        for i in range(n):  # noqa: UP028
            yield i

    async def count_async(self, n):
        for i in range(n):
            await asyncio.sleep(0)
            yield i

    @ray.method(num_returns=2)
    def pair(self):
        yield "left"
        yield "right"

    def fail(self):
        yield 1
        raise KeyError("in the actor")

    def die(self, gate):
        yield 1
        wait_at(gate)
        os._exit(3)

    def ping(self):
        return "pong"


def values(generator):
    return [ray.get(ref) for ref in generator]


def outcomes(generator):
    """The value of each item, or the class of its error."""
    found = []
    for ref in generator:
        try:
            found.append(ray.get(ref, timeout=30))
        except Exception as error:  # noqa: BLE001 -- whatever came is what the tests look at
            found.append(error)
    return found


def test_a_generator_function_streams_refs():
    generator = count.remote(5)
    assert isinstance(generator, ObjectRefGenerator)
    refs = list(generator)
    assert all(isinstance(ref, ray.ObjectRef) for ref in refs)
    assert ray.get(refs) == [0, 1, 2, 3, 4]


def test_a_generator_without_items_ends_at_once():
    assert values(count.remote(0)) == []


def test_an_item_can_be_read_before_the_task_has_ended():
    gate = Gate.remote()
    generator = count_at.remote(gate, 2)
    assert ray.get(next(generator), timeout=30) == 0
    until_arrived(gate, 1)
    assert not generator.is_finished()
    ray.get(gate.open.remote())
    assert values(generator) == [1]
    assert generator.is_finished()


def test_next_after_the_end_raises_stop_iteration():
    generator = count.remote(1)
    assert ray.get(next(generator)) == 0
    for _ in range(2):
        with pytest.raises(StopIteration):
            next(generator)


@pytest.mark.beyond_ray("sends into the generator, which fails while that delegates to a plain iterator")
def test_a_generator_may_delegate_to_an_iterator():
    @ray.remote
    def delegate(n):
        yield from range(n)

    assert values(delegate.remote(3)) == [0, 1, 2]


def test_an_error_is_the_last_item():
    found = outcomes(count_and_fail.remote(2))
    assert found[:2] == [0, 1]
    assert isinstance(found[2], ValueError)
    assert len(found) == 3


def test_large_items_stream_too():
    @ray.remote
    def blocks(n):
        for i in range(n):
            yield np.full(200_000, i)

    assert [int(ray.get(ref)[-1]) for ref in blocks.remote(4)] == [0, 1, 2, 3]


def test_thousands_of_items_keep_their_order():
    assert values(count.remote(2000)) == list(range(2000))


def test_refs_of_items_are_ordinary_refs():
    first, second = count.remote(2)
    add = ray.remote(lambda a, b: a + b)
    assert ray.get(add.remote(first, second)) == 1
    assert ray.wait([first, second], num_returns=2)[1] == []


def test_items_stay_readable_when_the_generator_is_gone():
    refs = list(count.remote(3))
    gc.collect()
    assert ray.get(refs) == [0, 1, 2]


def test_the_end_of_the_task_can_be_awaited_as_a_ref():
    generator = count.remote(3)
    assert ray.get(generator.completed(), timeout=30) is None
    assert values(generator) == [0, 1, 2]


def test_get_gives_a_generator_back_unchanged():
    generator = count.remote(1)
    assert ray.get(generator) is generator
    assert values(generator) == [0]


def test_wait_takes_generators_and_refs_together():
    gate = Gate.remote()

    @ray.remote
    def late():
        wait_at(gate)
        yield "late"

    slow, quick, ref = late.remote(), count.remote(1), ray.put(1)
    ready, rest = ray.wait([slow, quick, ref], num_returns=2, timeout=30)
    assert (ready, rest) == ([quick, ref], [slow])
    ray.get(gate.open.remote())
    assert ray.wait([slow], timeout=30) == ([slow], [])
    assert values(slow) == ["late"]


def test_a_generator_cannot_travel():
    identity = ray.remote(lambda value: value)
    with pytest.raises(TypeError):
        identity.remote(count.remote(1))
    with pytest.raises(TypeError):
        ray.put([count.remote(1)])


def test_a_producer_waits_when_its_consumer_is_behind(tmp_path):
    produced = tmp_path / "produced"

    @ray.remote(_generator_backpressure_num_objects=3)
    def produce():
        for i in range(10):
            count_up(produced)
            yield i

    generator = produce.remote()
    until(lambda: marks(produced) == 3)
    assert ray.get(ray.remote(lambda: "time passes").remote()) == "time passes"
    assert marks(produced) == 3
    assert ray.get(next(generator)) == 0
    until(lambda: marks(produced) == 4)
    assert values(generator) == list(range(1, 10))
    assert marks(produced) == 10


def test_a_consumer_loop_goes_through_a_producer_with_back_pressure():
    generator = count.options(_generator_backpressure_num_objects=1).remote(50)
    assert values(generator) == list(range(50))


@pytest.mark.beyond_ray("the producer stays blocked for ever and keeps what it holds")
def test_dropping_the_generator_ends_a_producer_that_waits_for_its_consumer(tmp_path):
    ended = tmp_path / "ended"

    @ray.remote(_generator_backpressure_num_objects=1, num_cpus=0)
    def endless():
        try:
            while True:
                yield 1
        finally:
            ended.touch()

    generator = endless.remote()
    assert ray.get(next(generator)) == 1
    del generator
    gc.collect()
    until(ended.exists, timeout_s=5)


def test_cancelling_a_generator_task_ends_the_stream_with_the_error():
    gate = Gate.remote()
    generator = count_at.remote(gate, 3)
    assert ray.get(next(generator)) == 0
    until_arrived(gate, 1)
    ray.cancel(generator)
    found = outcomes(generator)
    assert isinstance(found[-1], TaskCancelledError)


def test_a_worker_that_dies_ends_the_stream_with_the_error():
    gate = Gate.remote()

    @ray.remote(max_retries=0)
    def die():
        yield 1
        wait_at(gate)
        os._exit(3)

    generator = die.remote()
    assert ray.get(next(generator)) == 1
    ray.get(gate.open.remote())
    found = outcomes(generator)
    assert len(found) == 1
    assert isinstance(found[0], WorkerCrashedError)


def test_a_generator_task_may_be_tried_again_from_its_beginning(tmp_path):
    tries = tmp_path / "tries"

    @ray.remote(max_retries=2, retry_exceptions=True)
    def unreliable():
        yield 0
        if count_up(tries) < 2:
            raise OSError("not yet")
        yield 1

    assert values(unreliable.remote()) == [0, 1]
    assert marks(tries) == 2


def test_generators_may_be_nested_in_tasks():
    @ray.remote
    def total(n):
        return sum(values(count.remote(n)))

    @ray.remote
    def doubled(n):
        for ref in count.remote(n):
            yield 2 * ray.get(ref)

    assert ray.get(total.remote(5)) == 10
    assert values(doubled.remote(3)) == [0, 2, 4]


# --- a fixed and a dynamic number ------------------------------------------------------------------------------------


def test_a_generator_fills_a_fixed_number_of_refs():
    refs = count.options(num_returns=3).remote(3)
    assert isinstance(refs, list)
    assert ray.get(refs) == [0, 1, 2]


def test_a_generator_that_yields_too_few_fails_what_is_missing():
    refs = count.options(num_returns=3).remote(2)
    with pytest.raises(ValueError):
        ray.get(refs[2])


@pytest.mark.filterwarnings("ignore")
def test_dynamic_gives_one_ref_to_a_generator_of_refs():
    ref = count.options(num_returns="dynamic").remote(3)
    assert isinstance(ref, ray.ObjectRef)
    generator = ray.get(ref)
    assert isinstance(generator, DynamicObjectRefGenerator)
    assert len(generator) == 3
    assert [ray.get(inner) for inner in generator] == [0, 1, 2]


@pytest.mark.filterwarnings("ignore")
def test_dynamic_delivers_an_error_as_the_last_item():
    found = outcomes(ray.get(count_and_fail.options(num_returns="dynamic").remote(2)))
    assert found[:2] == [0, 1]
    assert isinstance(found[2], ValueError)


@pytest.mark.filterwarnings("ignore")
def test_a_dynamic_generator_may_travel():
    @ray.remote
    def total(refs):
        return sum(ray.get(ref) for ref in refs)

    assert ray.get(total.remote(count.options(num_returns="dynamic").remote(4))) == 6


# --- actors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["count", "count_async"])
def test_methods_that_yield_stream(method):
    source = Source.remote()
    generator = getattr(source, method).remote(4)
    assert isinstance(generator, ObjectRefGenerator)
    assert values(generator) == [0, 1, 2, 3]


def test_a_method_may_promise_a_fixed_number_of_items():
    source = Source.remote()
    assert ray.get(source.pair.remote()) == ["left", "right"]
    assert ray.get(source.count.options(num_returns=2).remote(2)) == [0, 1]


def test_an_error_in_a_method_is_the_last_item_and_the_actor_lives_on():
    source = Source.remote()
    found = outcomes(source.fail.remote())
    assert found[0] == 1
    assert isinstance(found[1], KeyError)
    assert ray.get(source.ping.remote()) == "pong"


def test_an_actor_that_dies_ends_the_stream_with_the_error():
    gate, source = Gate.remote(), Source.remote()
    generator = source.die.remote(gate)
    assert ray.get(next(generator)) == 1
    ray.get(gate.open.remote())
    found = outcomes(generator)
    assert len(found) == 1
    assert isinstance(found[0], ActorDiedError)


def test_killing_an_actor_ends_its_streams_with_the_error():
    gate, source = Gate.remote(), Source.remote()
    generator = source.die.remote(gate)
    assert ray.get(next(generator)) == 1
    ray.kill(source)
    found = outcomes(generator)
    assert isinstance(found[-1], RayActorError)
