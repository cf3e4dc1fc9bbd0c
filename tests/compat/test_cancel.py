"""`ray.cancel` and `ray.kill`: what stops, what the callers see, and what is left alone."""

from __future__ import annotations

import asyncio
import time

import pytest

import ray
from ray.exceptions import (
    ActorDiedError,
    GetTimeoutError,
    RayActorError,
    RayError,
    TaskCancelledError,
    WorkerCrashedError,
)

from .support import Gate, marks, until, until_arrived, wait_at

pytestmark = pytest.mark.usefixtures("cluster")


@ray.remote
def identity(value):
    return value


@ray.remote
def wait_for(gate, value):
    wait_at(gate, value)
    return value


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
    return "ran to its end"


@ray.remote
class Worker:
    def __init__(self):
        self.count = 0

    def work(self, gate):
        self.count += 1
        wait_at(gate, "working")
        return ray.get_runtime_context().is_canceled()

    def counted(self):
        return self.count


def test_a_queued_task_is_dropped_and_never_runs(tmp_path):
    gate = Gate.remote()
    blockers = [wait_for.remote(gate, i) for i in range(4)]
    until_arrived(gate, 4)
    queued = busy.remote(gate, tmp_path / "never")
    ray.cancel(queued)
    with pytest.raises(TaskCancelledError):
        ray.get(queued, timeout=30)
    ray.get(gate.open.remote())
    assert ray.get(blockers) == [0, 1, 2, 3]
    assert "started" not in ray.get(gate.arrived.remote())


@pytest.mark.beyond_ray("a failed check aborts the whole driver process when the argument arrives", run=False)
def test_a_task_that_waits_for_its_arguments_is_dropped():
    gate = Gate.remote()
    argument = wait_for.remote(gate, 1)
    waiting = identity.remote(argument)
    ray.cancel(waiting)
    with pytest.raises(TaskCancelledError):
        ray.get(waiting, timeout=30)
    ray.get(gate.open.remote())
    assert ray.get(argument) == 1


def test_a_running_task_is_interrupted_as_by_the_keyboard(tmp_path):
    gate = Gate.remote()
    ref = busy.remote(gate, tmp_path / "how")
    until_arrived(gate, 1)
    ray.cancel(ref)
    with pytest.raises(TaskCancelledError):
        ray.get(ref, timeout=30)
    assert until((tmp_path / "how").exists)
    assert until((tmp_path / "how").read_text) == "KeyboardInterrupt"


def test_a_running_task_that_blocks_in_get_is_interrupted():
    gate = Gate.remote()
    ref = wait_for.remote(gate, "inside")
    until_arrived(gate, 1)
    ray.cancel(ref)
    with pytest.raises(TaskCancelledError):
        ray.get(ref, timeout=30)


def test_force_kills_the_worker_of_a_running_task(tmp_path):
    gate = Gate.remote()
    ref = busy.remote(gate, tmp_path / "how")
    until_arrived(gate, 1)
    ray.cancel(ref, force=True)
    with pytest.raises((WorkerCrashedError, TaskCancelledError)):
        ray.get(ref, timeout=30)
    assert not (tmp_path / "how").exists()


def test_cancelling_a_finished_task_or_a_stored_object_does_nothing():
    for ref in (identity.remote("done"), ray.put("stored")):
        ray.wait([ref])
        ray.cancel(ref)
        ray.cancel(ref, force=True)
        assert ray.get(ref) in ("done", "stored")


def test_cancelling_twice_is_the_same_as_once():
    gate = Gate.remote()
    ref = wait_for.remote(gate, 1)
    until_arrived(gate, 1)
    for _ in range(3):
        ray.cancel(ref)
    with pytest.raises(TaskCancelledError):
        ray.get(ref, timeout=30)
    with pytest.raises(TaskCancelledError):
        ray.get(ref, timeout=30)


