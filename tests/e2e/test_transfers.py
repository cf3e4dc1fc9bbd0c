"""Large objects between several hosts: from several at a time, and on from there when one of them fails.

Bytes are counted on the wire, where they are as slow as the test needs to do something in the middle.
"""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from rayd.shell.sessions import Record

from .hosts import Host, Network, network
from .network_programs import GIVES
from .side_by_side import outcomes, side_by_side
from .support import Program, until

__all__ = ["outcomes"]  # a fixture

pytestmark = pytest.mark.time_limit(10)  # to tell what has come of a scenario

MB: Final = 1_000_000
SIZE: Final = 32 * MB
PACKET_BYTES: Final = 9000
# Slow enough to do something in the middle of a transfer.
RATE: Final = 6 * MB
# What connections, headers and the parts that were under way when a source failed add to an object.
MORE: Final = 1.25
BUSY_S: Final = 60.0


class Cluster:
    """A head with an object, other nodes, and a program that gives it to them.

    Args:
        made: their hosts.
    """

    def __init__(self, made: Network) -> None:
        self.network = made
        self.at_head, *self.others = made.hosts
        self.head: Record = self.at_head.head()
        self.nodes = [host.node(self.at_head) for host in self.others]
        self.program: Program = self.at_head.program(GIVES.replace("SIZE", str(SIZE)), self.head.address)
        self.program.says("ready", within_s=BUSY_S)

    def do(self, what: str, number: int) -> None:
        """Have the program do something with a node's keeper, and wait until it has."""
        before = self.program.stdout.count(f"{what} {number} done")
        self.program.hear(f"{what} {number}")
        until(
            lambda: self.program.stdout.count(f"{what} {number} done") > before,
            within_s=BUSY_S,
            saying=lambda: self.program.stderr,
        )

    def give(self, number: int) -> None:
        """A node gets the object."""
        self.do("give", number)
        self.do("wait", number)

    def begin(self, number: int, source: Host) -> None:
        """A node begins to get it, and a part of it has come from a certain host."""
        before = self.network.bytes_sent(source, self.others[number])
        self.network.limit(RATE, 10 * RATE)
        self.do("give", number)
        until(lambda: self.network.bytes_sent(source, self.others[number]) > before + SIZE / 6, within_s=BUSY_S)

    def sent(self, source: Host, number: int) -> int:
        """Bytes that a node has got from a host until now."""
        return self.network.bytes_sent(source, self.others[number])


@contextlib.contextmanager
def cluster(folder: Path, nodes: int) -> Iterator[Cluster]:
    """A head and so many other nodes; all of it ends when the head is told to."""
    with network(folder, nodes + 1, PACKET_BYTES) as made:
        yield Cluster(made)
        made.hosts[0].close_programs()
        for record in made.hosts[0].records():
            os.kill(record.pid, signal.SIGTERM)
        for host in made.hosts:
            until(lambda host=host: not host.pids(), saying=lambda host=host: [host, host.pids()])


def only_what_was_missing(made: Cluster) -> dict[str, float]:
    """The second node has the object, of which two others have sent a part each, and hardly anything twice."""
    made.do("wait", 1)
    shares = [made.sent(host, 1) / SIZE for host in (made.at_head, made.others[0])]
    assert min(shares) > 0.1, shares
    assert sum(shares) < MORE, shares
    return {"from the head, in objects": shares[0], "from the other, in objects": shares[1]}


@side_by_side
def test_a_node_that_is_killed_while_it_sends(folder: Path) -> dict[str, float]:
    with cluster(folder, 2) as made:
        made.give(0)
        made.begin(1, made.others[0])
        for pid in made.others[0].pids():
            os.kill(pid, signal.SIGKILL)
        return only_what_was_missing(made)


@side_by_side
def test_a_node_that_cannot_be_reached_any_more_while_it_sends(folder: Path) -> dict[str, float]:
    with cluster(folder, 2) as made:
        made.give(0)
        made.begin(1, made.others[0])
        made.network.between(*made.others, cut=True)
        measured = only_what_was_missing(made)
        made.network.everywhere(cut=False)
        return measured


@side_by_side
def test_a_node_that_lets_go_of_it_while_it_sends(folder: Path) -> dict[str, float]:
    with cluster(folder, 2) as made:
        made.give(0)
        made.begin(1, made.others[0])
        made.do("drop", 0)
        return only_what_was_missing(made)


@side_by_side
def test_it_spreads_while_it_comes(folder: Path) -> dict[str, float]:
    with cluster(folder, 4) as made:
        made.network.limit(RATE, 10 * RATE)
        numbers = range(len(made.others))
        for number in numbers:
            made.do("give", number)
        for number in numbers:
            made.do("wait", number)
        sent = sum(made.sent(made.at_head, number) for number in numbers) / SIZE
        assert sent < 2.5, "the others have sent most of it"
        return {"sent by the head, in objects": sent}
