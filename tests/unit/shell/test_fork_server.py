"""The fork server, a real one: what it is told arrives however slow it is, and all of what it was sent is closed."""

import asyncio
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgpack
import pytest

from rayd.shell.fork_server import ForkServer, start_fork_server

LIMIT_S: Final = 20.0
BUSY: Final = 100


@pytest.fixture
def server() -> Iterator[ForkServer]:
    started = start_fork_server()
    yield started
    os.kill(started.pid, signal.SIGKILL)
    started.wait()


def told(server: ForkServer, use: Callable[[], None], until: Callable[[Any], bool]) -> None:
    """Use it and listen to what it says until something true has come."""

    async def run() -> None:
        over = asyncio.Event()

        def on_said() -> None:
            data = server.control.recv(65536)
            if not data or until(msgpack.unpackb(data)):
                over.set()

        server.listen(asyncio.get_running_loop(), on_said)
        use()
        await asyncio.wait_for(over.wait(), LIMIT_S)
        server.close()

    asyncio.run(run())


def fork(number: int) -> tuple[bytes, list[int]]:
    """A request for a worker that ends as soon as it reads its empty mailbox."""
    request = ["fork", number, {}, {"PADDING": "x" * 50_000}, {"omp_threads": 1}]
    return msgpack.packb(request), [os.open(os.devnull, os.O_RDWR) for _ in range(4)]


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_requests_wait_for_a_fork_server_that_does_not_get_the_processor(server: ForkServer) -> None:
    before = open_files()
    wanted = deque(range(BUSY))

    def use() -> None:
        os.kill(server.pid, signal.SIGSTOP)
        for number in range(BUSY):
            server.tell(*fork(number))
        assert open_files() - before > BUSY, "the system has not taken all of them"
        os.kill(server.pid, signal.SIGCONT)

    def in_order(said: Any) -> bool:
        if said[0] == "forked":
            assert said[1] == wanted.popleft()
        return not wanted

    told(server, use, in_order)


def test_what_a_dead_fork_server_is_told_is_closed(server: ForkServer) -> None:
    before = open_files()

    def use() -> None:
        os.kill(server.pid, signal.SIGSTOP)
        for number in range(BUSY):
            server.tell(*fork(number))
        os.kill(server.pid, signal.SIGKILL)

    told(server, use, lambda _: False)
    server.tell(*fork(1))
    assert open_files() < before
