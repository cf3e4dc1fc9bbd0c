"""One actor: its state, its mailbox, its name, and what ends it. ``rayd.core.actor`` acts on it."""

from collections import deque
from enum import IntEnum
from typing import Any, Final

from rayd.core.call_order import CallOrder
from rayd.core.channels import Channel
from rayd.core.task import Spec, Task
from rayd.core.worker import Worker
from rayd.errors import Fault

# Calls mailed ahead of execution: enough to hide the round trip, few enough to be taken back.
WINDOW_AHEAD: Final = 128


class ActorState(IntEnum):
    PENDING = 0
    STARTING = 1
    ALIVE = 2
    RESTARTING = 3
    DEAD = 4


class Host:
    """Another node that runs an actor of this one.

    Attributes:
        channel: the way there.
        inflight: calls that were sent there and have not ended.
        pid: of the actor's process, once it is alive.
    """

    __slots__ = ("channel", "inflight", "pid")

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.inflight: dict[bytes, Task] = {}
        self.pid = 0


class Actor:
    """One actor.

    Attributes:
        aid: actor id.
        spec: its class; options carry name, lifetime, restarts and concurrency.
        creation: the task that runs ``__init__``, kept for restarts.
        serial: order in which actors are given a place.
        waits_since: since when it looks for a place, in ns.
        queue: calls that may be mailed, in order.
        stalled: calls of a caller whose first one waits for an argument.
        worker: the process that runs it, if that is one of this node.
        host: the node that runs it, if that is another one.
        home: the connection to the node that it belongs to and that lets it run here, its *guest*; 0 if that is this
            one.
        unnamed: the head has not granted its name yet.
        window: how many calls may be in the worker's hands.
        restarts_left: -1 for without end.
        closing: the last handle has gone.
        fault: why it is dead.
    """

    __slots__ = (
        "aid",
        "closing",
        "creation",
        "fault",
        "home",
        "host",
        "name",
        "namespace",
        "ordered",
        "placement",
        "queue",
        "restarts",
        "restarts_left",
        "serial",
        "spec",
        "stalled",
        "state",
        "unnamed",
        "waits_since",
        "window",
        "worker",
    )

    def __init__(self, aid: bytes, spec: Spec, creation: Task, namespace: str) -> None:
        options = spec.options
        self.aid = aid
        self.serial = 0
        self.waits_since = 0
        self.spec = spec
        self.creation = creation
        self.state = ActorState.PENDING
        self.worker: Worker | None = None
        self.queue: deque[Task] = deque()
        self.stalled = CallOrder()
        self.host: Host | None = None
        self.home = 0
        self.name = str(options.get("actor_name") or "")
        self.namespace = str(options.get("namespace") or namespace)
        self.ordered = not options.get("out_of_order", False)
        self.window = int(options.get("concurrency", 1)) + WINDOW_AHEAD
        self.restarts_left = int(options.get("max_restarts", 0))
        self.restarts = 0
        self.closing = False
        self.unnamed = False
        self.fault: Fault | None = None

    def idle(self) -> bool:
        """Nothing queued, waiting or running; what was cancelled does not count."""
        if self.stalled.rows or (self.worker and self.worker.inflight) or (self.host and self.host.inflight):
            return False
        return all(task.done for task in self.queue)

    def row_of(self, task: Task) -> int | bytes:
        """What a call that waits for an argument holds back: its caller's later calls, or nothing but itself."""
        return task.conn if self.ordered else task.tid

    @property
    def detached(self) -> bool:
        return bool(self.spec.options.get("detached"))

    def title(self) -> str:
        """How messages call it."""
        label = f" {self.name!r}" if self.name else ""
        return f"{self.spec.name}{label} ({self.aid.hex()})"


def handle_info(actor: Actor) -> dict[str, Any]:
    """What a client needs to make a handle."""
    return {"actor_id": actor.aid, "meta": actor.spec.options.get("meta", b""), "name": actor.name}
