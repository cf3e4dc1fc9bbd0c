"""The receiving end of transfers, from a source that does what the test wants."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final

import pytest

from rayd.config import Environment
from rayd.core.effect import Fetch
from rayd.core.event import Arrived, Fetched, SourceFailed
from rayd.shell import token_file
from rayd.shell.fetcher import Fetcher
from rayd.store.segment import Segment
from rayd.wire import messages as m
from rayd.wire.auth import Gate
from rayd.wire.frame import Framer, encode

LIMIT_S: Final = 10.0
SIZE: Final = 100_000
OID: Final = b"o" * 28

Answer = Callable[[socket.socket, Any], None]


def gives(client: socket.socket, read: Any) -> None:
    """Sends what is asked for."""
    _, req, _, _, size = read
    client.sendall(encode((m.REPLY, req, True, size)) + b"x" * size)


def stands_still(client: socket.socket, read: Any) -> None:
    """Sends some of it, and then nothing."""
    _, req, _, _, size = read
    client.sendall(encode((m.REPLY, req, True, size)) + b"x" * (size // 2))


class Holder:
    """Another node that has the object.

    Args:
        answer: what it does with a READ.

    Attributes:
        address: host:port.
        asked: somebody has asked for something.
    """

    def __init__(self, answer: Answer) -> None:
        self.asked = threading.Event()
        self._answer = answer
        self._secret = token_file.secret_of_cluster(Environment.read().token_path())
        self._listener = socket.create_server(("127.0.0.1", 0))
        host, port = self._listener.getsockname()
        self.address = f"{host}:{port}"
        self._clients: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        """Hang up."""
        for sock in (self._listener, *self._clients):
            with suppress(OSError):  # the other side was quicker
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(LIMIT_S)
        for sock in (self._listener, *self._clients):
            sock.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._clients.append(client)
            self._threads.append(threading.Thread(target=self._serve, args=(client,)))
            self._threads[-1].start()

    def _serve(self, client: socket.socket) -> None:
        gate, framer = Gate(self._secret, bytes(32), b""), Framer()
        with suppress(ConnectionError):  # the other side has had enough
            while data := client.recv(65536):
                for message in framer.feed(data):
                    if message[0] == m.HELLO:
                        client.sendall(encode((m.WELCOME, {})))
                    elif message[0] == m.READ:
                        self._answer(client, message)
                        self.asked.set()
                    elif (reply := gate.answer(message, time.time())) is not None:
                        client.sendall(encode(reply))


@pytest.fixture
def segment() -> Iterator[Segment]:
    with Segment.create(1 << 20) as made:
        yield made


def fetch(segment: Segment, answer: Answer, meanwhile: Callable[[Fetcher], None]) -> list[Any]:
    """Fetch the object and do something meanwhile; what was told until the transfer had ended."""

    async def run() -> list[Any]:
        told: list[Arrived | SourceFailed | Fetched] = []
        over = asyncio.Event()

        def feed(event: Arrived | SourceFailed | Fetched) -> None:
            told.append(event)
            if isinstance(event, Fetched):
                over.set()

        holder = Holder(answer)
        fetcher = Fetcher(asyncio.get_running_loop(), segment, feed)
        try:
            fetcher.fetch(Fetch(1, 7, holder.address, OID, 0, SIZE, ()))
            assert await asyncio.to_thread(holder.asked.wait, LIMIT_S)
            meanwhile(fetcher)
            await asyncio.wait_for(over.wait(), LIMIT_S)
        finally:
            fetcher.close()
            await asyncio.to_thread(holder.close)
        return told

    return asyncio.run(run())


def test_what_is_fetched_is_there(segment: Segment) -> None:
    assert fetch(segment, gives, lambda _: None) == [Fetched(1)]
    assert bytes(segment.view(0, SIZE)) == b"x" * SIZE


def test_a_transfer_that_is_given_up_does_not_wait_for_a_source_that_stands_still(segment: Segment) -> None:
    assert fetch(segment, stands_still, lambda fetcher: fetcher.stop(1)) == [Fetched(1)]
