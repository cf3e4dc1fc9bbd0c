"""One client connection: bytes to messages, and the introduction that every client must pass.

Unix sockets prove the user by peer credentials. The TCP port proves it by the cluster secret; until a client has said
HELLO acceptably it may send ``HELLO_BYTES_MAX`` bytes and gets nothing but a refusal.
"""

import asyncio
import os
import socket
import struct
import sys
from typing import Any, Protocol, cast

from rayd.errors import VERSION, Fault, fault
from rayd.wire.frame import FRAME_BYTES_MAX, HELLO_BYTES_MAX, Framer, ProtocolError, encode, encode_many
from rayd.wire.messages import HELLO, PROTOCOL_VERSION, REFUSED, Message

KINDS = ("driver", "worker", "cli", "logs")


class Hub(Protocol):
    """What a connection tells the daemon."""

    def introduced(self, connection: "Connection", kind: str, info: dict[str, Any]) -> Fault | None:
        """An acceptable HELLO; a fault refuses it."""

    def received(self, connection: "Connection", messages: list[Message]) -> None:
        """Messages after the introduction; raises ProtocolError to have the connection closed."""

    def closed(self, connection: "Connection") -> None:
        """The end, once, for introduced connections only."""


class Connection(asyncio.Protocol):
    """Server side of one connection.

    Args:
        hub: the daemon.
        number: connection id.
        worker: worker id when this is the socket that was made for that worker, else 0.
        trusted: the transport itself proves who it is (Unix socket).
    """

    def __init__(self, hub: Hub, number: int, *, worker: int = 0, trusted: bool = True) -> None:
        self.hub = hub
        self.number = number
        self.worker = worker
        self.trusted = trusted
        self.kind = ""
        self.peer_pid = 0
        self._framer = Framer(HELLO_BYTES_MAX if not worker else FRAME_BYTES_MAX)
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports do not inherit from asyncio's
        sock = transport.get_extra_info("socket")
        if sock.family == socket.AF_UNIX and not self.worker:
            self.peer_pid, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            if uid not in (os.getuid(), 0):
                self.refuse(fault(VERSION, f"This daemon belongs to user id {os.getuid()}, not {uid}."))

    def data_received(self, data: bytes) -> None:
        try:
            messages: list[Message] = list(self._framer.feed(data))
            if not self.kind and messages and self._introduce(messages.pop(0)):
                self._framer.raise_limit()
            if messages and self.kind:
                self.hub.received(self, messages)
        except ProtocolError as error:
            who = f"{self.kind or 'unknown client'} pid {self.peer_pid}"
            print(f"closing connection {self.number} of {who}: {error}", file=sys.stderr, flush=True)
            self.refuse(
                fault(VERSION, f"The daemon closed this connection: {error}. Use the rayd version of the daemon.")
            )

    def _introduce(self, message: Message) -> bool:
        """Judge the HELLO; False when it was refused."""
        if message[0] != HELLO:
            raise ProtocolError("the first message must be HELLO")
        _, version, kind, info = message
        if version != PROTOCOL_VERSION:
            text = (
                f"This daemon speaks protocol version {PROTOCOL_VERSION}, the client version {version}."
                " Install the same rayd version on both sides."
            )
            self.refuse(fault(VERSION, text))
            return False
        if kind not in KINDS or (kind == "worker") != bool(self.worker):
            raise ProtocolError(f"a client of kind {kind!r:.20} cannot connect here")
        self.kind = kind
        refusal = self.hub.introduced(self, kind, info)
        if refusal is not None:
            self.kind = ""
            self.refuse(refusal)
        return refusal is None

    def refuse(self, why: Fault) -> None:
        """Say why and close."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(encode((REFUSED, why)))
            self._transport.close()

    def send(self, messages: list[Message]) -> None:
        """Write messages in one go."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(encode_many(messages) if len(messages) > 1 else encode(messages[0]))

    def pending_bytes(self) -> int:
        """Bytes written that the peer has not taken yet."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def close(self) -> None:
        """Flush and close."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close now: the peer is known to be dead."""
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        if self.kind or self.worker:
            self.hub.closed(self)
        self._transport = None
