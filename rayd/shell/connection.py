"""One client connection: bytes to messages, and the introduction that every client must pass.

Unix sockets prove the user by peer credentials; over TCP both sides prove that they know the cluster's secret (see
``rayd.wire.auth``). Until a client has said HELLO acceptably it may send ``HELLO_BYTES_MAX`` bytes and gets nothing but
a challenge or a refusal.
"""

import asyncio
import os
import socket
import struct
import sys
import time
from typing import Any, Protocol, cast

from rayd.errors import NOT_PROVEN, VERSION, Fault, fault
from rayd.shell.outflow import Outflow
from rayd.shell.silence import notice_silence
from rayd.wire.auth import Gate, NotProvenError
from rayd.wire.frame import FRAME_BYTES_MAX, HELLO_BYTES_MAX, Framer, ProtocolError, encode, encode_many
from rayd.wire.messages import HELLO, PROTOCOL_VERSION, REFUSED, Message
from rayd.wire.secret import JOIN, KINDS


class Speaker(asyncio.Protocol):
    """One end of a connection that messages are sent over, whichever side has made it.

    Attributes:
        number: connection id.
        worker: worker id when the other side is that worker, else 0.
        kind: what the other side is; "" until it has introduced itself.
        peer_pid: its process, 0 if that is on another machine.
        why: why the connection ended, when anybody has said so.
        how: the same in one word, see ``rayd.core.event.Disconnected``.
    """

    def __init__(self, number: int, *, worker: int = 0, kind: str = "") -> None:
        self.number = number
        self.worker = worker
        self.kind = kind
        self.peer_pid = 0
        self.why = ""
        self.how = ""
        self._transport: asyncio.Transport | None = None

    def send(self, messages: list[Message]) -> None:
        """Write messages in one go."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(encode_many(messages) if len(messages) > 1 else encode(messages[0]))

    def pending_bytes(self) -> int:
        """Bytes written that the peer has not taken yet."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def refuse(self, why: Fault) -> None:
        """This daemon wants no more of it, for this reason."""
        self.close()

    def close(self) -> None:
        """Flush and close."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close now: the peer is known to be dead."""
        if self._transport is not None:
            self._transport.abort()


class Hub(Protocol):
    """What a connection tells the daemon."""

    def introduced(self, connection: "Connection", kind: str, info: dict[str, Any]) -> Fault | None:
        """An acceptable HELLO; a fault refuses it."""

    def linked(self, connection: Speaker, welcome: dict[str, Any]) -> None:
        """A connection that this daemon makes stands."""

    def received(self, connection: Speaker, messages: list[Message]) -> None:
        """Messages after the introduction; raises ProtocolError to have the connection closed."""

    def sent(self, connection: "Connection") -> None:
        """The oldest of the bodies that were to be streamed is needed no more."""

    def closed(self, connection: Speaker) -> None:
        """The end, once, for introduced connections only."""


class Porter(Protocol):
    """Who watches the connections that have not proven themselves yet."""

    def arrived(self, connection: "Connection") -> None:
        """A stranger."""

    def left(self, connection: "Connection", refusal: str) -> None:
        """It is a stranger no more, or has gone, or was refused with this text."""


class Connection(Speaker):
    """Server side of one connection.

    Args:
        hub: the daemon.
        number: connection id.
        worker: worker id when this is the socket that was made for that worker, else 0.
        gate: before which the client has to prove itself; None when the transport itself proves who it is.
        porter: told of clients before the gate.

    Attributes:
        scope: what the client's token allows.
        peer: who it is, for the log.
    """

    def __init__(
        self, hub: Hub, number: int, *, worker: int = 0, gate: Gate | None = None, porter: Porter | None = None
    ) -> None:
        super().__init__(number, worker=worker)
        self.hub = hub
        self.scope = JOIN if gate is None else ""
        self.peer = ""
        self._gate = gate
        self._porter = porter
        self._framer = Framer(HELLO_BYTES_MAX if not worker else FRAME_BYTES_MAX)
        self._outflow: Outflow | None = None  # there is one when bytes have been streamed

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports do not inherit from asyncio's
        sock = transport.get_extra_info("socket")
        if self._gate is not None:
            peer = transport.get_extra_info("peername") or ("?", 0)
            self.peer = f"{peer[0]}:{peer[1]}"
            notice_silence(sock)
            if self._porter is not None:
                self._porter.arrived(self)
        elif sock.family == socket.AF_UNIX and not self.worker:
            self.peer_pid, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            self.peer = f"pid {self.peer_pid}"
            if uid not in (os.getuid(), 0):
                self.refuse(fault(VERSION, f"This daemon belongs to user id {os.getuid()}, not {uid}."))

    def data_received(self, data: bytes) -> None:
        try:
            messages: list[Message] = list(self._framer.feed(data))
            while messages and not self.scope:
                self._prove(messages.pop(0))
            if not self.kind and messages and self._introduce(messages.pop(0)):
                self._framer.raise_limit()
            if messages and self.kind:
                self.hub.received(self, messages)
        except NotProvenError as error:
            self._turn_away(str(error))
        except ProtocolError as error:
            if not self.scope:
                self._turn_away(str(error))
                return
            who = f"{self.kind or 'unknown client'} {self.peer}"
            print(f"closing connection {self.number} of {who}: {error}", file=sys.stderr, flush=True)
            self.refuse(
                fault(VERSION, f"The daemon closed this connection: {error}. Use the rayd version of the daemon.")
            )

    def _prove(self, message: Message) -> None:
        """A message of a client that has not proven itself."""
        assert self._gate is not None
        reply = self._gate.answer(message, time.time())
        if reply is not None:
            self.send([reply])
            return
        self.scope = self._gate.scope
        if self._porter is not None:
            self._porter.left(self, "")

    def _turn_away(self, why: str) -> None:
        if self._porter is not None:
            self._porter.left(self, why)
        self.refuse(fault(NOT_PROVEN, f"{why}."))

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
        if kind not in (KINDS[self.scope] if not self.worker else ("worker",)):
            raise ProtocolError(f"a client of kind {kind!r:.20} cannot connect here with a token for {self.scope!r}")
        self.kind = kind
        refusal = self.hub.introduced(self, kind, info)
        if refusal is not None:
            self.kind = ""
            self.refuse(refusal)
        return refusal is None

    def stream(self, header: Message, body: memoryview) -> None:
        """Write a message and then bytes as they are; the hub is told when those may be changed."""
        if self._transport is not None and not self._transport.is_closing():
            if self._outflow is None:
                self._outflow = Outflow(self._transport, lambda: self.hub.sent(self))
                self.send = self._send_behind  # type: ignore[method-assign]  # others do not pay for the question
            self._outflow.write(encode(header), body)

    def _send_behind(self, messages: list[Message]) -> None:
        """``send``, behind what is being streamed."""
        if self._outflow is not None:
            self._outflow.write(encode_many(messages))

    def pause_writing(self) -> None:
        if self._outflow is not None:
            self._outflow.pause()

    def resume_writing(self) -> None:
        if self._outflow is not None:
            self._outflow.resume()

    def refuse(self, why: Fault) -> None:
        """Say why and close; who waits for the rest of a body sees it end too early instead."""
        if self._transport is not None and not self._transport.is_closing():
            if self._outflow is None or self._outflow.empty:
                self._transport.write(encode((REFUSED, why)))
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.scope and self._porter is not None:
            self._porter.left(self, "")
        if self.kind or self.worker:
            self.hub.closed(self)
        self._transport = None
