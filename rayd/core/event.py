"""Everything that can happen to a node core. The shell translates sockets, processes and timers into these."""

from dataclasses import dataclass
from typing import Any, TypeAlias

from rayd.wire.messages import Message


@dataclass(frozen=True, slots=True)
class Connected:
    """A client has introduced itself with an acceptable HELLO and was authenticated by the shell.

    Attributes:
        conn: connection id, unique for the life of the daemon.
        kind: "driver", "worker", "cli" or "logs".
        info: the map of its HELLO.
        worker: the worker id when kind is "worker", else 0.
    """

    conn: int
    kind: str
    info: dict[str, Any]
    worker: int = 0


@dataclass(slots=True)
class Received:
    """Messages of one connection, oldest first, already checked against ``SCHEMAS``."""

    conn: int
    messages: list[Message]


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection is gone; every message received before has been delivered."""

    conn: int


@dataclass(frozen=True, slots=True)
class WorkerStarted:
    """The worker process exists."""

    worker: int
    pid: int


@dataclass(frozen=True, slots=True)
class WorkerExited:
    """The worker process is gone and its last messages have been delivered.

    Attributes:
        worker: worker id.
        cause: exact cause as made by ``rayd.shell.causes`` (kind, text, exit_code, signal, figures).
        stderr: its last lines on stderr.
        unread: datagrams that were still unread in its mailbox.
    """

    worker: int
    cause: dict[str, Any]
    stderr: list[str]
    unread: int


@dataclass(frozen=True, slots=True)
class TakenBack:
    """Answer to ``TakeBack``: that many bodies, the last ones mailed, were never read by the worker."""

    worker: int
    count: int


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed ``next_deadline``."""


Event: TypeAlias = Connected | Received | Disconnected | WorkerStarted | WorkerExited | TakenBack | Tick
