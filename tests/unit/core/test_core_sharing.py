"""Large objects come in parts from whoever has them, and who gets one sends it on meanwhile."""

from collections import Counter
from random import Random

import pytest

from coming import PARTING, Coming
from net import Net
from peers import Peer
from rayd.core.event import Sent
from rayd.core.lending import LOANS_MAX
from rayd.core.sharing import SOURCES_MAX, Sharing
from rayd.wire import messages as m
from rayd.wire.frame import ProtocolError
from world import World

SIZE = 8_000
PARTS = PARTING.count(SIZE)
CONTENT = Random(1).randbytes(SIZE)


def address(number: int) -> str:
    """Of a node."""
    return f"10.0.0.{number + 1}:6379"


class Broadcast:
    """One object of a node, and drivers on other nodes that want it.

    Args:
        nodes: how many in all.
        seed: decides which part comes next.
        home: number of the node that has it at first.
    """

    def __init__(self, nodes: int, seed: int = 0, *, home: int = 0) -> None:
        self.net = Net(nodes, Random(seed))
        self.drivers = {number: self.play_driver(number) for number in range(nodes)}
        self.home = home
        self.oid = self.drivers[home].store(SIZE)
        world = self.world(home)
        start, _ = world.node.state.objects.entries[self.oid].data
        world.memory[start : start + SIZE] = CONTENT
        self.all: dict[int, Coming] = {}

    def play_driver(self, number: int) -> Peer:
        """The driver on a node."""
        return self.net.plays[address(number)].clients[1].peer

    def world(self, number: int) -> World:
        """A node."""
        return self.net.plays[address(number)].world

    def to(self, *numbers: int) -> None:
        """Drivers on these nodes want it."""
        for number in numbers:
            self.drivers[number].hold(self.oid)
            self.drivers[number].want(self.oid)
        self.arrive()

    def arrive(self) -> None:
        """All messages, but no bytes."""
        moved = True
        while moved:
            moved = self.net.write(100)
            self.net.carry_out()
            for end in [end for end in self.net.ends if end.coming]:
                end.deliver(100)
                moved = True
        for coming in self.net.fetches:
            self.all[coming.world.node.state.number] = coming

    def step(self) -> bool:
        """Each transfer that is under way gets the next part, if it can; whether one could."""
        moved = [self.net.fetch(coming) for coming in list(self.net.fetches)]
        self.arrive()
        return any(moved)

    def finish(self) -> int:
        """All steps that there are; how many."""
        count = 0
        while self.step():
            count += 1
        return count

    def sent(self) -> Counter[str]:
        """How many parts each node has sent."""
        return sum((coming.brought for coming in self.all.values()), Counter())

    def sharing(self) -> Sharing:
        """What its node knows of who has it."""
        return self.world(self.home).node.neighbours.sharing

    def content(self, number: int) -> bytes | None:
        """The object as a node has it, if it has."""
        world = self.world(number)
        entry = world.node.state.objects.entries.get(self.oid)
        if entry is None or entry.kind != m.STORED:
            return None
        start, size = entry.data
        return bytes(world.memory[start : start + size])


@pytest.mark.parametrize("seed", range(5))
def test_who_gets_it_sends_on_what_has_come(seed: int) -> None:
    broadcast = Broadcast(13, seed)
    broadcast.to(*range(1, 13))
    steps = broadcast.finish()
    assert [broadcast.content(number) for number in range(13)] == [CONTENT] * 13
    sent = broadcast.sent()
    assert sent.total() == 12 * PARTS, "nothing comes twice"
    assert sent[address(0)] <= 12 * PARTS / 3, "the others have sent most of it"
    assert steps <= 2 * PARTS, "most of the time there is something for everybody"


def test_it_comes_from_all_that_have_it() -> None:
    broadcast = Broadcast(5)
    broadcast.to(1, 2, 3)
    broadcast.finish()
    broadcast.to(4)
    coming = broadcast.all[4]
    assert sorted(coming.addresses) == [0, 1, 2, 3]
    broadcast.finish()
    assert coming.brought.total() == PARTS
    assert len(coming.brought) > 2


def test_a_node_has_few_sources() -> None:
    broadcast = Broadcast(SOURCES_MAX + 4)
    broadcast.to(*range(1, SOURCES_MAX + 3))
    broadcast.finish()
    broadcast.to(SOURCES_MAX + 3)
    assert len(broadcast.all[SOURCES_MAX + 3].addresses) == SOURCES_MAX