def test_a_cancelled_task_is_not_tried_again(tmp_path):
    gate = Gate.remote()
    ref = busy.options(max_retries=5, retry_exceptions=True).remote(gate, tmp_path / "how")
    until_arrived(gate, 1)
    ray.cancel(ref)
    with pytest.raises(TaskCancelledError):
        ray.get(ref, timeout=30)
    assert ray.get(identity.remote(1)) == 1
    assert ray.get(gate.arrived.remote()) == ["started"]


def test_cancelling_a_parent_cancels_its_children(tmp_path):
    gate = Gate.remote()

    @ray.remote
    def parent():
        return ray.get(busy.remote(gate, tmp_path / "child"))

    ref = parent.remote()
    until_arrived(gate, 1)
    ray.cancel(ref, recursive=True)
    with pytest.raises(TaskCancelledError):
        ray.get(ref, timeout=30)
    assert until((tmp_path / "child").exists)


def test_children_go_on_when_recursive_is_off(tmp_path):
    gate, door = Gate.remote(), Gate.remote()

    @ray.remote
    def child():
        wait_at(door)
        (tmp_path / "child").write_text("finished")

    @ray.remote
    def parent():
        ref = child.remote()
        ray.get(gate.arrive.remote())
        ray.get(ref)

    ref = parent.remote()
    until_arrived(door, 1)
    ray.cancel(ref, recursive=False)
    with pytest.raises(TaskCancelledError):
        ray.get(ref, timeout=30)
    ray.get(door.open.remote())
    assert until((tmp_path / "child").exists)


def test_a_task_that_needs_a_cancelled_task_fails_too():
    gate = Gate.remote()
    first = wait_for.remote(gate, 1)
    second = identity.remote(first)
    until_arrived(gate, 1)
    ray.cancel(first)
    with pytest.raises((TaskCancelledError, RayError)):
        ray.get(second, timeout=30)


def test_the_worker_is_usable_after_a_cancellation():
    gate = Gate.remote()
    refs = [wait_for.remote(gate, i) for i in range(4)]
    until_arrived(gate, 4)
    for ref in refs:
        ray.cancel(ref)
    for ref in refs:
        with pytest.raises(TaskCancelledError):
            ray.get(ref, timeout=30)
    assert ray.get([identity.remote(i) for i in range(8)]) == list(range(8))


@pytest.mark.parametrize("thing", [3, None, "ref"], ids=repr)
def test_cancel_refuses_what_is_no_ref(thing):
    with pytest.raises(TypeError):
        ray.cancel(thing)


def test_cancel_refuses_an_actor_handle():
    with pytest.raises(TypeError):
        ray.cancel(Worker.remote())


# --- calls of actors -------------------------------------------------------------------------------------------------


@pytest.mark.beyond_ray("the caller hears of it only when the turn of the dropped call has come")
def test_a_queued_call_of_an_actor_is_dropped_at_once():
    gate, worker = Gate.remote(), Worker.remote()
    running = worker.work.remote(gate)
    until_arrived(gate, 1)
    queued = worker.work.remote(gate)
    ray.cancel(queued)
    with pytest.raises(TaskCancelledError):
        ray.get(queued, timeout=5)
    ray.get(gate.open.remote())
    assert ray.get(running) is False
    assert ray.get(worker.counted.remote()) == 1


def test_a_running_call_of_a_sync_actor_only_learns_that_it_was_cancelled():
    @ray.remote
    class Patient:
        def look(self, gate):
            ray.get(gate.arrive.remote())
            deadline = time.monotonic() + 20
            while not ray.get_runtime_context().is_canceled():
                assert time.monotonic() < deadline
                time.sleep(0.005)
            ray.get(gate.arrive.remote("noticed"))

        def ping(self):
            return "pong"

    gate, patient = Gate.remote(), Patient.remote()
    ref = patient.look.remote(gate)
    until_arrived(gate, 1)
    ray.cancel(ref)
    assert until_arrived(gate, 2) == [None, "noticed"]
    assert ray.get(patient.ping.remote()) == "pong"


