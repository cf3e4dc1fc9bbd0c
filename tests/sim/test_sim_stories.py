"""What the simulator has found, each as a story of its own."""

import pytest

from rayd.core.effect import Effects, StartWorker
from rayd.core.event import Connected, Join, Linked, Received, Recover, WorkerStarted, Written
from rayd.core.node import Node
from rayd.errors import ACTOR_DIED, NAME_TAKEN, fault
from rayd.sim.options import Options
from rayd.sim.simulation import Simulation
from rayd.store.arena import Arena
from rayd.wire import messages as m
from rayd.wire.frame import ProtocolError

TOTALS = {"CPU": 1.0}


def new_node(name: str) -> tuple[Node, Effects]:
    """A core and its way out."""
    effects = Effects()
    facts = {"node_id": name.encode().ljust(28), "address": f"{name}:1", "host": name}
    return Node(name.encode().ljust(28), TOTALS, Arena(1 << 20), effects, facts), effects


def introduction(name: str) -> dict[str, object]:
    """What a node says of itself to join."""
    facts = {"node_id": name.encode().ljust(28), "address": f"{name}:1", "host": name}
    return {"facts": facts, "totals": TOTALS}


def test_a_node_hears_of_no_other_before_it_has_been_let_in() -> None:
    """It took MEMBERS in the place of WELCOME for a breach of the protocol and gave up."""
    head, effects = new_node("head")
    head.step(1, Recover([]))
    head.step(2, Connected(1, "node", introduction("first")))
    first = head.state.journal.count
    head.step(3, Connected(2, "node", introduction("second")))
    head.step(4, Written(first, None))
    assert [message[0] for message in effects.sends[1]] == [m.WELCOME]
    assert not effects.sends[2], "the first one was let in, which is nothing to tell the second one yet"
    head.step(5, Written(head.state.journal.count, None))
    assert [message[0] for message in effects.sends[2]] == [m.WELCOME]
    assert [message[0] for message in effects.sends[1]] == [m.WELCOME, m.MEMBERS]


def test_a_node_that_waits_for_its_head_does_nothing_meanwhile() -> None:
    """Its loop ticked without a pause until the head answered."""
    node, _ = new_node("other")
    node.step(5_000_000_000, Join("head:1"))
    assert node.next_deadline() is None


def test_a_channel_for_a_dead_node_does_not_end_at_the_one_that_has_its_address_now() -> None:
    """A node that began anew connected to itself, as it took itself for the one before."""
    node, _ = new_node("here")
    info = {"job": b"\0\x10\0\1", "job_info": {}, "namespace": "", "number": 0, "to": b"before".ljust(28)}
    with pytest.raises(ProtocolError, match="another node at this address"):
        node.step(1, Connected(1, "node", info))


@pytest.mark.parametrize("seed", [47, 55, 87, 193])
def test_machines_keep_their_addresses_when_their_daemons_begin_anew(seed: int) -> None:
    """Seeds that found it."""
    Simulation(Options(seed=seed, nodes=4, tasks=300, encoded=True, check_every=5)).run()


def test_an_actor_is_not_started_again_while_it_may_still_run_where_it_was() -> None:
    """Home and host could not reach each other, though the head could reach both: the home noticed first, started the
    actor elsewhere, and for up to 20 s there were two of it.
    """
    Simulation(Options(seed=2078, nodes=5, tasks=300)).run()


def test_an_object_whose_bytes_cannot_be_had_is_let_go_where_it_lies() -> None:
    """The connection for bytes could not be made, the one of the job stood: the task that had made the object was given
    to the same node again, which still kept the object and took that for a breach of the protocol.
    """
    Simulation(Options(seed=5103, nodes=6, drivers=3, tasks=500, seconds=90)).run()


def test_calls_that_are_made_again_keep_the_order_of_their_caller() -> None:
    """A host had given a call back for another try behind others that it had begun; its home put those before it."""
    Simulation(Options(seed=758, nodes=4, tasks=300, encoded=True, check_every=5)).run()


def member_of_a_cluster() -> tuple[Node, Effects, int]:
    """A node that has joined, with a driver on connection 1; and its connection to the head."""
    node, effects = new_node("other")
    node.step(1, Join("head:1"))
    head = effects.dials[-1].conn
    facts = introduction("head")["facts"]
    row = [0, facts, TOTALS, TOTALS, {}, True, False, False]
    node.step(2, Linked(head, {"number": 1, "members": [row], "returns": True, "node_id": b"head".ljust(28)}))
    node.step(3, Connected(1, "driver", {"namespace": "test"}))
    return node, effects, head


