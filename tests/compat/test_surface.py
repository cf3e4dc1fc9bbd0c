"""Names: what a program may import and what the classes behind the names look like. No cluster is needed."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import ray
from ray import exceptions

PUBLIC_NAMES = (
    "ActorClassID ActorID ClientBuilder DynamicObjectRefGenerator FunctionID JobID Language LoggingConfig NodeID "
    "ObjectID ObjectRef ObjectRefGenerator PlacementGroupID SCRIPT_MODE TaskID UniqueID WORKER_MODE WorkerID "
    "__version__ available_resources cancel client cluster_resources get get_actor get_gpu_ids get_runtime_context "
    "init is_initialized java_actor_class java_function kill method nodes put remote shutdown timeline wait"
).split()

ID_LENGTHS = {
    "JobID": 4, "ActorID": 16, "TaskID": 24, "ObjectID": 28, "NodeID": 28, "WorkerID": 28, "FunctionID": 28,
    "ActorClassID": 28, "UniqueID": 28, "PlacementGroupID": 18,
}  # fmt: skip

BASES = {
    "RayTaskError": ["RayError"],
    "TaskCancelledError": ["RayError"],
    "WorkerCrashedError": ["RayError"],
    "LocalRayletDiedError": ["RayError"],
    "UserCodeException": ["RayError"],
    "RpcError": ["RayError"],
    "RayActorError": ["RayError"],
    "ActorDiedError": ["RayActorError"],
    "ActorUnavailableError": ["RayActorError"],
    "RaySystemError": ["RayError"],
    "RayChannelError": ["RaySystemError"],
    "RayChannelTimeoutError": ["RayChannelError"],
    "RayCgraphCapacityExceeded": ["RaySystemError"],
    "ObjectStoreFullError": ["RayError"],
    "OutOfDiskError": ["RayError"],
    "OutOfMemoryError": ["RayError"],
    "NodeDiedError": ["RayError"],
    "PlasmaObjectNotAvailable": ["RayError"],
    "ObjectLostError": ["RayError"],
    "ObjectFetchTimedOutError": ["ObjectLostError"],
    "ReferenceCountingAssertionError": ["ObjectLostError", "AssertionError"],
    "ObjectFreedError": ["ObjectLostError"],
    "OwnerDiedError": ["ObjectLostError"],
    "ObjectReconstructionFailedError": ["ObjectLostError"],
    "GetTimeoutError": ["RayError", "TimeoutError"],
    "RuntimeEnvSetupError": ["RayError"],
    "TaskPlacementGroupRemoved": ["RayError"],
    "ActorPlacementGroupRemoved": ["RayError"],
    "PendingCallsLimitExceeded": ["RayError"],
    "TaskUnschedulableError": ["RayError"],
    "ActorUnschedulableError": ["RayError"],
    "AsyncioActorExit": ["RayError"],
    "AuthenticationError": ["RayError"],
    "CrossLanguageError": ["RayError"],
    "UnserializableException": ["RayError"],
    "ObjectRefStreamEndOfStreamError": ["RayError"],
    "OufOfBandObjectRefSerializationException": ["RayError"],
    "ActorAlreadyExistsError": ["ValueError", "RayError"],
    "ActorHandleNotFoundError": ["ValueError", "RayError"],
}


@pytest.mark.parametrize("name", PUBLIC_NAMES)
def test_every_public_name_is_exported_and_reachable(name: str) -> None:
    assert name in ray.__all__
    assert hasattr(ray, name)


@pytest.mark.parametrize("name", ["actor", "exceptions", "cloudpickle", "remote_function", "runtime_context", "util"])
def test_submodules_are_reachable_after_a_plain_import_of_ray(name: str) -> None:
    assert inspect.ismodule(getattr(ray, name))


@pytest.mark.parametrize(("name", "length"), ID_LENGTHS.items())
def test_ids_have_the_lengths_that_programs_store(name: str, length: int) -> None:
    assert getattr(ray, name).size() == length


def test_object_id_of_2019_is_another_name_for_object_ref() -> None:
    assert ray.ObjectID is ray.ObjectRef


def test_an_object_ref_can_be_rebuilt_from_its_bytes() -> None:
    ref = ray.ObjectRef.from_random()
    same = ray.ObjectRef(ref.binary())
    assert same == ref
    assert hash(same) == hash(ref)
    assert len(ref.binary()) == 28
    assert ref.hex() == ref.binary().hex()


@pytest.mark.beyond_ray("ObjectRef.from_hex is listed as part of the API, upstream leaves it unimplemented")
def test_an_object_ref_can_be_rebuilt_from_its_hexadecimal_form() -> None:
    ref = ray.ObjectRef.from_random()
    assert ray.ObjectRef.from_hex(ref.hex()) == ref


def test_a_nil_object_ref_says_so() -> None:
    assert ray.ObjectRef.nil().is_nil()
    assert not ray.ObjectRef.from_random().is_nil()


@pytest.mark.parametrize(("name", "bases"), BASES.items())
def test_exception_classes_derive_from_what_programs_catch(name: str, bases: list[str]) -> None:
    builtin = {"ValueError": ValueError, "TimeoutError": TimeoutError, "AssertionError": AssertionError}
    for base in bases:
        assert issubclass(getattr(exceptions, name), builtin.get(base) or getattr(exceptions, base))
    assert issubclass(getattr(exceptions, name), exceptions.RayError)


def test_ray_error_is_a_plain_exception() -> None:
    assert issubclass(exceptions.RayError, Exception)


def test_the_version_is_a_dotted_text() -> None:
    assert isinstance(ray.__version__, str)
    assert ray.__version__.split(".")[0].isdigit()
    assert isinstance(ray.__commit__, str)


def test_init_takes_everything_but_the_address_by_keyword() -> None:
    address, *others = inspect.signature(ray.init).parameters.values()
    assert address.name == "address"
    assert {parameter.kind for parameter in others} <= {inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD}
    named = "num_cpus num_gpus resources labels object_store_memory ignore_reinit_error log_to_driver namespace"
    assert set(named.split()) <= {parameter.name for parameter in others}


@pytest.mark.parametrize(
    ("function", "names"),
    [
        ("get", ["timeout"]),
        ("put", []),
        ("wait", ["num_returns", "timeout", "fetch_local"]),
        ("cancel", ["force", "recursive"]),
        ("kill", ["no_restart"]),
        ("get_actor", ["namespace"]),
        ("timeline", ["filename"]),
        ("shutdown", []),
    ],
)
def test_core_functions_know_the_parameters_of_the_reference(function: str, names: list[str]) -> None:
    parameters = inspect.signature(getattr(ray, function)).parameters
    assert set(names) <= set(parameters)


def test_importing_ray_starts_nothing_and_prints_nothing() -> None:
    program = (
        "import threading, ray\n"
        "assert not ray.is_initialized()\n"
        "assert threading.active_count() == 1, threading.enumerate()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
