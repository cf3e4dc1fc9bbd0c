"""A worker's mailbox: a SOCK_SEQPACKET pair whose receiving end is also kept here.

The queue of a worker *is* the kernel's queue of unread datagrams. Whoever reads a datagram has it, worker or daemon, so
a task that was not begun can be taken back from a worker that is busy, stuck in C code or dead, without its help and
without a race.
"""

import socket
from collections import deque
from collections.abc import Callable
from typing import Any

import msgpack

from rayd.wire.messages import DATAGRAM_BYTES_MAX

_packb = msgpack.Packer(use_bin_type=True).pack
_BUFFER_BYTES = 4 * 1024 * 1024


class Mailbox:
    """Both ends of one worker's mailbox.

    Args:
        batch: several bodies may share a datagram; only where bodies are never taken back one by one (actors).
        on_full: called with True when the kernel's queue is full and ``retry`` must be called once it is writable,
            False when drained.
    """

    __slots__ = ("_backlog", "_on_full", "ours", "theirs")

    def __init__(self, on_full: Callable[["Mailbox", bool], None]) -> None:
        self.ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.ours.setblocking(False)
        self.ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
        self._backlog: deque[bytes] = deque()
        self._on_full = on_full

    def send(self, bodies: list[list[Any]], batch: bool) -> None:
        """Mail bodies, one datagram each or packed together."""
        if not batch or len(bodies) == 1:
            for body in bodies:
                self._put(_packb((body,)))
            return
        group: list[bytes] = []
        size = 0
        for body in bodies:
            packed = _packb(body)
            if group and (size + len(packed) > DATAGRAM_BYTES_MAX or len(group) == 255):
                self._put(_join(group))
                group, size = [], 0
            group.append(packed)
            size += len(packed)
        self._put(_join(group))

    def _put(self, datagram: bytes) -> None:
        if not self._backlog:
            try:
                self.ours.send(datagram)
            except BlockingIOError:
                pass
            except (BrokenPipeError, ConnectionResetError):
                # The worker is dying; what it did not read is counted when its exit is reported.
                self._backlog.append(datagram)
                return
            else:
                return
            self._on_full(self, True)
        self._backlog.append(datagram)

    def retry(self) -> None:
        """The kernel's queue has room again."""
        while self._backlog:
            try:
                self.ours.send(self._backlog[0])
            except BlockingIOError:
                return
            except (BrokenPipeError, ConnectionResetError):
                break
            self._backlog.popleft()
        self._on_full(self, False)

    def take_back(self) -> list[bytes]:
        """Drain everything unread; returns the ids of its tasks. The worker may read on meanwhile: each body is read
        by one of us.
        """
        tids: list[bytes] = []
        while True:
            try:
                datagram = self.theirs.recv(_BUFFER_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            if not datagram:
                break
            tids += [body[0] for body in msgpack.unpackb(datagram)]
        if self._backlog:
            tids += [body[0] for datagram in self._backlog for body in msgpack.unpackb(datagram)]
            self._backlog.clear()
            self._on_full(self, False)
        return tids

    def retire(self) -> None:
        """No more mail: the worker reads what is left and then the end."""
        self.ours.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """The worker is gone."""
        self._on_full(self, False)
        self.ours.close()
        self.theirs.close()


def _join(group: list[bytes]) -> bytes:
    """An array of packed bodies, without packing them again: at most 255 of them (msgpack array 16)."""
    return b"\xdc" + len(group).to_bytes(2, "big") + b"".join(group)
