"""Membership and channels, one behaviour at a time; many at a time are in test_core_net."""

from random import Random
from typing import Any

import pytest

from net import Net
from play import Play
from rayd.core.channels import home_of_job, job_id
from rayd.core.effect import CloseConnection, StopDaemon
from rayd.core.event import Connected
from rayd.core.hosting import BOTH_NOTICE_NS
from rayd.core.offload import check_rows
from rayd.core.resources import Ledger
from rayd.ids import home_of, home_of_actor, nonce, return_id
from rayd.wire import messages as m
from rayd.wire.frame import ProtocolError
from world import World, actor_object, creation, returned


@pytest.fixture
def net() -> Net:
    """A head and two other nodes, two CPUs each."""
    return Net(3, Random(0))


def at(net: Net, number: int) -> Play:
    return list(net.plays.values())[number]


def settle(net: Net) -> None:
    """Let everything arrive and all workers that were asked for come up."""
    moved = True
    while moved:
        moved = net.deliver_alone()
        for play in net.plays.values():
            if play.world.starting:
                play.start_one()
                moved = True


def test_every_node_knows_every_other(net: Net) -> None:
    for number, play in enumerate(net.plays.values()):
        cluster = play.world.node.neighbours.cluster
        assert play.world.node.state.number == number
        assert sorted(cluster.members) == [0, 1, 2]
        assert play.clients[1].peer.rpc("cluster_resources")["CPU"] == 6
        assert len(play.clients[1].peer.rpc("nodes")) == 3


def test_ids_tell_where_they_come_from() -> None:
    assert home_of_job(job_id(5, 7)) == 5
    assert job_id(0, 1) == b"\0\0\0\1"
    unique = nonce(300)
    assert home_of(return_id(b"\1" * 8 + unique + job_id(300, 1), 1)) == 300
    aid = unique + job_id(300, 1)
    assert home_of_actor(aid) == home_of(actor_object(aid)) == 300


def test_a_task_that_fits_nowhere_here_runs_elsewhere_and_its_value_comes_back(net: Net) -> None:
    play = at(net, 0)
    driver = play.clients[1].peer
    blocker = driver.submit(driver.spec("blocker", cpus=2))
    tid = driver.submit(driver.spec("wide", cpus=2))
    settle(net)
    assert play.world.worker_with(blocker)
    away = [other for other in (at(net, 1), at(net, 2)) if other.world.mailboxes]
    (worker,) = [worker for other in away for worker in other.world.mailboxes.values() if tid in worker.mail()]
    worker.read()
    driver.want(returned(tid))
    worker.done(tid, b"from afar")
    settle(net)
    assert [message[2:] for message in driver.inbox if message[0] == m.VALUE] == [[m.INLINE, b"from afar"]]
    for other in away:
        assert not [oid for oid in other.world.node.state.objects.entries if oid == returned(tid)], "moved, not copied"


def test_a_large_value_stays_where_it_was_made_until_it_is_wanted(net: Net) -> None:
    play = at(net, 0)
    driver = play.clients[1].peer
    driver.submit(driver.spec("blocker", cpus=2))
    tid = driver.submit(driver.spec("wide", cpus=2))
    settle(net)
    (other,) = [o for o in (at(net, 1), at(net, 2)) for w in o.world.mailboxes.values() if tid in w.mail()]
    worker = other.world.worker_with(tid)
    worker.read()
    worker.done_stored(tid, 5_000)
    settle(net)
    assert play.world.arena.used == 0
    assert other.world.arena.used >= 5_000
    driver.want(returned(tid))
    settle(net)
    (value,) = [message for message in driver.inbox if message[0] == m.VALUE]
    assert value[2] == m.STORED
    assert play.world.arena.used >= 5_000
    driver.release(returned(tid))
    settle(net)
    assert play.world.arena.used == other.world.arena.used == 0


def test_a_node_that_is_cut_off_ends_before_it_is_taken_for_dead(net: Net) -> None:
    head, other = at(net, 0).world, at(net, 1).world
    settle(net)
    for _ in range(29):  # each second says something that does not arrive
        other.wait_ms(1_000)
        head.wait_ms(1_000)
    assert not other.take(StopDaemon)
    other.wait_ms(3_000)
    head.wait_ms(3_000)
    (end, *_) = other.take(StopDaemon)
    assert isinstance(end, StopDaemon)
    assert "10.0.0.1:6379 for 30 s" in end.reason
    assert head.node.neighbours.cluster.members[1].alive
    head.wait_ms(5_000)
    assert not head.node.neighbours.cluster.members[1].alive


