"""Large objects: arrays that are views of shared memory, and memory that is used again."""

from __future__ import annotations

import gc

import numpy as np
import pytest

import ray
from ray.exceptions import ObjectStoreFullError

from .support import until

STORE_BYTES = 200 * 1024**2


@pytest.fixture(scope="module", autouse=True)
def _small_store():
    ray.init(num_cpus=2, object_store_memory=STORE_BYTES, include_dashboard=False)
    yield
    ray.shutdown()


@ray.remote
def identity(value):
    return value


@ray.remote
def make(shape, dtype="float64"):
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


@ray.remote
def total(array):
    return float(array.sum())


@ray.remote
def flags(array):
    return array.flags.writeable, array.flags.owndata


@pytest.mark.parametrize("dtype", ["float64", "float32", "int8", "bool", "complex128", "datetime64[s]", "U5"])
def test_arrays_of_every_kind_come_back_equal(dtype):
    array = (np.arange(40_000) % 2).astype("int64").astype(dtype).reshape(200, 200)
    result = ray.get(identity.remote(array))
    assert result.dtype == array.dtype
    assert np.array_equal(result, array)


@pytest.mark.parametrize(
    "array",
    [np.zeros(0), np.array(5.0), np.zeros((3, 0, 2)), np.arange(6).reshape(2, 3).T, np.arange(400_000)[::2]],
    ids=["empty", "scalar", "empty axes", "transposed", "strided"],
)
def test_unusual_shapes_and_strides_survive(array):
    assert np.array_equal(ray.get(ray.put(array)), array)


def test_an_array_of_objects_survives():
    array = np.array([{"a": 1}, [2], None], dtype=object)
    assert list(ray.get(ray.put(array))) == [{"a": 1}, [2], None]


def test_get_gives_a_read_only_view_without_a_copy():
    ref = ray.put(np.arange(1_000_000))
    first, second = ray.get(ref), ray.get(ref)
    assert not first.flags.writeable
    assert not first.flags.owndata
    assert np.shares_memory(first, second)
    with pytest.raises(ValueError):
        first[0] = 1


def test_a_task_sees_its_array_arguments_as_read_only_views():
    array = np.ones(1_000_000)
    assert ray.get(flags.remote(ray.put(array))) == (False, False)
    assert ray.get(flags.remote(array)) == (False, False)


def test_a_result_is_a_read_only_view_too():
    array = ray.get(make.remote((500, 500)))
    assert not array.flags.writeable
    assert array[499, 499] == 249_999


def test_a_copy_can_be_changed():
    array = ray.get(ray.put(np.zeros(200_000))).copy()
    array[0] = 1
    assert array[0] == 1


def test_arrays_inside_other_values_are_views_as_well():
    value = ray.get(ray.put({"weights": [np.ones(300_000), np.zeros(300_000)], "name": "model"}))
    assert value["name"] == "model"
    assert [array.flags.owndata for array in value["weights"]] == [False, False]


def test_one_array_serves_many_tasks():
    ref = ray.put(np.ones(2_000_000))
    assert ray.get([total.remote(ref) for _ in range(20)]) == [2_000_000.0] * 20


def test_the_original_may_change_after_it_was_handed_over():
    array = np.ones(500_000)
    stored, pending = ray.put(array), total.remote(array)
    array[:] = 5
    assert ray.get(stored)[0] == 1
    assert ray.get(pending) == 500_000


def test_a_view_stays_valid_when_its_ref_is_gone():
    array = ray.get(ray.put(np.arange(1_000_000)))
    gc.collect()
    for _ in range(4):
        ray.put(np.zeros(1_000_000))
    assert int(array.sum()) == 499_999_500_000


def test_part_of_a_view_keeps_the_whole_valid():
    tail = ray.get(ray.put(np.arange(1_000_000)))[-3:]
    gc.collect()
    for _ in range(4):
        ray.put(np.zeros(1_000_000))
    assert tail.tolist() == [999_997, 999_998, 999_999]


def test_memory_of_dropped_objects_is_used_again():
    block = np.ones(40 * 1024**2 // 8)
    for i in range(20):
        block[0] = i
        assert ray.get(ray.put(block))[0] == i


def test_memory_of_arguments_and_results_is_used_again():
    block = np.ones(20 * 1024**2 // 8)
    for _ in range(25):
        assert ray.get(identity.remote(block)).nbytes == block.nbytes


def test_an_object_larger_than_the_store_is_kept_whole_or_refused():
    block = np.ones(2 * STORE_BYTES // 8)
    try:
        kept = ray.get(ray.put(block))
    except ObjectStoreFullError:
        kept = block
    assert np.array_equal(kept, block)
    assert ray.get(ray.put(np.ones(1_000_000)))[-1] == 1.0


def test_a_full_store_loses_nothing_that_is_still_referenced():
    kept = []
    try:
        kept += [ray.put(np.full(10 * 1024**2 // 8, i)) for i in range(30)]
    except ObjectStoreFullError:
        pass
    assert [int(ray.get(ref)[0]) for ref in kept] == list(range(len(kept)))
    del kept
    gc.collect()
    block = np.ones(50 * 1024**2 // 8)
    assert until(lambda: stores(block))


def stores(block):
    try:
        return ray.get(ray.put(block))[0] == 1.0
    except ObjectStoreFullError:
        return False


def test_bytes_and_bytearrays_survive_at_every_size():
    for size in (0, 10, 200_000, 20_000_000):
        assert ray.get(ray.put(b"x" * size)) == b"x" * size
        assert ray.get(ray.put(bytearray(size))) == bytearray(size)


def test_data_frames_survive():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": np.arange(100_000), "b": np.arange(100_000) * 0.5, "c": ["x", "y"] * 50_000})
    result = ray.get(identity.remote(frame))
    pandas.testing.assert_frame_equal(result, frame)


def test_arrow_tables_survive():
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.table({"a": list(range(1000)), "b": ["x"] * 1000})
    assert ray.get(identity.remote(table)).equals(table)


def test_everything_is_given_back_at_the_end():
    gc.collect()
    until(lambda: ray.available_resources()["object_store_memory"] > 0.9 * STORE_BYTES)
