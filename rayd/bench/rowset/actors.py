"""Rows about calls of actors: one or many callers, one or many actors, threads and coroutines."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from .measure import Bench
from .row import CPUS_MANY_CLIENTS, Result, Row, check, row

#: Calls that are outstanding at once in the 1:1 rows.
BATCH = 1000
#: Calls that a caller makes per actor or in total in the 1:n and n:n rows, and with an argument by reference.
CALLS_MANY = 5000
CALLS_WITH_ARG = 1000
#: Calling tasks in the n:n rows.
CALLERS = 4


def actor_count() -> int:
    """Actors in the rows that say "n": half of the machine's CPUs, at least one."""
    return max(1, (os.cpu_count() or 1) // 2)


def plain_actor(ray: Any) -> Any:
    """An actor class without a CPU whose methods return ``b"ok"``."""

    class Plain:
        def small(self) -> bytes:
            return b"ok"

        def small_arg(self, _value: object) -> bytes:
            return b"ok"

    return ray.remote(num_cpus=0)(Plain)


def async_actor(ray: Any) -> Any:
    """An actor class with default options whose methods are coroutines that return ``b"ok"``."""

    class Async:
        async def small(self) -> bytes:
            return b"ok"

        async def small_arg(self, _value: object) -> bytes:
            return b"ok"

    return ray.remote(Async)


def calling_actor(ray: Any) -> Any:
    """An actor class without a CPU that calls other actors and returns how many answers were right."""

    class Caller:
        def __init__(self, targets: list[Any]) -> None:
            self.targets = targets

        def call(self, amount: int) -> int:
            refs = [target.small.remote() for target in self.targets for _ in range(amount)]
            return sum(value == b"ok" for value in ray.get(refs))

        def call_with_arg(self, amount: int) -> int:
            value = ray.put(0)
            refs = [target.small_arg.remote(value) for target in self.targets for _ in range(amount)]
            return sum(answer == b"ok" for answer in ray.get(refs))

    return ray.remote(num_cpus=0)(Caller)


def _sync(bench: Bench, actor: Any) -> Result:
    def work() -> None:
        check(holds=bench.ray.get(actor.small.remote()) == b"ok", what="the call did not return b'ok'")

    return Result(bench.rate(work))


def _batch(bench: Bench, actor: Any) -> Result:
    """Rate of BATCH calls without arguments that are all submitted before any is fetched."""
    count = bench.size(BATCH)
    return _fetched(bench, lambda: [actor.small.remote() for _ in range(count)])


def _fetched(bench: Bench, submit: Callable[[], list[Any]]) -> Result:
    """Rate of BATCH calls, where ``submit`` makes all of them and gives their refs."""
    count = bench.size(BATCH)
    expected = [b"ok"] * count

    def work() -> None:
        check(holds=bench.ray.get(submit()) == expected, what="a call of the batch did not return b'ok'")

    return Result(bench.rate(work, count))


def _one_caller_many_actors(bench: Bench, actor_class: Any) -> Result:
    actors = [actor_class.remote() for _ in range(actor_count())]
    caller = calling_actor(bench.ray).remote(actors)
    count = bench.size(CALLS_MANY)
    total = count * len(actors)

    def work() -> None:
        done = bench.ray.get(caller.call.remote(count))
        check(holds=done == total, what=f"the caller got {done} right answers of {total}")

    return Result(bench.rate(work, total))


def _many_callers_many_actors(bench: Bench, actor_class: Any) -> Result:
    ray, count = bench.ray, bench.size(CALLS_MANY)
    actors = [actor_class.remote() for _ in range(actor_count())]

    def call(targets: list[Any], amount: int) -> int:
        refs = [targets[index % len(targets)].small.remote() for index in range(amount)]
        return sum(value == b"ok" for value in ray.get(refs))

    task = ray.remote(call)

    def work() -> None:
        done = ray.get([task.remote(actors, count) for _ in range(CALLERS)])
        check(holds=done == [count] * CALLERS, what=f"the callers got {done} right answers of {count} each")

    return Result(bench.rate(work, count * CALLERS))


@row("1:1 actor calls sync", "calls/s")
def actor_sync(bench: Bench) -> Result:
    """Call one actor and get the answer, one after the other; num_cpus=2."""
    return _sync(bench, plain_actor(bench.ray).remote())


@row("1:1 actor calls async", "calls/s")
def actor_async(bench: Bench) -> Result:
    """1000 calls of one actor, then all answers; num_cpus=2."""
    return _batch(bench, plain_actor(bench.ray).remote())


@row("1:1 actor calls concurrent", "calls/s")
def actor_concurrent(bench: Bench) -> Result:
    """1000 calls of one actor with max_concurrency=16, then all answers; num_cpus=2."""
    return _batch(bench, plain_actor(bench.ray).options(max_concurrency=16).remote())


@row("1:n actor calls async", "calls/s", cpus=CPUS_MANY_CLIENTS)
def actor_one_to_many(bench: Bench) -> Result:
    """One calling actor makes 5000 calls of each of n = CPUs/2 actors, then gets all; num_cpus=8."""
    return _one_caller_many_actors(bench, plain_actor(bench.ray))


@row("n:n actor calls async", "calls/s", cpus=CPUS_MANY_CLIENTS)
def actor_many_to_many(bench: Bench) -> Result:
    """Four calling tasks make 5000 calls each, spread over n = CPUs/2 actors; num_cpus=8."""
    return _many_callers_many_actors(bench, plain_actor(bench.ray))


@row("n:n actor calls with arg async", "calls/s", cpus=CPUS_MANY_CLIENTS)
def actor_many_to_many_arg(bench: Bench) -> Result:
    """n = CPUs/2 calling actors put one value and make 1000 calls of their own actor with its ref; num_cpus=8."""
    ray, count = bench.ray, bench.size(CALLS_WITH_ARG)
    plain, caller = plain_actor(ray), calling_actor(ray)
    callers = [caller.remote([plain.remote()]) for _ in range(actor_count())]

    def work() -> None:
        done = ray.get([one.call_with_arg.remote(count) for one in callers])
        check(holds=done == [count] * len(callers), what=f"the callers got {done} right answers of {count} each")

    return Result(bench.rate(work, count * len(callers)))


@row("1:1 async-actor calls sync", "calls/s")
def async_actor_sync(bench: Bench) -> Result:
    """Call one async actor and get the answer, one after the other; num_cpus=2."""
    return _sync(bench, async_actor(bench.ray).remote())


@row("1:1 async-actor calls async", "calls/s")
def async_actor_async(bench: Bench) -> Result:
    """1000 calls of one async actor, then all answers; num_cpus=2."""
    return _batch(bench, async_actor(bench.ray).remote())


@row("1:1 async-actor calls with args async", "calls/s")
def async_actor_args(bench: Bench) -> Result:
    """1000 calls of one async actor with a small integer each, then all answers; num_cpus=2."""
    actor = async_actor(bench.ray).remote()
    count = bench.size(BATCH)
    return _fetched(bench, lambda: [actor.small_arg.remote(index) for index in range(count)])


@row("1:n async-actor calls async", "calls/s", cpus=CPUS_MANY_CLIENTS)
def async_actor_one_to_many(bench: Bench) -> Result:
    """One calling actor makes 5000 calls of each of n = CPUs/2 async actors, then gets all; num_cpus=8."""
    return _one_caller_many_actors(bench, async_actor(bench.ray))


@row("n:n async-actor calls async", "calls/s", cpus=CPUS_MANY_CLIENTS)
def async_actor_many_to_many(bench: Bench) -> Result:
    """Four calling tasks make 5000 calls each, spread over n = CPUs/2 async actors; num_cpus=8."""
    return _many_callers_many_actors(bench, async_actor(bench.ray))


ROWS: tuple[Row, ...] = (
    actor_sync,
    actor_async,
    actor_concurrent,
    actor_one_to_many,
    actor_many_to_many,
    actor_many_to_many_arg,
    async_actor_sync,
    async_actor_async,
    async_actor_args,
    async_actor_one_to_many,
    async_actor_many_to_many,
)
