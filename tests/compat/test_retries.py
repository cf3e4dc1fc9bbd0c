"""What happens when a worker dies or a task fails: the report, tasks that are tried again, actors that start again."""

from __future__ import annotations

import os
import signal
import sys

import pytest

import ray
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    GetTimeoutError,
    RayActorError,
    RayTaskError,
    WorkerCrashedError,
)

from .support import Gate, alive, count_up, gone, marks, until, until_arrived, wait_at

pytestmark = pytest.mark.usefixtures("cluster")


@ray.remote
def identity(value):
    return value


@ray.remote
def die_until(path, times):
    """Takes its worker down the first `times` times."""
    if count_up(path) <= times:
        os._exit(3)
    return "survived"


@ray.remote
def fail_until(path, times, error):
    if count_up(path) <= times:
        raise error
    return "succeeded"


def die_by_exit():
    os._exit(3)


def die_by_segmentation_fault():
    os.kill(os.getpid(), signal.SIGSEGV)


def die_by_kill():
    os.kill(os.getpid(), signal.SIGKILL)


def die_by_sys_exit():
    sys.exit(4)


# --- tasks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("die", [die_by_exit, die_by_segmentation_fault, die_by_kill, die_by_sys_exit])
def test_the_death_of_a_worker_is_an_error_of_its_task_and_of_no_other(die):
    ref = ray.remote(max_retries=0)(die).remote()
    with pytest.raises(WorkerCrashedError):
        ray.get(ref, timeout=30)
    assert ray.get([identity.remote(i) for i in range(8)]) == list(range(8))


@pytest.mark.beyond_ray("says only that the worker died unexpectedly")
@pytest.mark.parametrize(
    ("die", "words"),
    [(die_by_exit, ["3"]), (die_by_segmentation_fault, ["SIGSEGV"]), (die_by_kill, ["SIGKILL"])],
    ids=["exit", "segmentation fault", "kill"],
)
def test_the_error_names_the_exact_cause_of_death(die, words):
    with pytest.raises(WorkerCrashedError) as caught:
        ray.get(ray.remote(max_retries=0)(die).remote(), timeout=30)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.beyond_ray("says only that the worker died unexpectedly")
def test_the_error_shows_the_last_lines_of_stderr():
    @ray.remote(max_retries=0)
    def die():
        print("the last words", file=sys.stderr, flush=True)
        os._exit(9)

    with pytest.raises(WorkerCrashedError) as caught:
        ray.get(die.remote(), timeout=30)
    assert "the last words" in str(caught.value)


def test_a_task_is_tried_again_when_its_worker_died(tmp_path):
    assert ray.get(die_until.remote(tmp_path / "tries", 2), timeout=60) == "survived"
    assert marks(tmp_path / "tries") == 3


def test_a_task_is_tried_no_more_often_than_max_retries(tmp_path):
    with pytest.raises(WorkerCrashedError):
        ray.get(die_until.options(max_retries=1).remote(tmp_path / "tries", 9), timeout=60)
    assert marks(tmp_path / "tries") == 2


def test_a_task_without_retries_runs_at_most_once(tmp_path):
    with pytest.raises(WorkerCrashedError):
        ray.get(die_until.options(max_retries=0).remote(tmp_path / "tries", 9), timeout=60)
    assert marks(tmp_path / "tries") == 1


def test_infinite_retries_go_on_until_it_works(tmp_path):
    assert ray.get(die_until.options(max_retries=-1).remote(tmp_path / "tries", 5), timeout=60) == "survived"


def test_an_exception_is_not_retried_by_default(tmp_path):
    with pytest.raises(ValueError):
        ray.get(fail_until.remote(tmp_path / "tries", 1, ValueError("once")))
    assert marks(tmp_path / "tries") == 1


@pytest.mark.parametrize("retry", [True, [ValueError], (OSError, ValueError), [Exception]], ids=repr)
def test_an_exception_is_retried_when_asked_for(tmp_path, retry):
    task = fail_until.options(max_retries=3, retry_exceptions=retry)
    assert ray.get(task.remote(tmp_path / "tries", 2, ValueError("twice"))) == "succeeded"
    assert marks(tmp_path / "tries") == 3


