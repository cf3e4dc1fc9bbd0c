"""Shared memory of one store: one sparse file without a name, mapped once by every process that uses it.

The daemon creates it; workers and drivers of the same user open it through `/proc/<pid>/fd/<n>`, so nothing is left
behind when the last process dies, however it dies. Blocks are addressed by offset; who owns which bytes is decided
elsewhere (`rayd.store.arena`).

Cost decides the shape of this module. The first touch of a page anywhere is far slower than a copy, and the first touch
of it in one more process still costs more than the copy; so ranges are *populated* in one system call (and the
background `Toucher` does it ahead of demand), and everything that is long runs without the interpreter's lock.
"""

import contextlib
import ctypes
import errno
import functools
import mmap
import os
import threading
from collections.abc import Sequence
from typing import Final, Self, TypeAlias

Buffer: TypeAlias = bytes | bytearray | memoryview

CHUNK: Final = 2 << 20  # population is remembered per chunk: one byte of book-keeping for 2 MiB
POPULATE_FROM: Final = 1 << 20  # below, faulting in page by page costs less than touching a whole chunk
UNLOCKED_FROM: Final = 256 << 10  # below, a copy is over before another thread could make use of the interpreter's lock

STEP: Final = 8 << 20  # some 20 ms of first touching: the longest that Toucher.close waits

_LOWEST_PRIORITY: Final = 19
_MADV_POPULATE_WRITE: Final = 23  # Linux 5.14; the mmap module does not name it


class SegmentError(OSError):
    """Shared memory could not be made, opened or filled; the message names the cause and the remedy."""


@functools.cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)  # CDLL releases the interpreter's lock during a call; PyDLL would not
    libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    libc.madvise.restype = ctypes.c_int
    libc.memcmp.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
    libc.memcmp.restype = ctypes.c_int
    return libc


