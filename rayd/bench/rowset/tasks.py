"""Rows about tasks: one at a time, a thousand outstanding, several submitters, waiting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .measure import Bench
from .row import CPUS_MANY_CLIENTS, Result, Row, check, row

#: Tasks that are outstanding at once in the batch rows.
BATCH = 1000
#: Submitting actors, and tasks that each submits, in the row with several clients.
SUBMITTERS = 4
TASKS_PER_SUBMITTER = 10_000


def ok_task(ray: Any) -> Any:
    """The remote function of these rows: no argument, one CPU, returns ``b"ok"``."""

    def small() -> bytes:
        return b"ok"

    return ray.remote(small)


def fetch_batch(bench: Bench) -> Callable[[], None]:
    """Work that submits BATCH tasks, then fetches and checks all their results."""
    task, count = ok_task(bench.ray), bench.size(BATCH)
    expected = [b"ok"] * count

    def work() -> None:
        values = bench.ray.get([task.remote() for _ in range(count)])
        check(holds=values == expected, what="a task of the batch did not return b'ok'")

    return work


@row("single client tasks sync", "tasks/s")
def tasks_sync(bench: Bench) -> Result:
    """Submit one empty task and get its result, one after the other; num_cpus=2."""
    task = ok_task(bench.ray)

    def work() -> None:
        check(holds=bench.ray.get(task.remote()) == b"ok", what="the task did not return b'ok'")

    return Result(bench.rate(work))


@row("single client tasks async", "tasks/s")
def tasks_async(bench: Bench) -> Result:
    """Submit 1000 empty tasks, get all results; counted in tasks; num_cpus=2."""
    return Result(bench.rate(fetch_batch(bench), bench.size(BATCH)))


@row("single client tasks and get batch", "batches/s")
def tasks_and_get_batch(bench: Bench) -> Result:
    """Submit 1000 empty tasks, get all results; counted in batches of 1000; num_cpus=2."""
    return Result(bench.rate(fetch_batch(bench)))


@row("multi client tasks async", "tasks/s", cpus=CPUS_MANY_CLIENTS)
def multi_client_tasks_async(bench: Bench) -> Result:
    """Four actors without a CPU submit 10 000 empty tasks each and get them; num_cpus=8."""
    ray, count = bench.ray, bench.size(TASKS_PER_SUBMITTER)
    task = ok_task(ray)

    class Submitter:
        def submit(self, amount: int) -> int:
            return sum(value == b"ok" for value in ray.get([task.remote() for _ in range(amount)]))

    submitter = ray.remote(num_cpus=0)(Submitter)
    actors = [submitter.remote() for _ in range(SUBMITTERS)]

    def work() -> None:
        done = ray.get([actor.submit.remote(count) for actor in actors])
        check(holds=done == [count] * SUBMITTERS, what=f"submitters got {done} right results of {count} each")

    return Result(bench.rate(work, count * SUBMITTERS))


@row("wait 1k refs", "rounds/s")
def wait_refs(bench: Bench) -> Result:
    """Submit 1000 empty tasks and take them with 1000 calls of ``ray.wait`` for one each; num_cpus=2.

    Only the first call asks to fetch the values to this node: one request per object is enough.
    """
    ray, task, count = bench.ray, ok_task(bench.ray), bench.size(BATCH)

    def work() -> None:
        pending = [task.remote() for _ in range(count)]
        taken = 0
        while pending:
            ready, pending = ray.wait(pending, fetch_local=taken == 0)
            taken += len(ready)
        check(holds=taken == count, what=f"ray.wait gave {taken} of {count} refs")

    return Result(bench.rate(work))


ROWS: tuple[Row, ...] = (tasks_sync, tasks_async, tasks_and_get_batch, multi_client_tasks_async, wait_refs)
