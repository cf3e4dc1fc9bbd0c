"""Actors of this node that another one runs, because it has the room.

The node on which an actor was created stays its *home*: its number is part of the actor's id, so calls from anywhere
come here; here they wait, in order, and here it is decided whether it is started again. Its *host* only runs it: the
mailbox of its process is another mailbox behind this one, and of what it has been sent and has not answered when it
goes, the home makes the best, as of what a worker of its own has had.
"""

from typing import Any, Final

from rayd.core.actor import Actors
from rayd.core.actor_faults import died
from rayd.core.actor_record import Actor, ActorState, Host
from rayd.core.channels import Channel, Channels
from rayd.core.cluster import Cluster
from rayd.core.guests import ALIVE, DEAD, REFUSED
from rayd.core.member import Member
from rayd.core.offload import Offload, accepts
from rayd.core.resources import Ledger
from rayd.core.state import Conn, NodeState
from rayd.core.task import Task
from rayd.wire.messages import HOST, KILL, UNHOST

# Nodes are filled up to here one after the other, then evenly.
PACKED_UNTIL: Final = 0.5
# The two ends of a connection that is cut give it up up to 20 s apart: each when its kernel has heard nothing for 40 s,
# be that of data or of a probe, and looks at it. What ran at the other end has surely ended so long after this end has.
BOTH_NOTICE_NS: Final = 25_000_000_000


