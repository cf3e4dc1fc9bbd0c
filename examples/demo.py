"""The measured programs of "Programming in Ray: tips for first-time users" (RISELab, 2019), run on this machine.

Each row is timed three ways: as a serial loop, with `multiprocessing.Pool` and with `ray`, both with four workers.
Every result is checked before its time is printed. `--quick` does less work per row; nothing else changes.

    python examples/demo.py [--quick]
"""

import argparse
import multiprocessing
import os
import time
from dataclasses import dataclass

import numpy as np

import ray

WORKERS = 4


@dataclass(frozen=True)
class Size:
    """How much each row does."""

    tiny_tasks: int
    batch: int
    empty_tasks: int
    array_shape: tuple[int, int]
    arrays: int
    work_s: float
    pipeline_s: tuple[float, ...]
    process_s: float


FULL = Size(100_000, 1000, 1000, (10_000, 2000), 10, 1.0, (0.5, 1.5, 2.5, 3.5), 1.0)
QUICK = Size(4000, 200, 200, (1000, 2000), 10, 0.1, (0.05, 0.15, 0.25, 0.35), 0.1)


# --- the work --------------------------------------------------------------------------------------------------------


def tiny_work(x):
    time.sleep(0.0001)
    return x


def mega_work(bounds):
    return [tiny_work(x) for x in range(*bounds)]


def no_work(x):
    return x


def array_work(array):
    return array.shape


def some_work(task):
    seconds, x = task
    time.sleep(seconds)
    return x


tiny_task, mega_task, no_task, array_task, some_task = map(
    ray.remote, (tiny_work, mega_work, no_work, array_work, some_work)
)


# --- the rows: each gives the seconds of the serial loop, of the pool and of ray, None where there is no counterpart --


def timed(function):
    """The seconds that a call of `function` took, and its result."""
    begin = time.perf_counter()
    result = function()
    return time.perf_counter() - begin, result


def compare(expected, *, serial=None, pool=None, with_ray):
    """Time the ways in turn, checking that each gives what is expected."""
    seconds = []
    for way in (serial, pool, with_ray):
        if way is None:
            seconds.append(None)
            continue
        took, result = timed(way)
        assert result == expected, f"{way} gave a wrong result"
        seconds.append(took)
    return seconds


def tiny_tasks(pool, size):
    inputs = range(size.tiny_tasks)
    return compare(
        list(inputs),
        serial=lambda: [tiny_work(x) for x in inputs],
        pool=lambda: pool.map(tiny_work, inputs, chunksize=1),
        with_ray=lambda: ray.get([tiny_task.remote(x) for x in inputs]),
    )


def mega_batches(pool, size):
    bounds = [(start, start + size.batch) for start in range(0, size.tiny_tasks, size.batch)]
    return compare(
        [list(range(*pair)) for pair in bounds],
        pool=lambda: pool.map(mega_work, bounds, chunksize=1),
        with_ray=lambda: ray.get([mega_task.remote(pair) for pair in bounds]),
    )


def empty_tasks(pool, size):
    inputs = range(size.empty_tasks)
    return compare(
        list(inputs),
        serial=lambda: [no_work(x) for x in inputs],
        pool=lambda: [pool.apply(no_work, (x,)) for x in inputs],
        with_ray=lambda: [ray.get(no_task.remote(x)) for x in inputs],
    )


def arrays_by_value(pool, size):
    array = np.zeros(size.array_shape)
    return compare(
        [size.array_shape] * size.arrays,
        pool=lambda: pool.map(array_work, [array] * size.arrays, chunksize=1),
        with_ray=lambda: ray.get([array_task.remote(array) for _ in range(size.arrays)]),
    )


def arrays_by_ref(_pool, size):
    array = np.zeros(size.array_shape)

    def share():
        ref = ray.put(array)
        return ray.get([array_task.remote(ref) for _ in range(size.arrays)])

    return compare([size.array_shape] * size.arrays, with_ray=share)


