"""Object references.

There is one ``ObjectRef`` per object id in a process (the client interns them), so identity is equality, hashing costs
nothing, and Python's own reference count is the reference count: when the last one dies, the daemon is told.

An ``ObjectRef`` is also what its value is: the state and the received bytes live in its slots, filled by whoever reads
the connection.
"""

import os
import threading
import weakref
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Final, Generic, NoReturn, TypeVar

from ray import _session
from ray._ids import ActorID, JobID, TaskID
from rayd.ids import OBJECT_ID_BYTES, TASK_ID_BYTES

if TYPE_CHECKING:
    import asyncio
    import concurrent.futures

    from ray._client import Client

T_co = TypeVar("T_co", covariant=True)

# States before a payload kind is known.
COMPLETE: Final = -3  # on another machine, says the daemon
UNASKED: Final = -2
ASKED: Final = -1

_NIL: Final = b"\xff" * OBJECT_ID_BYTES


class _Pickling(threading.local):
    """References met while this thread serializes a value; None while it does not."""

    found: "list[ObjectRef[Any]] | None" = None


pickling = _Pickling()


class _Interning(type):
    """Makes ``ObjectRef(id)`` the one reference of that id, as everywhere else."""

    def __call__(cls, id: bytes) -> Any:
        if type(id) is not bytes or len(id) != OBJECT_ID_BYTES:
            raise ValueError(f"an object id has {OBJECT_ID_BYTES} bytes, got {id!r:.80}")
        session = _session.find()
        if session is not None:
            return session.client.receive(id)
        known = _loose.get(id)
        if known is None:
            known = _loose[id] = super().__call__(id)
        return known


