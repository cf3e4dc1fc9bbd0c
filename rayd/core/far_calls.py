"""Calls of actors on other nodes.

An actor belongs to the node of the process that created it, its *home*, whose number is part of its id: so a call finds
its way from anywhere. The caller's node keeps the calls of one caller in their order: one that waits for an argument
holds back those after it; the rest is done by the home, which takes them in the order in which they arrive.
"""

from collections.abc import Iterator

from rayd.core.call_order import CallOrder
from rayd.core.channels import Channels
from rayd.core.cluster import HEAD, Cluster
from rayd.core.dispatch import Dispatcher
from rayd.core.offload import Offload
from rayd.core.state import NodeState
from rayd.core.task import Task
from rayd.errors import ACTOR_DIED, CANCELLED, Fault, fault
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
        self._order = CallOrder()
        self._parked: list[Task | tuple[bytes, bytes, bool]] = []  # calls, and kills, for a head that has gone

    def is_far(self, aid: bytes) -> bool:
        """Whether an actor belongs to another node."""
        number = home_of_actor(aid)
        return number != self.state.number and number in self.cluster.members

    def expect(self, task: Task) -> None:
        """A call is about to be admitted: it has its place in its caller's order from now on."""
        assert task.actor is not None
        self._order.expect((task.actor, task.conn), task)

    def ready(self, task: Task) -> None:
        """A call has all its arguments."""
        for fit in self._order.ready((task.actor, task.conn), task):
            self._send(fit)

    def _send(self, task: Task) -> None:
        if task.done or self.tasks.fail_on_bad_argument(task):
            return
        if self._waits_for_head(task.actor):
            self._parked.append(task)
            return
        why = self._obstacle(task)
        if why is not None:
            self.tasks.finish(task, FAULT, why, None)
            return
        assert task.actor is not None
        self.offload.send(task, self.channels.to(task.spec.job, self.cluster.members[home_of_actor(task.actor)]))

    def _waits_for_head(self, aid: bytes | None) -> bool:
        """Whether an actor belongs to a head that has gone and may come back, perhaps with the actor."""
        return self.cluster.absence is not None and home_of_actor(aid or b"") == HEAD

    def go_on(self) -> None:
        """The head is back."""
        parked, self._parked = self._parked, []
        for what in parked:
            if isinstance(what, Task):
                self._send(what)
            else:
                self.kill(*what)

    def _obstacle(self, task: Task) -> Fault | None:
        assert task.actor is not None
        member = self.cluster.members[home_of_actor(task.actor)]
        if task.spec.job not in self.state.jobs:
            text = f"The call {task.spec.name} ({task.tid.hex()}) was cancelled: the driver that made it has ended."
            return fault(CANCELLED, text, task_id=task.tid.hex())
        if not member.alive:
            text = f"The actor {task.actor.hex()} died with its {member.title()}. Create it again."
            return fault(ACTOR_DIED, text, actor_id=task.actor.hex())
        return None

    def waiting(self) -> Iterator[Task]:
        """Calls that have not been sent yet."""
        yield from self._order
        yield from (task for task in self._parked if isinstance(task, Task) and not task.done)

    def kill(self, job: bytes, aid: bytes, no_restart: bool) -> None:
        """KILL of an actor elsewhere."""
        member = self.cluster.members[home_of_actor(aid)]
        if self._waits_for_head(aid):
            self._parked.append((job, aid, no_restart))
        elif member.alive and job in self.state.jobs:
            channel = self.channels.to(job, member)
            self.state.effects.sends[channel.conn].append((KILL, aid, no_restart))
