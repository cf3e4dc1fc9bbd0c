"""What every journal can do, wherever it keeps its rows."""

from typing import Any, NamedTuple, Protocol

import msgpack


class JournalError(OSError):
    """The journal cannot be used; the text says why and what to do."""


class TakenError(JournalError):
    """Another head writes this journal now."""


class Row(NamedTuple):
    """One row.

    Attributes:
        kind, key: its name.
        value: packed; None to remove it.
    """

    kind: str
    key: bytes
    value: bytes | None


class JournalStore(Protocol):
    """Rows that outlive the process. Used by one thread at a time."""

    name: str  # for people

    def load(self) -> list[tuple[str, bytes, Any]]:
        """All rows, with their values unpacked.

        Raises:
            JournalError: they cannot be read.
        """

    def write(self, rows: list[Row]) -> None:
        """Make all of these durable, in this order, or none.

        Raises:
            JournalError: none is.
        """

    def clear(self) -> None:
        """Forget everything: the cluster has come to its end."""

    def close(self) -> None:
        """Let another process use it."""


def pack(value: Any) -> bytes | None:
    """The value of a row as it is stored."""
    return None if value is None else bytes(msgpack.packb(value))


def unpack(value: bytes) -> Any:
    """The reverse of ``pack``."""
    return msgpack.unpackb(value)
