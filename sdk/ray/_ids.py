"""Identifiers as users see them: immutable wrappers of bytes. Lengths are those of ``rayd.ids``; all ones means nil."""

import builtins
import os
from typing import Any, ClassVar, Final, Self

from rayd import ids as lengths

_NIL_BYTE: Final = b"\xff"


class BaseID:
    """An identifier of a fixed length.

    Args:
        binary: the bytes; exactly as many as the class has.

    Raises:
        TypeError: not bytes.
        ValueError: another length.
    """

    __slots__ = ("__weakref__", "_binary")

    _LENGTH: ClassVar[int]

    def __init__(self, binary: bytes) -> None:
        if not isinstance(binary, bytes):
            raise TypeError(
                f"{type(self).__name__} takes bytes, got {type(binary).__name__}; from_hex takes the hexadecimal text"
            )
        if len(binary) != self._LENGTH:
            raise ValueError(f"{type(self).__name__} takes exactly {self._LENGTH} bytes, got {len(binary)}")
        self._binary = binary

    @classmethod
    def from_binary(cls, binary: bytes) -> Self:
        """The id made of these bytes; errors as in the constructor."""
        return cls(binary)

    @classmethod
    def from_hex(cls, text: str) -> Self:
        """The id written as hexadecimal text.

        Raises:
            TypeError: not a string.
            ValueError: no hexadecimal text, or of another length.
        """
        if not isinstance(text, str):
            raise TypeError(f"{cls.__name__}.from_hex takes a string, got {type(text).__name__}")
        try:
            binary = bytes.fromhex(text)
        except ValueError:
            raise ValueError(
                f"{cls.__name__}.from_hex takes {2 * cls._LENGTH} hexadecimal digits, got {text!r}"
            ) from None
        return cls(binary)

    @classmethod
    def from_random(cls) -> Self:
        """An id that nobody else has."""
        return cls(os.urandom(cls._LENGTH))

    @classmethod
    def nil(cls) -> Self:
        """The id that stands for none."""
        return cls(_NIL_BYTE * cls._LENGTH)

    @classmethod
    def size(cls) -> int:
        """Length in bytes."""
        return cls._LENGTH

    def binary(self) -> bytes:
        """The bytes."""
        return self._binary

    def hex(self) -> str:
        """The bytes as hexadecimal text."""
        return self._binary.hex()

    def is_nil(self) -> bool:
        """Whether this id stands for none."""
        return self._binary == _NIL_BYTE * self._LENGTH

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._binary == other._binary

    def __hash__(self) -> int:
        return hash(self._binary)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._binary.hex()})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._binary,)


class JobID(BaseID):
    """A driver's connection to the cluster; counted from 1."""

    __slots__ = ()
    _LENGTH = lengths.JOB_ID_BYTES

    @classmethod
    def from_int(cls, number: builtins.int) -> Self:
        """The id of job ``number``.

        Raises:
            ValueError: negative, or too large for the length.
        """
        try:
            return cls(number.to_bytes(cls._LENGTH, "little"))
        except OverflowError:
            raise ValueError(f"a job number lies between 0 and {256**cls._LENGTH - 1}, got {number}") from None

    def int(self) -> builtins.int:
        """The number of the job."""
        return builtins.int.from_bytes(self._binary, "little")


class ActorID(BaseID):
    """An actor; ends with the id of its job."""

    __slots__ = ()
    _LENGTH = lengths.ACTOR_ID_BYTES

    def job_id(self) -> JobID:
        """The job that made the actor."""
        return JobID(self._binary[-lengths.JOB_ID_BYTES :])


class TaskID(BaseID):
    """One call of a function or method; ends with the id of its actor, nil but for the job when there is none."""

    __slots__ = ()
    _LENGTH = lengths.TASK_ID_BYTES

    def actor_id(self) -> ActorID:
        """The actor whose method was called."""
        return ActorID(self._binary[-lengths.ACTOR_ID_BYTES :])

    def job_id(self) -> JobID:
        """The job that made the call."""
        return JobID(self._binary[-lengths.JOB_ID_BYTES :])


class PlacementGroupID(BaseID):
    """A placement group."""

    __slots__ = ()
    _LENGTH = lengths.PLACEMENT_GROUP_ID_BYTES


class UniqueID(BaseID):
    """Base of the ids that carry nothing but chance."""

    __slots__ = ()
    _LENGTH = lengths.UNIQUE_ID_BYTES


class NodeID(UniqueID):
    """A machine of the cluster."""

    __slots__ = ()


class WorkerID(UniqueID):
    """A process that runs tasks, or a driver."""

    __slots__ = ()


class FunctionID(UniqueID):
    """An exported function, by its contents."""

    __slots__ = ()


class ActorClassID(UniqueID):
    """An exported class, by its contents."""

    __slots__ = ()
