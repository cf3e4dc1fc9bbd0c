"""The public exceptions, and the way from a daemon's fault to one of them."""

import pickle

import pytest

from ray import exceptions
from rayd import errors as codes

FAULTS = {
    codes.WORKER_CRASHED: exceptions.WorkerCrashedError,
    codes.OUT_OF_MEMORY: exceptions.OutOfMemoryError,
    codes.ACTOR_DIED: exceptions.ActorDiedError,
    codes.ACTOR_UNAVAILABLE: exceptions.ActorUnavailableError,
    codes.CANCELLED: exceptions.TaskCancelledError,
    codes.OBJECT_LOST: exceptions.ObjectLostError,
    codes.STORE_FULL: exceptions.ObjectStoreFullError,
    codes.UNSCHEDULABLE: exceptions.TaskUnschedulableError,
    codes.WORKER_START: exceptions.RuntimeEnvSetupError,
    codes.GROUP_REMOVED: exceptions.TaskPlacementGroupRemoved,
    codes.PENDING_CALLS: exceptions.PendingCallsLimitExceeded,
    codes.NAME_TAKEN: exceptions.ActorAlreadyExistsError,
    codes.NOT_FOUND: exceptions.ActorHandleNotFoundError,
    codes.BAD_REQUEST: ValueError,
    codes.FORBIDDEN: exceptions.AuthenticationError,
    codes.NODE_DIED: exceptions.NodeDiedError,
    codes.TIMED_OUT: exceptions.TaskTimeoutError,
    codes.NOT_PROVEN: exceptions.AuthenticationError,
    codes.VERSION: exceptions.RaySystemError,
    codes.JOURNAL: exceptions.RaySystemError,
    codes.SHUTDOWN: exceptions.LocalRayletDiedError,
}
PUBLIC = sorted(name for name in exceptions.__all__ if name != "from_fault")


def all_codes():
    return {value for name, value in vars(codes).items() if name.isupper() and isinstance(value, str)}


@pytest.mark.parametrize("code", sorted(all_codes()))
def test_every_code_of_the_daemon_has_its_class_and_keeps_the_message(code):
    error = exceptions.from_fault(codes.fault(code, "exactly this happened"))
    assert type(error) is FAULTS[code]
    assert str(error) == "exactly this happened"


def test_an_unknown_code_of_a_newer_daemon_is_a_system_error_with_its_text():
    error = exceptions.from_fault({"code": "from_the_future", "message": "later"})
    assert type(error) is exceptions.RaySystemError
    assert str(error) == "later"
    assert "'from_the_future'" in str(exceptions.from_fault({"code": "from_the_future"}))


def test_a_crash_knows_signal_pid_task_and_stderr():
    fault = codes.fault(
        codes.WORKER_CRASHED, "died", cause={"kind": "signal", "signal": 11}, pid=7, task="f", stderr=["a", "b"]
    )
    error = exceptions.from_fault(fault)
    assert isinstance(error, exceptions.WorkerCrashedError)
    assert (error.signal_name, error.exit_code, error.pid, error.task) == ("SIGSEGV", None, 7, "f")
    assert error.stderr_lines == ["a", "b"]
    assert error.fault == fault
    assert str(error) == "died\nIts last lines on stderr:\n  | a\n  | b"


def test_stderr_that_the_message_already_tells_is_not_told_twice():
    error = exceptions.from_fault(codes.fault(codes.WORKER_CRASHED, "died, saying: b", stderr=["a", "b"]))
    assert str(error) == "died, saying: b"


def test_an_exit_code_and_an_unnamed_signal_are_known():
    exited = exceptions.from_fault(codes.fault(codes.WORKER_CRASHED, "x", cause={"kind": "exit", "exit_code": 3}))
    assert isinstance(exited, exceptions.WorkerCrashedError)
    assert (exited.exit_code, exited.signal_name) == (3, None)
    odd = exceptions.from_fault(codes.fault(codes.WORKER_CRASHED, "x", cause={"kind": "signal", "signal": 99}))
    assert isinstance(odd, exceptions.WorkerCrashedError)
    assert odd.signal_name == "signal 99"


