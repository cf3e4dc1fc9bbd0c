"""Bring the bytes of large objects from other nodes' stores straight into this one's.

Control messages between daemons go over connections of jobs; bytes have connections of their own (HELLO of kind
"bulk"), so that gigabytes keep nobody waiting. The receiving end blocks in threads, which write what arrives where it
belongs without the interpreter's lock; a large object comes over two connections at a time, since one is limited by the
core that feeds it. What is asked is READ; the answer is ``REPLY(req, True, size)`` with as many bytes after it, or a
REPLY with the reason why not.
"""

import asyncio
import contextlib
import os
import queue
import socket
import sys
import threading
from collections.abc import Callable
from typing import Final

import rayd
from rayd.errors import NODE_DIED, Fault, fault
from rayd.shell.dial import Stream, Target, UnreachableError, dial
from rayd.store.segment import Segment
from rayd.wire.frame import Framer, ProtocolError, encode
from rayd.wire.messages import HELLO, PROTOCOL_VERSION, READ, REFUSED, REPLY, WELCOME, Message

THREADS_MAX: Final = 4
# From this size on an object comes in two parts at a time.
SPLIT_FROM: Final = 8 << 20
# What one system call is asked for: more keeps the connection locked for long while the sender wants to go on.
STEP: Final = 1 << 20
# Connections to one node that are kept for the next object.
KEPT_MAX: Final = 2


class StoppedError(Exception):
    """Nobody wants the object any more."""


class Transfer:
    """One object on its way.

    Attributes:
        number: by which the core knows it.
        left: parts that are not through.
        why: why it has failed.
        stopped: it is to be given up.
    """

    __slots__ = ("left", "number", "stopped", "why")

    def __init__(self, number: int, parts: int) -> None:
        self.number = number
        self.left = parts
        self.why: Fault | None = None
        self.stopped = False


class Source:
    """A connection to the store of another node.

    Args:
        address: host:port of its daemon.

    Raises:
        UnreachableError: it cannot be had.
    """

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self.fresh = True
        self._stream: Stream = dial(Target("", host, int(port)))
        self._requests = 0
        self._extra = b""  # decrypted beyond what was asked for
        try:
            info = {"pid": os.getpid(), "version": rayd.__version__}
            self._stream.sendall(encode((HELLO, PROTOCOL_VERSION, "bulk", info)))
            answer = self._message(Framer())
        except (OSError, ProtocolError) as error:
            self.close()
            raise UnreachableError(f"the daemon at {address} does not answer: {error}") from None
        if answer[0] != WELCOME:
            self.close()
            said = answer[1]["message"] if answer[0] == REFUSED else "something unexpected"
            raise UnreachableError(f"the daemon at {address} says: {said}")

    def read(self, oid: bytes, at: int, target: memoryview, transfer: Transfer) -> Fault | None:
        """Fill ``target`` with the bytes of an object from ``at`` on; the reason if the other node has them not.

        Raises:
            OSError, ProtocolError: the connection is of no use any more.
            StoppedError: neither, since the transfer was stopped on the way.
        """
        self._requests += 1
        self._stream.sendall(encode((READ, self._requests, oid, at, len(target))))
        expected = encode((REPLY, self._requests, True, len(target)))
        header = bytearray(len(expected))
        self._fill(memoryview(header), transfer)
        self.fresh = False
        if header == expected:
            self._fill(target, transfer)
            return None
        framer = Framer()
        for message in framer.feed(bytes(header)):
            return _reason(message)
        return _reason(self._message(framer))

    def _fill(self, target: memoryview, transfer: Transfer) -> None:
        while target:
            if transfer.stopped:
                raise StoppedError
            step = target[:STEP]
            if isinstance(self._stream, socket.socket):
                count = self._stream.recv_into(step)
            else:
                data = self._extra or self._stream.recv(len(step))
                count = min(len(data), len(step))
                step[:count], self._extra = data[:count], data[count:]
            if not count:
                raise ConnectionResetError("the other side closed the connection")
            target = target[count:]

    def _message(self, framer: Framer) -> Message:
        while True:
            data = self._stream.recv(4096)
            if not data:
                raise ConnectionResetError("the other side closed the connection")
            for message in framer.feed(data):
                return message

    def close(self) -> None:
        """End the connection, also under a thread that waits for it."""
        with contextlib.suppress(OSError):
            self._stream.shutdown(socket.SHUT_RDWR)
        self._stream.close()


