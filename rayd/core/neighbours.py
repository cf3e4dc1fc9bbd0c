"""The other nodes of the cluster as one part of a node: members, channels, their objects, tasks given and taken."""

from collections.abc import Callable
from typing import Any

from rayd.core.actor import Actors
from rayd.core.channels import Channel, Channels
from rayd.core.claiming import Claiming
from rayd.core.cluster import Cluster
from rayd.core.dispatch import Dispatcher
from rayd.core.event import Arrived, Fetched, Linked, Sent, SourceFailed
from rayd.core.far_calls import FarCalls
from rayd.core.faults import cancelled
from rayd.core.foreign import Foreign
from rayd.core.guests import HereForOthers
from rayd.core.hosting import Hosting
from rayd.core.jobs import Jobs
from rayd.core.lending import Lending
from rayd.core.lineage import Lineage
from rayd.core.member import Member
from rayd.core.objects import Entry
from rayd.core.offload import Offload
from rayd.core.sharing import Sharing
from rayd.core.state import Conn, NodeState
from rayd.core.task import Spec
from rayd.ids import home_of, home_of_actor
from rayd.wire import messages as m
from rayd.wire.frame import ProtocolError


class Neighbours:
    """The other nodes.

    Args:
        state: the node's tables.
        tasks, actors, jobs: its other parts.
        facts: of this node, for the others.
    """

    def __init__(self, state: NodeState, tasks: Dispatcher, actors: Actors, jobs: Jobs, facts: dict[str, Any]) -> None:
        self.state = state
        self.tasks = tasks
        self.actors = actors
        self.jobs = jobs
        self.cluster = Cluster(state, facts, self._on_change, lambda: self.channels.next_conn())  # noqa: PLW0108
        self.cluster.on_return = self._on_head_back
        self.channels = Channels(state, self.cluster)
        self.channels.begin_job = jobs.begin_elsewhere
        jobs.on_end = self.channels.end_job
        jobs.on_orphaned = self.channels.tell_ended
        jobs.on_abandoned = lambda job: self.offload.end_abandoned(job)  # noqa: PLW0108
        self.foreign = Foreign(state, self.channels)
        self.sharing = Sharing(state, self.channels)
        self.lending = Lending(state, self.foreign.pulls)
        self.offload = Offload(state, self.cluster, self.channels, self.foreign, tasks)
        self.far_calls = FarCalls(state, self.cluster, self.channels, self.offload, tasks)
        self.on_change: Callable[[Member], None] = lambda member: None
        self.on_head_back: Callable[[], None] = lambda: None
        self.on_answer: Callable[[int, bool, Any], None] = lambda req, ok, value: None
        objects = state.objects
        objects.nodes = self.channels.by_conn
        objects.on_wanted = self._wanted
        self.lineage = Lineage(state, tasks)
        self.foreign.lose = self.lineage.lose
        self.offload.on_results = self.lineage.keep
        objects.for_node = self.foreign.message
        objects.on_adopted = self.foreign.adopted
        objects.is_far = self.far_calls.is_far
        self._call = self._introducing(actors.call)
        self._submit = self._introducing(tasks.submit)
        self.on_given: Callable[[], None] = lambda: None
        actors.far = self.far_calls
        actors.hosts = self.hosting = Hosting(state, self.cluster, self.channels, self.offload, actors)
        actors.guests = self.guests = HereForOthers(state, self.cluster, self.offload, actors)
        self.claiming = Claiming(state, self.cluster, self.channels, self.offload, self.hosting, actors)
        self.guests.on_left = jobs.actor_died
        self.offload.on_call_over = self.hosting.answered

    def handlers(self, of_driver: dict[int, Callable[[Conn, Any], None]]) -> dict[int, Callable[[Conn, Any], None]]:
        """What another node may say: all that a driver may, and more."""
        return {
            **of_driver,
            m.SUBMIT: self._on_submit,
            m.CALL: self._on_call,
            m.HOST: self._introducing(self.guests.host),
            m.HOSTED: self.hosting.told,
            m.UNHOST: self.guests.unhost,
            m.ENDED: self._on_ended,
            m.CLAIM: self.claiming.claim,
            m.CLAIMED: self.claiming.claimed,
            m.SEEK: self.sharing.seek,
            m.SOUGHT: self.sharing.sought,
            m.DRY: self.sharing.dry,
            m.PARTS: self.sharing.parts,
            m.FOUND: self.foreign.pulls.found,
            m.SPREAD: self.foreign.pulls.spread,
            m.VIEW: self.cluster.view,
            m.MEMBERS: self.cluster.told,
            m.FAR_VALUE: lambda conn, message: self.foreign.value(conn.conn, *message[1:]),
            m.FAR_DONE: lambda conn, message: self.offload.done(conn.conn, *message[1:]),
            m.FAR_ITEM: lambda conn, message: self.offload.item(conn.conn, *message[1:]),
            m.REFUSE: lambda conn, message: self.offload.refused(conn.conn, *message[1:]),
            m.REPLY: self._on_reply,
            m.LOG: self._pass_on,
            m.EVENT: lambda conn, message: self.state.warn(conn.job, message[2], message[1]),
            m.UNREAD: self._pass_on,
        }

    # ---- connections -------------------------------------------------------------------------------------------------

    def join(self, address: str) -> None:
        """Become a member of the cluster whose head listens at an address."""
        self.cluster.join(self.channels.next_conn(), address)

    def linked(self, event: Linked) -> None:
        """A connection that we asked for stands."""
        if event.conn == self.cluster.head_conn:
            self.cluster.joined(event.welcome)
        elif event.conn in self.channels.by_conn:
            self.channels.by_conn[event.conn].stands = True

    def connected(self, conn: Conn) -> None:
        """Another node has connected.

        Raises:
            ProtocolError: what it says of itself cannot be used.
        """
        try:
            if conn.job:
                self.channels.accept(conn)
            else:
                self.cluster.enlist(conn)
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise ProtocolError(f"a node introduces itself wrongly: {error!r}") from error

    def disconnected(self, conn: Conn, why: str, how: str) -> None:
        """A node's connection has ended."""
        self.cluster.gone(conn.conn, why, how)
        self.sharing.lost(conn.conn)
        channel = self.channels.closed(conn.conn)
        if channel is not None:
            self._end_channel(channel)

    def _end_channel(self, channel: Channel) -> None:
        if channel.job in self.state.jobs:
            self.cluster.doubt(channel.member)
        self.actors.end_guests(channel.conn)
        self.hosting.lost(channel)
        self.claiming.lost(channel)
        self.foreign.lost(channel, channel.member.title())
        self.offload.lost(channel)
        self.offload.end_those_of(channel.conn)
        self._end_calls_of(channel.conn)
        job = self.state.jobs.get(channel.job)
        if job is not None and job.driver == channel.conn:
            job.driver = self.channels.instead_of(job, channel.conn)
            if not job.driver:
                self.jobs.end(channel.job)
            elif self.channels.by_conn[job.driver].ended and not job.ended:
                self.jobs.ended(channel.job)

    def _end_calls_of(self, conn: int) -> None:
        """Who sent calls over a connection takes them for failed: those that no actor has been given yet end."""
        for actor in list(self.actors.by_id.values()):
            for task in [task for task in (*actor.queue, *actor.stalled) if task.conn == conn and not task.done]:
                self.tasks.finish(task, m.FAULT, cancelled(task), None)
                self.actors.ready(task)  # it holds back no other call any more

    def _on_head_back(self) -> None:
        """There is a head again."""
        self.on_head_back()
        self.far_calls.go_on()

    def _on_change(self, member: Member) -> None:
        """A node has come or gone."""
        if not member.alive:  # a network that is cut would hide it for longer
            self.channels.give_up(member)
        self.on_change(member)
        alone = next(self.cluster.others(), None) is None
        self.tasks.leases.overflow = None if alone else self._overflow
        self.tasks.report = self.offload.report
        self.tasks.place = self.offload.place
        for spec in self.state.specs.values():
            spec.judged = False
        self.state.dirty = True

    def _overflow(self, spec: Spec) -> None:
        """There is more of a spec than this node can begin now."""
        self.offload.hand_out(spec)
        if spec.queue and not self.tasks.leases.can_begin(spec):
            self.offload.refuse(spec)
            if spec.queue:
                self.claiming.overflow(spec)

    def transferred(self, event: Arrived | SourceFailed | Fetched | Sent) -> None:
        """Bytes have come from another store, or left for one."""
        match event:
            case Arrived():
                self.foreign.pulls.arrived(event.number, event.parts)
            case SourceFailed():
                self.foreign.pulls.source_failed(event.number, event.source, event.why)
            case Fetched():
                self.foreign.pulls.fetched(event.number)
            case Sent():
                self.lending.sent(event.conn)

    # ---- messages ----------------------------------------------------------------------------------------------------

    def _introducing(self, handle: Callable[[Conn, Any], None]) -> Callable[[Conn, Any], None]:
        """The handler of SUBMIT, CALL or HOST of other nodes, of which what they mention is held from now on."""

        def introduce_and_handle(conn: Conn, message: Any) -> None:
            args_oid, deps, contained = message[-3:]
            new = self.foreign.introduce(conn.conn, deps, contained, [args_oid] if args_oid else ())
            handle(conn, message)
            self.foreign.forget_unheld(new)

        return introduce_and_handle

    def _on_ended(self, conn: Conn, message: Any) -> None:
        self.channels.by_conn[conn.conn].ended = True
        job = self.state.jobs.get(conn.job)
        if job is not None and job.driver == conn.conn and not job.ended:
            self.jobs.ended(conn.job)

    def _on_submit(self, conn: Conn, message: Any) -> None:
        self._submit(conn, message)
        self.on_given()

    def _on_call(self, conn: Conn, message: Any) -> None:
        """CALL of an actor that belongs to this node, or of one that it lets run here."""
        if home_of_actor(message[2]) == self.state.number or self.guests.is_new(conn, message):
            self._call(conn, message)

    def _on_reply(self, conn: Conn, message: Any) -> None:
        if conn.conn == self.cluster.head_conn:
            self.on_answer(message[1], message[2], message[3])

    def _pass_on(self, conn: Conn, message: Any) -> None:
        """Tell what a job does elsewhere to who is told of it here, but never to who has just told us."""
        job = self.state.jobs.get(conn.job)
        for other in job.logs if job is not None else ():
            if other != conn.conn:
                self.state.effects.sends[other].append(tuple(message))

    def _wanted(self, oid: bytes, entry: Entry) -> None:
        """Somebody here wants what is not here, and no task of this node will make."""
        if oid in self.lineage.lost:
            self.lineage.recover(oid)
        else:
            self.foreign.wanted(oid, entry)

    def hold(self, conn: Conn, oids: list[bytes]) -> None:
        """A process here has learned of objects in a way that this node has not: ask their homes."""
        channel = self.channels.by_conn.get(conn.conn)
        asking = channel.member.number if channel is not None else -1  # it knows no more than this node
        for oid in oids:
            member = self.cluster.members.get(home_of(oid))
            if oid in self.state.objects.entries or member is None or member.number in (self.state.number, asking):
                continue
            if member.alive and conn.job in self.state.jobs:
                self.foreign.introduce(self.channels.to(conn.job, member).conn, [oid])

    def check(self) -> None:
        """Raise AssertionError naming the first broken invariant."""
        self.foreign.check()
        self.sharing.check()
        self.lending.check()
        self.offload.check()
        self.lineage.check()
