"""What a head acknowledges is durable before, and what cannot be made durable is taken back."""

from collections.abc import Sequence
from typing import Any

import pytest

from net import as_it_is
from peers import Peer, RefusedError, creation
from rayd.core.effect import Recovered, Write
from rayd.core.event import Connected, Recover, Written
from rayd.core.journal import Journal
from rayd.errors import JOURNAL, fault
from rayd.ids import actor_object_id
from rayd.wire import messages as m
from world import World

FULL = fault(JOURNAL, "The disk is full.")


class Disk:
    """The rows of a head's world."""

    def __init__(self, world: World, rows: dict[tuple[str, bytes], Any] | None = None) -> None:
        self.world = world
        self.rows = rows if rows is not None else {}
        world.step(Recover([(kind, key, value) for (kind, key), value in self.rows.items()]))
        self.sync()

    def taken(self) -> list[Write]:
        """What is to be written."""
        return [as_it_is(self.world, row) for row in self.world.take(Write) if isinstance(row, Write)]

    def sync(self) -> None:
        """Write everything."""
        while writes := self.taken():
            for row in writes:
                if row.value is None:
                    self.rows.pop((row.kind, row.key), None)
                else:
                    self.rows[row.kind, row.key] = row.value
            self.world.step(Written(writes[-1].number, None))

    def of(self, kind: str) -> list[Any]:
        """Values of the rows of a kind."""
        return [value for (found, _), value in self.rows.items() if found == kind]


@pytest.fixture
def disk(world: World) -> Disk:
    """The journal of a new head."""
    return Disk(world)


def ask(peer: Peer, method: str, req: int = 50, **params: Any) -> None:
    """Ask without waiting."""
    peer.send((m.RPC, req, method, params))


def create(owner: Peer, number: int = 0, *, args_oid: bytes = b"", deps: Sequence[bytes] = (), name: str = "") -> bytes:
    """Ask for a detached actor without waiting; its id, which ``number`` tells from others of the owner."""
    key = owner.actor_class(detached=True, actor_name=name, max_restarts=-1)
    aid = bytes(2) + bytes([number]) * 10 + owner.job
    owner.send((m.CREATE, 9, aid, key, b"", args_oid, list(deps), []))
    return aid


def replies(peer: Peer) -> list[Any]:
    return [message[1:] for message in peer.take(m.REPLY)]


def test_an_answer_waits_until_what_it_says_is_durable(world: World, disk: Disk) -> None:
    tool = world.tool()
    ask(tool, "kv_put", key=b"k", value=b"v")
    assert replies(tool) == []
    disk.sync()
    assert replies(tool) == [[50, True, False]]
    assert disk.of("key") == [["", b"k", b"v"]]
    ask(tool, "kv_put", key=b"k", value=b"w", overwrite=False)
    assert replies(tool) == [[50, True, True]], "nothing was changed, so nothing has to be written"


def test_what_cannot_be_written_is_taken_back_latest_first(world: World, disk: Disk) -> None:
    tool = world.tool()
    ask(tool, "kv_put", key=b"k", value=b"1")
    disk.sync()
    ask(tool, "kv_put", 51, key=b"k", value=b"2")
    ask(tool, "kv_put", 52, key=b"k", value=b"3")
    ask(tool, "kv_del", 53, key=b"k")
    tool.take()
    (*_, last) = disk.taken()
    world.step(Written(last.number, FULL))
    assert replies(tool) == [[51, False, FULL], [52, False, FULL], [53, False, FULL]]
    assert tool.rpc("kv_get", key=b"k") == b"1"
    ask(tool, "kv_put", key=b"k", value=b"4")
    (write,) = disk.taken()
    assert write.fresh, "the disk is told that this one does not build on what it has refused"
    world.step(Written(write.number, None))
    assert replies(tool) == [[50, True, True]]


