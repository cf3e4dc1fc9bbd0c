"""Connections over a network that may swallow everything: when the kernel is to give one up, and how often to try."""

import contextlib
import socket
from typing import Final

# A network that swallows everything is noticed after this long. It is longer than a node may be silent before the head
# takes it for dead (``rayd.core.cluster.SILENCE_NS``): only by then the node has ended itself for certain.
SILENCE_S: Final = 40
# From one attempt to send something again to the next. The kernel's own way is to wait twice as long each time, so that
# after a cut of 26 s it is silent until the 51st second, when others have long taken this node for dead.
AGAIN_MS_MAX: Final = 2_000
# Of <linux/tcp.h>, from Linux 6.15 on.
TCP_RTO_MAX_MS: Final = 44


def notice_silence(sock: socket.socket) -> None:
    """Let the kernel end a connection whose other side cannot be reached any more, and send what is small at once."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, SILENCE_S // 4)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, SILENCE_S // 8)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE_S * 1000)
    with contextlib.suppress(OSError):  # an older kernel keeps its own way
        sock.setsockopt(socket.IPPROTO_TCP, TCP_RTO_MAX_MS, AGAIN_MS_MAX)
