"""A shared array: store it once with `ray.put`, let many tasks read it without a copy.

Shows that every process maps the same memory: the array arrives as a read-only view, and handing it to one more task
costs next to nothing. A task that wants to change it makes a copy.
"""

import numpy as np

import ray

ROWS, COLUMNS = 2000, 1000  # 16 MB


@ray.remote
def column_sum(array, column):
    assert not array.flags.owndata  # a view of shared memory
    return float(array[:, column].sum())


@ray.remote
def try_to_write(array):
    try:
        array[0, 0] = 1.0
    except ValueError:
        return "read-only"
    return "written"


@ray.remote
def double(array):
    mine = array.copy()
    mine *= 2
    return mine


def main():
    ray.init(num_cpus=4)
    array = np.arange(ROWS * COLUMNS, dtype=np.float64).reshape(ROWS, COLUMNS)
    ref = ray.put(array)

    sums = ray.get([column_sum.remote(ref, column) for column in range(50)])
    assert np.allclose(sums, array[:, :50].sum(axis=0))
    print(f"50 tasks read {50 * array.nbytes / 1e6:.0f} MB of array, stored once as {array.nbytes / 1e6:.0f} MB")

    assert ray.get(try_to_write.remote(ref)) == "read-only"
    assert np.array_equal(ray.get(double.remote(ref)), array * 2)
    assert np.array_equal(ray.get(ref), array)
    print("the original is what it was")


if __name__ == "__main__":
    main()
