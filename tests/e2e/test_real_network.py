"""Daemons on several hosts: what crosses a real network, and what happens when it, or a host, does not do its part.

Hosts are network namespaces (see ``hosts.py``), and the settings are those that everybody has. To let a network be cut
for so long is the point of some of these tests, so they run side by side, those that take longest first.
"""

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from rayd.shell import procfs
from rayd.shell.sessions import Record
from rayd.shell.silence import AGAIN_MS_MAX, TCP_RTO_MAX_MS

from .hosts import Host, Network, NotHereError, network
from .network_programs import CROSSES, FENCED, MOVES, RESTS, STEADY, USES_FAR
from .side_by_side import outcomes, side_by_side
from .support import LIMIT_S, PROMISED_S, Program, all_gone, log_of, until, workers
from .test_cluster import row
from .test_head_death import GOES_ON

__all__ = ["outcomes"]  # a fixture

pytestmark = pytest.mark.time_limit(10)  # to tell what has come of a scenario

Measured = dict[str, float]

# A cut that no task may fail by, one after which the nodes have parted, and when both must have noticed by.
SHORT_S = 10.0
ALMOST_TOO_LONG_S = 28.0
LONG_S = 40.0
FENCED_S = 33.0
TAKEN_FOR_DEAD_S = 38.0
STOPPED_S = 20.0
# A slow network, and many other tests at the same time: only a hang is to fail.
BUSY_S = 90.0


@dataclass
class Cluster:
    """A head and a node on hosts of their own, and a third host without a daemon."""

    network: Network
    at_head: Host
    at_node: Host
    outside: Host
    head: Record
    node: Record

    def alive(self) -> bool:
        """Whether the head believes that the node lives."""
        return bool(row(self.head, self.node)["alive"])

    def program(self, host: Host, source: str) -> Program:
        """Start a program on any of the hosts."""
        address = {self.at_head: self.head.address, self.at_node: self.node.address}
        return host.program(source, address.get(host, f"ray://{self.head.address}"))


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """One with resource "near" at the head and "far" at the node; all of it ends when the head is told to."""
    with network(folder, 3) as made:
        at_head, at_node, outside = made.hosts
        head = at_head.head("--resources", '{"near": 4}')
        found = Cluster(made, at_head, at_node, outside, head, at_node.node(at_head))
        yield found
        os.kill(found.head.pid, signal.SIGTERM)
        for host in made.hosts:
            until(lambda host=host: not host.pids(), saying=lambda host=host: [host, host.pids()])


def hold(seconds: float) -> None:
    """Let time pass, as it is what the test is about."""
    time.sleep(seconds)


def since(start: float) -> float:
    """Seconds that have passed."""
    return time.monotonic() - start


# ---- a network that is cut for too long ------------------------------------------------------------------------------


def parts_for_good(made: Cluster, cut: Callable[[], object]) -> Measured:
    """The node ends before its work begins anew at the head, and does not come back."""
    running = made.program(made.at_head, FENCED)
    running.says("ready")
    start = time.monotonic()
    cut()
    measured = {}
    assert all_gone([made.node.pid], within_s=FENCED_S)
    measured["until the node ended itself"] = since(start)
    until(lambda: not made.at_node.pids())
    measured["until nothing of it was left"] = since(start)
    until(lambda: not made.alive())
    measured["until the head took it for dead"] = since(start)
    assert TAKEN_FOR_DEAD_S > since(start) > FENCED_S
    assert f"nothing was heard from the head of the cluster at {made.head.address} for 30 s" in log_of(made.node)
    for what in ("restarted", "once", "fragile", "again"):
        told = running.says(what)
        measured[f"until told of {what}"] = since(start)
        assert what not in ("once", "fragile") or made.node.node_id in told
    running.succeed()
    hold(max(0.0, LONG_S - since(start)))
    made.network.everywhere(cut=False)
    measured["between the actor's lives"] = between_lives(running)
    assert not made.alive()
    made.node = made.at_node.node(made.at_head)
    assert "used it" in made.program(made.at_head, USES_FAR).succeed()
    return measured


def between_lives(running: Program) -> float:
    """Seconds between the last sign of life of an actor's first process and the first one of its second."""
    lives: dict[str, list[float]] = {}
    for line in Path(f"{running.path}.beats").read_text().splitlines():
        pid, when = line.split()
        lives.setdefault(pid, []).append(float(when))
    first, second = sorted(lives.values())
    assert max(first) < min(second), "the actor lived twice at the same time"
    return min(second) - max(first)


@side_by_side
def test_a_long_cut_parts_the_node_for_good(folder: Path) -> Measured:
    with cluster(folder) as made:
        return parts_for_good(made, lambda: made.network.between(made.at_head, made.at_node, cut=True))


