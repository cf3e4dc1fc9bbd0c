"""The TCP port of a daemon: behind the cluster's secret, and behind TLS where it can be reached from elsewhere."""

import asyncio
import os
import secrets
import socket
import ssl
import sys
from collections.abc import Callable
from functools import partial
from typing import Final

from rayd.shell import token_file
from rayd.shell.dial_tcp import is_loopback
from rayd.shell.porter import PATIENCE_S, Porter
from rayd.wire.auth import Gate
from rayd.wire.secret import CHALLENGE_BYTES

# How long nobody is let in when the system has no room for another connection, in seconds.
REST_S: Final = 1.0


class Door:
    """A bound port, and who may come in.

    Args:
        sock: bound, and listening.
        token_path: file of the cluster's token; made if there is none. Looked at again whenever somebody knocks, so
            that a changed secret is in force without a restart.
        unencrypted: leave out TLS.

    Raises:
        TokenFileError: there is no secret to be had.
    """

    def __init__(self, sock: socket.socket, token_path: str, *, unencrypted: bool) -> None:
        self._sock = sock
        self._path = token_path
        self._secret = token_file.secret_of_cluster(token_path)
        self._stamp = self._file_stamp()
        self._encrypted = not unencrypted and not is_loopback(sock.getsockname()[0])
        self._binding = b""
        self._porter: Porter | None = None
        self._accepting: asyncio.Task[None] | None = None

    def open(self, loop: asyncio.AbstractEventLoop, serve: Callable[[Gate, Porter], asyncio.BaseProtocol]) -> None:
        """Let in who comes.

        Args:
            loop: the daemon's.
            serve: makes the protocol of a new connection.
        """
        context: ssl.SSLContext | None = None
        if self._encrypted:
            from rayd.shell import tls

            context, self._binding = tls.server_context()
        porter = self._porter = Porter(loop)

        def protocol() -> asyncio.BaseProtocol:
            return serve(Gate(self._present_secret(), secrets.token_bytes(CHALLENGE_BYTES), self._binding), porter)

        self._sock.setblocking(False)
        self._accepting = loop.create_task(self._accept(loop, porter, protocol, context), name="accept")

    async def _accept(
        self,
        loop: asyncio.AbstractEventLoop,
        porter: Porter,
        protocol: Callable[[], asyncio.BaseProtocol],
        context: ssl.SSLContext | None,
    ) -> None:
        """Not the loop's own server, which lets any number of strangers begin with TLS and tells nobody of them."""
        patience_s = None if context is None else PATIENCE_S
        while True:
            await porter.make_room()
            try:
                sock, (host, port) = await loop.sock_accept(self._sock)
            except OSError as error:
                print(f"nobody is let in for {REST_S:g} s: {error.strerror}", file=sys.stderr, flush=True)
                await asyncio.sleep(REST_S)
            else:
                let_in = partial(
                    loop.connect_accepted_socket, protocol, sock, ssl=context, ssl_handshake_timeout=patience_s
                )
                porter.knocks(f"{host}:{port}", let_in)

    def close(self) -> None:
        """Nobody comes in any more."""
        if self._accepting is not None:
            self._accepting.cancel()
        if self._porter is not None:
            self._porter.close()

    def _present_secret(self) -> bytes:
        stamp = self._file_stamp()
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._secret = token_file.secret_of_cluster(self._path) if stamp else self._secret
            except token_file.TokenFileError as error:
                print(f"the former secret stays in force: {error}", file=sys.stderr, flush=True)
        return self._secret

    def _file_stamp(self) -> tuple[int, int] | None:
        try:
            there = os.stat(self._path)
        except OSError:
            return None
        return there.st_ino, there.st_mtime_ns
