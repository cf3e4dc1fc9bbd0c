"""Bytes to messages and back, with the limits that keep a stranger from exhausting memory.

msgpack is self-delimiting, so the stream needs no length prefix: a ``Framer`` is fed whatever arrived and hands out
complete messages. What exceeds ``FRAME_BYTES_MAX``, is no array, has an unknown tag or wrong item types raises
``ProtocolError``; the connection it came from must then be closed, since the position in the stream is lost.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgpack

from rayd.wire.messages import NAMES, SCHEMAS

# The largest single message: a function blob or the argument list of one call. Large values never travel in messages.
FRAME_BYTES_MAX: Final = 512 * 1024 * 1024
# An unauthenticated peer has to introduce itself in less than this.
HELLO_BYTES_MAX: Final = 64 * 1024
# The longest list in a message: so many references can be asked for at once.
ITEMS_MAX: Final = 1 << 24
# Names, paths and variables of users may hold what is no Unicode text (file names that are not UTF-8, say).
TEXT_ERRORS: Final = "surrogatepass"


class ProtocolError(Exception):
    """The peer sent something that is not a message of this protocol; the text says what."""


class Framer:
    """Incremental decoder of one connection.

    Args:
        limit: the largest number of undecoded bytes held, in bytes.
    """

    __slots__ = ("_cut", "_rest", "_unpacker")

    def __init__(self, limit: int = FRAME_BYTES_MAX) -> None:
        self._unpacker = _unpacker(limit)
        # While the limit may still be raised: the bytes after the last complete message, and where they begin.
        self._rest: bytearray | None = bytearray() if limit < FRAME_BYTES_MAX else None
        self._cut = 0

    def raise_limit(self) -> None:
        """The peer is known now: allow it FRAME_BYTES_MAX. Undecoded bytes are kept."""
        rest, self._rest = self._rest, None
        self._unpacker = _unpacker(FRAME_BYTES_MAX)
        self._unpacker.feed(rest or b"")

    def feed(self, data: bytes) -> Iterator[list[Any]]:
        """Messages completed by ``data``, oldest first.

        Raises:
            ProtocolError: not this protocol, or larger than the limit.
        """
        try:
            if self._rest is not None:
                self._rest += data
            self._unpacker.feed(data)
            for message in self._unpacker:
                check(message)
                if self._rest is not None:
                    end = self._unpacker.tell()
                    del self._rest[: end - self._cut]
                    self._cut = end
                yield message
        except msgpack.BufferFull:
            raise ProtocolError("a message exceeds the size limit of this connection") from None
        except (msgpack.UnpackException, ValueError, TypeError) as error:  # TypeError: a map with a list as key
            if any(limit in str(error) for limit in ("max_bin_len", "max_str_len", "max_ext_len")):
                raise ProtocolError(f"a message exceeds the size limit of this connection: {error}") from None
            raise ProtocolError(f"undecodable bytes: {error}") from None


def _unpacker(limit: int) -> msgpack.Unpacker:
    # The table of an array is made when its head is read, so its length must not be believed up to the size limit.
    items = min(limit, ITEMS_MAX)
    return msgpack.Unpacker(
        max_buffer_size=limit,
        raw=False,
        strict_map_key=False,
        unicode_errors=TEXT_ERRORS,
        max_array_len=items,
        max_map_len=items,
    )


def check(message: Any) -> None:
    """Raise ``ProtocolError`` unless ``message`` is an array with a known tag and exactly that tag's item types."""
    if type(message) is not list or not message:
        raise ProtocolError(f"expected a message array, got {type(message).__name__}")
    variants = SCHEMAS.get(message[0]) if type(message[0]) is int else None
    if variants is None:
        raise ProtocolError(f"unknown message tag {message[0]!r:.40}")
    if tuple(map(type, message)) not in variants:
        kinds = ", ".join(type(item).__name__ for item in message[1:])
        raise ProtocolError(f"message {NAMES[message[0]]} has wrong fields ({kinds})")


def encode(message: Sequence[Any]) -> bytes:
    """One message as bytes."""
    packed: bytes = msgpack.packb(message, use_bin_type=True, unicode_errors=TEXT_ERRORS)
    return packed


def encode_many(messages: Sequence[Sequence[Any]]) -> bytes:
    """Several messages as the bytes of one write."""
    packer = msgpack.Packer(use_bin_type=True, autoreset=False, unicode_errors=TEXT_ERRORS)
    for message in messages:
        packer.pack(message)
    packed: bytes = packer.bytes()
    return packed
