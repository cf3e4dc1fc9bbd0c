"""Room is kept for who has waited long for much at a time, with the bound that is promised."""

from collections import deque
from collections.abc import Callable, Iterator
from random import Random

import pytest

from net import Net
from peers import Peer, WorkerPeer, creation
from play import Play
from rayd.core.claims import HOLD_NS, PATIENCE_NS
from rayd.core.event import Join
from rayd.core.turns import AGE_NS
from rayd.wire import messages as m
from world import World

PATIENCE_MS = PATIENCE_NS / 1e6
HOLD_MS = HOLD_NS / 1e6
# More than a lease, so that each task is a lease of its own.
TASK_MS = 100.0


class Stream:
    """A function of which some tasks are always queued; each takes ``TASK_MS``, and they end one after the other.

    Args:
        world: their node.
        submit: submits one.
    """

    def __init__(self, world: World, submit: Callable[[], bytes], count: int = 8) -> None:
        self.world = world
        self.submit = submit
        self.mine = {submit() for _ in range(count)}
        self.others: list[bytes] = []
        world.workers()

    def running(self) -> list[WorkerPeer]:
        """Workers that are at one of them."""
        found = []
        for worker in self.world.mailboxes.values():
            while worker.unread:
                tids = worker.read()
                self.others += [tid for tid in tids if tid not in self.mine]
            found += [worker for tid in worker.begun if tid in self.mine]
        return found

    def until(self, met: Callable[[], bool], limit_ms: float) -> float:
        """End the oldest task after the other until something is so; how long that took, in ms."""
        start = self.world.now
        while not met():
            waited = (self.world.now - start) / 1e6
            assert waited <= limit_ms, f"it waits for {waited:g} ms"
            self.step()
        return (self.world.now - start) / 1e6

    def step(self) -> None:
        """One task ends, and another comes."""
        self.world.wait_ms(TASK_MS / 2)
        self.world.workers()
        running = self.running()
        if running:
            (tid, *_) = [tid for tid in running[0].begun if tid in self.mine]
            self.mine.add(self.submit())
            running[0].done(tid, run_us=int(TASK_MS * 1000))
        self.world.workers()
        self.running()


@pytest.fixture
def world() -> Iterator[World]:
    """A node of two CPUs."""
    world = World(cpus=2, resources={"disk": 1.0})
    yield world
    world.forgive()


def stream(world: World, driver: Peer, name: str = "small", **options: object) -> Stream:
    key = driver.spec(name, **options)  # type: ignore[arg-type]
    return Stream(world, lambda: driver.submit(key))


def test_what_asks_for_a_whole_node_begins_beside_a_stream_of_small_tasks(world: World) -> None:
    driver = world.driver()
    small = stream(world, driver)
    wide = driver.submit(driver.spec("wide", cpus=2))
    took = small.until(lambda: wide in small.others, PATIENCE_MS + 3 * TASK_MS)
    assert took >= PATIENCE_MS, "somebody was held up before that was necessary"


def test_the_small_ones_go_on_afterwards(world: World) -> None:
    driver = world.driver()
    small = stream(world, driver)
    wide = driver.submit(driver.spec("wide", cpus=2))
    small.until(lambda: wide in small.others, 2 * PATIENCE_MS)
    assert not small.running()
    world.worker_with(wide).done(wide)
    assert len(small.running()) == 2


def test_what_it_leaves_is_given_to_others(world: World) -> None:
    """It waits for the disk; nobody waits for CPUs because of that."""
    driver = world.driver()
    holder = driver.submit(driver.spec("holder", resources={"disk": 1.0}))
    small = stream(world, driver)
    driver.submit(driver.spec("second holder", resources={"disk": 1.0}))
    world.wait_ms(PATIENCE_MS)
    small.until(lambda: world.node.state.claims.claim is not None, 2 * PATIENCE_MS)
    worker = world.worker_with(holder)
    assert worker.begun == [holder]
    assert len(small.running()) == 0 or small.running()[0] is not worker
    small.until(lambda: world.now > 4 * PATIENCE_NS, 8 * PATIENCE_MS)


def test_nothing_is_kept_for_what_actors_hold(world: World) -> None:
    """They end when they like; tasks would wait for nothing."""
    driver = world.driver()
    world.actor(driver, resources={"CPU": 1.0})
    small = stream(world, driver)
    driver.submit(driver.spec("wide", cpus=2))
    small.until(lambda: world.now > 3 * PATIENCE_NS, 8 * PATIENCE_MS)
    assert world.node.state.claims.claim is None
    assert len(small.running()) == 1