def test_rows_that_were_given_up_with_an_earlier_one_are_not_reported_twice() -> None:
    world = World()
    journal = Journal(world.effects)
    journal.on = True
    heard: list[Any] = []
    for number in range(3):
        journal.put("key", b"%d" % number, 1, lambda number=number: heard.append(number))  # type: ignore[misc]
        journal.then(lambda why, number=number: heard.append((number, why)))  # type: ignore[misc]
    journal.written(1, FULL)
    assert heard == [2, 1, 0, (0, FULL), (1, FULL), (2, FULL)]
    journal.written(3, FULL)
    journal.then(heard.append)
    assert heard[-1] is None


def test_a_node_is_let_in_once_it_is_known_for_good(world: World, disk: Disk) -> None:
    info = {"facts": {"node_id": b"other", "address": "10.0.0.2:1"}, "totals": {"CPU": 1.0}}
    world.step(Connected(40, "node", info))
    assert not [message for _, conn, message in world.trace if conn == 40]
    assert len(world.tool().rpc("nodes")) == 1
    disk.sync()
    (welcome,) = [message for _, conn, message in world.trace if conn == 40]
    assert welcome[0] == m.WELCOME
    assert welcome[1]["returns"] is True
    assert disk.of("node") == [info]
    world.forgive()


def test_a_node_that_cannot_be_kept_is_refused(world: World, disk: Disk) -> None:
    info = {"facts": {"node_id": b"other", "address": "10.0.0.2:1"}, "totals": {"CPU": 1.0}}
    world.step(Connected(40, "node", info))
    (*_, last) = disk.taken()
    world.step(Written(last.number, FULL))
    assert (m.REFUSED, FULL) in [message for _, conn, message in world.trace if conn == 40]
    world.forgive()


def test_a_detached_actor_that_cannot_be_kept_ends(world: World, disk: Disk) -> None:
    owner = world.driver()
    disk.sync()
    aid = create(owner, name="kept")
    assert replies(owner) == []
    (*_, last) = disk.taken()
    world.step(Written(last.number, FULL))
    assert replies(owner) == [[9, False, FULL]]
    assert owner.rpc("list_named_actors") == []
    owner.want(actor_object_id(aid))
    (value,) = owner.take(m.VALUE)
    assert "could not write it into its journal" in value[3]["message"]
    world.forgive()


def test_what_could_not_be_written_and_is_so_all_the_same_is_written_with_the_next_row(
    world: World, disk: Disk
) -> None:
    """Found by the simulator: a driver came while the disk was full; its detached actor did not come back."""
    owner = world.driver()
    (*_, last) = disk.taken()
    world.step(Written(last.number, FULL))
    assert disk.of("job") == []
    create(owner)
    disk.sync()
    assert len(disk.of("job")) == len(disk.of("actor")) == 1
    world.forgive()


def test_a_detached_actor_that_is_started_again_while_the_disk_is_full_lives(world: World, disk: Disk) -> None:
    owner = world.driver()
    aid = create(owner)
    disk.sync()
    world.workers()
    worker = world.worker_with(creation(aid))
    worker.run(b"")
    disk.sync()
    assert [row["restarts"] for row in disk.of("actor")] == [0]
    worker.die()
    world.workers()
    (again,) = [other for other in world.mailboxes.values() if other.unread]
    again.run(b"")
    (*_, last) = disk.taken()
    world.step(Written(last.number, FULL))
    assert world.node.actors.by_id[aid].fault is None
    world.tool().send((m.RPC, 9, "kv_put", {"key": b"k", "value": b"v"}))
    disk.sync()
    assert [row["restarts"] for row in disk.of("actor")] == [1]
    world.forgive()


