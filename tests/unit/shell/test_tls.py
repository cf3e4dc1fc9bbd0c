"""A TLS connection that threads share."""

import select
import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from rayd.shell.tls import TlsSocket, server_context

LIMIT_S = 10.0


@pytest.fixture
def ends() -> Iterator[tuple[TlsSocket, ssl.SSLSocket]]:
    """A client and its server."""
    context, _ = server_context()
    near, far = socket.socketpair()
    far.settimeout(LIMIT_S)
    with ExitStack() as stack:
        with ThreadPoolExecutor(1) as pool:
            accepting = pool.submit(context.wrap_socket, far, server_side=True)
            client = TlsSocket(near, LIMIT_S)
            stack.callback(client.close)
            server = stack.enter_context(accepting.result())
        client.settimeout(LIMIT_S)
        yield client, server


def test_what_is_sent_arrives_also_when_it_is_more_than_was_asked_for(
    ends: tuple[TlsSocket, ssl.SSLSocket],
) -> None:
    client, server = ends
    server.sendall(b"a" * 1000)
    received = b""
    while len(received) < 1000:
        received += client.recv(10)
    assert received == b"a" * 1000
    client.sendall(b"b" * 1000)
    assert server.recv(1000) == b"b" * 1000


def test_what_arrived_before_it_was_shut_down_is_never_handed_out_encrypted(
    ends: tuple[TlsSocket, ssl.SSLSocket],
) -> None:
    client, server = ends
    server.sendall(b"a" * 1000)
    assert select.select([client], [], [], LIMIT_S)[0]
    client.shutdown(socket.SHUT_RDWR)
    received = b""
    while data := client.recv(4096):
        received += data
    assert received in (b"", b"a" * 1000)


def test_who_waits_is_let_go_by_a_shutdown(ends: tuple[TlsSocket, ssl.SSLSocket]) -> None:
    client, _ = ends
    client.settimeout(None)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.recv, 10)
        client.shutdown(socket.SHUT_RDWR)
        assert waiting.result(LIMIT_S) == b""