@side_by_side
def test_a_node_that_is_not_heard_for_long_is_parted(folder: Path) -> Measured:
    with cluster(folder) as made:
        return parts_for_good(made, lambda: made.network.one_way(made.at_node, made.at_head, cut=True))


@side_by_side
def test_a_node_that_hears_nothing_for_long_is_parted(folder: Path) -> Measured:
    with cluster(folder) as made:
        return parts_for_good(made, lambda: made.network.one_way(made.at_head, made.at_node, cut=True))


@side_by_side
def test_what_a_driver_had_ends_when_its_host_stays_cut_off(folder: Path) -> Measured:
    with cluster(folder) as made:
        running = made.program(made.outside, RESTS)
        running.says("resting")
        start = time.monotonic()
        made.network.between(made.outside, made.at_head, cut=True)
        until(lambda: not workers(made.node) and not workers(made.head), within_s=LONG_S + LIMIT_S)
        measured = {"until its tasks ended": since(start)}
        running.close()
        return measured


# ---- a network that is cut for a while -------------------------------------------------------------------------------


def steady(made: Cluster, host: Host) -> Program:
    """A program that uses a host other than its own all the time."""
    return made.program(host, STEADY.replace("OTHER", "near" if host is made.at_node else "far"))


def goes_on_after(running: list[Program], trouble: Callable[[], None]) -> Measured:
    """Nothing that the programs do fails or is done twice when there is trouble for a time."""
    for one in running:
        one.says("answered", within_s=BUSY_S)
    trouble()
    over = time.time()
    for one in running:
        until(
            lambda one=one: float(one.says("answered")) > over + 0.2, within_s=BUSY_S, saying=lambda one=one: one.stderr
        )
    measured = {"until work went on": time.time() - over}
    for one in running:
        one.hear("enough")
        assert "all once" in one.succeed(within_s=BUSY_S)
    return measured


def held_cut(made: Cluster, seconds: float, cut: Callable[..., object]) -> Callable[[], None]:
    """The trouble of a network that is cut for a time."""

    def trouble() -> None:
        cut(cut=True)
        hold(seconds)
        made.network.everywhere(cut=False)

    return trouble


@side_by_side
def test_a_short_cut_fails_nothing(folder: Path) -> Measured:
    with cluster(folder) as made:
        running = [steady(made, host) for host in made.network.hosts]
        return goes_on_after(running, held_cut(made, SHORT_S, made.network.everywhere))


@side_by_side
def test_a_short_cut_in_the_midst_of_large_objects_fails_nothing(folder: Path) -> Measured:
    with cluster(folder) as made:
        running = [made.program(host, MOVES) for host in (made.at_head, made.outside)]
        return goes_on_after(running, held_cut(made, SHORT_S, made.network.everywhere))


@side_by_side
def test_a_cut_that_is_almost_too_long_fails_nothing(folder: Path) -> Measured:
    with socket.socket() as probe:
        try:
            probe.setsockopt(socket.IPPROTO_TCP, TCP_RTO_MAX_MS, AGAIN_MS_MAX)
        except OSError:
            raise NotHereError("this kernel tries again too late: it has no TCP_RTO_MAX_MS") from None
    with cluster(folder) as made:
        running = [steady(made, host) for host in made.network.hosts]
        return goes_on_after(running, held_cut(made, ALMOST_TOO_LONG_S, made.network.everywhere))


@side_by_side
def test_a_short_cut_of_one_direction_fails_nothing(folder: Path) -> Measured:
    with cluster(folder) as made:
        running = [steady(made, host) for host in made.network.hosts]

        def cut(**quality: bool) -> None:
            made.network.one_way(made.at_node, made.at_head, **quality)
            made.network.one_way(made.at_head, made.outside, **quality)

        return goes_on_after(running, held_cut(made, SHORT_S, cut))


# ---- a host that does not answer -------------------------------------------------------------------------------------


def held_stop(record: Record) -> Callable[[], None]:
    """The trouble of a daemon that does not get the processor for a time."""

    def trouble() -> None:
        os.kill(record.pid, signal.SIGSTOP)
        try:
            hold(STOPPED_S)
        finally:
            os.kill(record.pid, signal.SIGCONT)

    return trouble


@side_by_side
def test_a_node_that_stands_still_for_a_while_fails_nothing(folder: Path) -> Measured:
    with cluster(folder) as made:
        return goes_on_after([steady(made, host) for host in made.network.hosts], held_stop(made.node))


@side_by_side
def test_a_head_that_stands_still_for_a_while_fails_nothing(folder: Path) -> Measured:
    with cluster(folder) as made:
        return goes_on_after([steady(made, host) for host in made.network.hosts], held_stop(made.head))


