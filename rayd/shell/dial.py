"""Connect to a daemon: on this machine through its Unix socket, elsewhere over TCP (see ``rayd.shell.dial_tcp``)."""

import socket
from typing import NamedTuple, Protocol

from rayd.config import Environment


class Stream(Protocol):
    """What a connected socket and ``tls.TlsSocket`` have in common."""

    def fileno(self) -> int: ...
    def recv(self, size: int, /) -> bytes: ...
    def sendall(self, data: bytes, /) -> None: ...
    def setblocking(self, blocking: bool, /) -> None: ...
    def settimeout(self, seconds: float | None, /) -> None: ...
    def shutdown(self, how: int, /) -> None: ...
    def close(self) -> None: ...


class Target(NamedTuple):
    """Where a daemon serves.

    Attributes:
        path: of its Unix socket; "" to reach it by host and port.
        host, port: where it listens.
    """

    path: str
    host: str = ""
    port: int = 0

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"


class UnreachableError(ConnectionError):
    """No daemon could be reached there, or it is not one of ours; the text says why and what to do."""


def dial(target: Target, environment: Environment | None = None) -> Stream:
    """Connect, and over TCP prove to each other that both belong to the cluster.

    Args:
        target: where to.
        environment: says where the token lies (default: that of the process).

    Raises:
        UnreachableError: it did not work.
    """
    if target.path:
        return _dial_unix(target.path)
    from rayd.shell.dial_tcp import dial_tcp  # what it needs would delay every local ``ray.init``

    return dial_tcp(target, environment or Environment.read())


def _dial_unix(path: str) -> Stream:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.connect(path)
    except OSError as error:
        sock.close()
        raise UnreachableError(
            f"cannot connect to the daemon's socket {path}: {error.strerror}; see `rayd status`"
        ) from None
    return sock
