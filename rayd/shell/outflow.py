"""What leaves a daemon for another store: messages, and behind some of them bytes as they are, without a copy."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

# Bytes of a store that are written at a time: other connections get their turn in between.
STEP: Final = 1 << 20


class _Piece(NamedTuple):
    """Something that is to be written."""

    data: bytes | memoryview
    is_body: bool


class Outflow:
    """Writes in order, and bodies no faster than the other side takes them.

    Args:
        transport: of the connection.
        on_sent: called for each body, in order, when its bytes may be changed.
    """

    def __init__(self, transport: asyncio.Transport, on_sent: Callable[[], None]) -> None:
        self._transport = transport
        self._on_sent = on_sent
        self._pieces: deque[_Piece] = deque()
        self._paused = False
        self._written = 0  # bytes that the transport was given
        self._leaving: deque[int] = deque()  # how many those were at the end of each body that it may still need

    @property
    def empty(self) -> bool:
        """Everything has been given to the transport."""
        return not self._pieces

    def write(self, header: bytes, body: memoryview | None = None) -> None:
        """Write encoded messages, and a body."""
        self._pieces.append(_Piece(header, is_body=False))
        if body is not None:
            self._pieces.append(_Piece(body, is_body=True))
        self._transport.set_write_buffer_limits(high=2 * STEP)
        self.go_on()

    def pause(self) -> None:
        """The transport has as much as it wants."""
        self._paused = True

    def resume(self) -> None:
        """The transport takes more."""
        self._paused = False
        self.go_on()

    def go_on(self) -> None:
        """Write what can be written, and tell of what is through."""
        if self._transport.is_closing():
            return
        while self._pieces and not self._paused:
            data, is_body = self._pieces.popleft()
            if len(data) > STEP:
                self._pieces.appendleft(_Piece(data[STEP:], is_body))
            self._written += min(len(data), STEP)
            if is_body and len(data) <= STEP:
                self._leaving.append(self._written)
            self._transport.write(data[:STEP])
        through = self._written - self._transport.get_write_buffer_size()
        while self._leaving and self._leaving[0] <= through:
            self._leaving.popleft()
            self._on_sent()
        if self._leaving and not self._pieces:
            self._transport.set_write_buffer_limits(high=0)  # to be told when it has handed on everything