def test_only_the_named_exceptions_are_retried(tmp_path):
    task = fail_until.options(max_retries=3, retry_exceptions=[KeyError])
    with pytest.raises(ValueError):
        ray.get(task.remote(tmp_path / "tries", 1, ValueError("other")))
    assert marks(tmp_path / "tries") == 1


def test_the_last_exception_is_raised_when_all_retries_failed(tmp_path):
    task = fail_until.options(max_retries=2, retry_exceptions=True)
    with pytest.raises(ValueError) as caught:
        ray.get(task.remote(tmp_path / "tries", 9, ValueError("always")))
    assert isinstance(caught.value, RayTaskError)
    assert marks(tmp_path / "tries") == 3


def test_max_calls_gives_a_new_worker_after_that_many_calls():
    @ray.remote(max_calls=1)
    def pid():
        return os.getpid()

    pids = [ray.get(pid.remote()) for _ in range(3)]
    assert len(set(pids)) == 3
    until(lambda: gone(pids))


def test_a_worker_is_used_again_by_default():
    @ray.remote
    def pid():
        return os.getpid()

    assert len({ray.get(pid.remote()) for _ in range(20)}) <= 5


def test_dying_children_do_not_take_their_parent_with_them():
    @ray.remote
    def parent():
        try:
            ray.get(ray.remote(max_retries=0)(die_by_exit).remote())
        except WorkerCrashedError:
            return "told of it"

    assert ray.get(parent.remote(), timeout=30) == "told of it"


def test_binary_garbage_on_the_outputs_of_a_worker_harms_nobody():
    @ray.remote
    def garbage():
        for descriptor in (1, 2):
            os.write(descriptor, bytes(range(256)) * 40)
        return "done"

    assert ray.get([garbage.remote() for _ in range(3)], timeout=30) == ["done"] * 3


# --- actors ----------------------------------------------------------------------------------------------------------


@ray.remote
class Fragile:
    def __init__(self, lives=None):
        self.calls = 0
        if lives is not None:
            count_up(lives)

    def call(self):
        self.calls += 1
        return self.calls

    def die(self):
        os._exit(5)

    def die_until(self, path, times):
        if count_up(path) <= times:
            os._exit(5)
        return "survived"

    def fail_until(self, path, times):
        if count_up(path) <= times:
            raise OSError("not yet")
        return "succeeded"

    def wait(self, gate):
        wait_at(gate)
        return "waited"

    def pid(self):
        return os.getpid()

    def reconstructed(self):
        return ray.get_runtime_context().was_current_actor_reconstructed


def answers(actor):
    try:
        return ray.get(actor.call.remote(), timeout=5)
    except (RayActorError, GetTimeoutError):
        return None


def test_an_actor_that_dies_fails_the_running_and_all_later_calls():
    actor = Fragile.remote()
    for ref in (actor.die.remote(), actor.call.remote(), actor.call.remote()):
        with pytest.raises(ActorDiedError):
            ray.get(ref, timeout=30)


@pytest.mark.beyond_ray("lists what may have happened")
def test_the_error_of_a_dead_actor_names_the_exact_cause():
    actor = Fragile.remote()
    with pytest.raises(ActorDiedError) as caught:
        ray.get(actor.die.remote(), timeout=30)
    assert "5" in str(caught.value)
    assert "common causes" not in str(caught.value)
    actor = Fragile.remote()
    pid = ray.get(actor.pid.remote())
    os.kill(pid, signal.SIGKILL)
    until(lambda: gone([pid]))
    with pytest.raises(ActorDiedError) as caught:
        ray.get(actor.call.remote(), timeout=30)
    assert "SIGKILL" in str(caught.value)


def test_an_actor_is_not_restarted_by_default(tmp_path):
    actor = Fragile.remote(tmp_path / "lives")
    with pytest.raises(RayActorError):
        ray.get(actor.die.remote(), timeout=30)
    with pytest.raises(RayActorError):
        ray.get(actor.call.remote(), timeout=30)
    assert marks(tmp_path / "lives") == 1