class ObjectRef(Generic[T_co], metaclass=_Interning):
    """A reference to an object that exists or will exist: the result of a task or of ``ray.put``.

    It can be awaited (``await ref``), passed to tasks, put into other objects, and given to ``ray.get`` and
    ``ray.wait``. It is also enough of a future for ``asyncio.wait``.
    """

    __slots__ = ("__weakref__", "_client", "_data", "_id", "_kind", "_waiters")

    def __init__(self, id: bytes) -> None:
        self._id = id
        self._kind = UNASKED
        self._data: Any = None
        self._waiters: list[Callable[[ObjectRef[Any]], None]] | None = None
        self._client: Client | None = None

    # ---- identity ----------------------------------------------------------------------------------------------------

    def binary(self) -> bytes:
        """The id's 28 bytes."""
        return self._id

    def hex(self) -> str:
        """The id as 56 hexadecimal digits."""
        return self._id.hex()

    def is_nil(self) -> bool:
        """Whether this is the reference to nothing."""
        return self._id == _NIL

    def task_id(self) -> TaskID:
        """The task that makes the object."""
        return TaskID(self._id[:TASK_ID_BYTES])

    def job_id(self) -> JobID:
        """The job it was made in."""
        return JobID(self._id[TASK_ID_BYTES - 4 : TASK_ID_BYTES])

    def actor_id(self) -> ActorID:
        """The part of the id that names the process or actor it was made in."""
        return ActorID(self._id[TASK_ID_BYTES - 16 : TASK_ID_BYTES])

    @classmethod
    def nil(cls) -> "ObjectRef[Any]":
        """The reference to nothing."""
        return cls(_NIL)

    @classmethod
    def size(cls) -> int:
        """Length of an id in bytes."""
        return OBJECT_ID_BYTES

    @classmethod
    def from_random(cls) -> "ObjectRef[Any]":
        """A reference with a random id; it belongs to no object."""
        return cls(os.urandom(OBJECT_ID_BYTES))

    @classmethod
    def from_binary(cls, binary: bytes) -> "ObjectRef[Any]":
        """The reference with this id; in a session the same object for the same id.

        Raises:
            ValueError: not 28 bytes.
        """
        return cls(binary)

    @classmethod
    def from_hex(cls, text: str) -> "ObjectRef[Any]":
        """As ``from_binary``, from hexadecimal digits."""
        return cls.from_binary(bytes.fromhex(text))

    def __repr__(self) -> str:
        return f"ObjectRef({self._id.hex()})"

    def __reduce__(self) -> tuple[Any, ...]:
        found = pickling.found
        if found is None:
            _keep_foreign_copy(self)
        else:
            found.append(self)
        return _restore, (self._id,)

    def __copy__(self) -> "ObjectRef[T_co]":
        return self

    def __deepcopy__(self, memo: object) -> "ObjectRef[T_co]":
        return self

    def __iter__(self) -> NoReturn:
        raise TypeError(
            "an ObjectRef is not iterable; fetch its value with ray.get(ref), or use num_returns for several results"
        )

    def call_site(self) -> str:
        """Where it was made; not recorded."""
        return ""

    def owner_address(self) -> str:
        """Address of the daemon that keeps the object."""
        return self._client.address if self._client is not None else ""

    # ---- as a future -------------------------------------------------------------------------------------------------

    def __await__(self) -> Generator[Any, None, T_co]:
        return self.as_future().__await__()

    def as_future(self) -> "asyncio.Future[T_co]":
        """An asyncio future of the running loop with the object's value. Cancelling it cancels the task.

        Raises:
            RuntimeError: no event loop is running in this thread, or the session has ended.
        """
        return self._need_client().awaiting.asyncio_future(self)

    def future(self) -> "concurrent.futures.Future[T_co]":
        """A ``concurrent.futures.Future`` with the object's value."""
        return self._need_client().awaiting.thread_future(self)

    def done(self) -> bool:
        """Whether the value, or its error, has arrived in this process."""
        return self._kind >= 0

    def cancelled(self) -> bool:
        """Always False: a cancelled task shows as the exception TaskCancelledError."""
        return False

    def exception(self) -> BaseException | None:
        """The error the task ended with, None if it ended well.

        Raises:
            asyncio.InvalidStateError: not done yet.
        """
        if self._kind < 0:
            raise _not_done(self)
        return self._need_client().error_of(self)

    def result(self) -> T_co:
        """The value of a reference that is done.

        Raises:
            asyncio.InvalidStateError: not done yet; use ``ray.get`` to wait.
        """
        if self._kind < 0:
            raise _not_done(self)
        value: T_co = self._need_client().value_of(self)
        return value

    def add_done_callback(self, callback: Callable[["ObjectRef[Any]"], Any], *, context: Any = None) -> None:
        """Call ``callback(ref)`` once it is done: in the running event loop, else in the thread that learns of it."""
        self._need_client().awaiting.add_done_callback(self, callback, context)

    def remove_done_callback(self, callback: Callable[["ObjectRef[Any]"], Any]) -> int:
        """Take callbacks back; returns how many there were."""
        client = self._client
        return 0 if client is None else client.awaiting.remove_done_callback(self, callback)

    def _on_completed(self, callback: Callable[[Any], Any]) -> None:
        """Call ``callback(value)`` once it is done."""
        self.add_done_callback(lambda ref: callback(ref.result()))

    def _need_client(self) -> "Client":
        if self._client is None:
            raise RuntimeError(
                f"{self!r} belongs to no session: it was made by hand, or outside ray.init() and ray.shutdown()"
            )
        return self._client


# References made by hand while there is no session.
_loose: "weakref.WeakValueDictionary[bytes, ObjectRef[Any]]" = weakref.WeakValueDictionary()

# The name of 2019.
ObjectID = ObjectRef


def _not_done(ref: ObjectRef[Any]) -> Exception:
    import asyncio  # late: most programs never need it, and it is a fifth of the start of a worker

    return asyncio.InvalidStateError(f"{ref!r} is not done yet; wait with ray.get or await")


def _keep_foreign_copy(ref: ObjectRef[Any]) -> None:
    """Somebody pickles a reference without ray: that copy is not counted, so the object is kept for the session."""
    if os.environ.get("RAY_allow_out_of_band_object_ref_serialization", "1") == "0":
        from ray.exceptions import OufOfBandObjectRefSerializationException

        raise OufOfBandObjectRefSerializationException(
            f"{ref!r} was pickled by other means than ray (pickle or cloudpickle called directly), which"
            " RAY_allow_out_of_band_object_ref_serialization=0 forbids. Pass the reference as an argument, return"
            " it, or ray.put a value that"
            " contains it."
        )
    if ref._client is not None:
        ref._client.kept.append(ref)


def _restore(binary: bytes) -> ObjectRef[Any]:
    """Called by unpickling: the reference of this process with that id."""
    session = _session.current or _session.need()
    return session.client.receive(binary)
