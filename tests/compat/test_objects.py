"""`ray.put`, `ray.get`, `ray.wait` and refs: as arguments, in values and closures, and what keeps objects alive."""

from __future__ import annotations

import asyncio
import gc
import itertools
import time

import numpy as np
import pytest

import ray
from ray.exceptions import GetTimeoutError

from .support import Gate, until_arrived, wait_at

pytestmark = pytest.mark.usefixtures("cluster")


@ray.remote
def identity(value):
    return value


@ray.remote
def wait_for(gate, value):
    wait_at(gate, value)
    return value


@ray.remote
def fail():
    raise ValueError("as asked")


@ray.remote
def type_name(value):
    return type(value).__name__


# --- put and get -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [1, None, "text", b"bytes", [1, 2], {"a": (1,)}, ValueError("value")], ids=repr)
def test_what_was_put_comes_back_equal(value):
    result = ray.get(ray.put(value))
    assert type(result) is type(value)
    assert repr(result) == repr(value)


def test_an_object_is_a_copy_taken_when_it_was_put():
    value = [1]
    ref = ray.put(value)
    value.append(2)
    assert ray.get(ref) == [1]
    ray.get(ref).append(3)
    assert ray.get(ref)[:1] == [1]


def test_get_of_a_list_keeps_the_order_and_allows_repetition():
    refs = [ray.put(i) for i in range(5)]
    assert ray.get([refs[3], refs[1], refs[3]]) == [3, 1, 3]
    assert ray.get([]) == []


def test_two_objects_put_with_the_same_value_are_different_objects():
    assert ray.put("twin") != ray.put("twin")


def test_putting_a_ref_is_refused_and_putting_it_in_a_list_is_not():
    ref = ray.put(1)
    with pytest.raises(TypeError):
        ray.put(ref)
    assert ray.get(ray.put([ref])) == [ref]


@pytest.mark.parametrize("thing", [3, None, "ref", {"a": 1}, (), {1}, identity], ids=repr)
def test_get_of_anything_but_a_ref_or_a_list_is_refused(thing):
    with pytest.raises(ValueError):
        ray.get(thing)


@pytest.mark.parametrize("thing", [[3], [None], [[]]], ids=repr)
def test_get_of_a_list_with_anything_but_refs_is_refused(thing):
    with pytest.raises(TypeError):
        ray.get([ray.put(1), *thing])


def test_a_tuple_of_refs_is_refused_by_get():
    with pytest.raises(ValueError):
        ray.get((ray.put(1), ray.put(2)))


def test_get_gives_up_after_its_timeout_and_the_task_goes_on():
    gate = Gate.remote()
    ref = wait_for.remote(gate, "late")
    with pytest.raises(GetTimeoutError):
        ray.get(ref, timeout=0.05)
    with pytest.raises(TimeoutError):
        ray.get([ref], timeout=0.05)
    ray.get(gate.open.remote())
    assert ray.get(ref) == "late"


def test_a_timeout_of_zero_asks_without_waiting():
    gate = Gate.remote()
    ref = wait_for.remote(gate, "late")
    with pytest.raises(GetTimeoutError):
        ray.get(ref, timeout=0)
    assert ray.get(ray.put("there"), timeout=0) == "there"
    ray.get(gate.open.remote())
    assert ray.get(ref, timeout=30) == "late"


def test_get_of_a_list_raises_the_first_failure_without_waiting_for_the_others():
    gate = Gate.remote()
    slow = wait_for.remote(gate, "slow")
    with pytest.raises(ValueError):
        ray.get([slow, fail.remote()])
    assert ray.wait([slow], timeout=0) == ([], [slow])
    ray.get(gate.open.remote())
    assert ray.get(slow) == "slow"


# --- wait ------------------------------------------------------------------------------------------------------------


def test_wait_returns_one_finished_ref_by_default():
    gate = Gate.remote()
    slow, quick = wait_for.remote(gate, 1), identity.remote(2)
    assert ray.wait([slow, quick]) == ([quick], [slow])
    ray.get(gate.open.remote())
    assert ray.wait([slow, quick], num_returns=2) == ([slow, quick], [])


def test_wait_keeps_the_order_of_its_input_in_both_lists():
    gate = Gate.remote()
    done = [ray.put(i) for i in range(3)]
    open_refs = [wait_for.remote(gate, i) for i in range(2)]
    mixed = [done[2], open_refs[1], done[0], open_refs[0], done[1]]
    assert ray.wait(mixed, num_returns=3) == ([done[2], done[0], done[1]], [open_refs[1], open_refs[0]])
    ray.get(gate.open.remote())
    ray.get(open_refs)


def test_wait_returns_no_more_than_it_was_asked_for():
    refs = [ray.put(i) for i in range(5)]
    ready, rest = ray.wait(refs, num_returns=2)
    assert (len(ready), len(rest)) == (2, 3)
    assert {*ready, *rest} == {*refs}


