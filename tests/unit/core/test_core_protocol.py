"""What breaks the protocol is refused with its reason and changes nothing."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from rayd.wire import messages as m
from rayd.wire.frame import ProtocolError
from world import Peer, WorkerPeer, World, actor_object, creation, returned


def refused(peer: Peer, *message: Any, match: str) -> None:
    """The core refuses a message, its tables are as before, and after the connection has gone they are whole."""
    world = peer.world
    before = picture(world)
    with pytest.raises(ProtocolError, match=match):
        peer.send(message)
    assert picture(world) == before
    world.node.check()


def picture(world: World) -> Any:
    """What a bad message must not change."""
    state = world.node.state
    return (
        {oid: (e.kind, e.data, e.holds, e.holders and str(e.holders)) for oid, e in state.objects.entries.items()},
        world.arena.used,
        state.ledger.available(),
        {cid: len(spec.queue) for cid, spec in state.specs.items()},
        {wid: (worker.state, list(worker.inflight)) for wid, worker in state.pool.workers.items()},
        {aid: (actor.state, len(actor.queue)) for aid, actor in world.node.actors.by_id.items()},
        list(world.node.streams.by_task),
        {job: len(known.exports) for job, known in state.jobs.items()},
    )


@pytest.fixture
def running(world: World) -> tuple[Peer, WorkerPeer, bytes]:
    """A driver, a worker and the task it runs."""
    driver = world.driver()
    (worker,) = world.workers()
    tid = driver.submit(driver.spec(max_retries=0))
    worker.read()
    return driver, worker, tid


# --- at the door: tags and types --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ((99,), "unknown message tag 99"),
        (("SUBMIT",), "unknown message tag"),
        ((m.HOLD, b"not a list"), r"HOLD has wrong fields \(bytes\)"),
        ((m.HOLD,), "HOLD has wrong fields"),
        ((m.HOLD, [], []), "HOLD has wrong fields"),
        ((m.CANCEL, b"x" * 28, 1, 0), "CANCEL has wrong fields"),  # a bool is not an int
        ((m.SUBMIT, b"t", True, b"", b"", [], []), "SUBMIT has wrong fields"),
        ((m.SUBMIT, "t", 1, b"", b"", [], []), "SUBMIT has wrong fields"),
        ((m.DONE, b"t", m.STORED, [0, 10], [], 1), "DONE has wrong fields"),  # offsets are the daemon's to tell
        ((m.DONE, b"t", m.INLINE, {}, [], 1), "DONE has wrong fields"),
        ((m.YIELD, b"t", 0, m.STORED, [0, 10], []), "YIELD has wrong fields"),
        ((m.RPC, 1, "ping", None), "RPC has wrong fields"),
        ((m.ALLOC, 1, b"x", 1.5), "ALLOC has wrong fields"),
    ],
)
def test_a_message_of_the_wrong_form_is_refused_before_it_is_looked_at(
    world: World, message: Sequence[Any], reason: str
) -> None:
    refused(world.driver(), *message, match=reason)


@pytest.mark.parametrize("tag", [m.WELCOME, m.VALUE, m.REPLY, m.STREAM_END, m.STOP_TASK, m.LOG])
def test_what_only_the_daemon_says_is_refused_from_clients(world: World, tag: int) -> None:
    fields = {m.WELCOME: ({},), m.VALUE: (b"", 0, b""), m.REPLY: (1, True, None), m.STREAM_END: (b"", 0)}
    message = (tag, *fields.get(tag, (b"",) if tag == m.STOP_TASK else ({}, False, [])))
    refused(world.driver(), *message, match="is not for a driver to say")


@pytest.mark.parametrize(
    "message",
    [
        (m.BLOCKED,),
        (m.RESUMED,),
        (m.DONE, b"t", m.INLINE, b"", [], 1),
        (m.DONE_MANY, b"t", [], 1),
        (m.YIELD, b"t", 0, m.INLINE, b"", []),
        (m.FETCH, 1, 0),
        (m.BODY, 1, b"t"),
    ],
)
def test_what_only_workers_say_is_refused_from_drivers(world: World, message: Sequence[Any]) -> None:
    refused(world.driver(), *message, match="is not for a driver to say")


@pytest.mark.parametrize("kind", ["cli", "logs"])
def test_tools_only_ask(world: World, kind: str) -> None:
    tool = world.tool(kind)
    refused(tool, m.SPEC, 1, {"function": b"f"}, match=f"SPEC is not for a {kind} to say")
    refused(tool, m.KILL, b"x" * 16, True, match=f"KILL is not for a {kind} to say")
    assert tool.rpc("ping") is None


def test_a_method_that_does_not_exist_is_no_breach_of_the_protocol(world: World) -> None:
    with pytest.raises(Exception, match="no method 'fly'"):
        world.driver().rpc("fly")


# --- keys, ids and options --------------------------------------------------------------------------------------------


def test_a_spec_that_was_not_announced_is_refused(world: World) -> None:
    driver = world.driver()
    refused(driver, m.SUBMIT, driver.new_tid(), 5, b"", b"", [], [], match="SUBMIT cannot be applied: KeyError")
    refused(driver, m.CALL, driver.new_tid(), b"a" * 16, 5, b"", b"", [], [], match="CALL cannot be applied")
    refused(driver, m.CREATE, 1, b"a" * 16, 5, b"", b"", [], [], match="CREATE cannot be applied")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"function": b"f", "resources": {"CPU": -1}},
        {"function": b"f", "resources": {"CPU": "many"}},
        {"function": b"f", "resources": ["CPU"]},
        {"function": b"f", "num_returns": "some"},
        {"function": b"f", "num_returns": -7},
        {"function": b"f", "max_retries": None},
    ],
)
def test_a_spec_that_makes_no_sense_is_refused(world: World, options: dict[str, Any]) -> None:
    refused(world.driver(), m.SPEC, 1, options, match="SPEC cannot be applied")


@pytest.mark.parametrize("bad", [[1], [[]], ["text"], [None], [b"ok" * 14, {}]])
def test_ids_that_are_none_are_refused_wherever_they_stand(world: World, bad: list[Any]) -> None:
    driver = world.driver()
    key, actor = driver.spec(), driver.actor_class()
    good = driver.put()
    oid, _ = driver.allocate(100)
    for message in (
        (m.HOLD, bad),
        (m.HOLD, [good, *bad]),
        (m.RELEASE, [good, *bad]),
        (m.WANT, [good, *bad]),
        (m.PUT, driver.new_tid() + b"\1\0\0\0", b"", [good, *bad]),
        (m.SEAL, oid, [good, *bad]),
        (m.SUBMIT, driver.new_tid(), key, b"", b"", [good, *bad], []),
        (m.SUBMIT, driver.new_tid(), key, b"", b"", [good], bad),
        (m.CREATE, 1, b"a" * 16, actor, b"", b"", [good], bad),
        (m.CALL, driver.new_tid(), b"a" * 16, key, b"", b"", [good], bad),
    ):
        refused(driver, *message, match="an object id is bytes")


def test_a_task_id_is_used_once(world: World) -> None:
    driver = world.driver()
    key = driver.spec()
    tid = driver.submit(key)
    refused(driver, m.SUBMIT, tid, key, b"", b"", [], [], match="exists already")
    streaming = driver.submit(driver.spec(num_returns=-1))
    refused(driver, m.SUBMIT, streaming, 2, b"", b"", [], [], match="exists already")


def test_an_actor_id_is_used_once(world: World) -> None:
    driver = world.driver()
    key = driver.actor_class()
    aid = driver.create(key)
    refused(driver, m.CREATE, 9, aid, key, b"", b"", [], [], match="exists already")


def test_an_object_id_is_allocated_once_and_with_a_size(world: World) -> None:
    driver = world.driver()
    oid, _ = driver.allocate(100)
    refused(driver, m.ALLOC, 9, oid, 100, match="100 bytes cannot be allocated")
    refused(driver, m.ALLOC, 9, driver.new_tid() + b"\1\0\0\0", -5, match="-5 bytes cannot be allocated")


def test_only_who_allocated_an_object_seals_it(world: World) -> None:
    driver, other = world.driver(), world.driver()
    oid, _ = driver.allocate(100)
    other.send((m.SEAL, oid, []))
    other.want(oid)
    assert other.take() == []
    driver.send((m.SEAL, oid, []))
    assert len(other.take()) == 1


def test_large_arguments_have_to_be_in_the_store(world: World) -> None:
    driver = world.driver()
    key = driver.spec()
    unsealed, _ = driver.allocate(100)
    for oid in (b"x" * 28, driver.put(), unsealed):
        refused(driver, m.SUBMIT, driver.new_tid(), key, b"", oid, [], [], match="are not in the store")


# --- results ----------------------------------------------------------------------------------------------------------

Running = tuple[Peer, WorkerPeer, bytes]


def test_a_bad_result_does_not_lose_its_task(running: Running) -> None:
    driver, worker, tid = running
    refused(worker, m.DONE, tid, m.STORED, b"x" * 28, [], 1, match="has not allocated")
    worker.die()
    assert driver.fault(returned(tid))["code"] == "worker_crashed"


def test_only_bytes_that_this_worker_has_allocated_become_its_result(running: Running) -> None:
    driver, worker, tid = running
    theirs, _ = driver.allocate(100)
    sealed = worker.store(100)
    for oid in (theirs, sealed, worker.put(), b"x" * 28):
        refused(worker, m.DONE, tid, m.STORED, oid, [], 1, match="has not allocated")
        refused(worker, m.YIELD, tid, 0, m.STORED, oid, [], match="has not allocated")
    worker.done(tid)
    assert driver.value(returned(tid))[1] == b"v"


@pytest.mark.parametrize("kind", [-2, -1, m.FAULT, 5, 99])
def test_a_result_has_a_kind_that_exists(running: Running, kind: int) -> None:
    _, worker, tid = running
    refused(worker, m.DONE, tid, kind, b"", [], 1, match="no value has kind")
    refused(worker, m.YIELD, tid, 0, kind, b"", [], match="no value has kind")
    worker.done(tid)


def test_what_a_result_refers_to_is_named_by_ids(running: Running) -> None:
    _, worker, tid = running
    refused(worker, m.DONE, tid, m.INLINE, b"", [[]], 1, match="an object id is bytes")
    refused(worker, m.YIELD, tid, 0, m.INLINE, b"", [7], match="an object id is bytes")
    worker.done(tid)


def test_there_are_as_many_results_as_returns(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    tid = driver.submit(driver.spec(num_returns=2))
    worker.read()
    row = [m.INLINE, b"", []]
    refused(worker, m.DONE, tid, m.INLINE, b"", [], 1, match="one result of kind 0 for 2 returns")
    for rows in ([], [row], [row] * 3):
        refused(worker, m.DONE_MANY, tid, rows, 1, match=f"{len(rows)} results for 2 returns")
    worker.done_many(tid, b"a", b"b")


@pytest.mark.parametrize("row", [7, [], [0, b""], [0, b"", [], 0], [0, "", []], ["0", b"", []], [False, b"", []]])
def test_each_of_several_results_has_the_right_form(world: World, row: Any) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    tid = driver.submit(driver.spec(num_returns=2))
    worker.read()
    refused(worker, m.DONE_MANY, tid, [[m.INLINE, b"", []], row], 1, match="no .kind, data, contained")
    worker.done_many(tid, b"a", b"b")


def test_each_of_several_results_has_bytes_of_its_own(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    tid = driver.submit(driver.spec(num_returns=2))
    worker.read()
    scratch, _ = worker.allocate(100)
    row = [m.STORED, scratch, []]
    refused(worker, m.DONE_MANY, tid, [row, row], 1, match="the same stored bytes")
    refused(worker, m.DONE_MANY, tid, [row, [m.STORED, b"x" * 28, []]], 1, match="has not allocated")
    worker.done_many(tid, b"a", b"b")


def test_a_constructor_has_no_large_result(world: World) -> None:
    driver = world.driver()
    (worker,) = world.workers()
    aid = driver.create(driver.actor_class())
    worker.read()
    scratch, _ = worker.allocate(100)
    refused(worker, m.DONE, creation(aid), m.STORED, scratch, [], 1, match="DONE of a constructor has no value")
    worker.done(creation(aid))
    driver.release(actor_object(aid))
    world.forgive()


def test_a_worker_speaks_only_of_what_it_runs(new_world: Callable[..., World]) -> None:
    world = new_world(cpus=2)
    driver = world.driver()
    world.workers()
    tids = [driver.submit(driver.spec(name, num_returns=-1)) for name in "ab"]
    one, two = (world.worker_with(tid) for tid in tids)
    one.read()
    two.read()
    one.send((m.DONE, tids[1], m.INLINE, b"", [], 1), (m.YIELD, tids[1], 0, m.INLINE, b"", []))
    assert world.node.streams.by_task[tids[1]].produced == 0
    assert tids[1] in world.node.state.pool.workers[two.wid].inflight
    one.done(tids[0])
    two.done(tids[1])


# --- after a breach ---------------------------------------------------------------------------------------------------


def test_messages_before_a_bad_one_have_been_applied_and_those_after_it_have_not(world: World) -> None:
    driver = world.driver()
    key = driver.spec()
    first, last = driver.new_tid(), driver.new_tid()
    with pytest.raises(ProtocolError):
        driver.send((m.SUBMIT, first, key, b"", b"", [], []), (m.HOLD, [1]), (m.SUBMIT, last, key, b"", b"", [], []))
    (worker,) = world.workers()
    assert worker.run_all() == [first]


def test_what_a_client_that_broke_the_protocol_had_goes_with_its_connection(world: World) -> None:
    driver, other = world.driver(), world.driver()
    dep = other.put()
    driver.submit(driver.spec(num_returns=3), deps=[dep])
    refused(driver, m.SUBMIT, driver.new_tid(), 1, b"", b"", [dep, 7], [], match="an object id is bytes")
    driver.leave()
    other.release(dep)
    world.forgive()
    world.expect_nothing_left()


def test_who_is_not_connected_is_not_listened_to(world: World) -> None:
    driver = world.driver()
    driver.leave()
    driver.send((m.PUT, driver.new_tid() + b"\1\0\0\0", b"", []))
    assert not world.node.state.objects.entries
    world.forgive()
