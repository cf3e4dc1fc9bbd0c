"""A connection that this daemon makes to another node's daemon."""

import asyncio
import secrets
import ssl
import sys
from typing import Any, cast

from rayd.config import Environment
from rayd.shell import token_file
from rayd.shell.connection import Hub, Speaker
from rayd.shell.dial_tcp import HANDSHAKE_S, is_loopback
from rayd.shell.silence import notice_silence
from rayd.wire.auth import NotProvenError, Visitor
from rayd.wire.frame import Framer, ProtocolError, encode, encode_many
from rayd.wire.messages import HELLO, PROTOCOL_VERSION, REFUSED, WELCOME, Message
from rayd.wire.secret import CHALLENGE_BYTES


class Link(Speaker):
    """The client's side of a connection between daemons.

    Args:
        hub: the daemon.
        number: connection id.
        info: what HELLO says of this node.
        unencrypted: leave out TLS.
    """

    def __init__(self, hub: Hub, number: int, info: dict[str, Any], *, unencrypted: bool) -> None:
        super().__init__(number, kind="node")
        self.hub = hub
        self._info = info
        self._unencrypted = unencrypted
        self._framer = Framer()
        self._visitor: Visitor | None = None
        self._proven = False
        self._welcome: dict[str, Any] | None = None
        self._waiting: list[Message] = []
        self._closed = False

    async def connect(self, loop: asyncio.AbstractEventLoop, address: str) -> None:
        """Connect and introduce this node; the hub hears of the outcome either way."""
        try:
            await asyncio.wait_for(self._connect(loop, address), HANDSHAKE_S)
        except TimeoutError:
            self._fail(f"nothing answers at {address} within {HANDSHAKE_S:g} s")
        except ConnectionRefusedError:
            self.how = "nobody"
            self._fail(f"nobody listens at {address}")
        except OSError as error:
            self._fail(f"{address} cannot be reached: {error}")
        except token_file.TokenFileError as error:
            self._fail(f"cannot prove to {address} that this node belongs to its cluster: {error}")

    def _fail(self, why: str) -> None:
        self.why = self.why or why
        print(self.why, file=sys.stderr, flush=True)
        if self._transport is None:
            self.hub.closed(self)
        else:  # it stands after all, and ends like any other
            self.close()

    async def _connect(self, loop: asyncio.AbstractEventLoop, address: str) -> None:
        key = token_file.load(Environment.read().token_path())
        host, _, port = address.rpartition(":")
        context: ssl.SSLContext | None = None
        if not is_loopback(host) and not self._unencrypted:
            from rayd.shell import tls

            context = tls.client_context()
        transport, _ = await loop.create_connection(
            lambda: self, host, int(port), ssl=context, server_hostname="" if context is not None else None
        )
        notice_silence(transport.get_extra_info("socket"))
        binding = b""
        if context is not None:
            from rayd.shell import tls

            binding = tls.binding_of(transport.get_extra_info("ssl_object"))
        self._visitor = Visitor(key, secrets.token_bytes(CHALLENGE_BYTES), binding)
        transport.write(encode(self._visitor.greeting()))
        loop.call_later(HANDSHAKE_S, self._expect_welcome, address)

    def _expect_welcome(self, address: str) -> None:
        if self._welcome is None and not self._closed:
            self._give_up(f"{address} has not let this node in within {HANDSHAKE_S:g} s")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._closed:
            transport.close()

    def data_received(self, data: bytes) -> None:
        try:
            messages: list[Message] = list(self._framer.feed(data))
            while messages and self._welcome is None:
                self._introduce(messages.pop(0))
            if messages and messages[-1][0] == REFUSED:
                self._refused(messages.pop())
            if messages:
                self.hub.received(self, messages)
        except (ProtocolError, NotProvenError) as error:
            self._give_up(str(error))

    def _introduce(self, message: Message) -> None:
        assert self._visitor is not None
        assert self._transport is not None
        if message[0] == REFUSED:
            self._refused(message)
        elif not self._proven:
            proof = self._visitor.answer(message)
            self._proven = True
            self._transport.write(encode_many([proof, (HELLO, PROTOCOL_VERSION, "node", self._info)]))
        elif message[0] == WELCOME:
            self._welcome = message[1]
            self.hub.linked(self, message[1])
            waiting, self._waiting = self._waiting, []
            if waiting:
                self.send(waiting)
        else:
            raise ProtocolError("the other daemon did not answer the introduction")

    def _refused(self, message: Message) -> None:
        """The other daemon wants no connection, or no more."""
        self.how = "refused"
        self._give_up(str(message[1]["message"]))

    def _give_up(self, why: str) -> None:
        self.why = why
        print(f"closing the connection to another daemon: {why}", file=sys.stderr, flush=True)
        self.close()

    def send(self, messages: list[Message]) -> None:
        """Write messages in one go, or keep them until the other side has let us in."""
        if self._welcome is None:
            self._waiting += messages
        else:
            super().send(messages)

    def close(self) -> None:
        """Flush and close, now or as soon as the connection stands."""
        self._closed = True
        super().close()

    def abort(self) -> None:
        """Close now, or as soon as the connection stands."""
        self._closed = True
        super().abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self.hub.closed(self)
