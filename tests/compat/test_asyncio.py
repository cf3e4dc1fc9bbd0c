"""asyncio in the driver and in actors: refs are awaitables, streams are asynchronous iterators, the loop never blocks.

Every test with `run_async` runs twice: on the standard event loop and on uvloop.
"""

from __future__ import annotations

import asyncio
import time

import pytest

import ray
from ray.exceptions import RayTaskError, TaskCancelledError

from .support import Gate, until, until_arrived, wait_at

pytestmark = pytest.mark.usefixtures("cluster")


@ray.remote
def identity(value):
    return value


@ray.remote
def fail(message="as asked"):
    raise ValueError(message)


@ray.remote
def wait_for(gate, value):
    wait_at(gate, value)
    return value


@ray.remote
def count(n):
    for i in range(n):  # noqa: UP028 -- upstream cannot stream from a generator that delegates
        yield i


@ray.remote
def busy(gate, path):
    """Runs for a long time in pure Python; notes in the file at `path` how it was stopped."""
    try:
        ray.get(gate.arrive.remote("started"))
        for _ in range(60_000):
            time.sleep(0.001)
    except BaseException as error:
        path.write_text(type(error).__name__)
        raise


async def result_of(ref):
    return await ref


async def together(*coroutines):
    """Run the coroutines in one task group."""
    async with asyncio.TaskGroup() as group:
        for coroutine in coroutines:
            group.create_task(coroutine)


