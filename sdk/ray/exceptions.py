"""The exceptions a program can meet, under the names Ray gave them.

Every text names one cause, and the remedy where there is one. An error that a daemon reported carries the daemon's map
as ``fault`` and knows the exit code, the signal and the last lines of stderr where a process died.
"""

import signal as signals
from typing import Any, Final

from ray._task_error import RayError, RayTaskError
from rayd import errors as codes
from rayd.errors import Fault

__all__ = [
    "ActorAlreadyExistsError",
    "ActorDiedError",
    "ActorHandleNotFoundError",
    "ActorPlacementGroupRemoved",
    "ActorUnavailableError",
    "ActorUnschedulableError",
    "AsyncioActorExit",
    "AuthenticationError",
    "CrossLanguageError",
    "GetTimeoutError",
    "LocalRayletDiedError",
    "NodeDiedError",
    "ObjectFetchTimedOutError",
    "ObjectFreedError",
    "ObjectLostError",
    "ObjectReconstructionFailedError",
    "ObjectRefStreamEndOfStreamError",
    "ObjectStoreFullError",
    "OufOfBandObjectRefSerializationException",
    "OutOfDiskError",
    "OutOfMemoryError",
    "OwnerDiedError",
    "PendingCallsLimitExceeded",
    "PlasmaObjectNotAvailable",
    "RayActorError",
    "RayCgraphCapacityExceeded",
    "RayChannelError",
    "RayChannelTimeoutError",
    "RayDirectTransportError",
    "RayError",
    "RaySystemError",
    "RayTaskError",
    "ReferenceCountingAssertionError",
    "RpcError",
    "RuntimeEnvSetupError",
    "StreamingGeneratorReplayInconsistentError",
    "TaskCancelledError",
    "TaskPlacementGroupRemoved",
    "TaskTimeoutError",
    "TaskUnschedulableError",
    "UnserializableException",
    "UserCodeException",
    "WorkerCrashedError",
    "from_fault",
]


class _DeathError(RayError):
    """What is known about the end of a process; ``None`` where it is not known."""

    @property
    def exit_code(self) -> int | None:
        """Exit code, when the process ended by itself."""
        return self._cause_map().get("exit_code")

    @property
    def signal_name(self) -> str | None:
        """Name of the signal that ended it, such as ``"SIGSEGV"``."""
        number = self._cause_map().get("signal")
        if not isinstance(number, int):
            return number
        try:
            return signals.Signals(number).name
        except ValueError:
            return f"signal {number}"

    @property
    def pid(self) -> int | None:
        """Process id it had on its machine."""
        return (self.fault or {}).get("pid")

    @property
    def task(self) -> str | None:
        """Name of the task that it ran."""
        return (self.fault or {}).get("task")

    @property
    def stderr_lines(self) -> list[str]:
        """The last lines it wrote to stderr."""
        return list((self.fault or {}).get("stderr") or ())

    def _cause_map(self) -> dict[str, Any]:
        return (self.fault or {}).get("cause") or {}


class TaskCancelledError(RayError):
    """The task was cancelled before it had a result."""

    def __init__(self, task_id: Any = None, error_message: str | None = None) -> None:
        hex_id = task_id.hex() if hasattr(task_id, "hex") else task_id
        super().__init__(error_message or (f"Task {hex_id} was cancelled." if hex_id else "This task was cancelled."))
        self.task_id = task_id
        self.error_message = error_message


class WorkerCrashedError(_DeathError):
    """The process that ran the task ended before the task did."""


class OutOfMemoryError(_DeathError):
    """The process that ran the task was ended because memory ran out; ``figures`` are in bytes."""

    @property
    def figures(self) -> dict[str, int]:
        """What was used and what was allowed, in bytes, by name."""
        return (self.fault or {}).get("figures") or {}


class RayActorError(_DeathError):
    """A call of an actor could not be carried out because of the actor's state.

    Args:
        actor_id: hexadecimal id.
        error_msg: the text.
        actor_init_failed: the constructor raised.
        preempted: its machine was taken away.
    """

    def __init__(
        self,
        actor_id: str | None = None,
        error_msg: str = "The actor failed before it finished this call.",
        actor_init_failed: bool = False,
        preempted: bool = False,
    ) -> None:
        super().__init__(error_msg)
        self.actor_id = actor_id
        self.error_msg = error_msg
        self.actor_init_failed = actor_init_failed
        self.preempted = preempted


class ActorDiedError(RayActorError):
    """The actor is dead and will not come back.

    Args:
        cause: the error of its constructor, if that is why.
        actor_id: hexadecimal id.
        error_msg: the text; by default it says no more than that the actor died.
        preempted: its machine was taken away.
    """

    def __init__(
        self,
        cause: RayTaskError | None = None,
        *,
        actor_id: str | None = None,
        error_msg: str | None = None,
        preempted: bool = False,
    ) -> None:
        text = error_msg or (
            "The constructor of the actor raised an error." if cause else "The actor died before it finished this call."
        )
        if cause is not None:
            text = f"{text}\n{cause}"
            actor_id = actor_id or cause.as_plain().actor_id
        super().__init__(actor_id, text, actor_init_failed=cause is not None, preempted=preempted)


