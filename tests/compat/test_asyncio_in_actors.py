"""The tools of asyncio inside async actors."""

import asyncio

import pytest

import ray


@ray.remote
def identity(value):
    return value


@ray.remote
def count(n):
    for i in range(n):  # noqa: UP028
        yield i


async def result_of(ref):
    return await ref


def test_an_async_actor_uses_the_same_tools_on_refs():
    @ray.remote
    class User:
        async def use(self):
            gathered = await asyncio.gather(*[identity.remote(i) for i in range(3)])
            first = await next(iter(asyncio.as_completed([identity.remote("one")])))
            streamed = [await ref async for ref in count.remote(2)]
            timed = await asyncio.wait_for(identity.remote("in time"), timeout=30)
            async with asyncio.TaskGroup() as group:
                task = group.create_task(result_of(identity.remote("grouped")))
            return gathered, first, streamed, timed, task.result()

    assert ray.get(User.remote().use.remote()) == ([0, 1, 2], "one", [0, 1], "in time", "grouped")


@pytest.mark.beyond_ray("refs lack what asyncio.wait asks of a future")
def test_asyncio_wait_takes_bare_refs_in_an_async_actor():
    @ray.remote
    class User:
        async def use(self):
            done, pending = await asyncio.wait([identity.remote(i) for i in range(3)])
            return sorted([await ref for ref in done]), len(pending)

    assert ray.get(User.remote().use.remote()) == ([0, 1, 2], 0)


def test_a_call_cancelled_at_any_moment_ends_as_cancelled():
    @ray.remote
    class Sleeper:
        async def sleep(self):
            await asyncio.sleep(3600)

        async def ping(self):
            return "awake"

    sleeper = Sleeper.remote()
    assert ray.get(sleeper.ping.remote()) == "awake"
    for spin in range(0, 60_000, 300):  # the word comes before, with, and after the first step of the call
        call = sleeper.sleep.remote()
        for _ in range(spin):
            pass
        ray.cancel(call)
        with pytest.raises(ray.exceptions.TaskCancelledError):
            ray.get(call, timeout=30)
    assert ray.get(sleeper.ping.remote()) == "awake"


def test_streams_of_one_async_actor_wait_for_their_own_consumers():
    @ray.remote
    class Source:
        @ray.method(_generator_backpressure_num_objects=1)
        async def letters(self, n):
            for i in range(n):
                yield chr(97 + i)

    source = Source.options(max_concurrency=4).remote()
    short = source.letters.remote(2)
    long = source.letters.remote(5)
    assert [ray.get(ref) for ref in short] == ["a", "b"]  # ends while the other one waits
    assert [ray.get(ref) for ref in long] == ["a", "b", "c", "d", "e"]
