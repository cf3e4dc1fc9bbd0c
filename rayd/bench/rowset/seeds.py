"""Rows that do the work of the programs in the article "Programming in Ray: Tips for first-time users" (2019)."""

from __future__ import annotations

import statistics
import time
from typing import Any

from .measure import Bench, elapsed_s, memcpy_seconds
from .row import CPUS_SEEDS, Result, Row, check, row

TINY_TASKS = 100_000
TINY_SLEEP_S = 0.0001
MEGA_TASKS = 100
TINY_PER_MEGA = 1000
NO_WORK_CALLS = 1000
ARRAY_ITEMS = 20_000_000
ARRAY_TASKS = 10
LONG_TASKS = 4


@row("seed: 100k tiny_work", "s", better="less", cpus=CPUS_SEEDS, limit_s=360.0)
def tiny_work(bench: Bench) -> Result:
    """100 000 tasks that sleep 0.1 ms each, submitted, then fetched; num_cpus=4.

    Beside it the same calls in a serial loop of the same run (``serial_s``), and ``speedup`` = serial / tasks.
    """
    ray, count, sleep_s = bench.ray, bench.size(TINY_TASKS), TINY_SLEEP_S

    def tiny(value: int) -> int:
        time.sleep(sleep_s)
        return value

    task = ray.remote(tiny)
    expected = list(range(count))

    def serial() -> None:
        check(holds=[tiny(value) for value in range(count)] == expected, what="the serial loop gave other values")

    def tasks() -> None:
        values = ray.get([task.remote(value) for value in range(count)])
        check(holds=values == expected, what="the tasks gave other values than the serial loop")

    serial_s = elapsed_s(serial)
    samples = bench.seconds(tasks)
    return Result(samples, {"serial_s": serial_s, "speedup": serial_s / statistics.median(samples)})


@row("seed: 100 mega_work", "s", better="less", cpus=CPUS_SEEDS)
def mega_work(bench: Bench) -> Result:
    """100 tasks of 1000 calls that sleep 0.1 ms each; num_cpus=4."""
    ray, count, each, sleep_s = bench.ray, bench.size(MEGA_TASKS), bench.size(TINY_PER_MEGA), TINY_SLEEP_S

    def tiny(value: int) -> int:
        time.sleep(sleep_s)
        return value

    def mega(start: int, end: int) -> list[int]:
        return [tiny(value) for value in range(start, end)]

    task = ray.remote(mega)

    def work() -> None:
        parts = ray.get([task.remote(index * each, (index + 1) * each) for index in range(count)])
        values = [value for part in parts for value in part]
        check(holds=values == list(range(count * each)), what="the tasks gave other values")

    return Result(bench.seconds(work))


@row("seed: overhead of no_work", "ms", better="less", cpus=CPUS_SEEDS)
def no_work(bench: Bench) -> Result:
    """Milliseconds of one task that returns its argument, as the mean of 1000 one after the other; num_cpus=4."""
    ray, count = bench.ray, bench.size(NO_WORK_CALLS)

    def same(value: int) -> int:
        return value

    task = ray.remote(same)

    def work() -> None:
        values = [ray.get(task.remote(value)) for value in range(count)]
        check(holds=values == list(range(count)), what="a task returned another value than its argument")

    return Result([seconds * 1000 / count for seconds in bench.seconds(work)])


def _array(bench: Bench) -> Any:
    """The array of the seed program, 20 million numbers, but filled: nobody copies zeros that were never written."""
    import numpy as np

    return np.full(bench.size(ARRAY_ITEMS), 1.5)


def _array_task(ray: Any) -> Any:
    """A task that proves by both ends of its array that the array arrived."""

    def look(array: Any) -> tuple[int, float]:
        return array.nbytes, float(array[0] + array[-1])

    return ray.remote(look)


def _against_memcpy(array: Any, samples: list[float]) -> Result:
    """Result with the first run apart (fresh memory), beside the memcpy of ten such arrays into written memory."""
    cold_s, warm = samples[0], samples[1:]
    memcpy_s = ARRAY_TASKS * memcpy_seconds(array)
    times = {"times_memcpy": statistics.median(warm) / memcpy_s, "cold_times_memcpy": cold_s / memcpy_s}
    return Result(warm, {"cold_s": cold_s, "memcpy_s": memcpy_s, **times})


@row("seed: 10 arrays of 160 MB by value", "s", better="less", cpus=CPUS_SEEDS)
def arrays_by_value(bench: Bench) -> Result:
    """Ten tasks that get the same array of 160 MB by value; the samples are the runs after the first; num_cpus=4.

    Beside it the first run (``cold_s``), the memcpy of the same 1.6 GB into memory written before (``memcpy_s``), and
    ``times_memcpy`` = median of the samples / memcpy, ``cold_times_memcpy`` = first run / memcpy.
    """
    ray, array, task = bench.ray, _array(bench), _array_task(bench.ray)

    def work() -> None:
        seen = ray.get([task.remote(array) for _ in range(ARRAY_TASKS)])
        check(holds=seen == [(array.nbytes, 3.0)] * ARRAY_TASKS, what="a task got another array")

    return _against_memcpy(array, bench.seconds(work, runs_min=3))


@row("seed: 10 arrays of 160 MB by ref", "s", better="less", cpus=CPUS_SEEDS)
def arrays_by_ref(bench: Bench) -> Result:
    """``ray.put`` of an array of 160 MB and ten tasks that get its ref; runs after the first; num_cpus=4.

    Beside it the first run (``cold_s``).
    """
    ray, array, task = bench.ray, _array(bench), _array_task(bench.ray)

    def work() -> None:
        ref = ray.put(array)
        seen = ray.get([task.remote(ref) for _ in range(ARRAY_TASKS)])
        check(holds=seen == [(array.nbytes, 3.0)] * ARRAY_TASKS, what="a task got another array")

    samples = bench.seconds(work, runs_min=3)
    return Result(samples[1:], {"cold_s": samples[0]})


@row("seed: 4 tasks of 1 s", "s", better="less", cpus=CPUS_SEEDS)
def long_tasks(bench: Bench) -> Result:
    """Four tasks that sleep one second each, at the same time; num_cpus=4."""
    ray, sleep_s = bench.ray, 1.0 * bench.scale

    def sleeping(value: int) -> int:
        time.sleep(sleep_s)
        return value

    task = ray.remote(sleeping)

    def work() -> None:
        values = ray.get([task.remote(value) for value in range(LONG_TASKS)])
        check(holds=values == list(range(LONG_TASKS)), what="a task returned another value than its argument")

    return Result(bench.seconds(work))


ROWS: tuple[Row, ...] = (tiny_work, mega_work, no_work, arrays_by_value, arrays_by_ref, long_tasks)