def worker_of(node: Node, effects: Effects, conn: int) -> None:
    """The next worker that the node has asked for comes up."""
    (wid,) = [effect.worker for effect in effects.others if isinstance(effect, StartWorker)][:1]
    effects.others.clear()
    node.step(5, WorkerStarted(wid, conn))
    node.step(5, Connected(conn, "worker", {}, wid))


AID = b"\0\1".ljust(16, b"a")
CALL = b"call".ljust(24)


def asks_for_a_name(node: Node) -> None:
    """The driver creates an actor with a name, and somebody calls that already."""
    actor = {"kind": "actor", "name": "C", "function": b"", "resources": {}, "actor_name": "it"}
    method = {"kind": "method", "name": "f", "function": b"", "resources": {}}
    node.step(4, Received(1, [[m.SPEC, 1, actor], [m.SPEC, 2, method], [m.CREATE, 7, AID, 1, b"", b"", [], []]]))
    oid = CALL + b"\1\0\0\0"
    node.step(5, Received(1, [[m.CALL, CALL, AID, 2, b"", b"", [], []], [m.WANT, [oid]]]))


def test_an_actor_can_be_called_by_who_finds_it_before_its_creator_knows_that_it_has_its_name() -> None:
    """The head told others of the name at once, and its home only when the name was in the journal: whoever looked for
    it meanwhile was told that the actor was from an earlier session.
    """
    node, effects, head = member_of_a_cluster()
    asks_for_a_name(node)
    assert [message[2] for message in effects.sends[head] if message[0] == m.RPC] == ["name_take"]
    assert m.VALUE not in [message[0] for message in effects.sends[1]], "the call waits"
    effects.others.clear()
    node.step(6, Received(head, [[m.REPLY, 1, True, None]]))
    assert (m.REPLY, 7, True, None) in effects.sends[1]
    assert m.VALUE not in [message[0] for message in effects.sends[1]]
    assert AID in node.actors.placing
    node.check()


def test_who_calls_an_actor_that_does_not_get_its_name_is_told_why() -> None:
    node, effects, head = member_of_a_cluster()
    asks_for_a_name(node)
    node.step(6, Received(head, [[m.REPLY, 1, False, fault(NAME_TAKEN, "The name is taken.")]]))
    ((_, _, kind, why),) = [message for message in effects.sends[1] if message[0] == m.VALUE]
    assert (kind, why["code"]) == (m.FAULT, ACTOR_DIED)
    assert why["message"].endswith("was not created: The name is taken.")
    assert [message[2] for message in effects.sends[1] if message[0] == m.REPLY] == [False]
    node.check()


def test_an_item_that_a_former_attempt_has_made_elsewhere_is_no_breach_of_the_protocol() -> None:
    """A streaming task was tried again on a node that already knew an item of the attempt before, as the argument of
    another task, and waited for its value: it sent that item on without one, and lost its connection for that.
    """
    node, effects, _ = member_of_a_cluster()
    job = (5).to_bytes(4, "big")
    number = {"number": 0, "from": b"head".ljust(28), "to": b"other".ljust(28)}
    node.step(4, Connected(2, "node", {"job": job, "job_info": {}, "namespace": "test", **number}))
    plain = {"kind": "task", "name": "f", "function": b"", "resources": {}}
    stream = {**plain, "num_returns": -1}
    tid, user = b"stream".ljust(20) + job, b"user".ljust(20) + job
    first, second = tid + b"\1\0\0\0", tid + b"\2\0\0\0"
    submits = [[m.SUBMIT, user, 1, b"", b"", [first, second], []], [m.SUBMIT, tid, 2, b"", b"", [], []]]
    effects.others.clear()
    node.step(4, Received(2, [[m.SPEC, 1, plain], [m.SPEC, 2, stream], *submits]))
    worker_of(node, effects, 3)
    effects.sends.clear()
    node.step(6, Received(3, [[m.YIELD, tid, 0, m.INLINE, b"item", []], [m.ALLOC, 1, b"s".ljust(28), 5_000]]))
    node.step(7, Received(3, [[m.YIELD, tid, 1, m.STORED, b"s".ljust(28), []]]))
    items = [message for message in effects.sends[2] if message[0] == m.FAR_ITEM]
    assert [(index, kind) for _, _, index, kind, _, _ in items] == [(0, m.FAULT), (1, m.FAULT)]
    node.step(8, Received(3, [[m.YIELD, tid, 2, m.INLINE, b"new", []]]))
    assert (m.FAR_ITEM, tid, 2, m.INLINE, b"new", []) in effects.sends[2]
    node.check()