def test_a_claim_is_over_after_a_while_and_the_others_have_as_long(world: World) -> None:
    """What runs may wait for those that are held up."""
    driver = world.driver()
    endless = driver.submit(driver.spec("endless"))
    small = stream(world, driver)
    driver.submit(driver.spec("wide", cpus=2))
    claims = world.node.state.claims
    small.until(lambda: claims.claim is not None, 2 * PATIENCE_MS)
    while (running := small.running()) and running[0].begun != [endless]:
        running[0].done(running[0].begun[0])
        world.workers()
    assert not small.running()
    world.wait_ms(HOLD_MS)
    assert claims.claim is None
    assert small.running()
    small.until(lambda: claims.claim is not None, HOLD_MS + 2 * TASK_MS)


def test_who_has_gone_keeps_nothing_from_others(world: World) -> None:
    driver = world.driver()
    small = stream(world, driver)
    wide = driver.submit(driver.spec("wide", cpus=2))
    small.until(lambda: world.node.state.claims.claim is not None, 2 * PATIENCE_MS)
    driver.cancel(wide)
    assert world.node.state.claims.claim is None
    assert len(small.running()) == 2


def test_it_overrules_no_priority(world: World) -> None:
    """A level is worth a second, as for those of one size."""
    driver = world.driver()
    small = stream(world, driver, priority=2)
    wide = driver.submit(driver.spec("wide", cpus=2))
    took = small.until(lambda: wide in small.others, PATIENCE_MS + 3 * AGE_NS / 1e6 + 3 * TASK_MS)
    assert took >= 2 * AGE_NS / 1e6


def test_a_wide_actor_is_created_beside_a_stream_of_small_tasks(world: World) -> None:
    driver = world.driver()
    small = stream(world, driver)
    aid = driver.create(driver.actor_class(resources={"CPU": 2.0}))
    actor = world.node.actors.by_id[aid]
    small.until(lambda: actor.worker is not None, PATIENCE_MS + 3 * TASK_MS)


def test_a_task_begins_beside_a_stream_of_actors(world: World) -> None:
    """Those that wait longer than it come first, and others after it; who can never begin makes no difference."""
    driver = world.driver()
    driver.create(driver.actor_class("Blocked", resources={"CPU": 1.0, "disk": 2.0}))
    key = driver.actor_class(resources={"CPU": 1.0})
    by_id = world.node.actors.by_id
    actors = deque(driver.create(key) for _ in range(20))
    task = driver.submit(driver.spec())
    start = world.now
    others = 0
    while not any(task in worker.begun for worker in world.mailboxes.values()):
        world.wait_ms(TASK_MS)
        world.workers()
        for worker in world.mailboxes.values():
            while worker.unread:
                worker.read()
        alive = [aid for aid in actors if by_id[aid].worker is not None]
        if len(alive) == 2:
            actors.remove(alive[0])
            actors.append(driver.create(key))
            driver.send((m.KILL, alive[0], True))
            next(worker for worker in world.mailboxes.values() if creation(alive[0]) in worker.begun).die()
            others += 1
            assert others <= 30, "those after it come first"
    assert others >= 17, "those before it come first"
    assert (world.now - start) / 1e6 <= 40 * TASK_MS


def test_an_actor_that_waits_gains_a_level_each_second() -> None:
    world = World(cpus=1)
    driver = world.driver()
    first, _, _ = world.actor(driver, resources={"CPU": 1.0})
    low = driver.create(driver.actor_class("Low", resources={"CPU": 1.0}))
    world.wait_ms(2 * AGE_NS / 1e6)
    high = driver.create(driver.actor_class("High", resources={"CPU": 1.0}, priority=1))
    driver.send((m.KILL, first, True))
    next(iter(world.mailboxes.values())).die()
    world.workers()
    by_id = world.node.actors.by_id
    assert by_id[low].worker is not None
    assert by_id[high].worker is None
    world.forgive()


def test_a_placement_group_is_created_beside_a_stream_of_small_tasks(world: World) -> None:
    driver = world.driver()
    small = stream(world, driver)
    gid = driver.group({"CPU": 1}, {"CPU": 1})
    small.until(lambda: driver.group_state(gid) == "CREATED", PATIENCE_MS + 3 * TASK_MS)


def test_a_group_that_is_removed_while_room_is_kept_for_it_keeps_none(world: World) -> None:
    driver = world.driver()
    small = stream(world, driver)
    gid = driver.group({"CPU": 2})
    small.until(lambda: world.node.state.claims.claim is not None, 2 * PATIENCE_MS)
    driver.rpc("group_remove", group_id=gid)
    assert world.node.state.claims.claim is None
    assert not world.node.bundles.waiting


# ---- several nodes ---------------------------------------------------------------------------------------------------


def settle(net: Net) -> None:
    while net.deliver_alone():
        pass


def far_stream(net: Net, play: Play) -> Stream:
    """Small tasks of another node that fill it."""
    driver = play.world.driver()
    return stream(play.world, driver)


