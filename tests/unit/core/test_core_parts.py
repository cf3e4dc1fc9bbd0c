"""Large objects in parts, for those who do not share the node's memory; and what a token's scope allows."""

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from net import Net
from peers import Peer, RefusedError
from rayd.core.event import Connected, Received
from rayd.core.rights import OF_NODES, refusal
from rayd.errors import FORBIDDEN, OBJECT_LOST
from rayd.wire import messages as m
from rayd.wire.frame import ProtocolError
from rayd.wire.secret import ADMIN, JOIN, READ, SUBMIT
from world import World


def read(peer: Peer, oid: bytes, at: int, size: int) -> bytes:
    """Ask for a part and get it."""
    peer.send((m.READ, 99, oid, at, size))
    (part,) = peer.take()
    assert part[:2] == [m.DATA, 99]
    return bytes(part[2])


def test_what_was_written_in_parts_is_read_in_parts(world: World) -> None:
    writer, reader = world.driver(), world.driver()
    oid, _ = writer.allocate(10)
    writer.send((m.WRITE, oid, 6, b"6789"), (m.WRITE, oid, 0, b"012345"), (m.SEAL, oid, []))
    reader.hold(oid)
    assert read(reader, oid, 0, 10) == b"0123456789"
    assert read(reader, oid, 4, 3) == b"456"
    assert read(reader, oid, 10, 0) == b""


def test_bytes_are_in_the_store_before_anybody_hears_of_them(world: World) -> None:
    writer, reader = world.driver(), world.driver()
    oid, _ = writer.allocate(4)
    reader.want(oid)
    writer.send((m.WRITE, oid, 0, b"abcd"), (m.SEAL, oid, []))
    steps = [kind for kind, _, _ in world.trace]
    assert steps.index("write") < len(steps) - 1
    assert world.trace[-1][2][0] == m.VALUE
    assert reader.take(m.VALUE)


@pytest.mark.parametrize(("at", "data"), [(-1, b"x"), (4, b"x"), (2, b"xyz"), (1 << 40, b"")])
def test_nothing_is_written_outside_what_was_allocated(world: World, at: int, data: bytes) -> None:
    writer = world.driver()
    oid, _ = writer.allocate(4)
    with pytest.raises(ProtocolError, match="lie outside"):
        writer.send((m.WRITE, oid, at, data))
    assert not any(world.memory)


def test_only_who_allocated_bytes_may_write_them_and_only_until_they_are_sealed(world: World) -> None:
    writer, other = world.driver(), world.driver()
    oid, _ = writer.allocate(4)
    with pytest.raises(ProtocolError, match="not sealed"):
        other.send((m.WRITE, oid, 0, b"evil"))
    writer.send((m.SEAL, oid, []))
    with pytest.raises(ProtocolError, match="not sealed"):
        writer.send((m.WRITE, oid, 0, b"late"))
    with pytest.raises(ProtocolError, match="not sealed"):
        writer.send((m.WRITE, b"nothing", 0, b"late"))
    assert not any(world.memory)


@pytest.mark.parametrize(("at", "size"), [(-1, 1), (0, 5), (4, 1), (0, -1), (0, m.PART_BYTES_MAX + 1)])
def test_nothing_is_read_outside_an_object(world: World, at: int, size: int) -> None:
    driver = world.driver()
    oid = driver.store(4)
    with pytest.raises(ProtocolError, match="are no part"):
        driver.send((m.READ, 1, oid, at, size))


def test_what_is_not_in_the_store_is_lost_to_who_reads_it(world: World) -> None:
    driver = world.driver()
    small, (unsealed, _) = driver.put(), driver.allocate(4)
    for oid in (small, unsealed, b"nothing"):
        with pytest.raises(RefusedError) as refused:
            driver.request(lambda req, oid=oid: (m.READ, req, oid, 0, 1))
        assert refused.value.fault["code"] == OBJECT_LOST


def test_a_far_driver_that_goes_takes_along_what_it_had_not_finished(world: World) -> None:
    writer = world.driver()
    oid, _ = writer.allocate(4)
    writer.send((m.WRITE, oid, 0, b"ab"))
    writer.leave()
    assert world.arena.used == 0
    world.forgive()  # its workers are killed


@pytest.mark.parametrize(
    ("scope", "method", "allowed"),
    [
        (JOIN, "stop", True),
        (ADMIN, "stop", True),
        (SUBMIT, "stop", False),
        (READ, "stop", False),
        (SUBMIT, "kv_put", True),
        (READ, "kv_put", False),
        (READ, "kv_get", False),
        (READ, "status", True),
    ],
)
def test_a_scope_allows_what_its_name_says(scope: str, method: str, allowed: bool) -> None:
    assert (refusal(scope, method) is None) is allowed


def test_looking_is_all_that_most_methods_are_not(new_world: Callable[..., World]) -> None:
    """A method that is added is forbidden to who may only look, until somebody decides otherwise."""
    world = new_world()
    tool = world.tool()
    looking = {method for method in world.node.queries.methods if refusal(READ, method) is None}
    for method in sorted(looking):
        before = repr(world.node.queries.methods["status"](world.node.state.conns[tool.conn], {}))
        tool.rpc(method)
        assert repr(world.node.queries.methods["status"](world.node.state.conns[tool.conn], {})) == before
    assert looking < set(world.node.queries.methods)


def test_a_part_has_a_largest_size_for_all_but_other_stores(new_world: Callable[..., World]) -> None:
    world = new_world(store_bytes=2 * m.PART_BYTES_MAX)
    writer = world.driver()
    oid, _ = writer.allocate(m.PART_BYTES_MAX + 1)
    writer.send((m.SEAL, oid, []))
    with pytest.raises(ProtocolError, match="no part"):
        writer.send((m.READ, 1, oid, 0, m.PART_BYTES_MAX + 1))
    assert len(read(world.tool("bulk"), oid, 0, m.PART_BYTES_MAX + 1)) == m.PART_BYTES_MAX + 1


def test_what_nodes_ask_of_the_head_is_not_for_others(world: World) -> None:
    for method in sorted(OF_NODES):
        with pytest.raises(RefusedError, match="no method"):
            world.driver().rpc(method, job=b"\0\0\0\1", actor_id=b"a" * 16, group_id=b"g" * 18)
    world.forgive()


def test_who_may_only_look_may_not_do_more_by_way_of_another_node() -> None:
    net = Net(2, Random(1))
    world = list(net.plays.values())[1].world
    world.step(Connected(77, "cli", {"pid": 5}, 0, READ))
    replies: list[Any] = []
    peer = Peer.__new__(Peer)
    peer.connected = True
    peer.sent = replies.extend  # type: ignore[method-assign]
    world.peers[77] = peer
    world.step(Received(77, [[m.RPC, 1, "kv_put", {"key": b"k", "value": b"v"}]]))
    net.deliver_alone()
    ((_, _, ok, why),) = [reply for reply in replies if reply[0] == m.REPLY]
    assert not ok
    assert why["code"] == FORBIDDEN


def test_the_core_asks_for_the_scope(world: World) -> None:
    conn = 77
    world.step(Connected(conn, "cli", {"pid": 5}, 0, READ))
    replies: list[Any] = []
    peer = Peer.__new__(Peer)
    peer.connected = True
    peer.sent = replies.extend  # type: ignore[method-assign]
    world.peers[conn] = peer
    world.step(Received(conn, [[m.RPC, 1, "kv_put", {"key": b"k", "value": b"v"}]]))
    ((_, _, ok, why),) = replies
    assert not ok
    assert why["code"] == FORBIDDEN
    del world.peers[conn]