def test_a_dead_actor_knows_its_id_and_why():
    fault = codes.fault(codes.ACTOR_DIED, "killed", actor_id="ab" * 16, init_failed=False, preempted=True, pid=7)
    error = exceptions.from_fault(fault)
    assert isinstance(error, exceptions.ActorDiedError)
    assert isinstance(error, exceptions.RayActorError)
    assert (error.actor_id, error.error_msg, error.pid) == ("ab" * 16, "killed", 7)
    assert (error.actor_init_failed, error.preempted) == (False, True)


def test_the_error_of_a_constructor_is_cause_and_part_of_the_text():
    cause = exceptions.RayTaskError(
        "A.__init__", "Traceback (most recent call last):\nValueError: bad", ValueError("bad")
    )
    fault = codes.fault(codes.ACTOR_DIED, "its constructor raised", init_failed=True, error=b"opaque")
    error = exceptions.from_fault(fault, cause)
    assert isinstance(error, exceptions.ActorDiedError)
    assert error.__cause__ is cause
    assert error.actor_init_failed
    assert str(error) == "its constructor raised\nray::A.__init__()\nValueError: bad"
    assert "error" not in (error.fault or {})


def test_a_full_store_knows_its_figures():
    fault = codes.fault(codes.STORE_FULL, "full", asked=10, capacity=8, used=7, holders=[["put by f", 7]])
    error = exceptions.from_fault(fault)
    assert isinstance(error, exceptions.ObjectStoreFullError)
    assert (error.asked, error.capacity, error.used, error.holders) == (10, 8, 7, [("put by f", 7)])


def test_an_actor_that_fits_nowhere_has_a_class_of_its_own():
    error = exceptions.from_fault(codes.fault(codes.UNSCHEDULABLE, "no GPU", actor_id="ab" * 16))
    assert type(error) is exceptions.ActorUnschedulableError


def test_cancelled_and_lost_know_their_ids():
    cancelled = exceptions.from_fault(codes.fault(codes.CANCELLED, "x", task_id="cd"))
    assert isinstance(cancelled, exceptions.TaskCancelledError)
    assert cancelled.task_id == "cd"
    lost = exceptions.from_fault(codes.fault(codes.OBJECT_LOST, "x", object_id="ef"))
    assert isinstance(lost, exceptions.ObjectLostError)
    assert lost.object_ref_hex == "ef"


def test_builtin_classes_that_programs_catch_are_bases():
    assert issubclass(exceptions.GetTimeoutError, TimeoutError)
    assert issubclass(exceptions.ActorAlreadyExistsError, ValueError)
    assert issubclass(exceptions.ActorHandleNotFoundError, ValueError)
    assert issubclass(exceptions.ReferenceCountingAssertionError, AssertionError)
    assert issubclass(exceptions.RayChannelTimeoutError, TimeoutError)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_class_is_a_ray_error_of_this_module(name):
    cls = getattr(exceptions, name)
    assert issubclass(cls, exceptions.RayError)
    assert cls.__module__ == "ray.exceptions"
    assert cls.__doc__


@pytest.mark.parametrize("code", sorted(all_codes() - {codes.BAD_REQUEST}))
def test_every_error_of_a_fault_pickles_with_text_and_facts(code):
    error = exceptions.from_fault(codes.fault(code, "exactly this", pid=7))
    twin = pickle.loads(pickle.dumps(error))
    assert type(twin) is type(error)
    assert str(twin) == str(error)
    assert twin.fault == error.fault


def test_errors_made_by_programs_have_telling_texts():
    assert str(exceptions.TaskCancelledError()) == "This task was cancelled."
    assert str(exceptions.TaskCancelledError(task_id="ab")) == "Task ab was cancelled."
    assert "abcd" in str(exceptions.ObjectLostError("abcd", None, "app.py:3"))
    assert "app.py:3" in str(exceptions.ObjectLostError("abcd", None, "app.py:3"))
    assert str(exceptions.RuntimeEnvSetupError("no pip")).endswith("no pip")
    assert exceptions.ActorUnavailableError("later", b"\xab").actor_id == "ab"
    assert exceptions.RpcError("x", rpc_code=4).rpc_code == 4
    assert str(exceptions.RaySystemError("x", "trace")) == "x\ntrace"


def test_actor_died_of_a_constructors_error_takes_over_its_actor():
    cause = exceptions.RayTaskError("A.__init__", "no traceback", ValueError("bad"), actor_id="ab")
    error = exceptions.ActorDiedError(cause)
    assert error.actor_init_failed
    assert error.actor_id == "ab"
    assert "ray::A.__init__()" in str(error)
