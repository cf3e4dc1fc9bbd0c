"""Content ids of exported functions and classes."""

import hashlib

from rayd.ids import UNIQUE_ID_BYTES


def content_id(blob: bytes) -> bytes:
    """28 bytes that name these contents."""
    return hashlib.blake2b(blob, digest_size=UNIQUE_ID_BYTES).digest()