def test_what_has_come_stays_when_a_holder_dies() -> None:
    broadcast = Broadcast(4)
    broadcast.to(1)
    broadcast.finish()
    broadcast.to(2)
    broadcast.step()
    broadcast.step()
    coming = broadcast.all[2]
    assert sorted(coming.addresses) == [0, 1]
    broadcast.net.kill(address(1))
    broadcast.finish()
    assert coming.brought.total() == PARTS, "only what was missing was asked for"
    assert broadcast.content(2) == CONTENT


@pytest.mark.parametrize("seed", range(5))
def test_getters_that_die_on_the_way_are_made_up_for(seed: int) -> None:
    broadcast = Broadcast(10, seed)
    broadcast.to(*range(1, 10))
    for number in (3, 1, 5):
        broadcast.step()
        broadcast.net.kill(address(number))
    broadcast.finish()
    for number in (2, 4, 6, 7, 8, 9):
        assert broadcast.content(number) == CONTENT
        assert broadcast.all[number].brought.total() == PARTS


@pytest.mark.parametrize("whole", [True, False])
def test_a_holder_that_lets_go_is_made_up_for(whole: bool) -> None:
    broadcast = Broadcast(5)
    broadcast.to(1)
    broadcast.finish() if whole else broadcast.step()
    broadcast.to(2, 3)
    broadcast.step()
    broadcast.drivers[1].release(broadcast.oid)
    broadcast.finish()
    broadcast.to(4)
    assert 1 not in broadcast.all[4].addresses
    broadcast.finish()
    assert broadcast.content(1) is None
    for number in (2, 3, 4):
        assert broadcast.content(number) == CONTENT
        assert broadcast.all[number].brought.total() == PARTS


def test_nothing_is_left_of_who_does_not_want_it_any_more() -> None:
    broadcast = Broadcast(8)
    broadcast.to(*range(1, 8))
    broadcast.step()
    for number in range(1, 8):
        broadcast.drivers[number].release(broadcast.oid)
    broadcast.arrive()
    (share,) = broadcast.sharing().shares.values()
    assert not share.getters
    assert list(share.serves) == [0]
    assert [broadcast.world(number).arena.used for number in range(1, 8)] == [0] * 7


def test_the_node_that_told_of_it_dies_and_another_has_all_of_it() -> None:
    broadcast = Broadcast(4, home=3)
    broadcast.to(1)
    broadcast.finish()
    broadcast.to(0, 2)
    broadcast.step()
    broadcast.net.kill(address(3))
    broadcast.arrive()
    broadcast.finish()
    for number in (0, 2):
        assert broadcast.content(number) == CONTENT
        assert broadcast.all[number].brought.total() == PARTS
        broadcast.drivers[number].release(broadcast.oid)
        assert not broadcast.world(number).arena.used


def test_the_only_node_that_has_all_of_it_dies() -> None:
    broadcast = Broadcast(4, home=3)
    broadcast.to(0, 1, 2)
    broadcast.step()
    broadcast.net.kill(address(3))
    broadcast.arrive()
    broadcast.finish()
    for number in (0, 1, 2):
        assert "is lost: it was only on" in broadcast.drivers[number].fault(broadcast.oid)["message"]


# ---- what is being read ----------------------------------------------------------------------------------------------


def test_what_is_being_read_is_not_given_to_anyone_else() -> None:
    world = World()
    driver = world.driver()
    readers = [world.tool("bulk"), world.tool("bulk")]
    world.arrives = False
    oid = driver.store(SIZE)
    for reader in readers:
        reader.send((m.READ, 1, oid, 0, SIZE))
    driver.release(oid)
    assert world.arena.used, "it is on its way to both"
    world.step(Sent(readers[0].conn))
    assert world.arena.used
    readers[1].leave()
    world.expect_nothing_left()


def test_who_asks_for_too_much_at_a_time_is_not_served() -> None:
    world = World()
    driver = world.driver()
    reader = world.tool("bulk")
    world.arrives = False
    oid = driver.store(SIZE)
    for req in range(LOANS_MAX):
        reader.send((m.READ, req, oid, 0, 10))
    with pytest.raises(ProtocolError, match="more than 16 parts"):
        reader.send((m.READ, 0, oid, 0, 10))
