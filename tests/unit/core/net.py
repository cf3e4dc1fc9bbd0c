"""Several node cores and the wires between them, as plain values.

A ``Net`` stands where the network stands: what one node sends waits on a wire until it is delivered, each direction in
order, different wires in any order; a wire breaks with everything that is on it. Every message goes through the real
encoder and decoder.
"""

from collections.abc import Callable
from random import Random
from typing import Any

import msgpack

from coming import PARTING, Coming
from ends import End
from peers import RefusedError
from play import DOINGS, Play
from rayd.core.actor_record import ActorState
from rayd.core.effect import (
    CloseConnection,
    Dial,
    Effect,
    FenceAt,
    Fetch,
    Joined,
    Recovered,
    Report,
    StopDaemon,
    StopFetch,
    Stored,
    Write,
)
from rayd.core.event import Event, Join, Recover, Written
from rayd.errors import JOURNAL, fault
from rayd.wire import messages as m
from world import World, actor_object

HEAD_ADDRESS = "10.0.0.1:6379"


class Net:
    """A head and other nodes.

    Args:
        nodes: how many in all.
        rng: decides what is delivered when.
    """

    def __init__(self, nodes: int, rng: Random) -> None:
        self.rng = rng
        self.ends: list[End] = []
        self.refused: list[End] = []
        self.fetches: list[Coming] = []
        self.plays: dict[str, Play] = {}
        self.disk: dict[tuple[str, bytes], Any] = {}
        self.unwritten: list[Write] = []
        self._broken = False  # the disk, until the head has heard of it
        self._lives = 0
        self.drained = 0
        self.going: list[Play] = []
        for number in range(nodes):
            self._begin(f"10.0.0.{number + 1}:6379", Join(HEAD_ADDRESS) if number else self._recovery())
            self.deliver_all()
        self.deliver_all()

    def _begin(self, address: str, event: Event) -> None:
        """A node comes, and a driver on it."""
        resources = {"disk": 1.0, "GPU": 1.0}
        world = World(cpus=2, resources=resources, store_bytes=1 << 18, address=address, life=self._lives)
        world.dial = lambda dial: self._dial(world, dial)
        world.deliver = self.deliver_alone
        world.waits = lambda: HEAD_ADDRESS not in self.plays or world.node.neighbours.cluster.absence is not None
        world.node.neighbours.foreign.pulls.shared_from = 1
        world.node.neighbours.foreign.pulls.parting = PARTING
        world.now = max([world.now, *(play.world.now for play in self.plays.values())])
        world.step(event)
        self.plays[address] = Play(world)
        self.plays[address].outcomes = ["value", "value", "large", "large", "error", "retry"]

    def _recovery(self) -> Recover:
        return Recover([(kind, key, value) for (kind, key), value in self.disk.items()])

    # ---- the head's journal ------------------------------------------------------------------------------------------

    def write(self, count: int) -> bool:
        """The disk takes the next rows, one by one; whether there were any."""
        self._take_writes()
        rows, self.unwritten = self.unwritten[:count], self.unwritten[count:]
        for row in rows:
            self._broken = self._broken and not row.fresh
            if self._broken:
                continue
            if row.value is None:
                self.disk.pop((row.kind, row.key), None)
            else:
                self.disk[row.kind, row.key] = msgpack.unpackb(msgpack.packb(row.value))
        if rows and HEAD_ADDRESS in self.plays and not self._broken:
            self.plays[HEAD_ADDRESS].world.step(Written(rows[-1].number, None))
        return bool(rows)

    def refuse_writes(self) -> None:
        """The disk is full: what it has not taken yet is not written."""
        self._take_writes()
        if self.unwritten and not self._broken:
            self._broken = True
            number = self.unwritten[-1].number
            self.unwritten.clear()
            self.plays[HEAD_ADDRESS].world.step(Written(number, fault(JOURNAL, "The disk is full.")))

    def _take_writes(self) -> None:
        play = self.plays.get(HEAD_ADDRESS)
        if play is not None:
            self.unwritten += [as_it_is(play.world, row) for row in play.world.take(Write) if isinstance(row, Write)]

    def head_dies(self, rng: Random) -> None:
        """The head ends at once; the disk has some of what it was to write."""
        if HEAD_ADDRESS in self.plays:
            self._take_writes()
            self.kill(HEAD_ADDRESS)
            self.write(rng.randrange(len(self.unwritten) + 1))
            self.unwritten.clear()
            self._broken = False

    def head_comes(self) -> None:
        """Another head goes on with the journal."""
        if HEAD_ADDRESS not in self.plays:
            self._lives += 1
            self._begin(HEAD_ADDRESS, self._recovery())

    def all_nodes_are_back(self) -> bool:
        """Nobody misses the head."""
        return not any(play.world.node.neighbours.cluster.absence for play in self.plays.values())

    def _dial(self, world: World, dial: Dial) -> None:
        play = self.plays.get(dial.address)
        here = End(world, dial.conn)
        if play is None:  # it hears of that later, as from a real network
            here.other = here
            self.refused.append(here)
            return
        there = End(play.world, next(play.world._conns))
        here.other, there.other = there, here
        self.ends += [here, there]
        here.sent([(m.HELLO, m.PROTOCOL_VERSION, "node", dial.info)])

    def deliver(self, rng: Random) -> None:
        """Something arrives somewhere."""
        ready = [end for end in self.ends if end.coming]
        if rng.randrange(3) == 0:
            self.write(rng.choice([1, 1, 5, 100]))
        if self.fetches and rng.randrange(3) == 0 and self._fetch_some():
            pass
        elif ready:
            rng.choice(ready).deliver(rng.choice([1, 1, 3, 100]))

    # ---- wires -------------------------------------------------------------------------------------------------------

    def fetch(self, coming: Coming) -> bool:
        """Something becomes of an object on its way; False if it has to wait."""
        return coming.go_on({address: play.world for address, play in self.plays.items()}, self.rng)

    def _fetch_some(self) -> bool:
        """The same for any that does not have to wait; whether there was one."""
        return any(self.fetch(coming) for coming in self.rng.sample(self.fetches, len(self.fetches)))

    def _take_fetches(self, world: World) -> None:
        self.fetches = [coming for coming in self.fetches if not coming.over]
        for effect in world.take(Fetch):
            assert isinstance(effect, Fetch)
            known = self._coming(world, effect.number)
            if known is None:
                self.fetches.append(Coming(world, effect, self.rng))
            else:
                known.offer(effect)
        for report in world.take(Report):
            assert isinstance(report, Report)
            coming = self._coming(world, report.number)
            if coming is not None:
                coming.report()
        for effect in world.take(StopFetch):
            assert isinstance(effect, StopFetch)
            coming = self._coming(world, effect.number)
            if coming is not None:
                coming.stop()

    def _coming(self, world: World, number: int) -> Coming | None:
        found = [coming for coming in self.fetches if coming.world is world and coming.number == number]
        return found[0] if found and not found[0].over else None

    def deliver_all(self) -> bool:
        """Everything arrives; whether there was anything."""
        found = False
        while (ready := [end for end in self.ends if end.coming]) or self._fetch_some() or self.write(100):
            found = True
            if ready:
                self.rng.choice(ready).deliver(100)
            self.carry_out()
        return found

    def deliver_some(self) -> bool:
        """The next message arrives; whether there was one."""
        for end in self.ends:
            if end.coming:
                end.deliver(1)
                return True
        return self.write(1)

    def deliver_alone(self) -> bool:
        """Everything arrives, and nothing else happens; whether there was anything."""
        found = False
        while True:
            for play in self.plays.values():
                self._take_fetches(play.world)
            if ready := [end for end in self.ends if end.coming]:
                ready[0].deliver(100)
            elif not (self._fetch_some() or self.write(100)):
                return found
            found = True

    def carry_out(self) -> None:
        """The nodes' wishes that concern wires, then those that concern processes."""
        while self.refused:
            end = self.refused.pop()
            end.close("nobody")
            del end.world.peers[end.conn]
        for play in self.plays.values():
            while closing := [e for e in play.world.take(CloseConnection) if self._is_wire(play.world, e)]:
                for effect in closing:
                    assert isinstance(effect, CloseConnection)
                    self.close(play.world, effect)
            self._take_fetches(play.world)
            for stop in play.world.take(StopDaemon):
                assert stop == StopDaemon("it was drained"), stop
                self._has_drained(play.world)
                return
            play.world.take(Joined)
            play.world.take(FenceAt)
            play.world.take(Recovered)
            self._take_writes()
            play.carry_out()

    @staticmethod
    def _is_wire(world: World, effect: Effect) -> bool:
        """Whether it concerns a wire; what concerns a process is left to who looks after those."""
        assert isinstance(effect, CloseConnection)
        peer = world.peers.get(effect.conn)
        if peer is not None and not isinstance(peer, End):
            world.others.append(effect)
        return isinstance(peer, End)  # nobody, if it could not be had

    def close(self, world: World, effect: CloseConnection) -> None:
        """One side closes a wire."""
        end: Any = world.peers[effect.conn]
        other = end.other
        while other.coming and other.connected:  # what was sent before arrives
            other.deliver(100)
        end.close()
        other.close()
        self.ends = [kept for kept in self.ends if kept not in (end, other)]

    def tell_of_actor(self, rng: Random) -> None:
        """A process on one node learns of an actor on another, as by its name."""
        giver = rng.choice(list(self.plays.values())).client(rng)
        taker = rng.choice(list(self.plays.values())).client(rng)
        if giver.actors and taker.peer.world is not giver.peer.world:
            aid = rng.choice(giver.actors)
            taker.peer.hold(actor_object(aid))
            taker.actors.append(aid)
            taker.held.append(actor_object(aid))

    def time_passes(self, rng: Random) -> None:
        """For all nodes alike, and no faster than their wires."""
        self.pass_ms(rng.choice([1, 6, 30]) if not self.going else 2_500)

    def pass_ms(self, left: float) -> None:
        """So much time."""
        while left > 0:
            for play in self.plays.values():
                play.world.wait_ms(min(left, 1_000))
            self.carry_out()
            self.deliver_all()
            left -= 1_000

    def node_dies(self, rng: Random) -> None:
        """A node that is not the head ends from one moment to the next, with all that is on its wires."""
        doomed = [address for address in self.plays if address != HEAD_ADDRESS]
        if doomed:
            self.kill(rng.choice(doomed))

    def node_drains(self, rng: Random) -> None:
        """The head lets a node go; its drivers end."""
        going = [play for address, play in self.plays.items() if address != HEAD_ADDRESS]
        if not going or HEAD_ADDRESS not in self.plays:
            return
        play = rng.choice(going)
        tool = self.plays[HEAD_ADDRESS].world.tool()
        try:
            tool.rpc("drain", node=play.world.node.neighbours.cluster.me.address)
        except RefusedError:  # the head does not know it, or not any more
            return
        finally:
            tool.leave()
        self.going.append(play)
        for client in play.drivers():
            del play.clients[client.peer.conn]
            client.peer.leave()

    def some_play(self, rng: Random, doing: Callable[[Play, Random], None]) -> Play | None:
        """Where something is done; on a node that is to go only what runs there goes on."""
        play = rng.choice(list(self.plays.values()))
        return play if play not in self.going or doing in _OF_WORKERS else None

    def _has_drained(self, world: World) -> None:
        """Nobody has anything there any more."""
        self.drained += 1
        address = next(address for address, play in self.plays.items() if play.world is world)
        number = world.node.state.number
        for play in self.plays.values():
            if play.world is world:
                continue
            neighbours = play.world.node.neighbours
            for oid, conn in neighbours.foreign.source.items():
                there = conn and neighbours.channels.by_conn[conn].member.number == number
                kind = play.world.node.state.objects.entries[oid].kind
                assert not there or oid.endswith(b"\xff" * 12) or kind >= 0, f"{oid.hex()} is only there"
        self.kill(address)

    def kill(self, address: str) -> None:
        """One of the nodes ends at once."""
        world = self.plays.pop(address).world
        mine = [end for end in self.ends if end.world is world]
        self.ends = [end for end in self.ends if end.world is not world and end.other.world is not world]
        self.fetches = [coming for coming in self.fetches if coming.world is not world]
        for end in mine:
            end.connected = False
            end.other.close()
        self.carry_out()

    def everybody_answers(self) -> None:
        """Until nothing happens anywhere any more."""
        for _ in range(1_000):
            self.carry_out()
            moved = self.deliver_all()
            for play in list(self.plays.values()):
                before = len(play.world.trace)
                if play.world.node.neighbours.cluster.absence:  # no faster than its wires
                    play.world.wait_ms(300)
                    moved = True
                    continue
                play.everybody_answers(self.carry_out)
                moved = moved or len(play.world.trace) != before
                cluster = play.world.node.neighbours.cluster
                if cluster._is_news() and cluster.deadline() is not None:
                    play.world.wait_ms(20)
                    moved = True
            if not moved and not self._wait_for_doubts():
                return
        raise AssertionError("it goes on for ever")

    def _wait_for_doubts(self) -> bool:
        """Let time pass while an actor may still run where it was; whether there was one."""
        found = any(play.world.node.neighbours.hosting.deadline() for play in self.plays.values())
        if found:
            self.pass_ms(1_000)
        return found

    def finale(self) -> None:
        """What was asked for comes, and what is released goes, everywhere."""
        self.head_comes()
        self.everybody_answers()
        self.expect_head_to_know()
        for play in list(self.plays.values()):
            for client in play.clients.values():
                client.peer.want(*client.held)
        self.everybody_answers()
        if not any(play.short() for play in self.plays.values()):
            for play in list(self.plays.values()):
                play.expect_nothing_pending()
        for play in list(self.plays.values()):  # one that is drained may end meanwhile
            play.release_everything(self.everybody_answers)
        self.everybody_answers()
        for play in list(self.plays.values()):
            for client in play.drivers():
                client.peer.leave()
        self.everybody_answers()
        if self.going:
            self.time_passes(Random(0))
            assert not [play for play in self.plays.values() if play in self.going], "a node with nothing goes on"
        for play in list(self.plays.values()):
            play.expect_nothing_left(self.everybody_answers)
            neighbours = play.world.node.neighbours
            assert not neighbours.foreign.source
            assert not neighbours.offload.out
            assert not neighbours.lineage.records
            assert not neighbours.lineage.lost
            assert not neighbours.channels.by_conn

    def expect_head_to_know(self) -> None:
        """Names and groups are what the nodes have been told, however often the head has begun anew."""
        head = self.plays[HEAD_ADDRESS].world.node
        for play in self.plays.values():
            node = play.world.node
            for actor in node.actors.by_id.values():
                if actor.name and not actor.home and actor.state is not ActorState.DEAD:
                    assert head.directory.find(actor.namespace, actor.name) == actor.aid, f"{actor.title()} has no name"
            for gid, mine in node.bundles.here.items():
                assert gid in head.groups.by_id, f"the group {gid.hex()} is known only here"
                for index in mine:
                    assert head.groups.by_id[gid].nodes[index] == node.state.number, f"{gid.hex()} lies elsewhere"


