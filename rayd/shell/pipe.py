"""A connection to the store of another node, over which threads receive the bytes of objects as they are.

What is asked is READ, several at a time if one likes; each answer is ``REPLY(req, True, size)`` with as many bytes
after it, or a REPLY with the reason why not.
"""

import contextlib
import os
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

import rayd
from rayd.errors import Fault
from rayd.shell.dial import Stream, Target, UnreachableError, dial
from rayd.wire.frame import Framer, ProtocolError, encode
from rayd.wire.messages import HELLO, PROTOCOL_VERSION, READ, REFUSED, REPLY, WELCOME, Message

# What one system call is asked for: more keeps the connection locked for long while the sender wants to go on.
STEP: Final = 1 << 20


class StoppedError(Exception):
    """Nobody wants the bytes any more."""


class Asked(NamedTuple):
    """A READ that has not been answered."""

    req: int
    target: memoryview


class Pipe:
    """One connection.

    Args:
        address: host:port of the other node's daemon.

    Raises:
        UnreachableError: it cannot be had.

    Attributes:
        doubtful: it was kept for long, and whether the other side has closed it meanwhile is not known.
        rate: how quickly the last answer has come, in bytes per second.
        moved_at: when it has last brought something, on the monotonic clock, in seconds.
    """

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self.doubtful = False
        self.rate = 0.0
        self.moved_at = time.monotonic()
        self._why = "the other side closed the connection"
        self._stream: Stream = dial(Target("", host, int(port)))
        self._requests = 0
        self._asked: deque[Asked] = deque()
        self._extra = b""  # decrypted beyond what was asked for
        try:
            info = {"pid": os.getpid(), "version": rayd.__version__}
            self._stream.sendall(encode((HELLO, PROTOCOL_VERSION, "bulk", info)))
            answer = self._message()
        except (OSError, ProtocolError) as error:
            self.close()
            raise UnreachableError(f"the daemon at {address} does not answer: {error}") from None
        if answer[0] != WELCOME:
            self.close()
            said = answer[1]["message"] if answer[0] == REFUSED else "something unexpected"
            raise UnreachableError(f"the daemon at {address} says: {said}")

    @property
    def clean(self) -> bool:
        """Every question has been answered, so that it can be used for something else."""
        return not self._asked

    def ask(self, oid: bytes, at: int, target: memoryview) -> None:
        """Ask for the bytes of an object from ``at`` on, as many as ``target`` takes.

        Raises:
            OSError: the connection is of no use any more.
        """
        self._requests += 1
        self._asked.append(Asked(self._requests, target))
        self._stream.sendall(encode((READ, self._requests, oid, at, len(target))))

    def receive(self, stopped: Callable[[], bool]) -> Fault | None:
        """Fill the target of the oldest question; the reason if the other node has the bytes not.

        Args:
            stopped: says whether they are not wanted any more; asked again and again.

        Raises:
            OSError, ProtocolError: the connection is of no use any more.
            StoppedError: neither, since the bytes that still come are not wanted.
        """
        req, target = self._asked[0]
        start = time.monotonic()
        expected = encode((REPLY, req, True, len(target)))
        header = bytearray(len(expected))
        self._fill(memoryview(header), stopped)
        self.doubtful = False
        if header == expected:
            self._fill(target, stopped)
            self.rate = len(target) / max(time.monotonic() - start, 1e-6)
            why = None
        else:
            why = _reason(self._message(bytes(header)))
        self._asked.popleft()
        return why

    def _fill(self, target: memoryview, stopped: Callable[[], bool]) -> None:
        while target:
            if stopped():
                raise StoppedError
            step = target[:STEP]
            if isinstance(self._stream, socket.socket):
                count = self._stream.recv_into(step)
            else:
                data = self._extra or self._stream.recv(len(step))
                count = min(len(data), len(step))
                step[:count], self._extra = data[:count], data[count:]
            if not count:
                raise ConnectionResetError(self._why)
            self.moved_at = time.monotonic()
            target = target[count:]

    def _message(self, begun: bytes = b"") -> Message:
        """The next message, of which some bytes may have been received."""
        framer = Framer()
        data, self._extra = begun + self._extra, b""
        data = data or self._stream.recv(4096)
        while data:
            for message in framer.feed(data):
                return message
            data = self._stream.recv(4096)
        raise ConnectionResetError(self._why)

    def cut(self, why: str) -> None:
        """Let the thread that waits for it wait no more, and fail with this reason."""
        self._why = why
        with contextlib.suppress(OSError):
            self._stream.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End the connection."""
        with contextlib.suppress(OSError):
            self._stream.shutdown(socket.SHUT_RDWR)
        self._stream.close()


def _reason(message: Message) -> Fault:
    if message[0] == REPLY and message[2] is False:
        return dict(message[3])
    raise ProtocolError("the answer is none to what was asked")
