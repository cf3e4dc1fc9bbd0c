"""Actors that do several things at once: threads, asyncio, concurrency groups, and limits on what may be pending."""

from __future__ import annotations

import asyncio
import threading

import pytest

import ray
from ray.exceptions import PendingCallsLimitExceeded, RayActorError

from .support import Gate, until, until_arrived, wait_at

pytestmark = pytest.mark.usefixtures("cluster")


@ray.remote
class Threaded:
    def meet(self, gate, who):
        wait_at(gate, who)
        return threading.current_thread().name

    def ping(self):
        return "pong"


@ray.remote
class Async:
    def __init__(self):
        self.event = asyncio.Event()
        self.inside = 0

    async def wait(self):
        self.inside += 1
        await self.event.wait()
        return self.inside

    async def count(self):
        return self.inside

    async def release(self):
        self.event.set()

    def plain(self):
        return "plain"

    async def loop_is_running(self):
        return asyncio.get_running_loop().is_running()

    async def fail(self):
        await asyncio.sleep(0)
        raise KeyError("in a coroutine")


# --- threads ---------------------------------------------------------------------------------------------------------


def test_max_concurrency_runs_that_many_calls_at_once():
    gate, actor = Gate.remote(), Threaded.options(max_concurrency=3).remote()
    refs = [actor.meet.remote(gate, i) for i in range(5)]
    assert len(set(until_arrived(gate, 3))) == 3
    assert ray.wait(refs, timeout=0.1)[0] == []
    assert len(ray.get(gate.arrived.remote())) == 3
    ray.get(gate.open.remote())
    assert len(ray.get(refs)) == 5


def test_max_concurrency_in_the_decorator_means_the_same():
    @ray.remote(max_concurrency=10)
    class Server:
        def predict(self, gate, x):
            wait_at(gate, x)
            return x * x

    gate, server = Gate.remote(), Server.remote()
    refs = [server.predict.remote(gate, i) for i in range(10)]
    until_arrived(gate, 10)
    ray.get(gate.open.remote())
    assert ray.get(refs) == [i * i for i in range(10)]


def test_threads_of_an_actor_share_its_state():
    @ray.remote(max_concurrency=4)
    class Shared:
        def __init__(self):
            self.lock = threading.Lock()
            self.total = 0

        def add(self, n):
            with self.lock:
                self.total += n
            return self.total

    shared = Shared.remote()
    assert max(ray.get([shared.add.remote(1) for _ in range(100)])) == 100


# --- asyncio ---------------------------------------------------------------------------------------------------------


def test_coroutine_methods_run_at_the_same_time():
    actor = Async.remote()
    refs = [actor.wait.remote() for _ in range(50)]
    until(lambda: ray.get(actor.count.remote()) == 50)
    ray.get(actor.release.remote())
    assert ray.get(refs) == [50] * 50


def test_max_concurrency_bounds_the_coroutines_too():
    actor = Async.options(max_concurrency=2).remote()
    refs = [actor.wait.remote() for _ in range(2)]
    queued = actor.count.remote()
    assert ray.wait([*refs, queued], timeout=0.2)[0] == []
    ray.kill(actor)
    with pytest.raises(RayActorError):
        ray.get(queued)


def test_coroutine_methods_run_on_one_running_loop():
    assert ray.get(Async.remote().loop_is_running.remote()) is True


def test_plain_methods_of_an_async_actor_work():
    assert ray.get(Async.remote().plain.remote()) == "plain"


def test_an_error_in_a_coroutine_is_raised_and_the_actor_lives_on():
    actor = Async.remote()
    with pytest.raises(KeyError):
        ray.get(actor.fail.remote())
    assert ray.get(actor.plain.remote()) == "plain"


def test_an_async_actor_awaits_refs_and_calls_of_other_actors():
    @ray.remote
    class Front:
        def __init__(self, back):
            self.back = back

        async def ask(self, n):
            square = ray.remote(lambda x: x * x)
            results = await asyncio.gather(*[square.remote(i) for i in range(n)])
            return sum(results), await self.back.ping.remote(), await ray.put("stored")

    front = Front.remote(Threaded.remote())
    assert ray.get([front.ask.remote(3) for _ in range(3)]) == [(5, "pong", "stored")] * 3


def test_blocking_calls_inside_a_coroutine_still_work():
    @ray.remote
    class Blocking:
        async def work(self):
            square = ray.remote(lambda x: x * x)
            refs = [square.remote(i) for i in range(3)]
            ray.wait(refs, num_returns=3)
            return ray.get(refs)

    assert ray.get(Blocking.remote().work.remote()) == [0, 1, 4]