def parallel_work(pool, size):
    inputs = [(size.work_s, x) for x in range(WORKERS)]
    return compare(
        list(range(WORKERS)),
        serial=lambda: [some_work(task) for task in inputs],
        pool=lambda: pool.map(some_work, inputs, chunksize=1),
        with_ray=lambda: ray.get([some_task.remote(task) for task in inputs]),
    )


def waiting_pipeline(pool, size):
    inputs = list(zip(size.pipeline_s, range(WORKERS), strict=True))

    def process_each(results):
        total = 0
        for result in results:
            time.sleep(size.process_s)
            total += result
        return total

    def as_they_come(refs):
        while refs:
            done, refs = ray.wait(refs)
            yield ray.get(done[0])

    return compare(
        sum(range(WORKERS)),
        serial=lambda: process_each(some_work(task) for task in inputs),
        pool=lambda: process_each(pool.imap_unordered(some_work, inputs)),
        with_ray=lambda: process_each(as_they_come([some_task.remote(task) for task in inputs])),
    )


def rows(size):
    """Title, function and number of operations of each row; what is shown is the time per operation."""
    megabytes = 8 * size.array_shape[0] * size.array_shape[1] // 10**6
    batches = size.tiny_tasks // size.batch
    return [
        (f"{size.tiny_tasks:,} tasks of 0.1 ms".replace(",", " "), tiny_tasks, 1),
        (f"the same work in {batches} batches", mega_batches, 1),
        ("an empty task, one after the other", empty_tasks, size.empty_tasks),
        (f"{size.arrays} tasks, {megabytes} MB array by value", arrays_by_value, 1),
        (f"{size.arrays} tasks, {megabytes} MB array by ref", arrays_by_ref, 1),
        (f"{WORKERS} tasks of {size.work_s:g} s", parallel_work, 1),
        ("processing results as they come", waiting_pipeline, 1),
    ]


# --- the table -------------------------------------------------------------------------------------------------------


def shown(seconds):
    if seconds is None:
        return "-"
    if seconds < 0.001:
        return f"{seconds * 1e6:.3g} us"
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def faster(seconds, ours):
    if seconds is None:
        return "-"
    ratio = seconds / ours
    return f"{ratio:.1f}x" if ratio >= 0.1 else f"{ratio:.1g}x"


def print_row(*cells):
    title, *others = cells
    print(f"{title:<38}" + "".join(f"{cell:>11}" for cell in others), flush=True)


def start_pool():
    pool = multiprocessing.Pool(WORKERS)
    assert pool.apply(no_work, (1,)) == 1
    return pool


def start_ray():
    ray.init(num_cpus=WORKERS)
    assert ray.get(no_task.remote(1)) == 1


def main():
    parser = argparse.ArgumentParser(description="Time the seed programs three ways.")
    parser.add_argument("--quick", action="store_true", help="do less work per row")
    size = QUICK if parser.parse_args().quick else FULL
    begin = time.perf_counter()
    pool_s, pool = timed(start_pool)
    ray_s, _ = timed(start_ray)

    print(
        f"{WORKERS} workers on {os.cpu_count()} processors, ray {ray.__version__}; times include fetching the results\n"
    )
    print_row("", "serial", "Pool", "ray", "vs serial", "vs Pool")
    print_row("start, first result", "-", shown(pool_s), shown(ray_s), "-", faster(pool_s, ray_s))
    serial_loop_s = None
    for title, row, operations in rows(size):
        serial_s, pool_s, ray_s = (seconds and seconds / operations for seconds in row(pool, size))
        if row is tiny_tasks:
            serial_loop_s = serial_s
        elif row is mega_batches:
            serial_s = serial_loop_s  # the same loop: batching changes nothing in a serial program
        print_row(title, shown(serial_s), shown(pool_s), shown(ray_s), faster(serial_s, ray_s), faster(pool_s, ray_s))
    print(f"\nall results checked; {time.perf_counter() - begin:.0f} s in all")
    pool.terminate()
    pool.join()
    ray.shutdown()


if __name__ == "__main__":
    main()
