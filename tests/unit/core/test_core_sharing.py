"""A large object that many nodes want spreads by a tree."""

from collections import Counter
from random import Random

import pytest
from test_core_cluster import at

from net import Net
from peers import Peer, returned
from rayd.core.sharing import CHILDREN_MAX

SIZE = 5_000


class Broadcast:
    """One object of the first node, wanted by tasks on all others.

    Args:
        nodes: how many in all.
    """

    def __init__(self, nodes: int) -> None:
        self.net = Net(nodes, Random(0))
        self.driver: Peer = at(self.net, 0).clients[1].peer
        oid = self.driver.store(SIZE)
        self.tasks = []
        for number in range(1, nodes):
            there = at(self.net, number).world.node.state.node_id
            self.tasks.append(self.driver.submit(self.driver.spec(f"on {number}", node=there), deps=[oid]))
        self.oid = oid
        self.sent: Counter[str] = Counter()

    def arrive(self) -> None:
        """All messages, but no bytes."""
        moved = True
        while moved:
            moved = self.net.write(100)
            for play in self.net.plays.values():
                self.net._take_fetches(play.world)
                if play.world.starting:
                    play.start_one()
                    moved = True
            for end in [end for end in self.net.ends if end.coming]:
                end.deliver(100)
                moved = True

    def round(self) -> int:
        """All transfers that are under way come to their end; how many those were."""
        self.arrive()
        fetches, self.net.fetches = self.net.fetches, []
        for asked in fetches:
            self.sent[asked[1].address] += 1
            self.net.fetch(asked)
        self.arrive()
        return len(fetches)

    def begun(self) -> int:
        """How many of the tasks have all they need."""
        return sum(
            tid in (*worker.mail(), *worker.begun)
            for play in self.net.plays.values()
            for worker in play.world.mailboxes.values()
            for tid in self.tasks
        )


def test_who_has_it_sends_it_on() -> None:
    broadcast = Broadcast(12)
    rounds = []
    while count := broadcast.round():
        rounds.append(count)
    assert rounds == [2, 6, 3], "each holder serves two at a time"
    assert broadcast.begun() == 11
    assert broadcast.sent["10.0.0.1:6379"] <= 3 * CHILDREN_MAX
    assert max(broadcast.sent.values()) <= 3 * CHILDREN_MAX
    assert len(broadcast.sent) >= 3


def test_a_holder_that_dies_or_lets_go_is_made_up_for() -> None:
    broadcast = Broadcast(8)
    assert broadcast.round() == CHILDREN_MAX
    holders = [play for play in list(broadcast.net.plays.values())[1:] if play.world.arena.used]
    broadcast.arrive()
    victim = next(address for address, play in broadcast.net.plays.items() if play is holders[0])
    lost = [tid for tid in broadcast.tasks if any(tid in w.mail() for w in holders[0].world.mailboxes.values())]
    broadcast.net.kill(victim)
    while broadcast.round():
        pass
    assert broadcast.begun() == len(broadcast.tasks) - len(lost)


@pytest.mark.parametrize("when", ["before it is told", "on the way"])
def test_who_does_not_want_it_any_more_makes_room_for_others(when: str) -> None:
    broadcast = Broadcast(6)
    if when == "on the way":
        broadcast.arrive()
    driver = broadcast.driver
    for tid in broadcast.tasks[:4]:
        driver.cancel(tid)
    while broadcast.round():
        pass
    assert broadcast.begun() >= 1
    driver.want(returned(broadcast.tasks[-1]))
    for play in broadcast.net.plays.values():
        assert not any(share.waiting for share in play.world.node.neighbours.sharing.shares.values())
