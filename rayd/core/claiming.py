"""Claims to other nodes: room that they are asked to keep for what has long waited here, and fits nowhere.

Views tell what is free on other nodes, and what is free for a moment there has gone to something smaller before what
asks for much has got there. So a node that is asked (CLAIM) keeps what becomes free, as for tasks of its own
(``rayd.core.claims``), and says when there is enough (CLAIMED); then one task or actor is given to it. One node at a
time is asked for a spec.
"""

from typing import Any, Final

from rayd.core.actor import Actors
from rayd.core.actor_record import Actor
from rayd.core.channels import Channel, Channels
from rayd.core.cluster import Cluster
from rayd.core.hosting import Hosting
from rayd.core.offload import Offload, accepts
from rayd.core.resources import Demand
from rayd.core.state import Conn, NodeState
from rayd.core.task import Spec
from rayd.wire.messages import CLAIM, CLAIMED

# Claims to others at a time: each holds somebody up.
ASKED_MAX: Final = 4


class Claiming:
    """What a node has claimed of others, and what they claim of it.

    Args:
        state: the node's tables.
        cluster: the other nodes.
        channels: the ways to them.
        offload, hosting: what is given to them.
        actors: of this node.

    Attributes:
        asked: whom a spec has a claim to, by its number.
    """

    def __init__(
        self,
        state: NodeState,
        cluster: Cluster,
        channels: Channels,
        offload: Offload,
        hosting: Hosting,
        actors: Actors,
    ) -> None:
        self.state = state
        self.cluster = cluster
        self.channels = channels
        self.offload = offload
        self.hosting = hosting
        self.actors = actors
        self.asked: dict[int, Channel] = {}

    # ---- who waits ---------------------------------------------------------------------------------------------------

    def review(self) -> None:
        """Claim what has become necessary, let go of what is not any more."""
        for cid, channel in list(self.asked.items()):
            spec = self.state.specs.get(cid)
            if spec is None or not (self.offload.first(spec) or self._actor(spec)):
                del self.asked[cid]
                self._say(channel, cid, False)
        for actor in self.actors.placing.values():
            if self._may_go(actor) and self.state.claims.is_late(actor.waits_since):
                self._ask(actor.spec, actor.spec.wanted)

    def overflow(self, spec: Spec) -> None:
        """Nobody has room for what is queued of a spec."""
        if (
            self.state.claims.is_late(spec.waits_since)
            and not self.offload.runs_elsewhere(spec)
            and self.offload.may_leave(spec)
            and self.offload.first(spec) is not None
        ):
            self._ask(spec, spec.demand)

    def _ask(self, spec: Spec, demand: Demand) -> None:
        claim = self.state.claims.claim
        if spec.cid in self.asked or len(self.asked) >= ASKED_MAX or (claim is not None and claim.who == spec.cid):
            return
        able = [
            member
            for member in self.cluster.others()
            if member.takes_work and member.could(demand) and accepts(spec, member.number)
            if spec.cid not in member.refused
        ]
        if able:
            member = min(able, key=lambda member: (member.free.used(member.totals, demand), member.number))
            channel = self.asked[spec.cid] = self.channels.to(spec.job, member)
            self.channels.announce(channel, spec)
            self._say(channel, spec.cid, True)

    def _say(self, channel: Channel, cid: int, wants: bool) -> None:
        self.state.effects.sends[channel.conn].append((CLAIM, cid, wants))

    def _actor(self, spec: Spec) -> Actor | None:
        """An actor of this node and of a spec that looks for a place."""
        for actor in self.actors.placing.values():
            if actor.spec is spec and self._may_go(actor):
                return actor
        return None

    def _may_go(self, actor: Actor) -> bool:
        """Whether an actor is of this node and may be started."""
        return not actor.home and not self.hosting.waits(actor)

    def claimed(self, conn: Conn, message: Any) -> None:
        """CLAIMED: there is room now, or the claim is refused, or over."""
        _, cid, ok = message
        channel = self.channels.by_conn.get(conn.conn)
        if channel is None or self.asked.get(cid) is not channel:
            return
        del self.asked[cid]
        spec = self.state.specs.get(cid)
        if not ok:
            channel.member.refused[cid] = None
            self.cluster.assume(channel.member)
            return
        actor = self._actor(spec) if spec is not None else None
        if actor is not None:
            del self.actors.placing[actor.aid]
            self.hosting.give(actor, channel.member)
        elif spec is None or not self.offload.send_first(spec, channel):
            self._say(channel, cid, False)

    def lost(self, channel: Channel) -> None:
        """A channel has ended."""
        self.asked = {cid: other for cid, other in self.asked.items() if other is not channel}
        self.state.claims.lost(channel.conn)

    # ---- who is asked ------------------------------------------------------------------------------------------------

    def claim(self, conn: Conn, message: Any) -> None:
        """CLAIM."""
        _, key, wants = message
        spec = conn.specs[key]
        claims = self.state.claims
        if not wants:
            if claims.claim is not None and (claims.claim.conn, claims.claim.key) == (conn.conn, key):
                claims.lost(conn.conn)
            return
        kept = not self.cluster.me.draining and claims.make(spec.cid, spec.sources, spec.wanted)
        if kept and claims.claim is not None:
            claims.claim.conn, claims.claim.key = conn.conn, key
            self.state.dirty = True
        else:
            self.state.effects.sends[conn.conn].append((CLAIMED, key, False))
