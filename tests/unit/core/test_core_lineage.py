"""Results that were only on a node that has died, and what makes them again."""

from random import Random
from typing import Any

import pytest
from test_core_cluster import at, settle

from net import Net
from peers import Peer, returned
from play import Play
from rayd.errors import OBJECT_LOST
from rayd.wire import messages as m

LARGE = 5_000


@pytest.fixture
def net() -> Net:
    """A head with a driver, and two more nodes."""
    return Net(3, Random(1))


def driver_of(net: Net) -> Peer:
    return at(net, 0).clients[1].peer


def on(net: Net, number: int, driver: Peer, deps: tuple[bytes, ...] = (), **options: object) -> bytes:
    """A task that prefers a node and returns something large there; its id."""
    node_id = at(net, number).world.node.state.node_id
    tid = driver.submit(driver.spec(f"on {number}", node=node_id, soft=True, **options), deps=list(deps))  # type: ignore[arg-type]
    settle(net)
    finish(net, tid)
    return tid


def where(net: Net, tid: bytes) -> Play | None:
    """The node on which a worker has a task."""
    for play in net.plays.values():
        for worker in play.world.mailboxes.values():
            if worker.alive and tid in (*worker.mail(), *worker.begun):
                return play
    return None


def finish(net: Net, tid: bytes) -> None:
    """Whoever has a task returns something large."""
    play = where(net, tid)
    assert play is not None, "the task runs nowhere"
    worker = play.world.worker_with(tid)
    while worker.unread:
        worker.read()
    worker.done_stored(tid, LARGE)
    settle(net)


def die(net: Net, number: int) -> None:
    """One node dies, and everybody hears of it."""
    world = at(net, number).world
    doomed = next(address for address, play in net.plays.items() if play.world is world)
    net.kill(doomed)
    settle(net)


def told(net: Net, driver: Peer, oid: bytes) -> list[object]:
    """The value of an object, or the fault."""
    settle(net)
    found = [message[2:] for message in driver.take(m.VALUE) if message[1] == oid]
    return list(found[-1]) if found else []


def fault_told(net: Net, driver: Peer, oid: bytes) -> dict[str, Any]:
    """The fault of an object that there will not be."""
    kind, why = told(net, driver, oid)
    assert kind == m.FAULT
    assert isinstance(why, dict)
    return why


def test_a_lost_result_is_made_again_when_somebody_wants_it(net: Net) -> None:
    driver = driver_of(net)
    tid = on(net, 1, driver, max_retries=2)
    die(net, 1)
    assert where(net, tid) is None, "nobody wants it yet"
    driver.want(returned(tid))
    settle(net)
    finish(net, tid)
    assert told(net, driver, returned(tid))[0] == m.STORED
    driver.release(returned(tid))
    settle(net)
    assert not at(net, 0).world.node.neighbours.lineage.records


def test_what_it_takes_is_made_before_it(net: Net) -> None:
    driver = driver_of(net)
    first = on(net, 1, driver, max_retries=2)
    second = on(net, 1, driver, (returned(first),), max_retries=2)
    driver.release(returned(first))
    settle(net)
    die(net, 1)
    driver.want(returned(second))
    settle(net)
    finish(net, first)
    finish(net, second)
    assert told(net, driver, returned(second))[0] == m.STORED
    driver.release(returned(second))
    settle(net)
    for play in net.plays.values():
        assert not play.world.node.neighbours.lineage.records
        assert play.world.arena.used == 0


def test_what_was_put_and_is_gone_cannot_be_made_again(net: Net) -> None:
    driver = driver_of(net)
    stored = driver.store(LARGE)
    tid = on(net, 1, driver, (stored,), max_retries=2)
    driver.release(stored)
    settle(net)
    die(net, 1)
    driver.want(returned(tid))
    why = fault_told(net, driver, returned(tid))
    assert why["code"] == OBJECT_LOST
    assert stored.hex() in why["message"]
    assert "ray.put()" in why["message"]


def test_what_must_not_run_twice_is_lost(net: Net) -> None:
    driver = driver_of(net)
    tid = on(net, 1, driver, max_retries=0)
    die(net, 1)
    driver.want(returned(tid))
    why = fault_told(net, driver, returned(tid))
    assert "10.0.0.2:6379" in why["message"]


def test_a_task_that_waits_for_a_lost_argument_has_it_made(net: Net) -> None:
    driver = driver_of(net)
    tid = on(net, 1, driver, max_retries=1)
    die(net, 1)
    user = driver.submit(driver.spec("user"), deps=[returned(tid)])
    settle(net)
    finish(net, tid)
    finish(net, user)
    driver.want(returned(user))
    assert told(net, driver, returned(user))[0] == m.STORED


def test_each_time_costs_a_retry(net: Net) -> None:
    driver = driver_of(net)
    tid = on(net, 1, driver, max_retries=1)
    die(net, 1)
    driver.submit(driver.spec("blocker", cpus=2))  # so that it is made on the last other node
    settle(net)
    driver.send((m.PROBE, [returned(tid)]))
    settle(net)
    finish(net, tid)
    assert driver.take(m.READY) == [[m.READY, [returned(tid)]]]
    die(net, 1)
    driver.want(returned(tid))
    why = fault_told(net, driver, returned(tid))
    assert "max_retries are used up" in why["message"]
    driver.release(returned(tid))
    settle(net)
    assert not at(net, 0).world.node.neighbours.lineage.records


def test_a_task_that_begins_when_its_argument_turns_out_to_be_lost_for_good_fails(net: Net) -> None:
    """Found by a random play: it had left the queue, its argument failed while it was asked for, and it was nowhere."""
    driver, home = driver_of(net), at(net, 0)
    gone = driver.store(LARGE)
    made = on(net, 1, driver, deps=(gone,), max_retries=3)
    driver.release(gone)
    node_id = home.world.node.state.node_id
    here = {"node": node_id, "soft": False}
    first = driver.submit(driver.spec("first", cpus=2, **here))  # type: ignore[arg-type]
    second = driver.submit(driver.spec("second", cpus=2, **here), deps=[returned(made)])  # type: ignore[arg-type]
    settle(net)
    die(net, 1)
    driver.want(returned(second))
    finish(net, first)
    assert fault_told(net, driver, returned(second))["code"] == OBJECT_LOST