class Hosting:
    """The hosts of a node's actors.

    Args:
        state: the node's tables.
        cluster: the other nodes.
        channels: the ways to them.
        offload: calls under way to them.
        actors: of this node.
    """

    def __init__(
        self, state: NodeState, cluster: Cluster, channels: Channels, offload: Offload, actors: Actors
    ) -> None:
        self.state = state
        self.cluster = cluster
        self.channels = channels
        self.offload = offload
        self.actors = actors
        self._doubts: dict[bytes, tuple[Member, int]] = {}  # actors that may still run there, until then

    # ---- what the actors need (``rayd.core.elsewhere.Hosts``) --------------------------------------------------------

    def place(self, actor: Actor) -> bool:
        """Give an actor to another node if that suits it better than this one, or has the room that this one has not;
        whether one has it now.
        """
        fit = {member.number: member for member in self.cluster.others() if self._has_room(member, actor)}
        if not fit:
            return False
        spec = actor.spec
        mine = self.state.claims.fitting(spec.cid, spec.sources, spec.placement, spec.demand) is not None
        if spec.spread:
            number = self.cluster.next_in_turn(spec.cid, fit, mine)
        else:
            numbers = [*fit, self.state.number] if mine else fit
            number = min(numbers, key=lambda n: (self._load_of(actor, n), n != self.state.number, n))
        if number != self.state.number:
            self.give(actor, fit[number])
        return number != self.state.number

    def _load_of(self, actor: Actor, number: int) -> float:
        """How much of what an actor asks for most is in use on a node; 0 as long as that is less than a half."""
        here = number == self.state.number
        member = self.cluster.members[number]
        used = (self.state.ledger if here else member.free).used(member.totals, actor.spec.wanted)
        return 0.0 if used < PACKED_UNTIL else used

    def waits(self, actor: Actor) -> bool:
        """Whether an actor must not be started again yet, because it may still run where it was."""
        member, until = self._doubts.get(actor.aid, (None, 0))
        return member is not None and member.alive and self.state.now < until

    def deadline(self) -> int | None:
        """When the next actor is surely nowhere, in ns."""
        return min(until for _, until in self._doubts.values()) if self._doubts else None

    def resume(self) -> bool:
        """Forget the doubts that are over; whether there were any."""
        over = [aid for aid, (_, until) in self._doubts.items() if until <= self.state.now]
        for aid in over:
            del self._doubts[aid]
        return bool(over)

    @staticmethod
    def _has_room(member: Member, actor: Actor) -> bool:
        spec = actor.spec
        if spec.cid in member.refused or not member.takes_work or not accepts(spec, member.number):
            return False
        return bool(spec.group) or all(member.free.fits(demand) for demand in (spec.placement, spec.demand))

    def give(self, actor: Actor, member: Member) -> None:
        """Have another node run an actor, if it has the room."""
        creation, spec = actor.creation, actor.spec
        for demand in (spec.demand, spec.placement):
            if member.free.fits(demand):
                member.free.take(demand)
                self.cluster.assume(member)
                break
        channel = self.channels.to(spec.job, member)
        self.channels.announce(channel, spec)
        deps = creation.deps or []
        contained = [oid for oid in creation.pins or () if oid not in deps and oid != creation.args_oid]
        message = (HOST, actor.aid, spec.cid, creation.args, creation.args_oid, deps, contained)
        self.state.effects.sends[channel.conn].append(message)
        actor.host = Host(channel)
        actor.state = ActorState.STARTING

    def send(self, actor: Actor, task: Task) -> None:
        """Give the host of an actor a call."""
        assert actor.host is not None
        actor.host.inflight[task.tid] = task
        self.offload.send(task, actor.host.channel)

    def kill(self, actor: Actor, no_restart: bool) -> None:
        """The actor's process is to die."""
        assert actor.host is not None
        self.state.effects.sends[actor.host.channel.conn].append((KILL, actor.aid, no_restart))

    def let_end(self, actor: Actor) -> None:
        """The actor is to end when it has done what it has been given."""
        assert actor.host is not None
        self.state.effects.sends[actor.host.channel.conn].append((UNHOST, actor.aid))

    # ---- what the hosts say ------------------------------------------------------------------------------------------

    def answered(self, task: Task) -> None:
        """A call has come to its end elsewhere; perhaps it was one of an actor of ours."""
        actor = self.actors.by_id.get(task.actor or b"")
        if actor is not None and actor.host is not None and actor.host.inflight.pop(task.tid, None) is not None:
            self.actors.pump(actor)

    def told(self, conn: Conn, message: Any) -> None:
        """HOSTED."""
        _, aid, state, why, unbegun, held = message
        channel = self.channels.by_conn[conn.conn]
        actor = self.actors.by_id.get(aid)
        mine = actor is not None and actor.host is not None and actor.host.channel is channel
        if state == ALIVE:
            if actor is not None and actor.host is not None and mine:
                actor.waits_since = 0
                actor.host.pid = int(why["pid"])
                self.actors.alive(actor, bytes(why["value"]))
            return
        self.state.objects.hold(conn.conn, held)
        tasks = self._take_back(channel, aid)
        if actor is None or not mine:  # it was to end: what it had been sent has ended with it
            return
        if state == REFUSED:
            channel.member.free = Ledger(why["free"])
            channel.member.refused[actor.spec.cid] = None
            self.cluster.assume(channel.member)
            if actor.state is ActorState.ALIVE and actor.restarts_left == 0:  # and what its constructor took has gone
                gone = died(actor, f"it ran on {channel.member.title()}, which was drained")
                self._lost(actor, gone, tasks, {task.tid for task in tasks})
                return
            actor.queue.extendleft(reversed(tasks))
            self._look_again(actor)
            return
        if state == DEAD:
            actor.restarts_left = 0
        self._lost(actor, why, tasks, set(unbegun))

    def _look_again(self, actor: Actor) -> None:
        """It has not been started: another place has to be found."""
        actor.host = None
        actor.state = ActorState.RESTARTING if actor.restarts else ActorState.PENDING
        self.actors.place_soon(actor)

    def _take_back(self, channel: Channel, aid: bytes) -> list[Task]:
        """What a host had been sent for an actor that it does not run any more."""
        tasks = [task for task in channel.tasks.values() if task.actor == aid]
        for task in tasks:
            self.offload.back(channel, task.tid)
        return [task for task in tasks if not task.done]

    def _lost(self, actor: Actor, why: dict[str, Any], tasks: list[Task], unbegun: set[bytes]) -> None:
        actor.host = None
        self.actors.lost(actor, why, tasks, unbegun)
        self.state.dirty = True

    def lost(self, channel: Channel) -> None:
        """A channel has ended, and with it what ran at its other end."""
        for actor in list(self.actors.by_id.values()):
            if actor.host is None or actor.host.channel is not channel:
                continue
            if not channel.stands:
                self._look_again(actor)
                continue
            if not actor.detached and self.state.is_abandoned(actor.creation):
                actor.restarts_left = 0
            why = died(actor, f"it ran on {channel.gone()}")
            if channel.member.alive:
                self._doubts[actor.aid] = channel.member, self.state.now + BOTH_NOTICE_NS
            self._lost(actor, why, self._take_back(channel, actor.aid), set())