def said_by(play: Play) -> list[str]:
    """What a node's driver is told when it listens at last."""
    (job,) = play.world.node.state.jobs.values()
    return [text for _, text in job.unsaid]


def test_a_node_that_is_silent_for_some_seconds_is_noticed_everywhere_and_given_nothing(net: Net) -> None:
    head, silent, third = (at(net, number) for number in range(3))
    now = head.world.now
    for _ in range(10):
        for play in (head, third):
            play.world.wait_ms(1_000)
        net.deliver_all()
    members = [play.world.node.neighbours.cluster.members[1] for play in (head, third)]
    assert [member.alive for member in members] == [True, True]
    assert [member.takes_work for member in members] == [False, False]
    assert head.world.now - now == 10_000_000_000
    (row,) = [row for row in head.clients[1].peer.rpc("status")["nodes"] if row["node_id"] == members[0].node_id.hex()]
    assert row["alive"]
    assert row["silent"]
    for play in (head, third):
        (said,) = said_by(play)
        assert said.startswith(f"Nothing has been heard of node {members[0].node_id.hex()} at 10.0.0.2:6379 for 8 s.")
    silent.world.wait_ms(10_000)
    net.deliver_all()
    net.pass_ms(1_000)
    assert [member.takes_work for member in members] == [True, True]
    for play in (head, third):
        assert said_by(play)[1:] == [f"The node {members[0].node_id.hex()} at 10.0.0.2:6379 is heard again."]
    assert sum("heard" in line for line in head.world.audits) == 2


def test_what_was_given_to_a_node_is_lost_when_that_is_taken_for_dead(net: Net) -> None:
    play = at(net, 0)
    driver, head = play.clients[1].peer, play.world
    for _ in range(2):
        driver.submit(driver.spec("wide", cpus=2))
    settle(net)
    (channel,) = head.node.neighbours.channels.by_conn
    for _ in range(35):
        head.wait_ms(1_000)
    assert CloseConnection(channel, flush=False) not in head.take(CloseConnection)
    head.wait_ms(2_000)
    assert CloseConnection(channel, flush=False) in head.take(CloseConnection)


@pytest.mark.parametrize(
    "info",
    [
        {},
        {"facts": 5, "totals": {}},
        {"facts": {}, "totals": {"CPU": -1}},
        {"facts": {}, "totals": {"CPU": "many"}},
        {"job": b"\0\0\0\1", "job_info": {}, "namespace": "", "number": 77},
        {"job": b"\0\0\0\1", "job_info": {}, "namespace": "", "number": "x"},
        {"job": b"\0\0\0\1", "number": 0},
        {"job": b"\0\0\0\1", "job_info": 5, "namespace": "", "number": 0},
    ],
)
def test_a_node_that_introduces_itself_wrongly_is_refused_and_changes_nothing(
    world: World, info: dict[str, Any]
) -> None:
    with pytest.raises(ProtocolError):
        world.step(Connected(9, "node", info))
    assert list(world.node.neighbours.cluster.members) == [0]
    assert not world.node.neighbours.channels.by_conn
    assert not world.node.state.jobs


@pytest.mark.parametrize(
    "row", [5, [], [0, b"", 5], [0, {}, []], [1, b"", []], [1, [], []], [1, ["x"], []], [9, b"", []], [3, b"", []]]
)
def test_results_of_another_node_are_looked_at_before_they_are_used(row: Any) -> None:
    with pytest.raises(ProtocolError):
        check_rows([row])


def versions(net: Net, *pythons: str) -> None:
    """Say which Python each node runs."""
    for play in net.plays.values():
        for member, python in zip(play.world.node.neighbours.cluster.members.values(), pythons, strict=True):
            member.facts["python"] = python
            play.world.node.placement.node_changed(member)


def busy(net: Net, number: int) -> bool:
    """Whether a node has been given anything."""
    return any(worker.mail() or worker.begun for worker in at(net, number).world.mailboxes.values())


def test_functions_only_go_to_nodes_with_their_python(net: Net) -> None:
    versions(net, "3.11.7", "3.12.1", "3.11.2")
    driver = at(net, 0).world.driver(python="3.11.7")
    for _ in range(3):
        driver.submit(driver.spec("wide", cpus=2, spread=True))
        driver.create(driver.actor_class(resources={"CPU": 1}, spread=True))
    settle(net)
    assert busy(net, 2)
    assert not busy(net, 1)