class ActorUnavailableError(RayActorError):
    """The actor cannot be reached now; a later call may succeed."""

    def __init__(
        self, error_message: str = "The actor cannot be reached now.", actor_id: bytes | str | None = None
    ) -> None:
        super().__init__(actor_id.hex() if isinstance(actor_id, bytes) else actor_id, error_message)


class RaySystemError(RayError):
    """A part of the system failed."""

    def __init__(self, client_exc: Any = "", traceback_str: str | None = None) -> None:
        super().__init__(f"{client_exc}\n{traceback_str}" if traceback_str else str(client_exc))
        self.client_exc = client_exc
        self.traceback_str = traceback_str


class RayChannelError(RaySystemError):
    """A channel between actors failed."""


class RayChannelTimeoutError(RayChannelError, TimeoutError):
    """A channel between actors did not deliver in time."""


class RayCgraphCapacityExceeded(RaySystemError):  # noqa: N818 - the name is given
    """More executions were submitted than a compiled graph may buffer."""


class RayDirectTransportError(RaySystemError):
    """A transfer between devices failed."""


class StreamingGeneratorReplayInconsistentError(RaySystemError):
    """A streaming task that ran again yielded another number of items than the first time."""


class ObjectStoreFullError(RayError):
    """The object store has no room; ``asked``, ``capacity`` and ``used`` are in bytes."""

    @property
    def asked(self) -> int | None:
        """Bytes that were wanted."""
        return (self.fault or {}).get("asked")

    @property
    def capacity(self) -> int | None:
        """Bytes the store can hold."""
        return (self.fault or {}).get("capacity")

    @property
    def used(self) -> int | None:
        """Bytes in use."""
        return (self.fault or {}).get("used")

    @property
    def holders(self) -> list[tuple[str, int]]:
        """The largest holders: description and bytes."""
        return [(text, size) for text, size in (self.fault or {}).get("holders") or ()]


class OutOfDiskError(RayError):
    """The disk that takes spilled objects is full."""


class NodeDiedError(RayError):
    """The machine that ran the task is gone."""


class LocalRayletDiedError(RayError):
    """The daemon of this machine has ended."""


class PlasmaObjectNotAvailable(RayError):  # noqa: N818 - the name is given
    """The object is not in the local store."""


class ObjectLostError(RayError):
    """No copy of the object is left.

    Args:
        object_ref_hex: hexadecimal id of the object.
        owner_address: kept as given.
        call_site: where the reference was made, if recorded.
        message: the text; by default it names the object.
    """

    _story = "no copy of it is left"

    def __init__(
        self, object_ref_hex: str = "", owner_address: Any = None, call_site: str = "", *, message: str | None = None
    ) -> None:
        made = f" (made at {call_site})" if call_site else ""
        super().__init__(message or f"Object {object_ref_hex}{made} cannot be read: {self._story}.")
        self.object_ref_hex = object_ref_hex
        self.owner_address = owner_address
        self.call_site = call_site


class ObjectFetchTimedOutError(ObjectLostError):
    """No copy could be fetched in time."""

    _story = "no machine that has a copy sent it in time"


class ReferenceCountingAssertionError(ObjectLostError, AssertionError):
    """The object was deleted while a reference to it existed."""

    _story = "it was deleted although a reference to it existed"


class ObjectFreedError(ObjectLostError):
    """The object was freed by hand."""

    _story = "it was freed by an explicit call"


class OwnerDiedError(ObjectLostError):
    """What kept the object's record is gone."""

    _story = "the machine that kept its record is gone"


class ObjectReconstructionFailedError(ObjectLostError):
    """The object was lost, and the task that made it could not run again."""

    _story = "all copies are lost and the task that made it cannot run again"


class GetTimeoutError(RayError, TimeoutError):
    """``ray.get`` gave up waiting."""


class TaskTimeoutError(RayError, TimeoutError):
    """A task ran longer than its ``timeout_s`` and was ended."""


class RuntimeEnvSetupError(RayError):
    """The runtime environment of a task or actor could not be made."""

    def __init__(self, error_message: str | None = None) -> None:
        super().__init__(error_message or "The runtime environment could not be set up.")
        self.error_message = error_message


class TaskPlacementGroupRemoved(RayError):  # noqa: N818 - the name is given
    """The placement group of the task was removed."""


class ActorPlacementGroupRemoved(RayError):  # noqa: N818 - the name is given
    """The placement group of the actor was removed."""


class PendingCallsLimitExceeded(RayError):  # noqa: N818 - the name is given
    """The actor's ``max_pending_calls`` is reached."""