def test_coroutines_that_wait_for_each_other_make_progress():
    @ray.remote
    class Rendezvous:
        def __init__(self):
            self.queue = asyncio.Queue()

        async def take(self):
            return await self.queue.get()

        async def give(self, item):
            await self.queue.put(item)

    meeting = Rendezvous.remote()
    taken = [meeting.take.remote() for _ in range(3)]
    ray.get([meeting.give.remote(i) for i in range(3)])
    assert sorted(ray.get(taken)) == [0, 1, 2]


def test_a_handle_of_an_async_actor_serves_many_callers_at_once():
    gate = Gate.remote()

    @ray.remote(num_cpus=0.25)
    def visit(i):
        wait_at(gate, i)
        return i

    refs = [visit.remote(i) for i in range(8)]
    until_arrived(gate, 8, timeout_s=40)
    ray.get(gate.open.remote())
    assert ray.get(refs) == list(range(8))


# --- concurrency groups ----------------------------------------------------------------------------------------------


@ray.remote(concurrency_groups={"io": 2, "compute": 1})
class Grouped:
    @ray.method(concurrency_group="io")
    def io(self, gate, who):
        wait_at(gate, who)
        return threading.current_thread().name

    @ray.method(concurrency_group="compute")
    def compute(self, gate, who):
        wait_at(gate, who)
        return threading.current_thread().name

    def default(self):
        return "default"

    @ray.method(concurrency_group="io")
    def io_thread(self):
        return threading.get_ident()


def test_each_group_has_its_own_limit_and_does_not_block_the_others():
    gate, actor = Gate.remote(), Grouped.remote()
    refs = [actor.io.remote(gate, "io") for _ in range(3)] + [actor.compute.remote(gate, "compute") for _ in range(2)]
    until_arrived(gate, 3)
    assert ray.get(actor.default.remote(), timeout=30) == "default"
    assert sorted(ray.get(gate.arrived.remote())) == ["compute", "io", "io"]
    ray.get(gate.open.remote())
    assert len(ray.get(refs)) == 5


def test_a_call_may_choose_its_group():
    gate, actor = Gate.remote(), Grouped.remote()
    blocked = [actor.compute.remote(gate, "compute") for _ in range(2)]
    until_arrived(gate, 1)
    moved = actor.compute.options(concurrency_group="io").remote(gate, "moved")
    assert sorted(until_arrived(gate, 2)) == ["compute", "moved"]
    ray.get(gate.open.remote())
    assert len(ray.get([*blocked, moved])) == 3


def test_groups_bound_coroutines_too():
    @ray.remote(concurrency_groups={"narrow": 1})
    class Narrow:
        @ray.method(concurrency_group="narrow")
        async def narrow(self, gate, who):
            await gate.wait.remote(who)

        async def wide(self, gate, who):
            await gate.wait.remote(who)

    gate, actor = Gate.remote(), Narrow.remote()
    narrow = [actor.narrow.remote(gate, "narrow") for _ in range(3)]
    wide = [actor.wide.remote(gate, "wide") for _ in range(3)]
    assert sorted(until_arrived(gate, 4)) == ["narrow", "wide", "wide", "wide"]
    ray.get(gate.open.remote())
    assert ray.get(narrow + wide) == [None] * 6


def test_an_unknown_group_is_refused():
    class Wrong:
        @ray.method(concurrency_group="bogus")
        def method(self):
            return 1

    with pytest.raises((AssertionError, ValueError)):
        ray.remote(concurrency_groups={"io": 1})(Wrong).remote()


# --- what may be pending ---------------------------------------------------------------------------------------------


def test_more_pending_calls_than_allowed_are_refused_at_the_call():
    gate, actor = Gate.remote(), Threaded.options(max_pending_calls=3).remote()
    refs = [actor.meet.remote(gate, i) for i in range(3)]
    until_arrived(gate, 1)
    with pytest.raises(PendingCallsLimitExceeded):
        actor.meet.remote(gate, "one too many")
    ray.get(gate.open.remote())
    ray.get(refs)
    assert ray.get(actor.ping.remote()) == "pong"


def test_pending_calls_are_counted_for_each_handle():
    gate, actor = Gate.remote(), Threaded.options(max_pending_calls=2).remote()
    refs = [actor.meet.remote(gate, i) for i in range(2)]
    until_arrived(gate, 1)
    other = ray.get(ray.put(actor))

    @ray.remote
    def elsewhere(box):
        return ray.get(box[0].ping.remote())

    pending = elsewhere.remote([other])
    assert ray.wait([pending], timeout=0.1)[0] == []
    ray.get(gate.open.remote())
    assert ray.get(pending) == "pong"
    ray.get(refs)