def test_wait_with_a_timeout_returns_what_there_is():
    gate = Gate.remote()
    refs = [ray.put(0), wait_for.remote(gate, 1)]
    assert ray.wait(refs, num_returns=2, timeout=0.05) == (refs[:1], refs[1:])
    assert ray.wait(refs[1:], timeout=0) == ([], refs[1:])
    ray.get(gate.open.remote())
    ray.get(refs)


def test_wait_counts_a_failed_task_as_finished():
    ref = fail.remote()
    assert ray.wait([ref]) == ([ref], [])


def test_wait_of_nothing_returns_nothing():
    assert ray.wait([]) == ([], [])


def test_wait_without_fetching_reports_large_objects_too():
    ref = identity.remote(np.zeros(1_000_000))
    assert ray.wait([ref], fetch_local=False) == ([ref], [])


@pytest.mark.parametrize(
    ("options", "error"),
    [({"num_returns": 0}, ValueError), ({"num_returns": 3}, ValueError), ({"timeout": -1}, ValueError)],
    ids=str,
)
def test_wait_refuses_bad_options(options, error):
    with pytest.raises(error):
        ray.wait([ray.put(1), ray.put(2)], **options)


def test_wait_refuses_a_single_ref_a_tuple_and_strangers():
    ref = ray.put(1)
    for argument in (ref, (ref,), [ref, 3], None):
        with pytest.raises(TypeError):
            ray.wait(argument)


def test_wait_refuses_the_same_ref_twice():
    ref = ray.put(1)
    with pytest.raises(ValueError):
        ray.wait([ref, ref])


def test_a_loop_over_wait_sees_every_result_once():
    refs, seen = [identity.remote(i) for i in range(200)], []
    while refs:
        ready, refs = ray.wait(refs, num_returns=min(10, len(refs)), timeout=5.0)
        seen += ray.get(ready)
    assert sorted(seen) == list(range(200))


def test_submission_can_be_held_back_with_wait():
    pending, seen = [], []
    for item in range(150):
        if len(pending) >= 20:
            done, pending = ray.wait(pending, num_returns=5)
            seen += ray.get(done)
        pending.append(identity.remote(item))
    assert sorted(seen + ray.get(pending)) == list(range(150))


# --- refs as arguments -----------------------------------------------------------------------------------------------


def test_a_ref_as_an_argument_arrives_as_its_value():
    assert ray.get(identity.remote(ray.put("value"))) == "value"
    assert ray.get(identity.remote(value=ray.put("by keyword"))) == "by keyword"


def test_a_ref_inside_an_argument_arrives_as_a_ref():
    @ray.remote
    def look(values):
        return [type(value).__name__ for value in values], ray.get(values)

    assert ray.get(look.remote([ray.put(1), ray.put(2)])) == (["ObjectRef", "ObjectRef"], [1, 2])


def test_stages_of_a_pipeline_hand_on_refs():
    double = ray.remote(lambda x: 2 * x)
    refs = [double.remote(double.remote(double.remote(i))) for i in range(10)]
    assert ray.get(refs) == [8 * i for i in range(10)]


def test_a_task_starts_only_when_its_arguments_are_there():
    gate = Gate.remote()
    first = wait_for.remote(gate, 1)
    second = identity.remote(first)
    assert ray.wait([second], timeout=0.05) == ([], [second])
    ray.get(gate.open.remote())
    assert ray.get(second) == 1


def test_tasks_that_wait_for_arguments_hold_no_cpu():
    gate = Gate.remote()
    first = wait_for.remote(gate, 1)
    waiting = [identity.remote(first) for _ in range(20)]
    assert ray.get(identity.remote("not blocked"), timeout=30) == "not blocked"
    ray.get(gate.open.remote())
    assert ray.get(waiting) == [1] * 20


def test_the_failure_of_an_argument_is_the_failure_of_the_task():
    with pytest.raises(ValueError):
        ray.get(identity.remote(identity.remote(fail.remote())))


def test_a_nested_ref_of_a_failed_task_fails_only_when_it_is_read():
    @ray.remote
    def careful(box):
        try:
            ray.get(box[0])
        except ValueError as error:
            return error.args[0] if isinstance(error.args[0], str) else str(error.args[0])

    assert "as asked" in ray.get(careful.remote([fail.remote()]))


def test_the_result_of_a_task_that_returns_a_ref_is_that_ref():
    @ray.remote
    def nested():
        return ray.put("inner")

    assert ray.get(ray.get(nested.remote())) == "inner"
    assert ray.get(type_name.remote(nested.remote())) == "ObjectRef"


def test_a_closure_may_capture_refs():
    a, b, c = ray.put(1), ray.put(2), ray.put(3)

    @ray.remote
    def capture():
        return ray.get([a, b, c])

    assert ray.get(capture.remote()) == [1, 2, 3]


# --- what keeps an object alive --------------------------------------------------------------------------------------


def test_a_ref_inside_a_stored_value_keeps_the_object():
    outer = ray.put({"inside": [ray.put("still here")]})
    gc.collect()
    assert ray.get(ray.get(outer)["inside"][0]) == "still here"


