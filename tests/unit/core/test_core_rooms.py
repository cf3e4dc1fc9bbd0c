"""Who has room elsewhere is known without looking at everybody, and a quiet cluster says little."""

from random import Random
from typing import Any

import pytest

from net import Net
from play import Play
from rayd.core.effect import Effects
from rayd.core.event import Connected, Received
from rayd.core.news import News
from rayd.core.node import Node
from rayd.core.resources import Demand
from rayd.core.rooms import AT_A_TIME, Rooms
from rayd.core.task import Spec
from rayd.store.arena import Arena
from rayd.wire import messages as m

FREE = {"CPU": 1.0}


class Nodes:
    """Some nodes with room, and who was looked at."""

    def __init__(self, *room: int) -> None:
        self.room = dict(enumerate(room))
        self.looked: list[int] = []
        self.news = News()
        self.spec = Spec(1, b"job", {"name": "f", "function": b"f"}, Demand.of({"CPU": 1}))
        self.rooms = Rooms(self.spec, self.measure, self.news)

    def measure(self, number: int) -> int:
        self.looked.append(number)
        return self.room[number]

    def refresh(self) -> list[int]:
        """Who is looked at."""
        self.looked.clear()
        self.rooms.refresh(lambda: self.room)
        self.rooms.look_further()
        return list(self.looked)

    def most(self) -> list[tuple[int, int]]:
        """Everybody with room, in the order of it."""
        self.refresh()
        found = []
        while (taken := self.rooms.take_most())[1]:
            found.append(taken)
        return found


def test_who_was_heard_of_latest_comes_first_and_once() -> None:
    news = News()
    for number in (1, 2, 3, 1):
        news.note(number)
    assert list(news.since(0)) == [1, 3, 2]
    assert list(news.since(2)) == [1, 3]
    assert list(news.since(news.count)) == []


def test_those_with_the_most_room_come_first() -> None:
    assert Nodes(1, 0, 5, 3, 5).most() == [(2, 5), (4, 5), (3, 3), (0, 1)]


def test_only_who_may_have_room_by_now_is_looked_at_again() -> None:
    nodes = Nodes(1, 0, 2)
    assert nodes.refresh() == [0, 1, 2]
    assert nodes.refresh() == []
    nodes.room[1] = 4
    nodes.news.note(1)
    assert nodes.rooms.open == {0: 1, 2: 2}
    assert nodes.refresh() == [1]
    assert nodes.most() == [(1, 4), (2, 2), (0, 1)]
    assert nodes.refresh() == [1, 2, 0], "they were given something"


def test_no_more_nodes_are_looked_at_than_are_needed() -> None:
    nodes = Nodes(*[1] * 1_000)
    nodes.rooms.refresh(lambda: nodes.room)
    assert nodes.looked == []
    assert nodes.rooms.take_most() == (0, 1)
    assert len(dict.fromkeys(nodes.looked)) == AT_A_TIME
    assert not nodes.rooms.overlooks(999), "it will be looked at when the others are full"
    assert len(nodes.most()) == 1_000


def test_who_was_given_something_before_being_looked_at_is_not_given_more_at_once() -> None:
    nodes = Nodes(1, 1)
    nodes.rooms.refresh(lambda: nodes.room)
    nodes.rooms.stale[0] = None
    assert nodes.rooms.take_most() == (1, 1)
    assert nodes.rooms.take_most() == (-1, 0)
    assert nodes.most() == [(0, 1), (1, 1)]


def test_room_that_is_gone_is_not_used() -> None:
    nodes = Nodes(3, 2)
    nodes.refresh()
    nodes.room[0] = 1
    assert nodes.most() == [(1, 2), (0, 1)]


def test_a_spec_that_accepts_other_nodes_is_looked_up_anew() -> None:
    nodes = Nodes(1, 1)
    nodes.refresh()
    nodes.spec.nodes = {1: None}
    assert nodes.refresh() == [0, 1]


def test_looking_again_and_again_takes_no_more_memory() -> None:
    nodes = Nodes(1, 1)
    nodes.refresh()
    for turn in range(1_000):
        nodes.room[0] = 2 + turn % 2
        nodes.rooms.look(0)
    assert len(nodes.rooms._heap) < 20


# ---- what nodes say of themselves ------------------------------------------------------------------------------------


def head_with(names: str) -> tuple[Node, Effects]:
    """A head, and nodes that have joined by connections 1, 2 and so on."""
    effects = Effects()
    facts = {"node_id": b"head".ljust(28), "address": "head:1", "host": "head"}
    head = Node(b"head".ljust(28), FREE, Arena(1 << 20), effects, facts)
    for conn, name in enumerate(names, 1):
        theirs = {"node_id": name.encode().ljust(28), "address": f"{name}:1", "host": name}
        head.step(conn, Connected(conn, "node", {"facts": theirs, "totals": FREE}))
    effects.sends.clear()
    return head, effects


def told(head: Node, effects: Effects, now: int) -> tuple[list[int], list[int]]:
    """What the second node is told at a beat: of whom how they are, and of whom that they are as before."""
    head.step(now, Received(9, []))
    effects.sends.clear()
    head.neighbours.cluster.beat()
    ((tag, rows, as_before),) = effects.sends[2]
    assert tag == m.MEMBERS
    return [row[0] for row in rows], as_before


def test_the_head_says_of_a_node_only_what_the_others_do_not_know() -> None:
    head, effects = head_with("ab")
    load: dict[str, Any] = {"workers": 1}
    head.step(10, Received(1, [[m.VIEW, FREE, load, False]]))
    assert told(head, effects, 2_000_000_000) == ([0, 1], [])
    head.step(2_000_000_001, Received(1, [[m.VIEW, dict(FREE), dict(load), False]]))
    assert told(head, effects, 4_000_000_000) == ([0], [1])
    head.step(4_000_000_001, Received(1, [[m.VIEW, FREE, load, True]]))
    assert told(head, effects, 6_000_000_000) == ([0, 1], [])
    assert told(head, effects, 8_000_000_000) == ([0], [])


@pytest.fixture
def net() -> Net:
    """A head and another node."""
    return Net(2, Random(0))


def test_a_word_that_is_no_news_ends_what_was_thought_of_a_node(net: Net) -> None:
    here: Play = list(net.plays.values())[1]
    cluster = here.world.node.neighbours.cluster
    head = cluster.members[0]
    free = head.free.available()
    head.free.take(Demand.of({"CPU": 1}))
    head.refused[7] = None
    cluster.doubt(head)
    assert not head.takes_work
    cluster._are_as_before([0, 5])
    assert head.takes_work
    assert not head.refused
    assert head.free.available() == free