@pytest.mark.parametrize("soft", [False, True])
def test_what_is_bound_to_a_node_with_another_python_is_told_why(net: Net, soft: bool) -> None:
    versions(net, "3.11.7", "3.12.1", "3.11.2")
    driver = at(net, 0).world.driver(python="3.11.7")
    there = at(net, 1).world.node.state.node_id
    tid = driver.submit(driver.spec("bound", node=there, soft=soft))
    driver.want(returned(tid))
    settle(net)
    faults = [message[3] for message in driver.inbox if message[0] == m.VALUE]
    if soft:
        assert not faults
        assert not busy(net, 1)
    else:
        assert "runs Python 3.11, and functions cannot travel" in faults[0]["message"]
        assert "10.0.0.2:6379 (Python 3.12)" in faults[0]["message"]


def test_what_only_a_node_with_another_python_has_waits_for_one_of_its_own(net: Net) -> None:
    versions(net, "3.12.1", "3.11.7", "3.12.1")
    play = at(net, 1)
    driver = play.world.driver(python="3.11.7")
    driver.submit(driver.spec("labelled", selectors=[[["a", "!exists", []]]], resources={"GPU": 1}))
    driver.submit(driver.spec("wide", cpus=2))
    settle(net)
    assert not busy(net, 0)
    assert not busy(net, 2)


def test_what_another_python_keeps_from_its_resources_is_told_so(net: Net) -> None:
    versions(net, "3.11.7", "3.12.1", "3.12.1")
    for play in net.plays.values():
        play.world.node.neighbours.cluster.members[0].totals = Ledger({"CPU": 1})
    driver = at(net, 0).world.driver(python="3.11.7")
    logs = at(net, 0).world.tool("logs", job=driver.job)
    driver.submit(driver.spec("wide", cpus=2))
    settle(net)
    ((_, _, text),) = logs.take(m.EVENT)
    assert "runs Python 3.11, and functions cannot travel" in text
    assert "It stays pending" in text


def test_an_actor_on_a_node_that_is_not_heard_begins_anew_only_when_that_node_must_have_noticed(net: Net) -> None:
    """Found between real hosts: two nodes that were cut from each other, and not from the head, ran an actor both."""
    home, host = at(net, 0), at(net, 1)
    driver = home.clients[1].peer
    there = host.world.node.state.node_id
    aid = driver.create(driver.actor_class(node=there, soft=True, max_restarts=1))
    settle(net)
    host.world.worker_with(creation(aid)).run(b"")
    settle(net)
    actor = home.world.node.actors.by_id[aid]
    assert actor.host is not None
    line: Any = home.world.peers[actor.host.channel.conn]
    line.close("silent")
    settle(net)
    for _ in range(BOTH_NOTICE_NS // 1_000_000_000 - 1):
        net.pass_ms(1_000)
        settle(net)
        assert actor.worker is actor.host is None
    line.other.close("silent")
    net.pass_ms(2_000)
    settle(net)
    assert actor.worker is not None or actor.host is not None


def test_a_detached_actor_is_started_again_when_its_host_dies_after_its_driver_has_gone(net: Net) -> None:
    """Found by the simulator: it was ended instead, as if nobody wanted it any more."""
    home, host = at(net, 0), at(net, 1)
    driver = home.clients[1].peer
    options = {"detached": True, "actor_name": "service", "max_restarts": -1}
    aid = driver.create(driver.actor_class(node=host.world.node.state.node_id, soft=True, **options))
    settle(net)
    host.world.worker_with(creation(aid)).run(b"")
    settle(net)
    actor = home.world.node.actors.by_id[aid]
    assert actor.host is not None
    del home.clients[1]
    driver.leave()
    settle(net)
    assert actor.host is not None
    net.kill(host.world.node.neighbours.cluster.me.address)
    settle(net)
    assert actor.fault is None
    assert home.world.node.directory.find(actor.namespace, "service") == aid
    assert actor.worker is not None or actor.host is not None


def test_a_name_that_its_node_has_no_more_is_free_although_it_could_not_be_struck_from_the_journal(net: Net) -> None:
    """Found by the simulator: the disk was full, then the head was killed, and the next one knew the name for ever."""
    here = at(net, 1)
    driver = here.clients[1].peer
    gone, kept = (driver.create(driver.actor_class(f"C{name}", actor_name=name)) for name in ("gone", "kept"))
    net.deliver_all()
    rows = {key: row for key, row in net.disk.items() if key[0] == "name"}
    assert len(rows) == 2
    driver.send((m.KILL, gone, True))
    net.deliver_all()
    net.disk.update(rows)
    net.head_dies(Random(0))
    net.head_comes()
    while not net.all_nodes_are_back():
        net.pass_ms(300)
    net.deliver_all()
    directory = at(net, -1).world.node.directory
    assert directory.far() == [kept]
    assert [key for key in net.disk if key[0] == "name"] == [("name", kept)]