@pytest.mark.parametrize("kind", ["task", "actor"])
def test_room_is_kept_on_another_node_for_what_does_not_fit_here(kind: str) -> None:
    net = Net(2, Random(0))
    here, there = net.plays.values()
    driver = here.world.driver()
    here.world.actor(driver, resources={"CPU": 1.0})  # so that two CPUs are never free here
    small = far_stream(net, there)
    settle(net)
    if kind == "task":
        wide = driver.submit(driver.spec("wide", cpus=2))
    else:
        aid = driver.create(driver.actor_class("Wide", resources={"CPU": 2.0}))

    def began() -> bool:
        for play in (here, there):
            play.world.now = max(here.world.now, there.world.now)
            play.world.wait_ms(10)
        settle(net)
        small.running()
        if kind == "task":
            return wide in small.others
        return aid in there.world.node.actors.by_id and there.world.node.actors.by_id[aid].worker is not None

    small.until(began, 3 * PATIENCE_MS + 6 * TASK_MS)
    assert not here.world.node.neighbours.claiming.asked
    for play in net.plays.values():
        play.world.forgive()


def test_what_is_cancelled_lets_go_of_its_claim_to_another_node() -> None:
    net = Net(2, Random(0))
    here, there = net.plays.values()
    driver = here.world.driver()
    here.world.actor(driver, resources={"CPU": 1.0})
    small = far_stream(net, there)
    wide = driver.submit(driver.spec("wide", cpus=2))
    claims = there.world.node.state.claims

    def claimed() -> bool:
        here.world.wait_ms(TASK_MS / 2)
        settle(net)
        return claims.claim is not None

    small.until(claimed, 3 * PATIENCE_MS)
    driver.cancel(wide)
    here.world.wait_ms(2 * PATIENCE_MS)
    settle(net)
    assert claims.claim is None
    assert not here.world.node.neighbours.claiming.asked
    for play in net.plays.values():
        play.world.forgive()


def test_a_node_that_cannot_keep_room_says_so() -> None:
    net = Net(2, Random(0))
    here, there = net.plays.values()
    driver = here.world.driver()
    other = there.world.driver()
    for play, owner in ((here, driver), (there, other)):
        play.world.actor(owner, resources={"CPU": 1.0})
    settle(net)
    driver.submit(driver.spec("wide", cpus=2))
    for _ in range(30):
        for play in net.plays.values():
            play.world.wait_ms(TASK_MS)
        settle(net)
    assert there.world.node.state.claims.claim is None
    assert not here.world.node.neighbours.claiming.asked
    for play in net.plays.values():
        play.world.forgive()


def test_a_placement_group_over_two_nodes_is_created_beside_a_stream_on_each() -> None:
    net = Net(3, Random(0))
    head, second, third = net.plays.values()
    driver = head.world.driver()
    head.world.actor(driver, resources={"CPU": 1.0})  # no two CPUs here
    streams = [far_stream(net, play) for play in (second, third)]
    settle(net)
    gid = driver.group({"CPU": 2}, {"CPU": 2}, strategy="STRICT_SPREAD")

    def created() -> bool:
        now = max(play.world.now for play in net.plays.values())
        for play in net.plays.values():
            play.world.now = now
            play.world.wait_ms(10)
        settle(net)
        for small in streams:
            small.running()
        return driver.group_state(gid) == "CREATED"

    streams[0].until(lambda: streams[1].step() or created(), 3 * PATIENCE_MS + 8 * TASK_MS)
    for play in net.plays.values():
        play.world.forgive()


def test_what_was_reserved_for_a_part_of_a_group_is_asked_for_again_when_another_part_is_lost() -> None:
    """The node with it hears that the group is incomplete, and gives back what it has reserved."""
    net = Net(3, Random(0))
    head = next(iter(net.plays.values()))
    driver = head.world.driver()
    gid = driver.group({"CPU": 1}, {"CPU": 1}, {"CPU": 1}, strategy="STRICT_SPREAD")
    settle(net)
    assert driver.group_state(gid) == "CREATED"
    addresses = list(net.plays)
    net.kill(addresses[2])
    net.carry_out()
    settle(net)
    assert driver.group_state(gid) != "CREATED"
    groups = head.world.node.groups
    wanted = groups.by_id[gid]
    net._begin("10.0.0.9:6379", Join(addresses[0]))
    while wanted.trial is None:  # the new node is being asked
        assert net.deliver_some()
    net.kill(addresses[1])
    net.carry_out()
    settle(net)
    net._begin("10.0.0.10:6379", Join(addresses[0]))
    net.deliver_all()
    settle(net)
    assert driver.group_state(gid) == "CREATED"
    for play in net.plays.values():
        node = play.world.node
        assert len(node.bundles.here[gid]) == 1, f"node {node.state.number} has not what the group has there"
        play.world.forgive()