async def comes_true(condition, timeout_s=20.0):
    """As `until`, without blocking the loop."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


# --- awaiting --------------------------------------------------------------------------------------------------------


def test_a_ref_can_be_awaited(run_async):
    async def main():
        return await identity.remote("value"), await ray.put("stored"), await identity.remote(identity.remote(1))

    assert run_async(main()) == ("value", "stored", 1)


def test_a_ref_can_be_awaited_again_and_by_several(run_async):
    async def main():
        ref = identity.remote(7)
        return [await ref, await ref, *await asyncio.gather(result_of(ref), result_of(ref))]

    assert run_async(main()) == [7, 7, 7, 7]


def test_large_results_can_be_awaited(run_async):
    async def main():
        return len(await identity.remote(b"x" * 3_000_000))

    assert run_async(main()) == 3_000_000


def test_awaiting_a_failed_task_raises_its_error(run_async):
    async def main():
        with pytest.raises(ValueError) as caught:
            await fail.remote()
        assert isinstance(caught.value, RayTaskError)

    run_async(main())


def test_calls_of_actors_can_be_awaited(run_async):
    @ray.remote
    class Adder:
        def __init__(self):
            self.total = 0

        async def add(self, n):
            self.total += n
            return self.total

    async def main():
        adder = Adder.remote()
        return [await adder.add.remote(i) for i in (1, 2, 3)]

    assert run_async(main()) == [1, 3, 6]


def test_the_loop_goes_on_while_a_ref_is_awaited(run_async):
    async def main():
        gate = Gate.remote()
        waiting = asyncio.ensure_future(result_of(wait_for.remote(gate, "late")))
        ticks = 0
        for _ in range(20):
            await asyncio.sleep(0.005)
            ticks += 1
        assert not waiting.done()
        await gate.open.remote()
        return ticks, await waiting

    assert run_async(main()) == (20, "late")


def test_blocking_calls_work_inside_a_coroutine_too(run_async):
    async def main():
        ref = identity.remote(1)
        assert ray.get(ref) == 1
        return ray.wait([ref])[0] == [ref], await ref

    assert run_async(main()) == (True, 1)


def test_awaiting_works_in_one_loop_after_another(run_async):
    async def main(value):
        return await identity.remote(value)

    assert [run_async(main(i)) for i in range(3)] == [0, 1, 2]


# --- the tools of asyncio --------------------------------------------------------------------------------------------


def test_gather_takes_bare_refs_and_keeps_their_order(run_async):
    async def main():
        return await asyncio.gather(*[identity.remote(i) for i in range(200)])

    assert run_async(main()) == list(range(200))


def test_gather_raises_the_first_error_or_returns_all_of_them(run_async):
    async def main():
        with pytest.raises(ValueError):
            await asyncio.gather(identity.remote(1), fail.remote())
        found = await asyncio.gather(identity.remote(1), fail.remote(), return_exceptions=True)
        return found[0], isinstance(found[1], ValueError)

    assert run_async(main()) == (1, True)


def test_as_completed_gives_results_as_they_come(run_async):
    async def main():
        gate = Gate.remote()
        refs = [wait_for.remote(gate, "slow"), identity.remote("quick")]
        found = []
        for next_one in asyncio.as_completed(refs):
            found.append(await next_one)
            if len(found) == 1:
                await gate.open.remote()
        return found

    assert run_async(main()) == ["quick", "slow"]


def test_wait_for_returns_in_time_or_raises_timeout(run_async):
    async def main():
        assert await asyncio.wait_for(identity.remote(1), timeout=30) == 1
        gate = Gate.remote()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(wait_for.remote(gate, "late"), timeout=0.1)
        await gate.open.remote()

    run_async(main())


def test_a_ref_whose_wait_timed_out_can_be_awaited_again(run_async):
    async def main():
        gate = Gate.remote()
        ref = wait_for.remote(gate, "late")
        for _ in range(2):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(ref, timeout=0.05)
        await gate.open.remote()
        return await ref

    assert run_async(main()) == "late"


def test_a_shielded_ref_survives_the_end_of_its_waiter(run_async):
    async def main():
        gate = Gate.remote()
        ref = wait_for.remote(gate, "late")
        waiter = asyncio.ensure_future(asyncio.shield(ref))
        await asyncio.sleep(0)
        waiter.cancel()
        await gate.open.remote()
        return await ref

    assert run_async(main()) == "late"


def test_a_task_group_collects_results(run_async):
    async def main():
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(result_of(identity.remote(i))) for i in range(20)]
        return [task.result() for task in tasks]

    assert run_async(main()) == list(range(20))


def test_a_task_group_ends_with_the_error_of_a_ref(run_async):
    async def main():
        gate = Gate.remote()
        slow = wait_for.remote(gate, "slow")
        with pytest.raises(ExceptionGroup) as caught:
            await together(result_of(slow), result_of(fail.remote()))
        assert isinstance(caught.value.exceptions[0], ValueError)
        await gate.open.remote()

    run_async(main())


def test_asyncio_wait_takes_tasks_around_refs(run_async):
    async def main():
        gate = Gate.remote()
        slow = asyncio.ensure_future(wait_for.remote(gate, "slow"))
        quick = asyncio.ensure_future(identity.remote("quick"))
        done, pending = await asyncio.wait([slow, quick], return_when=asyncio.FIRST_COMPLETED)
        assert (done, pending) == ({quick}, {slow})
        await gate.open.remote()
        return await quick, await slow

    assert run_async(main()) == ("quick", "slow")


@pytest.mark.beyond_ray("refs lack what asyncio.wait asks of a future")
def test_asyncio_wait_takes_bare_refs(run_async):
    async def main():
        gate = Gate.remote()
        slow, quick = wait_for.remote(gate, "slow"), identity.remote("quick")
        done, pending = await asyncio.wait([slow, quick], return_when=asyncio.FIRST_COMPLETED)
        assert (done, pending) == ({quick}, {slow})
        done, pending = await asyncio.wait({slow}, timeout=0.05)
        assert (done, pending) == (set(), {slow})
        await gate.open.remote()
        done, pending = await asyncio.wait([slow, quick])
        assert (done, pending) == ({slow, quick}, set())
        return sorted([await ref for ref in done])

    assert run_async(main()) == ["quick", "slow"]


@pytest.mark.beyond_ray("refs lack what asyncio.wait asks of a future")
def test_asyncio_wait_on_bare_refs_returns_at_the_first_exception(run_async):
    async def main():
        gate = Gate.remote()
        slow, bad = wait_for.remote(gate, "slow"), fail.remote()
        done, pending = await asyncio.wait([slow, bad], return_when=asyncio.FIRST_EXCEPTION)
        assert (done, pending) == ({bad}, {slow})
        await gate.open.remote()
        await slow

    run_async(main())


def test_thousands_of_refs_can_be_awaited_at_once(run_async):
    async def main():
        return sum(await asyncio.gather(*[identity.remote(1) for _ in range(2000)]))

    assert run_async(main()) == 2000


# --- streams ---------------------------------------------------------------------------------------------------------


def test_a_stream_is_an_asynchronous_iterator_of_refs(run_async):
    async def main():
        return [await ref async for ref in count.remote(5)]

    assert run_async(main()) == [0, 1, 2, 3, 4]


def test_anext_works_on_a_stream_and_ends_it_properly(run_async):
    async def main():
        stream = count.remote(2)
        found = [await (await anext(stream)), await (await anext(stream))]
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
        return found

    assert run_async(main()) == [0, 1]


def test_items_of_a_stream_arrive_while_the_task_runs(run_async):
    @ray.remote
    def two_parts(gate):
        yield "first"
        wait_at(gate)
        yield "second"

    async def main():
        gate, found = Gate.remote(), []
        async for ref in two_parts.remote(gate):
            found.append(await ref)
            if found == ["first"]:
                await gate.open.remote()
        return found

    assert run_async(main()) == ["first", "second"]


def test_an_error_in_a_stream_is_its_last_item(run_async):
    @ray.remote
    def broken():
        yield 1
        raise KeyError("in the stream")

    async def main():
        found = []
        async for ref in broken.remote():
            try:
                found.append(await ref)
            except KeyError:
                found.append("failed")
        return found

    assert run_async(main()) == [1, "failed"]


def test_several_streams_can_be_read_at_once(run_async):
    async def total(stream):
        return sum([await ref async for ref in stream])

    async def main():
        return await asyncio.gather(*[total(count.remote(n)) for n in (3, 4, 5)])

    assert run_async(main()) == [3, 6, 10]


def test_streams_of_actors_can_be_read_asynchronously(run_async):
    @ray.remote
    class Source:
        async def count(self, n):
            for i in range(n):
                await asyncio.sleep(0)
                yield i

    async def main():
        source = Source.remote()
        return [await ref async for ref in source.count.remote(4)]

    assert run_async(main()) == [0, 1, 2, 3]


# --- cancellation ----------------------------------------------------------------------------------------------------


def test_an_awaited_task_that_is_cancelled_raises_the_cancellation(run_async, tmp_path):
    async def main():
        gate = Gate.remote()
        ref = busy.remote(gate, tmp_path / "how")
        waiting = asyncio.ensure_future(result_of(ref))
        await gate.met.remote(1)
        ray.cancel(ref)
        with pytest.raises(TaskCancelledError):
            await waiting

    run_async(main())
    assert until((tmp_path / "how").exists)


def test_cancelling_a_coroutine_ends_its_await(run_async):
    async def main():
        gate = Gate.remote()
        ref = wait_for.remote(gate, "late")
        waiting = asyncio.ensure_future(result_of(ref))
        await gate.met.remote(1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await gate.open.remote()
        return await ref

    assert run_async(main()) == "late"


@pytest.mark.beyond_ray("the task runs on although nobody can ever read its result")
def test_cancelling_a_coroutine_reaches_a_task_that_nobody_else_refers_to(run_async, tmp_path):
    stopped = tmp_path / "how"

    async def work(gate):
        return await busy.options(num_cpus=0).remote(gate, stopped)

    async def main():
        gate = Gate.remote()
        waiting = asyncio.ensure_future(work(gate))
        await gate.met.remote(1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await comes_true(stopped.exists, timeout_s=5)

    run_async(main())


@pytest.mark.beyond_ray("the task runs on although nobody can ever read its result")
def test_a_timeout_reaches_a_task_that_nobody_else_refers_to(run_async, tmp_path):
    stopped = tmp_path / "how"

    async def main():
        gate, limit = Gate.remote(), asyncio.timeout(None)

        async def expire_when_started():
            await gate.met.remote(1)
            limit.reschedule(asyncio.get_running_loop().time())

        async def work():
            async with limit:
                await busy.options(num_cpus=0).remote(gate, stopped)

        expiring = asyncio.ensure_future(expire_when_started())
        with pytest.raises(TimeoutError):
            await work()
        await expiring
        await comes_true(stopped.exists, timeout_s=5)

    run_async(main())


@pytest.mark.beyond_ray("the tasks run on although nobody can ever read their results")
def test_a_failing_task_group_reaches_the_tasks_of_its_other_members(run_async, tmp_path):
    stopped = tmp_path / "how"

    async def work(gate):
        await busy.options(num_cpus=0).remote(gate, stopped)

    async def fail_when_started(gate):
        await gate.met.remote(1)
        await fail.remote()

    async def main():
        gate = Gate.remote()
        with pytest.raises(ExceptionGroup):
            await together(work(gate), fail_when_started(gate))
        await comes_true(stopped.exists, timeout_s=5)

    run_async(main())


def test_cancelling_a_call_of_an_async_actor_reaches_what_it_awaits(tmp_path):
    @ray.remote
    class Front:
        async def work(self, gate):
            await busy.remote(gate, tmp_path / "how")

    gate, front = Gate.remote(), Front.remote()
    ref = front.work.remote(gate)
    until_arrived(gate, 1)
    ray.cancel(ref)
    with pytest.raises((TaskCancelledError, RayTaskError)):
        ray.get(ref, timeout=30)
    assert until((tmp_path / "how").exists)