class TaskUnschedulableError(RayError):
    """No node can ever run the task."""


class ActorUnschedulableError(RayError):
    """No node can ever hold the actor."""


class AsyncioActorExit(RayError):  # noqa: N818 - the name is given
    """Raised by ``ray.actor.exit_actor`` in an async actor to leave its method."""


class AuthenticationError(RayError):
    """The cluster refused the credentials."""


class CrossLanguageError(RayError):
    """A function in another language failed."""


class UnserializableException(RayError):  # noqa: N818 - the name is given
    """An error was received that cannot be rebuilt here; the text is its remote traceback."""


class UserCodeException(RayError):  # noqa: N818 - the name is given
    """A function given to a library raised; the original is the ``__cause__``."""


class RpcError(RayError):
    """A request to the daemon failed.

    Args:
        message: the text.
        rpc_code: kept as given.
    """

    def __init__(self, message: str = "", rpc_code: int | None = None) -> None:
        super().__init__(message)
        self.rpc_code = rpc_code


class ObjectRefStreamEndOfStreamError(RayError):
    """The stream of a generator task has no more items."""


class OufOfBandObjectRefSerializationException(RayError):  # noqa: N818 - the name is given
    """A reference was pickled outside the system's own serializer, where nothing keeps its object alive."""


class ActorAlreadyExistsError(ValueError, RayError):
    """The name is taken by another actor."""


class ActorHandleNotFoundError(ValueError, RayError):
    """No live actor has this name."""


_CLASSES: Final[dict[str, type[Exception]]] = {
    codes.WORKER_CRASHED: WorkerCrashedError,
    codes.WORKER_START: RuntimeEnvSetupError,
    codes.OUT_OF_MEMORY: OutOfMemoryError,
    codes.ACTOR_DIED: ActorDiedError,
    codes.ACTOR_UNAVAILABLE: ActorUnavailableError,
    codes.CANCELLED: TaskCancelledError,
    codes.OBJECT_LOST: ObjectLostError,
    codes.STORE_FULL: ObjectStoreFullError,
    codes.UNSCHEDULABLE: TaskUnschedulableError,
    codes.GROUP_REMOVED: TaskPlacementGroupRemoved,
    codes.PENDING_CALLS: PendingCallsLimitExceeded,
    codes.NAME_TAKEN: ActorAlreadyExistsError,
    codes.NOT_FOUND: ActorHandleNotFoundError,
    codes.BAD_REQUEST: ValueError,
    codes.FORBIDDEN: AuthenticationError,
    codes.NODE_DIED: NodeDiedError,
    codes.TIMED_OUT: TaskTimeoutError,
    codes.NOT_PROVEN: AuthenticationError,
    codes.VERSION: RaySystemError,
    codes.JOURNAL: RaySystemError,
    codes.SHUTDOWN: LocalRayletDiedError,
}
_OF_ACTORS: Final[dict[type[Exception], type[Exception]]] = {
    TaskUnschedulableError: ActorUnschedulableError,
    TaskPlacementGroupRemoved: ActorPlacementGroupRemoved,
}


def from_fault(fault: Fault, cause: BaseException | None = None) -> Exception:
    """The exception for what a daemon reported.

    Args:
        fault: map with ``code`` and ``message``; the other items become attributes of the exception.
        cause: the unpickled error of an actor's constructor; becomes ``__cause__`` and part of the text.

    Returns:
        An instance of the class of the code, ``RaySystemError`` for a code that this version does not know.
    """
    code = fault.get("code")
    cls = _CLASSES.get(code, RaySystemError) if isinstance(code, str) else RaySystemError
    if "actor_id" in fault:
        cls = _OF_ACTORS.get(cls, cls)
    text = _fault_text(fault, cause)
    error: Exception
    if cls is ActorDiedError or cls is ActorUnavailableError:
        error = cls.__new__(cls)
        facts = {"actor_init_failed": bool(fault.get("init_failed")), "preempted": bool(fault.get("preempted"))}
        RayActorError.__init__(error, fault.get("actor_id"), text, **facts)
    elif cls is TaskCancelledError:
        error = TaskCancelledError(fault.get("task_id"), text)
    elif cls is ObjectLostError:
        error = ObjectLostError(fault.get("object_id", ""), message=text)
    else:
        error = cls(text)
    if isinstance(error, RayError):
        error.fault = {key: value for key, value in fault.items() if key != "error"}
    error.__cause__ = cause
    return error


def _fault_text(fault: Fault, cause: BaseException | None) -> str:
    text = str(fault.get("message", "")) or f"The daemon reported {fault.get('code')!r} without a message."
    stderr = [str(line) for line in fault.get("stderr") or ()]
    if stderr and stderr[-1] not in text:
        text += "\nIts last lines on stderr:\n" + "\n".join(f"  | {line}" for line in stderr)
    return f"{text}\n{cause}" if cause is not None else text
