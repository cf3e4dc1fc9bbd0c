"""Everything a core can ask the shell to do, with the shell's obligations beside each.

The core appends to one ``Effects`` that its caller owns and drains after every step. Messages to connections and bodies
to mailboxes are kept in plain lists because they are the hot path; the rest are small records carried out in order.
"""

from collections import defaultdict
from typing import Any, NamedTuple, TypeAlias

from rayd.wire.messages import Message


class StartWorker(NamedTuple):
    """Fork a worker; answer with ``WorkerStarted`` or, when that is impossible, ``WorkerExited``."""

    worker: int
    job: bytes
    env: tuple[tuple[str, str], ...]


class KillWorker(NamedTuple):
    """SIGKILL the worker's process group; ``WorkerExited`` follows by itself."""

    worker: int


class RetireWorker(NamedTuple):
    """Close the mailbox: the worker ends by itself once it has read everything."""

    worker: int


class TakeBack(NamedTuple):
    """Drain the unread datagrams of a mailbox and answer with ``TakenBack`` before anything else is mailed to it."""

    worker: int


class Interrupt(NamedTuple):
    """SIGINT to the worker, after the messages of the same step have been written to it."""

    worker: int


class Dial(NamedTuple):
    """Connect to another node as ``conn`` and introduce this one with ``info``; answer with ``Linked``, or with
    ``Disconnected`` when that is impossible. What is sent to it before then waits.
    """

    conn: int
    address: str
    info: dict[str, Any]


class Joined(NamedTuple):
    """This node is a member of the cluster now: clients may be let in."""

    number: int


class FenceAt(NamedTuple):
    """Unless there is another of these before then, all workers are to be killed at ``due``, in monotonic ns, and even
    if the daemon does not get the processor: others may soon start the actors of a node that is not heard of.
    """

    due: int


class SendPart(NamedTuple):
    """Send DATA with a copy of these bytes of the store; to a "bulk" client the bytes themselves after a REPLY,
    answered with ``Sent`` when they are not needed any more.
    """

    conn: int
    req: int
    offset: int
    size: int


class Fetch(NamedTuple):
    """Bring the bytes of an object from another node's store to a place in this one; ``Fetched`` follows when all are
    there. More of these with the same number name more nodes from which they come, or more that such a node has. When
    one of them gives nothing any more, that is answered with ``SourceFailed``.

    Attributes:
        number: of the transfer.
        source: number of the other node.
        address: host:port of its daemon.
        oid: the object.
        offset, size: where its bytes are to go, and how many there are.
        parts: what the other node has of it (see ``rayd.core.chunks``); all if none are named.
    """

    number: int
    source: int
    address: str
    oid: bytes
    offset: int
    size: int
    parts: tuple[int, ...]


class Report(NamedTuple):
    """Say from now on with ``Arrived`` which parts of a transfer have come, at first all that have until now."""

    number: int


class StopFetch(NamedTuple):
    """Give a transfer up; ``Fetched`` follows when nothing is written any more."""

    number: int


class Audit(NamedTuple):
    """Write one line about who does what to the log."""

    text: str


class Recovered(NamedTuple):
    """This head goes on where another was killed; what it has found in the journal, for people: counts by name."""

    figures: dict[str, int]


class Stored(NamedTuple):
    """In the place of a value: these bytes of the store as they are now."""

    offset: int
    size: int


class Write(NamedTuple):
    """Make a row of the journal durable, and answer with ``Written``; rows are written in order.

    Attributes:
        number: of the row, counted from 1.
        kind, key: its name.
        value: None to remove it, or ``Stored``.
        fresh: what was reported as not written has been taken back; until a row says so, further ones are refused.
    """

    number: int
    kind: str
    key: bytes
    value: Any
    fresh: bool


class CloseConnection(NamedTuple):
    """Close a connection.

    Attributes:
        conn: its number.
        flush: what was sent is to arrive; else nobody is there to receive it.
    """

    conn: int
    flush: bool = True


class StopDaemon(NamedTuple):
    """Shut everything down in order and exit."""

    reason: str


Effect: TypeAlias = (
    StartWorker
    | KillWorker
    | RetireWorker
    | TakeBack
    | Interrupt
    | Joined
    | FenceAt
    | SendPart
    | Fetch
    | Report
    | StopFetch
    | Audit
    | Recovered
    | Write
    | CloseConnection
    | StopDaemon
)


class Effects:
    """The way out of a core.

    Attributes:
        sends: messages by connection id, in order.
        mail: EXEC bodies by worker id, in order.
        dials: connections to be made; before anything of the same step is sent, since that may be for them.
        writes: bytes for the store, (offset, bytes); to be copied there before anything of the same step is sent.
        others: everything else, in order; to be carried out after sends and mail of the same step.
    """

    __slots__ = ("dials", "mail", "others", "sends", "writes")

    def __init__(self) -> None:
        self.sends: defaultdict[int, list[Message]] = defaultdict(list)
        self.mail: defaultdict[int, list[list[Any]]] = defaultdict(list)
        self.dials: list[Dial] = []
        self.writes: list[tuple[int, bytes]] = []
        self.others: list[Effect] = []