def test_large_arguments_of_detached_actors_come_back_with_them_and_are_kept_as_long_as_somebody_needs_them(
    world: World, disk: Disk
) -> None:
    owner = world.driver()
    argument = owner.store(1_000)
    offset, _ = world.node.state.objects.entries[argument].data
    world.memory[offset : offset + 1_000] = bytes(range(250)) * 4
    with_all = owner.store(500)
    aids = [create(owner, 0, deps=[argument]), create(owner, 1, deps=[argument]), create(owner, 2, args_oid=with_all)]
    disk.sync()
    assert sorted(map(len, disk.of("object"))) == [500, 1_000]
    former = disk.rows
    again = World(cpus=4)
    new = Disk(again, dict(former))
    objects = again.node.state.objects
    place, size = objects.entries[argument].data
    assert bytes(again.memory[place : place + size]) == bytes(range(250)) * 4
    assert objects.entries[with_all].data[1] == 500
    killer = again.driver()
    for aid, left in zip(aids, ([500, 1_000], [500], []), strict=True):
        killer.send((m.KILL, aid, True))
        new.sync()
        assert sorted(map(len, new.of("object"))) == left
    assert again.arena.used == 0
    for one in (world, again):
        one.forgive()


def test_an_argument_for_which_there_is_no_room_any_more_is_what_the_actor_is_said_to_have_ended_for(
    world: World, disk: Disk
) -> None:
    owner = world.driver()
    arguments = [owner.store(400), owner.store(1_000)]
    create(owner, deps=arguments, name="kept")
    disk.sync()
    again = World(store_bytes=512)
    Disk(again, dict(disk.rows))
    tool = again.tool()
    with pytest.raises(RefusedError, match="no room in the object store for an argument of its constructor"):
        tool.rpc("get_actor", name="kept", namespace=disk.of("actor")[0]["namespace"])
    assert again.arena.used == 0, "the other argument, for which there was room, stays for nobody"
    for one in (world, again):
        one.forgive()


def test_a_driver_on_the_head_takes_its_groups_along_so_they_are_not_kept(world: World, disk: Disk) -> None:
    owner = world.driver()
    disk.sync()
    for number, detached in enumerate((False, True)):
        ask(owner, "group_create", group_id=bytes([number]) * 18, bundles=[{"CPU": 0.1}], detached=detached)
        disk.sync()
    assert [row["detached"] for row in disk.of("group")] == [True]
    assert disk.of("group")[0]["nodes"] == [0]
    ask(owner, "group_remove", group_id=bytes([1]) * 18)
    disk.sync()
    assert disk.of("group") == []
    world.forgive()


def test_a_head_after_it_takes_no_number_again_and_ends_what_had_no_driver(world: World, disk: Disk) -> None:
    first = world.driver(namespace="ns")
    disk.sync()
    assert disk.of("job")[0][0] == "ns"
    after = World()
    again = Disk(after, dict(disk.rows))
    (recovered,) = after.take(Recovered)
    assert isinstance(recovered, Recovered)
    assert recovered.figures["jobs_ended"] == 1
    assert again.of("job") == []
    assert int.from_bytes(after.driver().job, "big") > int.from_bytes(first.job, "big")
    world.forgive()
    after.forgive()


def test_a_group_that_does_not_fit_any_more_waits_for_a_place(world: World, disk: Disk) -> None:
    owner = world.driver(namespace="ns")
    disk.sync()
    ask(owner, "group_create", group_id=b"g" * 18, bundles=[{"CPU": 1}], detached=True, name="kept")
    disk.sync()
    smaller = World(cpus=0.5)
    Disk(smaller, dict(disk.rows))
    (row,) = smaller.tool().rpc("group_table")
    assert (row["name"], row["state"], row["nodes"]) == ("kept", "RESCHEDULING", [""])
    world.forgive()
    smaller.forgive()


def test_nobody_is_refused_for_what_another_could_not_write(world: World, disk: Disk) -> None:
    owner, tool = world.driver(), world.tool()
    disk.sync()
    ask(tool, "kv_put", key=b"k", value=b"v")
    owner.create(owner.actor_class(actor_name="plain"))
    (*_, last) = disk.taken()
    world.step(Written(last.number, FULL))
    assert replies(tool) == [[50, False, FULL]]
    assert [row["name"] for row in owner.rpc("list_named_actors", all_namespaces=True)] == ["plain"]
    world.forgive()