def _reason(message: Message) -> Fault:
    if message[0] == REPLY and message[2] is False:
        return dict(message[3])
    raise ProtocolError("the answer is none to what was asked")


class Fetcher:
    """The receiving end of all transfers to a node.

    Args:
        loop: of the daemon.
        segment: the store.
        on_fetched: called on the loop with the number of a transfer and why it failed, or None.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, segment: Segment, on_fetched: Callable[[int, Fault | None], None]
    ) -> None:
        self._loop = loop
        self._segment = segment
        self._on_fetched = on_fetched
        self._transfers: dict[int, Transfer] = {}
        self._jobs: queue.SimpleQueue[tuple[Transfer, str, bytes, int, memoryview] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._kept: dict[str, list[Source]] = {}
        self._busy: dict[Source, None] = {}
        self._closed = False

    def fetch(self, number: int, address: str, oid: bytes, offset: int, size: int) -> None:
        """Begin a transfer.

        Args:
            number: by which ``stop`` and ``on_fetched`` name it.
            address: host:port of the node that has the object.
            oid: the object.
            offset, size: where its bytes are to go, and how many there are.
        """
        half = -(-size // 2) if size >= SPLIT_FROM else size
        parts = [(at, min(half, size - at)) for at in range(0, size, max(half, 1))] or [(0, 0)]
        transfer = self._transfers[number] = Transfer(number, len(parts))
        self._segment.populate(offset, size) if size >= SPLIT_FROM else None
        for at, count in parts:
            self._jobs.put((transfer, address, oid, at, self._segment.view(offset + at, count, writable=True)))
        while len(self._threads) < min(THREADS_MAX, len(self._transfers) * 2):
            thread = threading.Thread(target=self._work, name=f"fetch {len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self, number: int) -> None:
        """Give a transfer up; ``on_fetched`` tells when nothing is written any more."""
        transfer = self._transfers.get(number)
        if transfer is not None:
            transfer.stopped = True

    def close(self) -> None:
        """End everything; nothing is told any more."""
        with self._lock:
            self._closed = True
            sources = [*self._busy, *(source for kept in self._kept.values() for source in kept)]
        for source in sources:
            source.close()
        for _ in self._threads:
            self._jobs.put(None)

    # ---- in threads --------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            transfer, address, oid, at, target = job
            why: Fault | None
            try:
                why = self._bring(address, oid, at, target, transfer)
            except StoppedError:
                why = None
            except (OSError, ProtocolError) as error:
                text = f"Its bytes cannot be brought from the node at {address}: {error}."
                why = fault(NODE_DIED, text, object_id=oid.hex())
            except BaseException as error:  # noqa: BLE001 - whatever happens, the transfer has an end
                text = f"Its bytes could not be brought from the node at {address}, a defect of rayd: {error!r}."
                why = fault(NODE_DIED, text, object_id=oid.hex())
                sys.excepthook(type(error), error, error.__traceback__)
            target.release()
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._part_done, transfer, why)

    def _bring(self, address: str, oid: bytes, at: int, target: memoryview, transfer: Transfer) -> Fault | None:
        while True:
            source = self._take(address)
            try:
                why = source.read(oid, at, target, transfer)
            except BaseException as error:
                kept = not source.fresh
                self._drop(source)
                if kept and isinstance(error, OSError) and not self._closed:
                    continue  # it had been kept for long, and the other side has closed it; a fresh one will tell
                raise
            self._give_back(address, source)
            return why

    def _take(self, address: str) -> Source:
        with self._lock:
            kept = self._kept.get(address)
            source = kept.pop() if kept else None
        source = source or Source(address)
        with self._lock:
            self._busy[source] = None
            if self._closed:
                source.close()
        return source

    def _give_back(self, address: str, source: Source) -> None:
        with self._lock:
            del self._busy[source]
            kept = self._kept.setdefault(address, [])
            if len(kept) < KEPT_MAX:
                kept.append(source)
                return
        source.close()

    def _drop(self, source: Source) -> None:
        with self._lock:
            del self._busy[source]
        source.close()

    # ---- on the loop -------------------------------------------------------------------------------------------------

    def _part_done(self, transfer: Transfer, why: Fault | None) -> None:
        transfer.left -= 1
        if why is not None:
            transfer.why = transfer.why or why
            transfer.stopped = True  # the other part is of no use
        if not transfer.left:
            del self._transfers[transfer.number]
            if not self._closed:
                self._on_fetched(transfer.number, transfer.why)