class Segment:
    """One process's mapping of the shared memory, made by `create` or `attach`; offsets and sizes are in bytes.

    Safe to use from several threads. Views stay valid after `close`; the memory is unmapped when the last of them dies.
    """

    __slots__ = ("_address", "_capacity", "_fd", "_file", "_map", "_populated", "_readable", "_writable")

    def __init__(self, fd: int, capacity: int, file: str | None, *, owner: bool) -> None:
        """For `create` and `attach`. Takes over `fd`; only the owner keeps it, and removes `file` at close."""
        try:
            self._map = mmap.mmap(fd, capacity)
        except (OSError, ValueError) as error:
            os.close(fd)
            message = f"mapping {capacity} bytes of shared memory failed: {error}; use a smaller object store"
            raise SegmentError(errno.ENOMEM, message) from error
        if not owner:
            os.close(fd)  # the mapping has its own duplicate
        self._fd = fd if owner else -1
        self._file = file
        self._capacity = capacity
        self._writable = memoryview(self._map)
        self._readable = self._writable.toreadonly()
        start = ctypes.c_char.from_buffer(self._map)
        self._address = ctypes.addressof(start)
        del start  # a lasting export would keep the mapping from being closed
        # One byte per chunk: 1 if this process has its pages. A forked child inherits the bytes without the page
        # tables, which costs it speed but is never wrong: a page that is missing is faulted in.
        self._populated = bytearray(-(-capacity // CHUNK))

    @classmethod
    def create(cls, capacity: int, folder: str | os.PathLike[str] | None = None) -> Self:
        """Make shared memory of `capacity` bytes. Nothing is touched yet, so it costs nothing until it is used.

        `folder` (default: the system's temporary folder) serves only on systems without memfd, for a file that `close`
        removes. Raises SegmentError if the system refuses.
        """
        if capacity < 1:
            raise SegmentError(errno.EINVAL, f"shared memory of {capacity} bytes: ask for at least 1 byte")
        try:
            if hasattr(os, "memfd_create"):
                fd, file = os.memfd_create("rayd-store", os.MFD_CLOEXEC), None
            else:
                fd, file = _make_file(capacity, folder)
        except OSError as error:
            raise _refused(capacity, error) from error
        try:
            os.ftruncate(fd, capacity)
        except (OSError, OverflowError) as error:
            os.close(fd)
            if file is not None:
                _unlink(file)
            raise _refused(capacity, error) from error
        return cls(fd, capacity, file, owner=True)

    @classmethod
    def attach(cls, path: str, capacity: int) -> Self:
        """Map the memory that another process made, by its `path` and `capacity`; the caller keeps the one mapping.

        Raises SegmentError if the process at `path` is gone or belongs to another user, or if the file is shorter than
        `capacity`.
        """
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            why = {
                errno.ENOENT: "the process that made it has ended",
                errno.EACCES: "it belongs to another user",
                errno.EPERM: "it belongs to another user",
            }.get(error.errno or 0, error.strerror)
            raise SegmentError(error.errno, f"cannot open the object store at {path}: {why}") from error
        size = os.fstat(fd).st_size
        if size < capacity:  # touching a byte behind the end would kill this process
            os.close(fd)
            raise SegmentError(errno.EINVAL, f"the object store at {path} has {size} bytes, not {capacity}")
        return cls(fd, capacity, None if path.startswith("/proc/") else path, owner=False)

    @property
    def capacity(self) -> int:
        """Size of the mapping."""
        return self._capacity

    @property
    def path(self) -> str:
        """By which other processes of this user `attach` while this process lives.

        Raises SegmentError unless this process made it.
        """
        if self._fd < 0:
            raise SegmentError(errno.EBADF, "only the process that made a segment can share it, until it closes it")
        if self._file is not None:
            return str(self._file)
        return f"/proc/{os.getpid()}/fd/{self._fd}"  # asked for each time: a daemon gets another pid when it forks

    def view(self, offset: int, size: int, *, writable: bool = False) -> memoryview:
        """The bytes from `offset` on, without a copy; read-only unless `writable`.

        Raises SegmentError outside the segment.
        """
        self._check_range(offset, size)
        return (self._writable if writable else self._readable)[offset : offset + size]

    def populate(self, offset: int, size: int) -> None:
        """Give this process all pages of a range in one go, without the interpreter's lock; free the second time.

        Does nothing where the kernel cannot (Linux before 5.14). Raises SegmentError when the machine has no memory
        left.
        """
        self._check_range(offset, size)
        if not size:
            return
        chunks, last = self._populated, (offset + size - 1) // CHUNK + 1
        first = chunks.find(0, offset // CHUNK, last)
        while first >= 0:
            end = chunks.find(1, first, last)
            if end < 0:
                end = last
            self._populate_chunks(first, end)
            first = chunks.find(0, end, last)

    def copy_in(self, offset: int, buffers: Sequence[Buffer], starts: Sequence[int] | None = None) -> int:
        """Copy `buffers` to `offset + starts[i]` each, or, without `starts`, one right after the other.

        A buffer is C-contiguous and of a native element type, as `pickle.PickleBuffer.raw` gives it for every array.
        Returns the offset behind the last byte of the last buffer. Raises SegmentError if one reaches outside the
        segment.
        """
        raws = [_raw(buffer) for buffer in buffers]
        if starts is None:
            place, places = offset, []
            for raw in raws:
                places.append(place)
                place += len(raw)
        else:
            places = [offset + start for start in starts]
        if not raws:
            return offset
        ends = [place + len(raw) for place, raw in zip(places, raws, strict=True)]
        low, high = min(places), max(ends)
        self._check_range(low, high - low)
        # In a file, a write that finds the disk full would kill this process; populating raises instead.
        if high - low >= POPULATE_FROM or self._file is not None:
            self.populate(low, high - low)
        writable = self._writable
        for place, end, raw in zip(places, ends, raws, strict=True):
            if end - place < UNLOCKED_FROM:
                writable[place:end] = raw
            else:
                ctypes.memmove(self._address + place, _address(raw), end - place)
        return ends[-1]

    def compare(self, offset: int, buffer: Buffer) -> bool:
        """Whether the bytes from `offset` on are those of `buffer`. Raises SegmentError outside the segment."""
        raw = _raw(buffer)
        self._check_range(offset, len(raw))
        if not len(raw):
            return True
        held = self._writable  # so that a close in another thread cannot unmap it during the call
        same = _libc().memcmp(self._address + offset, _address(raw), len(raw)) == 0
        return bool(same and held is not None)

    def close(self) -> None:
        """Let go of the memory, which ends when no process maps it any more. A second call does nothing."""
        if not self._address:
            return
        self._address = self._capacity = 0
        if self._fd >= 0:  # we made it
            os.close(self._fd)
            self._fd = -1
            if self._file is not None:
                _unlink(self._file)
        # Our references go, and with them the mapping, unless a view lives on somewhere: then it goes with that.
        self._writable = self._readable = memoryview(b"")
        del self._map

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Segment {self._capacity} bytes, {'open' if self._address else 'closed'}>"

    def _check_range(self, offset: int, size: int) -> None:
        if offset < 0 or size < 0 or offset + size > self._capacity:
            if not self._address:
                raise SegmentError(errno.EBADF, "the object store of this process is closed")
            message = f"bytes {offset} to {offset + size} lie outside the {self._capacity} bytes of the store"
            raise SegmentError(errno.EINVAL, message)

    def _populate_chunks(self, first: int, end: int) -> None:
        held = self._writable  # so that a close in another thread cannot unmap it during the call
        start, stop = first * CHUNK, min(end * CHUNK, len(held))
        libc = _libc()
        while libc.madvise(self._address + start, stop - start, _MADV_POPULATE_WRITE):
            code = ctypes.get_errno()
            if code in (errno.EINTR, errno.EAGAIN):
                continue
            if code == errno.EINVAL:
                break  # an old kernel: pages will be faulted in one by one
            full = f"the file system of {self._file} is full" if code == errno.EFAULT else os.strerror(code)
            message = f"cannot fill {stop - start} more bytes of the object store: {full}; use a smaller object store"
            raise SegmentError(code, message)
        self._populated[first:end] = b"\1" * (end - first)


class Toucher:
    """A background thread that touches the bytes of `segment` from 0 up to the highest offset asked for with `want`.

    It works in small steps at the lowest priority, so that it costs only time in which the machine would have idled.
    There is no thread before the first `want`. Close it before the segment.
    """

    __slots__ = ("_closed", "_failure", "_goal", "_segment", "_state", "_thread", "_touched")

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        self._state = threading.Condition()  # guards all below
        self._goal = 0
        self._touched = 0
        self._closed = False
        self._failure: SegmentError | None = None
        self._thread: threading.Thread | None = None

    @property
    def touched(self) -> int:
        """All bytes below this offset are touched."""
        return self._touched

    @property
    def failure(self) -> SegmentError | None:
        """Why the thread gave up (no memory left), or None. Whoever writes there meets the same error."""
        return self._failure

    def want(self, up_to_offset: int) -> None:
        """Raise the goal to `up_to_offset`, at most the end of the segment; returns at once.

        A goal that is not higher changes nothing, nor does one after `close` or a failure.
        """
        goal = min(up_to_offset, self._segment.capacity)
        if goal <= self._goal:  # the common case, without the lock: the goal only grows
            return
        with self._state:
            if self._ended() or goal <= self._goal:
                return
            self._goal = goal
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="rayd-toucher", daemon=True)
                self._thread.start()
            self._state.notify_all()

    def wait(self, offset: int, timeout_s: float | None = None) -> bool:
        """Wait until all bytes below `offset` are touched.

        Asks for them first. Returns False if it failed, was closed or took longer than `timeout_s` (default: no limit).
        """
        offset = min(offset, self._segment.capacity)
        self.want(offset)
        with self._state:
            self._state.wait_for(lambda: self._touched >= offset or self._ended(), timeout_s)
            return self._touched >= offset

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait until the thread has ended, after `close` or a failure.

        Returns False if it took longer than `timeout_s` (default: no limit).
        """
        thread = self._thread
        if thread is None:
            return True
        thread.join(timeout_s)
        return not thread.is_alive()

    def close(self) -> None:
        """Stop after the step under way and wait for the thread's end; a second call does nothing."""
        with self._state:
            self._closed = True
            self._state.notify_all()
        self.join()

    def _ended(self) -> bool:
        return self._closed or self._failure is not None

    def _run(self) -> None:
        with contextlib.suppress(OSError):  # where threads have no priority of their own, we run at that of the process
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOWEST_PRIORITY)
        while (start := self._next_start()) is not None:
            try:
                size = min(STEP, self._segment.capacity - start)
                self._segment.populate(start, size)
            except SegmentError as error:
                with self._state:
                    self._failure = error
                    self._state.notify_all()
                return
            with self._state:
                self._touched = start + size
                self._state.notify_all()

    def _next_start(self) -> int | None:
        """Where the next step begins; waits for a goal beyond. None when closed."""
        with self._state:
            self._state.wait_for(lambda: self._closed or self._goal > self._touched)
            return None if self._closed else self._touched


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _refused(capacity: int, error: OSError | OverflowError) -> SegmentError:
    code = (error.errno if isinstance(error, OSError) else None) or errno.EFBIG
    why = (error.strerror if isinstance(error, OSError) else None) or os.strerror(code)
    return SegmentError(code, f"making shared memory of {capacity} bytes failed: {why}")


def _make_file(capacity: int, folder: str | os.PathLike[str] | None) -> tuple[int, str]:
    import tempfile  # late: it brings the compression modules along, and systems with memfd never need it

    folder = folder or tempfile.gettempdir()
    there = os.statvfs(folder)
    if there.f_bavail * there.f_frsize < capacity:
        free = there.f_bavail * there.f_frsize
        raise OSError(errno.ENOSPC, f"{folder} has only {free} bytes free; use a smaller object store")
    fd, name = tempfile.mkstemp(prefix="rayd-store-", dir=folder)
    return fd, name


def _address(buffer: Buffer) -> int:
    """Where a buffer lies, read-only ones included."""
    import numpy as np  # only here: it costs a daemon or an idle worker more than all the rest of this module

    address: int = np.frombuffer(buffer, np.uint8).__array_interface__["data"][0]
    return address


def _raw(buffer: Buffer) -> bytes | bytearray | memoryview:
    """The same bytes as a flat run of unsigned bytes, so that len counts bytes and slices can be assigned."""
    if isinstance(buffer, memoryview) and (buffer.ndim != 1 or buffer.format != "B"):
        return buffer.cast("B") if buffer.nbytes else b""
    return buffer