def test_a_ref_in_a_closure_keeps_the_object():
    def make():
        ref = ray.put("captured")
        return ray.remote(lambda: ray.get(ref))

    read = make()
    gc.collect()
    assert ray.get([read.remote(), read.remote()]) == ["captured", "captured"]


def test_a_pending_task_keeps_its_argument():
    gate = Gate.remote()

    @ray.remote
    def late(gate_value, box):
        return ray.get(box[0])

    ref = late.remote(wait_for.remote(gate, 0), [ray.put("argument")])
    gc.collect()
    ray.get(gate.open.remote())
    assert ray.get(ref) == "argument"


def test_an_object_put_in_a_task_lives_on_when_the_task_has_ended():
    @ray.remote
    def produce():
        return [ray.put(np.full(300_000, i)) for i in range(3)]

    refs = ray.get(produce.remote())
    assert [int(ray.get(ref)[0]) for ref in refs] == [0, 1, 2]


def test_an_actor_keeps_the_objects_whose_refs_it_holds():
    @ray.remote
    class Shelf:
        def store(self, box):
            self.box = box

        def read(self):
            return ray.get(self.box[0])

    shelf = Shelf.remote()
    ray.get(shelf.store.remote([ray.put(np.arange(300_000))]))
    gc.collect()
    assert int(ray.get(shelf.read.remote())[-1]) == 299_999


def test_refs_pass_through_many_hands():
    @ray.remote
    def hand_on(box, hops):
        return box if hops == 0 else ray.get(hand_on.remote(box, hops - 1))

    box = ray.get(hand_on.remote([ray.put("parcel")], 5))
    gc.collect()
    assert ray.get(box[0]) == "parcel"


# --- the ref itself --------------------------------------------------------------------------------------------------


def test_a_ref_is_hashable_comparable_and_tells_its_id():
    ref, other = ray.put(1), ray.put(1)
    assert {ref: "a", other: "b"}[ref] == "a"
    assert ref == ray.ObjectRef(ref.binary())
    assert ref != other
    assert ref != "text"
    assert len(ref.binary()) == 28
    assert repr(ref) == f"ObjectRef({ref.hex()})"
    assert not ref.is_nil()


def test_a_ref_knows_its_task_and_job():
    ref = identity.remote(1)
    assert ref.task_id().binary() == ref.binary()[:24]
    assert ref.job_id().hex() == ray.get_runtime_context().get_job_id()
    ray.get(ref)


def test_refs_have_no_order_and_no_elements():
    ref = ray.put(1)
    with pytest.raises(TypeError):
        sorted([ref, ray.put(2)])
    with pytest.raises(TypeError):
        iter(ref)


def test_a_ref_gives_a_concurrent_future():
    assert identity.remote("value").future().result(timeout=30) == "value"
    with pytest.raises(ValueError):
        fail.remote().future().result(timeout=30)


def test_a_ref_gives_an_asyncio_future():
    async def main():
        future = identity.remote("value").as_future()
        assert isinstance(future, asyncio.Future)
        return await future

    assert asyncio.run(main()) == "value"


def test_pickled_refs_of_a_session_are_read_back_by_cloudpickle():
    ref = ray.put("kept")
    assert ray.get(ray.cloudpickle.loads(ray.cloudpickle.dumps(ref))) == "kept"


def test_blocking_get_in_a_task_gives_its_cpu_to_others():
    @ray.remote
    def level(n):
        return 0 if n == 0 else 1 + ray.get(level.remote(n - 1))

    assert ray.get(level.remote(10)) == 10


def test_blocking_wait_in_a_task_gives_its_cpu_to_others():
    @ray.remote
    def parent(i):
        ready, _ = ray.wait([identity.remote(i)])
        return ray.get(ready[0])

    assert ray.get([parent.remote(i) for i in range(8)]) == list(range(8))


def test_everyone_who_waits_for_an_object_gets_it():
    gate = Gate.remote()
    ref = wait_for.remote(gate, "news")

    @ray.remote
    def read(box):
        return ray.get(box[0])

    readers = [read.remote([ref]) for _ in range(6)]
    until_arrived(gate, 1)
    ray.get(gate.open.remote())
    assert ray.get(readers) == ["news"] * 6


def test_a_finished_object_can_be_read_again_and_again():
    ref = identity.remote(list(range(1000)))
    assert all(ray.get(ref) == list(range(1000)) for _ in itertools.repeat(None, 50))


def test_get_waits_no_longer_than_asked_when_many_are_missing():
    gate = Gate.remote()
    refs = [wait_for.remote(gate, i) for i in range(4)]
    begin = time.monotonic()
    with pytest.raises(GetTimeoutError):
        ray.get(refs, timeout=0.2)
    assert 0.15 < time.monotonic() - begin < 10
    ray.get(gate.open.remote())
    assert ray.get(refs) == [0, 1, 2, 3]
