"""Everything that can happen to a node core. The shell translates sockets, processes and timers into these."""

from typing import Any, NamedTuple, TypeAlias

from rayd.errors import Fault
from rayd.wire.messages import Message
from rayd.wire.secret import JOIN


class Connected(NamedTuple):
    """A client has introduced itself with an acceptable HELLO and was authenticated by the shell.

    Attributes:
        conn: connection id, unique for the life of the daemon.
        kind: "driver", "worker", "cli", "logs", "node" or "bulk".
        info: the map of its HELLO.
        worker: the worker id when kind is "worker", else 0.
        scope: what the client may do (``rayd.wire.secret.KINDS``).
    """

    conn: int
    kind: str
    info: dict[str, Any]
    worker: int = 0
    scope: str = JOIN


class Linked(NamedTuple):
    """A connection that ``Dial`` asked for stands.

    Attributes:
        conn: as in ``Dial``.
        welcome: what the other node has said of itself.
    """

    conn: int
    welcome: dict[str, Any]


class Received(NamedTuple):
    """Messages of one connection, oldest first, already checked against ``SCHEMAS``."""

    conn: int
    messages: list[Message]


class Disconnected(NamedTuple):
    """The connection is gone; every message received before has been delivered.

    Attributes:
        conn: connection id.
        why: what the other side, or the attempt to reach it, has said; "" if nothing.
        how: "refused" if the other side wants no connection with this one, "nobody" if its machine says that nobody
            listens there, "" in all other cases.
    """

    conn: int
    why: str = ""
    how: str = ""


class WorkerStarted(NamedTuple):
    """The worker process exists."""

    worker: int
    pid: int


class WorkerExited(NamedTuple):
    """The worker process is gone and its last messages have been delivered.

    Attributes:
        worker: worker id.
        cause: exact cause as made by ``rayd.shell.causes`` (kind, text, exit_code, signal, figures).
        stderr: its last lines on stderr.
        unread: ids of the tasks that were still unread in its mailbox.
    """

    worker: int
    cause: dict[str, Any]
    stderr: list[str]
    unread: list[bytes]


class TakenBack(NamedTuple):
    """Answer to ``TakeBack``.

    Attributes:
        worker: worker id.
        tids: tasks that the worker has not read and will not read. Not simply the last ones mailed: it may have read
            some while the mailbox was being drained.
    """

    worker: int
    tids: list[bytes]


class Fetched(NamedTuple):
    """The end of a transfer: nothing is written any more, and all bytes are there if it was not stopped."""

    number: int


class SourceFailed(NamedTuple):
    """A node gives nothing more of a transfer, which goes on with others or waits for one; why."""

    number: int
    source: int
    why: Fault


class Arrived(NamedTuple):
    """Parts of a transfer have come; see ``Report``."""

    number: int
    parts: list[int]


class Sent(NamedTuple):
    """The oldest ``SendPart`` to a "bulk" client whose bytes were still needed has been carried out."""

    conn: int


class Join(NamedTuple):
    """This node is to become a member of the cluster whose head listens at this address; the first event of all."""

    address: str


class Recover(NamedTuple):
    """This head keeps a journal, which has these rows, (kind, key, value); the first event of all."""

    rows: list[tuple[str, bytes, Any]]


class Written(NamedTuple):
    """Rows of the journal up to a number are durable; or why none is that was not reported before."""

    number: int
    why: Fault | None


class Tick(NamedTuple):
    """Time has passed ``next_deadline``."""


Event: TypeAlias = (
    Connected
    | Linked
    | Received
    | Disconnected
    | WorkerStarted
    | WorkerExited
    | TakenBack
    | Fetched
    | SourceFailed
    | Arrived
    | Sent
    | Join
    | Recover
    | Written
    | Tick
)
