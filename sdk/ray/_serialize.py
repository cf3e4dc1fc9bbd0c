"""Values to bytes and back.

Formats, told apart by the first byte:
  0x80  a plain pickle, for values without large buffers
  0x01  a pickle with out-of-band buffers (pickle protocol 5): header, pickle, then each buffer at a multiple of 64
        bytes, so that arrays read from shared memory are aligned views of it
  0x02  the bytes of a ``bytes`` object itself

Functions and classes that cannot be imported elsewhere (``__main__``, closures, lambdas) travel by value through
cloudpickle. References met on the way are collected, so that the daemon holds the inner objects while the outer one
exists.
"""

import io
import pickle
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import cloudpickle

from ray._refs import ObjectRef, pickling
from ray.util.check_serialize import explain_unpicklable
from ray.util.serialization import _CUSTOM

_ALIGNMENT: Final = 64
_WITH_BUFFERS: Final = 0x01
_RAW_BYTES: Final = 0x02
_PROTOCOL: Final = 5
# Below this a bytes object is cheaper inside the pickle.
_RAW_BYTES_MIN: Final = 32 * 1024
_SIMPLE: Final = frozenset({int, float, bool, type(None), complex})

dumps_simple = pickle.dumps
_loads = pickle.loads


@dataclass(slots=True)
class Serialized:
    """A value as pieces to be written one after the other.

    Attributes:
        parts: the pieces.
        starts: offset of each piece.
        size: total length in bytes.
        contained: references inside.
    """

    parts: list[Any]
    starts: list[int]
    size: int
    contained: list[ObjectRef[Any]]

    def to_bytes(self) -> bytes:
        """All pieces as one."""
        if len(self.parts) == 1 and type(self.parts[0]) is bytes:
            return self.parts[0]
        joined = bytearray(self.size)
        for start, part in zip(self.starts, self.parts, strict=True):
            joined[start : start + len(part)] = part
        return bytes(joined)


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """cloudpickle, with the serializers that the user has registered."""

    def reducer_override(self, obj: Any) -> Any:
        custom = _CUSTOM.get(type(obj)) if _CUSTOM else None
        if custom is not None:
            serializer, deserializer = custom
            return deserializer, (serializer(obj),)
        return super().reducer_override(obj)


def serialize(value: Any, what: str = "this value") -> Serialized:
    """Turn a value into bytes.

    Args:
        value: anything that pickles.
        what: how an error calls it.

    Raises:
        TypeError: it cannot be pickled; the message names the culprit inside it.
    """
    kind = type(value)
    if kind in _SIMPLE or (kind is str and len(value) < _RAW_BYTES_MIN):
        data = pickle.dumps(value, _PROTOCOL)
        return Serialized([data], [0], len(data), [])
    if kind is bytes:
        if len(value) < _RAW_BYTES_MIN:
            data = pickle.dumps(value, _PROTOCOL)
            return Serialized([data], [0], len(data), [])
        return Serialized([b"\x02", value], [0, 1], len(value) + 1, [])
    buffers: list[pickle.PickleBuffer] = []
    found: list[ObjectRef[Any]] = []
    outer, pickling.found = pickling.found, found
    try:
        with io.BytesIO() as file:
            _Pickler(file, protocol=_PROTOCOL, buffer_callback=buffers.append).dump(value)
            body = file.getvalue()
    except Exception as error:
        _explain(error, value, what)
    finally:
        pickling.found = outer
    if not buffers:
        return Serialized([body], [0], len(body), found)
    return _with_buffers(body, [buffer.raw() for buffer in buffers], found)


def _with_buffers(body: bytes, buffers: list[memoryview], found: list[ObjectRef[Any]]) -> Serialized:
    count = len(buffers)
    header = struct.pack(f"<BxxxI{count + 1}Q", _WITH_BUFFERS, count, len(body), *(buffer.nbytes for buffer in buffers))
    parts: list[Any] = [header + body]
    starts = [0]
    end = len(parts[0])
    for buffer in buffers:
        start = -(-end // _ALIGNMENT) * _ALIGNMENT
        parts.append(buffer)
        starts.append(start)
        end = start + buffer.nbytes
    return Serialized(parts, starts, end, found)


def dumps(value: Any) -> bytes:
    """A plain pickle of a value or exception, references allowed; for errors and functions."""
    outer = pickling.found
    pickling.found = [] if outer is None else outer
    try:
        with io.BytesIO() as file:
            _Pickler(file, protocol=_PROTOCOL).dump(value)
            return file.getvalue()
    finally:
        pickling.found = outer


def export(value: Any, what: str) -> tuple[bytes, list[ObjectRef[Any]]]:
    """A function or class as bytes, with the references it captures.

    Raises:
        TypeError: it cannot be pickled; the message names the culprit.
    """
    found: list[ObjectRef[Any]] = []
    outer, pickling.found = pickling.found, found
    try:
        with io.BytesIO() as file:
            _Pickler(file, protocol=_PROTOCOL).dump(value)
            return file.getvalue(), found
    except Exception as error:
        _explain(error, value, what)
    finally:
        pickling.found = outer


def _explain(error: Exception, value: Any, what: str) -> NoReturn:
    culprit = explain_unpicklable(value, what)
    raise TypeError(f"Cannot serialize {what}: {culprit}. ({type(error).__name__}: {error})") from error


def has_views(data: bytes | memoryview) -> bool:
    """Whether the loaded value will point into ``data``."""
    return data[0] == _WITH_BUFFERS


def deserialize(data: bytes | memoryview, guard: Callable[[], memoryview] | None = None) -> Any:
    """The value of serialized bytes.

    Args:
        data: as ``serialize`` made it.
        guard: gives the memory to make views of instead of ``data``, when something must learn of their end.
    """
    first = data[0]
    if first == 0x80:
        return _loads(data)
    if first == _RAW_BYTES:
        return bytes(data[1:])
    memory = memoryview(data) if guard is None else guard()
    (count,) = struct.unpack_from("<I", memory, 4)
    lengths: Sequence[int] = struct.unpack_from(f"<{count + 1}Q", memory, 8)
    body_start = 8 * (count + 2)
    end = body_start + lengths[0]
    body = memory[body_start:end]
    buffers = []
    for length in lengths[1:]:
        start = -(-end // _ALIGNMENT) * _ALIGNMENT
        end = start + length
        buffers.append(memory[start:end])
    return _loads(body, buffers=buffers)
