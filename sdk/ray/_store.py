"""How a process gets at the bytes of large objects: through shared memory, or in parts over its connection."""

import collections
import hashlib
import weakref
from typing import TYPE_CHECKING, Any, Final, Protocol

from ray._collector import at_an_end
from ray._refs import ObjectRef
from ray._serialize import Serialized, deserialize, has_views
from rayd.store.segment import Segment
from rayd.wire import messages as m

if TYPE_CHECKING:
    from ray._client import Client

# Of each object that is fetched so many parts are under way at a time, which hides the network's delay.
_AHEAD: Final = 4


class Store(Protocol):
    """What a client needs of it."""

    def write(self, oid: bytes, value: Serialized) -> int:
        """Allocate room for a value under an id and copy it there; returns its offset at the node."""

    def load(self, ref: ObjectRef[Any]) -> Any:
        """The value of a reference of kind STORED."""

    def holds(self, ref: ObjectRef[Any], start: int, flat: memoryview) -> bool:
        """Whether the stored bytes from ``start`` on are these; only asked where ``mark`` gives None."""

    def mark(self, flat: memoryview) -> bytes | None:
        """By which bytes are known again, None where comparing them costs less."""

    def close(self) -> None:
        """The session ends."""


class SharedStore:
    """The store of the node on which this process runs.

    Args:
        client: the process's.
    """

    def __init__(self, client: "Client") -> None:
        self._client = client
        self._segment: Segment | None = None
        self._anchors: dict[int, tuple[Any, ObjectRef[Any]]] = {}

    @property
    def segment(self) -> Segment:
        """The shared memory, mapped at first use."""
        if self._segment is None:
            info = self._client.info
            self._segment = Segment.attach(info["store_path"], info["store_capacity"])
        return self._segment

    def write(self, oid: bytes, value: Serialized) -> int:
        client = self._client
        try:
            offset: int = client.request(lambda req: (m.ALLOC, req, oid, value.size))
            self.segment.copy_in(offset, value.parts, value.starts)
        except BaseException:  # Ctrl-C, or no memory left: give the room back
            client.link.note_release(oid)
            raise
        return offset

    def load(self, ref: ObjectRef[Any]) -> Any:
        """The value; whatever points into it keeps the reference, and so the memory, alive."""
        offset, size = ref._data
        view = self.segment.view(offset, size)
        return deserialize(view, (lambda: self._anchored(view, ref)) if has_views(view) else None)

    def _anchored(self, view: memoryview, ref: ObjectRef[Any]) -> memoryview:
        import numpy as np  # only values with buffers get here, and those are nearly always arrays

        anchor: Any = np.frombuffer(view, np.uint8)  # Any: numpy calls an array a buffer only from Python 3.12 on
        key = id(anchor)
        anchors = self._anchors

        @at_an_end
        def forget(_: Any) -> None:
            anchors.pop(key, None)

        anchors[key] = (weakref.ref(anchor, forget), ref)
        return memoryview(anchor)

    def holds(self, ref: ObjectRef[Any], start: int, flat: memoryview) -> bool:
        offset, size = ref._data
        return flat.nbytes == size - start and self.segment.compare(offset + start, flat)

    def mark(self, flat: memoryview) -> bytes | None:
        return None

    def close(self) -> None:
        if self._segment is not None and not self._anchors:
            self._segment.close()


class FarStore:
    """The store of a node on another machine. What was fetched stays with its reference, so it is fetched once.

    Args:
        client: the process's.
    """

    def __init__(self, client: "Client") -> None:
        self._client = client

    def write(self, oid: bytes, value: Serialized) -> int:
        client, link = self._client, self._client.link
        try:
            offset: int = client.request(lambda req: (m.ALLOC, req, oid, value.size))
            for start, part in zip(value.starts, value.parts, strict=True):
                whole = memoryview(part).cast("B") if len(part) else memoryview(b"")
                for at in range(0, whole.nbytes, m.PART_BYTES_MAX):
                    link.post_quietly((m.WRITE, oid, start + at, whole[at : at + m.PART_BYTES_MAX]))
                    link.flush()  # waits while the network does, so that no more than one part is in memory twice
        except BaseException:
            link.note_release(oid)
            raise
        return offset

    def load(self, ref: ObjectRef[Any]) -> Any:
        if type(ref._data) is list:
            ref._data = self._fetch(ref._id, ref._data[1])
        view: memoryview = ref._data
        return deserialize(view, (lambda: view) if has_views(view) else None)

    def _fetch(self, oid: bytes, size: int) -> memoryview:
        whole = bytearray(size)
        client = self._client
        under_way: collections.deque[tuple[int, int]] = collections.deque()
        try:
            for at in range(0, size, m.PART_BYTES_MAX):
                part = min(m.PART_BYTES_MAX, size - at)
                under_way.append((at, client.begin_request(lambda req, at=at, part=part: (m.READ, req, oid, at, part))))  # type: ignore[misc]
                if len(under_way) == _AHEAD:
                    self._take(whole, *under_way.popleft())
            while under_way:
                self._take(whole, *under_way.popleft())
        finally:
            for _, req in under_way:
                client.drop_request(req)
        return memoryview(whole).toreadonly()

    def _take(self, whole: bytearray, at: int, req: int) -> None:
        part: bytes = self._client.end_request(req)
        whole[at : at + len(part)] = part

    def holds(self, ref: ObjectRef[Any], start: int, flat: memoryview) -> bool:
        raise AssertionError("what is not here is not compared")

    def mark(self, flat: memoryview) -> bytes | None:
        return hashlib.blake2b(flat, digest_size=32).digest()

    def close(self) -> None:
        return
