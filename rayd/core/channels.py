"""Channels: what two nodes have to say to each other on behalf of one job.

A channel is a connection like that of a driver, and the node at its accepting end treats it as one: it holds objects,
submits tasks, and when it ends, so does what it stood for. Both ends may say the same things. The first channel of a
job at a node is the job's *parent* there: since each node was drawn into a job by one that was in it before, parents
form a tree whose root is the node of the driver, and the end of the driver reaches every node of the job.
"""

from collections.abc import Callable
from typing import Any, Final

from rayd.core.cluster import Cluster
from rayd.core.effect import CloseConnection, Dial
from rayd.core.member import Member
from rayd.core.state import Conn, Job, NodeState
from rayd.core.task import Spec, Task
from rayd.ids import JOB_ID_BYTES
from rayd.wire.frame import ProtocolError
from rayd.wire.messages import ENDED, EXPORT, SPEC

_COUNTER_BITS: Final = 20


def job_id(number: int, count: int) -> bytes:
    """Id of a node's job: it tells which node the driver is connected to."""
    return (number << _COUNTER_BITS | count).to_bytes(JOB_ID_BYTES, "big")


def home_of_job(job: bytes) -> int:
    """Number of the node to which the job's driver is connected."""
    return int.from_bytes(job, "big") >> _COUNTER_BITS


class Channel:
    """One end of a channel.

    Attributes:
        conn: its connection.
        member: the node at the other end.
        job: the job.
        exported: functions that the other end has from here.
        announced: specs that the other end has from here.
        tasks: tasks and calls that the other end runs for this one, by id.
        stands: the connection has come about.
        ended: the other end knows, or has said, that the driver has gone.
    """

    __slots__ = ("announced", "conn", "ended", "exported", "job", "member", "stands", "tasks")

    def __init__(self, conn: int, member: Member, job: bytes) -> None:
        self.conn = conn
        self.member = member
        self.job = job
        self.exported: set[bytes] = set()
        self.announced: set[int] = set()
        self.tasks: dict[bytes, Task] = {}
        self.stands = False
        self.ended = False

    def gone(self) -> str:
        """Where it led, and that it has ended, in words."""
        how = "to which the connection has ended" if self.member.alive else "which has died"
        return f"{self.member.title()}, {how}"


class Channels:
    """All channels of a node.

    Args:
        state: the node's tables.
        cluster: who the other nodes are.
    """

    def __init__(self, state: NodeState, cluster: Cluster) -> None:
        self.state = state
        self.cluster = cluster
        self.by_conn: dict[int, Channel] = {}
        self._by_name: dict[tuple[bytes, int], Channel] = {}
        self._next = -1
        self.begin_job: Callable[[bytes, int, dict[str, Any]], None]

    def next_conn(self) -> int:
        """Number of a connection that this node makes; the shell numbers those it accepts from 1 on."""
        self._next -= 1
        return self._next + 1

    def to(self, job: bytes, member: Member) -> Channel:
        """The channel of a job to a node, opened if there is none; what is sent before it stands waits for it."""
        channel = self._by_name.get((job, member.number))
        if channel is not None:
            return channel
        conn = self.next_conn()
        known = self.state.jobs[job]
        info = {
            "job": job,
            "job_info": known.info,
            "namespace": known.namespace,
            "number": self.state.number,
            "from": self.state.node_id,
            "to": member.node_id,
        }
        self.state.effects.dials.append(Dial(conn, member.address, info))
        return self._add(Conn(conn, "node", info, job, 0), member)

    def accept(self, conn: Conn) -> None:
        """Another node has opened a channel."""
        info = conn.info
        if bytes(info.get("to", self.state.node_id)) != self.state.node_id:
            raise ProtocolError("there is another node at this address by now")
        self.cluster.met(int(info["number"]), bytes(info.get("from", b"")))
        member = self.cluster.members.get(int(info["number"]))
        if member is None:
            raise ProtocolError(f"there is no node number {info['number']} in this cluster")
        if conn.job not in self.state.jobs:
            if home_of_job(conn.job) == self.state.number:
                raise ProtocolError(f"the job {conn.job.hex()} has ended")  # and the other node will soon hear of it
            self.begin_job(conn.job, conn.conn, info)
        self._add(conn, member).stands = True

    def _add(self, conn: Conn, member: Member) -> Channel:
        self.state.conns[conn.conn] = conn
        channel = self.by_conn[conn.conn] = Channel(conn.conn, member, conn.job)
        # Both nodes may have opened one at the same moment; each goes on to use the one it has had first.
        self._by_name.setdefault((conn.job, member.number), channel)
        return channel

    def closed(self, conn: int) -> Channel | None:
        """A connection has ended; the channel that it was, if it was one."""
        channel = self.by_conn.pop(conn, None)
        if channel is not None and self._by_name.get((channel.job, channel.member.number)) is channel:
            del self._by_name[channel.job, channel.member.number]
        return channel

    def give_up(self, member: Member) -> None:
        """A node has died or begun anew: the channels to what it was lead nowhere, even if they have not ended yet."""
        for channel in self.by_conn.values():
            if channel.member is member:
                if self._by_name.get((channel.job, member.number)) is channel:
                    del self._by_name[channel.job, member.number]
                self.state.effects.others.append(CloseConnection(channel.conn, flush=False))

    def end_job(self, job: bytes) -> None:
        """Nothing of a job goes on here: whom we have drawn into it hears so."""
        for channel in [channel for channel in self.by_conn.values() if channel.job == job]:
            self.state.effects.others.append(CloseConnection(channel.conn))

    def tell_ended(self, job: bytes) -> None:
        """The driver of a job has gone, and something detached has not: whom we have drawn into it hears so."""
        for channel in self.by_conn.values():
            if channel.job == job and not channel.ended:
                channel.ended = True
                self.state.effects.sends[channel.conn].append((ENDED,))

    def another(self, channel: Channel) -> Channel | None:
        """Another channel to the node of one that has ended, if that node lives."""
        if channel.member.alive:
            for other in self.by_conn.values():
                if other.member is channel.member and other is not channel:
                    return other
        return None

    def instead_of(self, job: Job, conn: int) -> int:
        """The channel that can be a job's parent when the one that was has ended; 0 if there is none.

        Only the driver's own node can: any other might have been drawn into the job by this one.
        """
        home = home_of_job(job.job)
        for channel in self.by_conn.values():
            if channel.job == job.job and channel.conn != conn and channel.member.number == home:
                return channel.conn
        return 0

    def announce(self, channel: Channel, spec: Spec) -> None:
        """See to it that the other end knows a spec before it hears of its tasks."""
        if spec.cid in channel.announced:
            return
        sends = self.state.effects.sends[channel.conn]
        if spec.function and spec.function not in channel.exported:
            channel.exported.add(spec.function)
            blob = self.state.jobs[channel.job].exports.get(spec.function)
            if blob is not None:
                sends.append((EXPORT, spec.function, blob))
        channel.announced.add(spec.cid)
        sends.append((SPEC, spec.cid, spec.options))
