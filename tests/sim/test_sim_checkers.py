"""Each checker can find something: a core with a defect put into it is caught, by the checker that is there for it."""

from typing import Any

import pytest

from rayd.core.actor import Actors
from rayd.core.dispatch import Dispatcher
from rayd.core.objects import ObjectTable
from rayd.core.offload import Offload
from rayd.core.resources import Ledger
from rayd.sim.options import Options
from rayd.sim.simulation import Simulation
from rayd.sim.violation import ViolationError


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
