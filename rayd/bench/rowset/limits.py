"""Rows that go to the limits: very many queued tasks, arguments and results, streams, deep nesting."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from .measure import Bench, elapsed_s
from .processes import family, memory_of_all, parents
from .row import CPUS, Result, Row, check, row

QUEUED_MANY = 1_000_000
QUEUED_FEW = 10_000
QUEUED_FOR_MEMORY = 100_000
#: Runs of QUEUED_FEW beside the one of QUEUED_MANY.
FEW_RUNS = 5
REF_ARGS = 10_000
RETURNS = 3000
STREAM_ITEMS = 10_000
DEPTH = 10


def _nothing(ray: Any) -> Any:
    def nothing() -> None:
        return None

    return ray.remote(nothing)


def _submit_and_fetch(ray: Any, task: Any, count: int) -> None:
    values = ray.get([task.remote() for _ in range(count)])
    check(holds=len(values) == count and not any(values), what=f"not all of {count} tasks returned None")


@row("1M queued no-op tasks", "tasks/s", limit_s=2400.0, by_request_for_peers=True)
def queued_tasks(bench: Bench) -> Result:
    """Submit 1 000 000 empty tasks, then get all results; num_cpus=2.

    Beside it the rate with 10 000 (``rate_of_10k``), and ``share_of_10k`` = rate of the million / rate of 10 000.
    """
    ray, few, many = bench.ray, bench.size(QUEUED_FEW), bench.size(QUEUED_MANY)
    task = _nothing(ray)
    _submit_and_fetch(ray, task, few)
    few_s = statistics.median(elapsed_s(lambda: _submit_and_fetch(ray, task, few)) for _ in range(FEW_RUNS))
    rate_few = few / few_s
    rate_many = many / elapsed_s(lambda: _submit_and_fetch(ray, task, many))
    return Result([rate_many], {"rate_of_10k": rate_few, "share_of_10k": rate_many / rate_few})


@row("memory per queued task", "bytes", better="less")
def queued_task_memory(bench: Bench) -> Result:
    """Bytes per queued empty task by which the process beside the driver that grows most does so; num_cpus=2.

    100 000 tasks are submitted while tasks that wait for a file hold every CPU. Beside it the growth of the driver
    itself (``driver_bytes``).
    """
    ray, count = bench.ray, bench.size(QUEUED_FOR_MEMORY)
    task = _nothing(ray)

    def hold(started: str, path: str) -> int:
        Path(started).write_text(str(os.getpid()))
        while not os.path.exists(path):
            time.sleep(0.01)
        return os.getpid()

    holder = ray.remote(hold)
    with tempfile.TemporaryDirectory() as folder:
        gate = Path(folder) / "gate"
        marks = [Path(folder) / f"started-{index}" for index in range(CPUS)]
        held = [holder.remote(str(mark), str(gate)) for mark in marks]
        workers = _pids_in(marks, 30.0)
        before = _session_memory(workers)
        refs = [task.remote() for _ in range(count)]
        probe = ray.wait([refs[-1]], timeout=2.0)[0]
        check(holds=not probe, what="a queued task ran although every CPU was held")
        after = _session_memory(workers)
        gate.touch()
        check(holds=len(set(ray.get(held))) == CPUS, what="the holding tasks shared a process")
    check(holds=not any(ray.get(refs)), what="a queued task did not return None")
    driver = os.getpid()
    grown = {pid: (size - before.get(pid, 0)) / count for pid, size in after.items()}
    return Result([max(size for pid, size in grown.items() if pid != driver)], {"driver_bytes": grown[driver]})


def _pids_in(files: list[Path], timeout_s: float) -> list[int]:
    """The pids that the holding tasks write into their files, once all have."""
    deadline = time.monotonic() + timeout_s
    while not all(file.exists() and file.read_text() for file in files):
        check(holds=time.monotonic() < deadline, what=f"{len(files)} tasks did not start at once in {timeout_s:.0f} s")
        time.sleep(0.01)
    return [int(file.read_text()) for file in files]


def _session_memory(workers: list[int]) -> dict[int, int]:
    """Proportional memory of the driver and of every process of its session."""
    driver = os.getpid()
    pids = {driver, *family(parents(), driver, workers)}
    return {pid: found.pss for pid, found in memory_of_all(pids).items()}


@row("10k ref args to one task", "s", better="less")
def ref_args(bench: Bench) -> Result:
    """One task with 10 000 refs of small values as its arguments; num_cpus=2."""
    ray, count = bench.ray, bench.size(REF_ARGS)

    def add(*values: int) -> int:
        return sum(values)

    task = ray.remote(add)
    refs = [ray.put(index) for index in range(count)]

    def work() -> None:
        check(holds=ray.get(task.remote(*refs)) == count * (count - 1) // 2, what="the sum of the arguments is wrong")

    return Result(bench.seconds(work))


@row("3000 returns of one task", "s", better="less")
def many_returns(bench: Bench) -> Result:
    """One task with num_returns=3000, all of them fetched; num_cpus=2."""
    ray, count = bench.ray, bench.size(RETURNS)

    def numbers(amount: int) -> Any:
        return list(range(amount)) if amount > 1 else 0

    task = ray.remote(numbers).options(num_returns=count)

    def work() -> None:
        refs = task.remote(count)
        values = ray.get(refs if isinstance(refs, list) else [refs])
        check(holds=values == list(range(count)), what="the task's results are wrong or in another order")

    return Result(bench.seconds(work))


@row("streaming generator", "items/s")
def streaming(bench: Bench) -> Result:
    """One task yields 10 000 small integers; each is fetched as it comes; num_cpus=2."""
    ray, count = bench.ray, bench.size(STREAM_ITEMS)

    def numbers(amount: int) -> Any:
        for index in range(amount):  # noqa: UP028 - some environments cannot stream from "yield from"
            yield index

    task = ray.remote(numbers).options(num_returns="streaming")

    def work() -> None:
        values = [ray.get(ref) for ref in task.remote(count)]
        check(holds=values == list(range(count)), what="the stream's items are wrong or in another order")

    return Result(bench.rate(work, count))


@row("nested tasks 10 deep", "s", better="less")
def nested(bench: Bench) -> Result:
    """A task that calls itself ten deep, each waiting for the next; num_cpus=2.

    Every level but the last blocks, so the first run (``cold_s``, also a sample) starts further workers.
    """
    ray, depth = bench.ray, bench.size(DEPTH)

    def deeper(task: Any, left: int) -> int:
        return 1 if left == 1 else 1 + int(ray.get(task.remote(task, left - 1)))

    task = ray.remote(deeper)

    def work() -> None:
        check(holds=ray.get(task.remote(task, depth)) == depth, what=f"the tasks did not nest {depth} deep")

    samples = bench.seconds(work)
    return Result(samples, {"cold_s": samples[0]})


ROWS: tuple[Row, ...] = (
    queued_tasks,
    queued_task_memory,
    ref_args,
    many_returns,
    streaming,
    nested,
)
