"""Each checker can find something: a core with a defect put into it is caught, by the checker that is there for it."""

from typing import Any

import pytest

from rayd.core import cluster
from rayd.core.actor import Actors
from rayd.core.directory import Directory
from rayd.core.dispatch import Dispatcher
from rayd.core.naming import Naming
from rayd.core.objects import ObjectTable
from rayd.core.offload import Offload
from rayd.core.resources import Ledger
from rayd.core.streams import Streams
from rayd.errors import NODE_DIED, fault
from rayd.sim.faults import Faults
from rayd.sim.options import Options
from rayd.sim.simulation import Simulation
from rayd.sim.violation import ViolationError
from rayd.wire import messages as m


def found(seeds: range = range(10), **options: Any) -> str:
    """The checker that finds something first."""
    for seed in seeds:
        try:
            Simulation(Options(seed=seed, **{"nodes": 3, "tasks": 300, "faults": False, **options})).run()
        except ViolationError as violation:
            return violation.checker
    return "nothing"


def test_without_a_defect_nothing_is_found() -> None:
    assert found(range(2)) == "nothing"


def test_a_result_that_is_not_reported_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    report = Offload._report_to

    def forget_some(self: Offload, conn: int, task: Any, run_us: int) -> None:
        if task.tid[0] % 8:
            report(self, conn, task, run_us)

    monkeypatch.setattr(Offload, "_report_to", forget_some)
    assert found() == "bound"


def test_what_is_granted_twice_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ledger, "take", lambda self, demand: None)
    monkeypatch.setattr(Ledger, "give", lambda self, demand: None)
    assert found() == "no resource twice"


def test_calls_out_of_order_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Actors, "_queue", lambda self, actor, task: actor.queue.appendleft(task))
    assert found() == "order of calls"


def test_a_task_that_runs_twice_although_it_must_not_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def retry(self: Dispatcher, task: Any) -> bool:
        self.queue_again(task)
        return True

    monkeypatch.setattr(Dispatcher, "_retry", retry)
    assert found() == "at most once"


def test_a_reference_that_is_never_released_is_found_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    unpin = ObjectTable.unpin
    monkeypatch.setattr(ObjectTable, "unpin", lambda self, oids: unpin(self, list(oids)[1:]))
    assert found() == "quiet"


def test_bytes_of_another_object_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    fill_at = ObjectTable.fill_at
    monkeypatch.setattr(ObjectTable, "fill_at", lambda self, oid, offset, size: fill_at(self, oid, 0, size))
    assert found() in ("right value", "core")


def test_a_reference_that_is_dropped_too_early_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ObjectTable, "hold", lambda self, conn, oids: None)
    assert found() in ("causes", "protocol", "core", "bound")


def test_an_item_that_comes_twice_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    send = Streams._send_item

    def twice(self: Streams, stream: Any, oid: bytes, far: bool) -> None:
        send(self, stream, oid, far)
        if not far and stream.sent == 1:
            send(self, stream, oid, far)

    monkeypatch.setattr(Streams, "_send_item", twice)
    assert found() == "stream"


def test_an_item_that_never_comes_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    item = Streams.item

    def forget_one(self: Streams, tid: bytes, kind: int, data: Any, contained: list[bytes]) -> None:
        if self.by_task[tid].produced != 3 or tid[0] % 2:
            item(self, tid, kind, data, contained)

    monkeypatch.setattr(Streams, "item", forget_one)
    assert found() == "stream"


def test_two_actors_with_one_name_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Directory, "find", lambda self, namespace, name: None)
    assert found(check_every=0) in ("names", "bound")


def test_a_detached_actor_that_ends_with_its_driver_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    end_abandoned = Actors.end_abandoned

    def end_all(self: Actors, job: bytes) -> bool:
        for actor in list(self.by_id.values()):
            if actor.spec.job == job and actor.detached and actor.fault is None and not actor.home:
                self.end(actor, "the driver that created it has ended", "its driver has ended")
        return end_abandoned(self, job)

    monkeypatch.setattr(Actors, "end_abandoned", end_all)
    assert found() == "names"


def test_names_that_a_new_head_does_not_know_are_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Naming, "restore", lambda self, rows: None)
    monkeypatch.setattr(Faults, "_strike", lambda self: self.kill_head() if self.on else None)
    assert found(faults=True, seconds=20.0) in ("names", "quiet")


def test_bytes_that_a_program_elsewhere_has_written_and_that_do_not_arrive_are_missed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ObjectTable, "write", lambda self, conn, oid, at, data: None)
    assert found(range(30)) == "right value"  # few programs read such an object


def test_a_fault_without_a_reason_is_seen_although_there_are_others_that_have_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done = Offload.done

    def lose_some(self: Offload, conn: int, tid: bytes, rows: list[Any], run_us: int) -> None:
        if tid[0] % 16 == 0:
            rows = [[m.FAULT, fault(NODE_DIED, "it was given to a node which has died", task_id=tid.hex()), []]]
        done(self, conn, tid, rows, run_us)

    monkeypatch.setattr(Offload, "done", lose_some)
    assert found(faults=True, seconds=20.0) == "causes"


def test_a_node_that_ends_itself_for_no_reason_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "FENCE_NS", 900_000_000)
    assert found(faults=True, seconds=20.0) == "causes"
