"""The title of a process as ``ps`` and ``top`` show it, without a library: the kernel reads it from the memory that
held argv.
"""

import ctypes
from dataclasses import dataclass
from typing import Final

_PR_SET_NAME: Final = 15


@dataclass(slots=True)
class _Room:
    """Where argv lay: address and length in bytes; 0 when it cannot be found."""

    address: int = 0
    length: int = -1
    current: str = ""


_room = _Room()
_libc = ctypes.CDLL(None)


def title(text: str) -> None:
    """Show ``text`` as this process's title. Does nothing where the kernel does not tell where argv is."""
    if text == _room.current:
        return
    _room.current = text
    if _room.length < 0:
        _find()
    encoded = text.encode("utf-8", "replace")
    _libc.prctl(_PR_SET_NAME, ctypes.c_char_p(encoded[:15]), 0, 0, 0)
    if _room.length > 1:
        padded = encoded[: _room.length - 1].ljust(_room.length, b"\0")
        ctypes.memmove(_room.address, padded, _room.length)


def _find() -> None:
    _room.length = 0
    try:
        with open("/proc/self/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        start, end = int(fields[45]), int(fields[46])
    except (OSError, ValueError, IndexError):
        return
    if 0 < start < end:
        _room.address, _room.length = start, end - start