def as_it_is(world: World, row: Write) -> Write:
    """A row whose value lies in the store, with that value."""
    if not isinstance(row.value, Stored):
        return row
    offset, size = row.value
    return row._replace(value=bytes(world.memory[offset : offset + size]))


# Time passes for all nodes alike; and what crosses nodes in the most ways is done more often than on one node.
_DOINGS: dict[Callable[[Play, Random], None], int] = {
    doing: weight for doing, weight in DOINGS.items() if doing is not Play.time_passes
} | {Play.create: 6, Play.call: 16, Play.consume: 6, Play.item: 10, Play.driver_goes: 6, Play.driver_comes: 3}
_OF_WORKERS = (Play.read, Play.finish, Play.item, Play.worker_comes, Play.worker_dies)


def play_net(seed: int, steps: int, nodes: int = 3, deaths: int = 0, heads: int = 1, drains: int = 0) -> Net:
    """A long random play of several nodes, some of which die or are drained, and of some heads, one after the other;
    with its finale.
    """
    rng = Random(seed)
    dying = {rng.randrange(steps) for _ in range(deaths)}
    last = {rng.randrange(steps) for _ in range(heads - 1)}
    going = {rng.randrange(steps // 2) for _ in range(drains)}
    net = Net(nodes, rng)
    doings, weights = list(_DOINGS), list(_DOINGS.values())
    for step, doing in enumerate(rng.choices(doings, weights, k=steps)):
        if step in dying:
            net.node_dies(rng)
        if step in going:
            net.node_drains(rng)
        if step in last:
            net.head_dies(rng)
        elif heads > 1 and rng.randrange(20) == 0:
            net.head_comes()
        elif heads > 1 and rng.randrange(60) == 0:
            net.refuse_writes()
        if not net.plays:  # the others had ended before
            net.head_comes()
        for _ in range(rng.randrange(4)):
            net.deliver(rng)
            net.carry_out()
        if rng.randrange(40) == 0:
            net.time_passes(rng)
        if rng.randrange(12) == 0:
            net.tell_of_actor(rng)
        play = net.some_play(rng, doing)
        if play is not None:
            doing(play, rng)
        net.carry_out()
    net.finale()
    return net
