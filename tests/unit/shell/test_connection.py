"""The server's end of a connection that bytes are streamed over."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any, Final

import pytest

from rayd.errors import SHUTDOWN, fault
from rayd.shell.connection import Connection
from rayd.shell.outflow import STEP
from rayd.wire.frame import encode
from rayd.wire.messages import REFUSED, REPLY

HEADER: Final = (REPLY, 1, True, 0)
WHY: Final = fault(SHUTDOWN, "the daemon was stopped")


class Hub:
    """Takes notice of nothing."""

    def sent(self, connection: Connection) -> None:
        pass

    def closed(self, connection: Connection) -> None:
        pass


def received(use: Callable[[Connection], None]) -> bytes:
    """All that the other side gets, which reads nothing before the end of ``use``."""

    async def run() -> bytes:
        loop = asyncio.get_running_loop()
        near, far = socket.socketpair()
        hub: Any = Hub()
        connection = Connection(hub, 1, worker=1)
        await loop.connect_accepted_socket(lambda: connection, near)
        use(connection)
        reader, writer = await asyncio.open_connection(sock=far)
        data = await reader.read()
        writer.close()
        await writer.wait_closed()
        return data

    return asyncio.run(run())


@pytest.mark.parametrize("tail", [0, 10, STEP - 1])
def test_a_body_that_is_broken_off_is_not_filled_up_with_the_reason(tail: int) -> None:
    body = b"x" * (8 * STEP + tail)

    def use(connection: Connection) -> None:
        connection.stream(HEADER, memoryview(body))
        connection.refuse(WHY)

    data = received(use)
    whole = encode(HEADER) + body
    assert len(data) < len(whole)
    assert whole.startswith(data)


def test_the_reason_is_said_behind_a_whole_body() -> None:
    def use(connection: Connection) -> None:
        connection.stream(HEADER, memoryview(b"x" * 100))
        connection.refuse(WHY)

    assert received(use) == encode(HEADER) + b"x" * 100 + encode((REFUSED, WHY))
