"""Calls of actors on other nodes.

An actor lives on the node of the process that created it, whose number is part of its id, so a call finds its way from
anywhere. The caller's node keeps the calls of one caller in their order: one that waits for an argument holds back
those after it; the rest is done by the node of the actor, which takes them in the order in which they arrive.
"""

from collections import deque
from collections.abc import Iterator

from rayd.core.channels import Channels
from rayd.core.cluster import Cluster
from rayd.core.dispatch import Dispatcher
from rayd.core.offload import Offload
from rayd.core.state import NodeState
from rayd.core.task import STREAMING, Task
from rayd.errors import ACTOR_DIED, CANCELLED, UNSCHEDULABLE, Fault, fault
from rayd.ids import home_of_actor
from rayd.wire.messages import FAULT, KILL


class FarCalls:
    """The calls that leave a node.

    Args:
        state: the node's tables.
        cluster: the other nodes.
        channels: the ways to them.
        offload: what others run for us.
        tasks: the common end of tasks.
    """

    def __init__(
        self, state: NodeState, cluster: Cluster, channels: Channels, offload: Offload, tasks: Dispatcher
    ) -> None:
        self.state = state
        self.cluster = cluster
        self.channels = channels
        self.offload = offload
        self.tasks = tasks
        self._rows: dict[tuple[bytes, int], deque[Task]] = {}

    def is_far(self, aid: bytes) -> bool:
        """Whether an actor lives on another node."""
        number = home_of_actor(aid)
        return number != self.state.number and number in self.cluster.members

    def expect(self, task: Task) -> None:
        """A call is about to be admitted: it has its place in its caller's order from now on."""
        assert task.actor is not None
        row = self._rows.get((task.actor, task.conn))
        if row is not None:
            row.append(task)
        elif task.deps:
            self._rows[task.actor, task.conn] = deque([task])

    def ready(self, task: Task) -> None:
        """A call has all its arguments."""
        assert task.actor is not None
        name = (task.actor, task.conn)
        row = self._rows.get(name)
        if row is None:
            if task.deps is None:  # one with arguments went with its row, perhaps before its own turn to be told
                self._send(task)
            return
        while row and (row[0].missing == 0 or row[0].done):
            self._send(row.popleft())
        if not row and self._rows.get(name) is row:  # a call that failed may have brought us here again meanwhile
            del self._rows[name]

    def _send(self, task: Task) -> None:
        if task.done or self.tasks.fail_on_bad_argument(task):
            return
        why = self._obstacle(task)
        if why is not None:
            self.tasks.finish(task, FAULT, why, None)
            return
        assert task.actor is not None
        self.offload.send(task, self.cluster.members[home_of_actor(task.actor)])

    def _obstacle(self, task: Task) -> Fault | None:
        assert task.actor is not None
        member = self.cluster.members[home_of_actor(task.actor)]
        if task.spec.job not in self.state.jobs:
            text = f"The call {task.spec.name} ({task.tid.hex()}) was cancelled: the driver that made it has ended."
            return fault(CANCELLED, text, task_id=task.tid.hex())
        if not member.alive:
            text = (
                f"The actor {task.actor.hex()} died with its node {member.node_id.hex()} at {member.address}."
                " Create it again."
            )
            return fault(ACTOR_DIED, text, actor_id=task.actor.hex())
        if task.spec.num_returns == STREAMING:
            text = (
                f"{task.spec.name} streams, and its actor lives on another node ({member.address}): this version"
                " streams within a node only. Return a list, or call it from a task that runs on the actor's node."
            )
            return fault(UNSCHEDULABLE, text)
        return None

    def waiting(self) -> Iterator[Task]:
        """Calls that have not been sent yet."""
        for row in self._rows.values():
            yield from row

    def kill(self, job: bytes, aid: bytes, no_restart: bool) -> None:
        """KILL of an actor elsewhere."""
        member = self.cluster.members[home_of_actor(aid)]
        if member.alive:
            channel = self.channels.to(job, member)
            self.state.effects.sends[channel.conn].append((KILL, aid, no_restart))