@side_by_side
def test_the_workers_of_a_node_that_stands_still_for_too_long_end_before_their_work_begins_anew(
    folder: Path,
) -> Measured:
    """Its daemon cannot end them: it does not run."""
    with cluster(folder) as made:
        running = made.program(made.at_head, FENCED)
        running.says("ready")
        victims = workers(made.node)
        start = time.monotonic()
        os.kill(made.node.pid, signal.SIGSTOP)
        try:
            until(lambda: f"Nothing has been heard of node {made.node.node_id}" in running.stderr)
            measured = {"until the driver was told": since(start)}
            assert all_gone(victims, within_s=FENCED_S)
            measured["until its workers were gone"] = since(start)
            until(lambda: not made.alive())
            measured["until the head took it for dead"] = since(start)
            assert TAKEN_FOR_DEAD_S > since(start) > FENCED_S
            running.succeed()
        finally:
            os.kill(made.node.pid, signal.SIGCONT)
        assert all_gone([made.node.pid], within_s=LIMIT_S)
        measured["between the actor's lives"] = between_lives(running)
        assert "workers are killed" in log_of(made.node)
        return measured


# ---- what a network may be like --------------------------------------------------------------------------------------


def everything_crosses(made: Cluster, size: int) -> Measured:
    """A driver beside the head and one on a host without a daemon use the node."""
    source = CROSSES.replace("SIZE", str(size))
    before = made.network.bytes_carried()
    start = time.monotonic()
    running = [made.program(made.at_head, source), made.program(made.outside, source)]
    for one in running:
        assert "all crossed" in one.succeed(within_s=BUSY_S)
        assert one.stderr == ""
    assert made.network.bytes_carried() - before > 4 * size, "it went another way"
    return {"two drivers": since(start)}


@side_by_side
def test_everything_crosses_hosts_over_tls(folder: Path) -> Measured:
    with cluster(folder) as made:
        return everything_crosses(made, 10_000_000)


@side_by_side
def test_everything_crosses_a_slow_network(folder: Path) -> Measured:
    with cluster(folder) as made:
        made.network.everywhere(delay_s=0.1)
        return everything_crosses(made, 10_000_000)


@side_by_side
def test_everything_crosses_a_network_that_loses_packets(folder: Path) -> Measured:
    with cluster(folder) as made:
        made.network.everywhere(loss=0.01)
        measured = everything_crosses(made, 20_000_000)
        assert made.network.everywhere(loss=0.0)["lost"] > 100, "too few to tell anything"
        return measured


# ---- what is killed --------------------------------------------------------------------------------------------------


@side_by_side
def test_a_node_is_killed(folder: Path) -> Measured:
    with cluster(folder) as made:
        running = made.program(made.at_head, FENCED)
        running.says("ready")
        start = time.monotonic()
        os.kill(made.node.pid, signal.SIGKILL)
        until(lambda: not made.alive())
        measured = {"until the head took it for dead": since(start)}
        for what in ("once", "fragile"):
            assert made.node.node_id in running.says(what)
        running.succeed()
        until(lambda: not made.at_node.pids())
        return {**measured, "until its work was done elsewhere": since(start)}


@side_by_side
def test_a_worker_is_killed(folder: Path) -> Measured:
    with cluster(folder) as made:
        running = made.program(made.outside, RESTS)
        pid = int(running.says("resting"))
        start = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        assert "it was ended by SIGKILL" in running.says("told")
        return {"until the driver knew why": since(start)}


@side_by_side
def test_drivers_are_killed(folder: Path) -> Measured:
    with cluster(folder) as made:
        measured = {}
        for where, host in (("beside the head", made.at_head), ("outside", made.outside)):
            running = made.program(host, RESTS)
            running.says("resting")
            start = time.monotonic()
            running.signal(signal.SIGKILL)
            until(lambda: not workers(made.node) and not workers(made.head), within_s=PROMISED_S)
            measured[f"until all of the driver {where} was gone"] = since(start)
        return measured


@side_by_side
def test_a_head_is_killed_and_begun_again(folder: Path) -> Measured:
    with cluster(folder) as made:
        running = made.program(made.at_node, GOES_ON)
        running.says("ready")
        os.kill(made.head.pid, signal.SIGKILL)
        assert procfs.wait_gone(made.head.pid, made.head.pid_start_time, LIMIT_S)
        running.hear("killed")
        running.says("went on")
        start = time.monotonic()
        made.head = made.at_head.head("--resources", '{"near": 4}')
        running.says("refused: The name 'counter' is taken")
        running.succeed()
        assert "is back after" in running.stderr
        assert made.alive()
        return {"until the cluster was whole": since(start)}