def test_a_running_call_of_an_async_actor_is_cancelled_as_in_asyncio(tmp_path):
    @ray.remote
    class Sleeper:
        async def sleep(self, gate):
            try:
                await gate.arrive.remote()
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                (tmp_path / "how").write_text("cancelled")
                raise

        async def ping(self):
            return "pong"

    gate, sleeper = Gate.remote(), Sleeper.remote()
    ref = sleeper.sleep.remote(gate)
    until_arrived(gate, 1)
    ray.cancel(ref)
    with pytest.raises((TaskCancelledError, RayError)):
        ray.get(ref, timeout=30)
    assert until((tmp_path / "how").exists)
    assert ray.get(sleeper.ping.remote()) == "pong"


def test_force_is_refused_for_a_call_of_an_actor():
    gate, worker = Gate.remote(), Worker.remote()
    ref = worker.work.remote(gate)
    until_arrived(gate, 1)
    with pytest.raises(ValueError):
        ray.cancel(ref, force=True)
    ray.get(gate.open.remote())
    assert ray.get(ref) is False


# --- kill ------------------------------------------------------------------------------------------------------------


def test_a_killed_actor_fails_the_running_the_queued_and_all_later_calls():
    gate, worker = Gate.remote(), Worker.remote()
    running, queued = worker.work.remote(gate), worker.work.remote(gate)
    until_arrived(gate, 1)
    ray.kill(worker)
    for ref in (running, queued, worker.counted.remote()):
        with pytest.raises(RayActorError):
            ray.get(ref, timeout=30)
    with pytest.raises(ActorDiedError):
        ray.get(worker.counted.remote(), timeout=30)


def test_killing_an_actor_twice_is_harmless():
    worker = Worker.remote()
    assert ray.get(worker.counted.remote()) == 0
    ray.kill(worker)
    ray.kill(worker)
    with pytest.raises(RayActorError):
        ray.get(worker.counted.remote(), timeout=30)


def test_kill_runs_no_exit_handlers(tmp_path):
    @ray.remote
    class Tidy:
        def __init__(self):
            import atexit

            atexit.register((tmp_path / "exit").write_text, "ran")

        def ping(self):
            return "pong"

    tidy = Tidy.remote()
    assert ray.get(tidy.ping.remote()) == "pong"
    ray.kill(tidy)
    with pytest.raises(RayActorError):
        ray.get(tidy.ping.remote(), timeout=30)
    assert not (tmp_path / "exit").exists()


def test_kill_with_no_restart_off_restarts_an_actor_that_may_restart(tmp_path):
    @ray.remote(max_restarts=1)
    class Phoenix:
        def __init__(self):
            with (tmp_path / "lives").open("a") as file:
                file.write(".")

        def ping(self):
            return "pong"

    phoenix = Phoenix.remote()
    assert ray.get(phoenix.ping.remote()) == "pong"
    ray.kill(phoenix, no_restart=False)
    until(lambda: marks(tmp_path / "lives") == 2)
    assert until(lambda: answers(phoenix)) == "pong"
    ray.kill(phoenix)
    with pytest.raises(RayActorError):
        ray.get(phoenix.ping.remote(), timeout=30)


def answers(actor):
    try:
        return ray.get(actor.ping.remote(), timeout=5)
    except (RayActorError, GetTimeoutError):
        return None


@pytest.mark.parametrize("make", [lambda: 3, lambda: ray.put(1), lambda: Worker], ids=["number", "ref", "class"])
def test_kill_refuses_what_is_no_handle(make):
    with pytest.raises(ValueError):
        ray.kill(make())


def test_a_task_that_drops_references_all_the_time_is_cancelled_all_the_same():
    """What is raised while Python runs the end of an object is lost, so the interruption has to come another time."""

    class Leaves:
        def __del__(self):
            for _ in range(100):
                pass

    @ray.remote
    def drops(gate):
        ray.get(gate.arrive.remote("started"))
        while True:
            ray.put(0)
            Leaves()

    for _ in range(40):
        gate = Gate.remote()
        call = drops.remote(gate)
        until_arrived(gate, 1)
        ray.cancel(call)
        with pytest.raises(TaskCancelledError):
            ray.get(call, timeout=30)