def test_an_actor_is_restarted_with_its_arguments_and_fresh_state(tmp_path):
    actor = Fragile.options(max_restarts=1).remote(tmp_path / "lives")
    assert ray.get([actor.call.remote(), actor.call.remote()]) == [1, 2]
    assert ray.get(actor.reconstructed.remote()) is False
    with pytest.raises(RayActorError):
        ray.get(actor.die.remote(), timeout=30)
    assert until(lambda: answers(actor)) == 1
    assert ray.get(actor.reconstructed.remote()) is True
    assert marks(tmp_path / "lives") == 2


def test_an_actor_is_restarted_no_more_often_than_max_restarts(tmp_path):
    actor = Fragile.options(max_restarts=2).remote(tmp_path / "lives")
    for _ in range(3):
        assert until(lambda: answers(actor))
        with pytest.raises(RayActorError):
            ray.get(actor.die.remote(), timeout=30)
    with pytest.raises(ActorDiedError):
        until(lambda: dies_for_good(actor))
    assert marks(tmp_path / "lives") == 3


def dies_for_good(actor):
    """Raises once the actor is known to be dead; passes over the time in which it might still come back."""
    try:
        ray.get(actor.call.remote(), timeout=30)
    except ActorDiedError:
        raise
    except (ActorUnavailableError, RayActorError):
        return False


def test_a_call_is_tried_again_on_the_restarted_actor(tmp_path):
    actor = Fragile.options(max_restarts=-1, max_task_retries=-1).remote()
    assert ray.get(actor.die_until.remote(tmp_path / "tries", 2), timeout=60) == "survived"
    assert marks(tmp_path / "tries") == 3


def test_a_call_is_tried_no_more_often_than_max_task_retries(tmp_path):
    actor = Fragile.options(max_restarts=-1, max_task_retries=1).remote()
    with pytest.raises(RayActorError):
        ray.get(actor.die_until.remote(tmp_path / "tries", 9), timeout=60)
    assert marks(tmp_path / "tries") == 2


def test_task_retries_can_be_set_on_a_method(tmp_path):
    @ray.remote(max_restarts=-1)
    class Careful:
        @ray.method(max_task_retries=2)
        def die_until(self, path, times):
            if count_up(path) <= times:
                os._exit(5)
            return "survived"

    assert ray.get(Careful.remote().die_until.remote(tmp_path / "tries", 2), timeout=60) == "survived"


def test_exceptions_of_a_method_are_retried_when_asked_for(tmp_path):
    actor = Fragile.remote()
    call = actor.fail_until.options(max_task_retries=3, retry_exceptions=[OSError])
    assert ray.get(call.remote(tmp_path / "tries", 2), timeout=30) == "succeeded"
    with pytest.raises(OSError, match="not yet"):
        ray.get(actor.fail_until.remote(tmp_path / "other", 1), timeout=30)


def test_exit_actor_is_final_even_with_restarts_left(tmp_path):
    @ray.remote(max_restarts=-1)
    class Leaver:
        def __init__(self):
            count_up(tmp_path / "lives")

        def leave(self):
            ray.actor.exit_actor()

        def call(self):
            return 1

    leaver = Leaver.remote()
    assert ray.get(leaver.call.remote()) == 1
    with pytest.raises(RayActorError):
        ray.get(leaver.leave.remote(), timeout=30)
    with pytest.raises(RayActorError):
        ray.get(leaver.call.remote(), timeout=30)
    assert marks(tmp_path / "lives") == 1


def test_killing_the_process_of_an_actor_restarts_it_too():
    actor = Fragile.options(max_restarts=1).remote()
    pid = ray.get(actor.pid.remote())
    os.kill(pid, signal.SIGKILL)
    until(lambda: gone([pid]))
    assert until(lambda: answers(actor))
    assert ray.get(actor.pid.remote()) != pid


def test_calls_queued_at_a_dying_actor_fail_or_are_tried_again_as_allowed():
    gate, actor = Gate.remote(), Fragile.options(max_restarts=1, max_task_retries=1).remote()
    pid = ray.get(actor.pid.remote())
    refs = [actor.wait.remote(gate) for _ in range(3)]
    until_arrived(gate, 1)
    os.kill(pid, signal.SIGKILL)
    ray.get(gate.open.remote())
    assert ray.get(refs, timeout=60) == ["waited"] * 3
    assert not alive(pid)
