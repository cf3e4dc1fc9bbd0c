"""Resource arithmetic: exact, never negative, and every wrong amount is refused with the remedy."""

import copy
import math
import pickle
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rayd.core.resources import UNITS_PER_ONE, Demand, GpuSlots, Ledger, LedgerError, to_units

ONE_CPU = Demand.of({"CPU": 1})


@pytest.mark.parametrize(
    ("amount", "units"),
    [
        (0, 0),
        (1, 10_000),
        (2.0, 20_000),
        (0.0001, 1),
        (0.1 + 0.2, 3_000),
        (True, 10_000),
        (np.float32(0.1), 1_000),
        (np.int64(3), 30_000),
        (Fraction(1, 4), 2_500),
        (900_719_925_474_099, 9_007_199_254_740_990_000),
        (2.0**45, 2**45 * 10_000),
        (8_589_934_591 / 3, 28_633_115_303_333),
    ],
)
def test_amounts_are_counted_exactly(amount: float, units: int) -> None:
    assert to_units("custom", amount) == units


@pytest.mark.parametrize(
    ("name", "amount", "message"),
    [
        ("CPU", -1, "CPU=-1: a resource amount cannot be negative; pass 0 or more"),
        ("CPU", -1e-9, "cannot be negative"),
        ("CPU", math.nan, "CPU=nan: a resource amount is finite"),
        ("disk", math.inf, "disk=inf: a resource amount is finite"),
        ("CPU", 0.00001, "CPU=1e-05: the smallest step of a resource is 0.0001; pass 0.0001"),
        ("CPU", 1e-300, "the smallest step"),
        ("CPU", 1.23456, "pass 1.2346"),
        ("GPU", 1.5, "GPU=1.5: more than one GPU is given out in whole GPUs only; pass 1 or 2, or less than 1"),
        ("memory", 1e30, "memory=1e.30: the largest amount is"),
    ],
)
def test_a_wrong_amount_is_refused_with_the_remedy(name: str, amount: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        to_units(name, amount)


@pytest.mark.parametrize("amount", ["1", None, 1j, [1]])
def test_what_is_no_number_is_refused_by_its_type(amount: object) -> None:
    with pytest.raises(TypeError, match=f"CPU=.*: a resource amount is a number, not {type(amount).__name__}"):
        to_units("CPU", amount)  # type: ignore[arg-type]


def test_gpus_are_whole_or_a_share_of_one() -> None:
    assert [to_units("GPU", amount) for amount in (0.5, 1, 2.0, 8)] == [5_000, 10_000, 20_000, 80_000]


@given(st.integers(0, 10**12))
def test_every_amount_survives_the_way_to_a_float_and_back(units: int) -> None:
    assert to_units("custom", units / UNITS_PER_ONE) == units


def test_a_demand_is_sorted_and_has_no_zeros() -> None:
    demand = Demand.of({"disk": 0.5, "GPU": 0, "CPU": 1})
    assert demand.items == (("CPU", 10_000), ("disk", 5_000))
    assert demand.to_floats() == {"CPU": 1.0, "disk": 0.5}
    assert repr(demand) == "<Demand {'CPU': 1.0, 'disk': 0.5}>"


def test_equal_demands_are_one_object_and_one_key() -> None:
    first, second = Demand.of({"a": 1, "b": 2}), Demand.of({"b": 2.0, "a": 1.0})
    assert first is second
    assert {first: "x"}[second] == "x"
    assert pickle.loads(pickle.dumps(first)) is copy.deepcopy(first) is first
    assert first != Demand.of({"a": 1})
    assert first != first.items


def test_a_demand_cannot_change() -> None:
    with pytest.raises(AttributeError, match="make a new one"):
        ONE_CPU.items = ()


def test_a_demand_tells_its_parts() -> None:
    demand = Demand.of({"CPU": 2, "GPU": 1})
    assert (demand.units("CPU"), demand.units("disk")) == (20_000, 0)
    assert demand.only("CPU") is Demand.of({"CPU": 2})
    assert not demand.only("disk")


@pytest.mark.parametrize("items", [[("CPU", -1)], [("CPU", 1), ("CPU", 2)]])
def test_a_demand_that_makes_no_sense_is_refused(items: list[tuple[str, int]]) -> None:
    with pytest.raises(ValueError, match="a demand"):
        Demand.from_units(items)


def test_what_is_taken_is_gone_and_what_is_given_is_back() -> None:
    ledger = Ledger({"CPU": 2, "disk": 1, "none": 0})
    demand = Demand.of({"CPU": 1.5, "disk": 1})
    assert ledger.fits(demand)
    ledger.take(demand)
    assert ledger.available() == {"CPU": 0.5}
    assert ledger.totals() == {"CPU": 2.0, "disk": 1.0}
    assert not ledger.fits(ONE_CPU)
    ledger.give(demand)
    assert ledger.available() == ledger.totals()
    ledger.check()


def test_an_empty_demand_always_fits() -> None:
    ledger = Ledger({})
    assert ledger.fits(Demand.of({}))
    ledger.take(Demand.of({}))
    ledger.give(Demand.of({}))
    assert ledger.available() == {}


def test_ten_tenths_are_one() -> None:
    ledger, tenth = Ledger({"CPU": 1}), Demand.of({"CPU": 0.1})
    for _ in range(10):
        ledger.take(tenth)
    assert ledger.available() == {}
    assert not ledger.fits(Demand.of({"CPU": 0.0001}))


def test_taking_what_does_not_fit_is_a_bug_and_takes_nothing() -> None:
    ledger = Ledger({"CPU": 4, "disk": 1})
    with pytest.raises(LedgerError, match="cannot take"):
        ledger.take(Demand.of({"CPU": 1, "disk": 2}))
    assert ledger.available() == ledger.totals()


def test_giving_what_was_not_taken_is_a_bug_and_gives_nothing() -> None:
    ledger = Ledger({"CPU": 1, "disk": 1})
    ledger.take(ONE_CPU)
    for wrong in ({"CPU": 1, "disk": 1}, {"CPU": 1.1}, {"CPU": 1, "tape": 1}):
        with pytest.raises(LedgerError, match="cannot give back"):
            ledger.give(Demand.of(wrong))
    assert ledger.available() == {"disk": 1.0}


def test_what_no_node_has_is_named_with_the_amounts() -> None:
    ledger = Ledger({"CPU": 2})
    ledger.take(ONE_CPU)
    assert ledger.can_ever_fit(Demand.of({"CPU": 2})) == []
    assert ledger.can_ever_fit(Demand.of({"CPU": 3, "tape": 0.5})) == [("CPU", 3.0, 2.0), ("tape", 0.5, 0.0)]


def test_a_worker_that_comes_back_for_a_lent_cpu_owes_it_until_it_is_given_back() -> None:
    ledger = Ledger({"CPU": 1})
    ledger.take(ONE_CPU)  # the parent runs
    ledger.give(ONE_CPU)  # it waits for its child and lends its CPU out
    ledger.take(ONE_CPU)  # to a stranger
    ledger.force_take(ONE_CPU)  # the parent goes on
    assert (ledger.available(), ledger.debt()) == ({}, {"CPU": 1.0})
    ledger.check()
    ledger.give(ONE_CPU)  # the stranger ends: that pays the debt
    assert (ledger.available(), ledger.debt()) == ({}, {})
    ledger.give(ONE_CPU)  # the parent ends
    assert ledger.available() == {"CPU": 1.0}
    with pytest.raises(LedgerError, match="cannot give back"):
        ledger.give(ONE_CPU)


def test_a_forced_take_uses_what_is_there_and_owes_only_the_rest() -> None:
    ledger = Ledger({"CPU": 2, "disk": 1})
    ledger.take(Demand.of({"CPU": 1.5}))
    ledger.force_take(Demand.of({"CPU": 1, "disk": 1}))
    assert (ledger.available(), ledger.debt()) == ({}, {"CPU": 0.5})
    ledger.give(Demand.of({"CPU": 0.25, "disk": 1}))
    assert (ledger.available(), ledger.debt()) == ({"disk": 1.0}, {"CPU": 0.25})


def test_a_forced_take_of_an_unknown_resource_is_a_bug_and_takes_nothing() -> None:
    ledger = Ledger({"CPU": 1})
    with pytest.raises(LedgerError, match="no tape"):
        ledger.force_take(Demand.of({"CPU": 1, "tape": 1}))
    assert ledger.available() == {"CPU": 1.0}


class LedgerAgainstAList(RuleBasedStateMachine):
    """Any sequence of calls: free is what remains after all that is held, and what is missing is owed."""

    NAMES = ("CPU", "disk")
    amounts = st.fixed_dictionaries({}, optional={name: st.integers(1, 25).map(lambda n: n / 10) for name in NAMES})

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger({"CPU": 4, "disk": 1})
        self.held: list[Demand] = []

    @rule(amounts=amounts)
    def take_if_it_fits(self, amounts: dict[str, float]) -> None:
        demand = Demand.of(amounts)
        available = self.ledger.available()
        assert self.ledger.fits(demand) == all(available.get(name, 0) >= amount for name, amount in amounts.items())
        if self.ledger.fits(demand):
            self.ledger.take(demand)
            self.held.append(demand)

    @rule(amounts=amounts)
    def force_take(self, amounts: dict[str, float]) -> None:
        demand = Demand.of(amounts)
        self.ledger.force_take(demand)
        self.held.append(demand)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def give(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.held) - 1))
        self.ledger.give(self.held.pop(index))

    @invariant()
    def the_books_balance(self) -> None:
        self.ledger.check()
        available, debt = self.ledger.available(), self.ledger.debt()
        for name, total in self.ledger.totals().items():
            rest = to_units(name, total) - sum(demand.units(name) for demand in self.held)
            assert available.get(name, 0) == max(rest, 0) / UNITS_PER_ONE
            assert debt.get(name, 0) == max(-rest, 0) / UNITS_PER_ONE


TestLedgerAgainstAList = LedgerAgainstAList.TestCase
TestLedgerAgainstAList.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)


def test_whole_gpus_are_assigned_from_the_lowest_on() -> None:
    slots = GpuSlots(4 * UNITS_PER_ONE)
    assert slots.take(20_000) == [0, 1]
    assert slots.take(10_000) == [2]
    slots.give([0, 1], 20_000)
    assert slots.take(30_000) == [0, 1, 3]
    assert not slots.fits(10_000)
    assert slots.take(0) == []


def test_shares_fill_one_gpu_before_they_break_another() -> None:
    slots = GpuSlots(2 * UNITS_PER_ONE)
    assert [slots.take(5_000), slots.take(4_000), slots.take(2_000)] == [[0], [0], [1]]
    assert slots.take(1_000) == [0]
    assert slots.shares() == [0.0, 0.8]
    slots.give([1], 2_000)
    assert slots.take(10_000) == [1]
    slots.check()


def test_two_half_used_gpus_hold_no_whole_one() -> None:
    slots = GpuSlots(2 * UNITS_PER_ONE)
    slots.take(6_000)
    slots.take(6_000)
    assert not slots.fits(10_000)
    with pytest.raises(LedgerError, match=r"cannot assign 1.0 GPU: free shares are \[0.4, 0.4\]"):
        slots.take(10_000)


def test_a_node_with_a_share_of_a_gpu_gives_out_shares() -> None:
    slots = GpuSlots(5_000)
    assert not slots.fits(10_000)
    assert slots.take(5_000) == [0]


@pytest.mark.parametrize(("indices", "units"), [([0], 10_000), ([1], 2_000), ([7], 10_000), ([0, 0], 3_000)])
def test_giving_back_a_gpu_that_was_not_taken_is_a_bug(indices: list[int], units: int) -> None:
    slots = GpuSlots(2 * UNITS_PER_ONE)
    slots.take(5_000)
    with pytest.raises(LedgerError, match="cannot give back"):
        slots.give(indices, units)
    assert slots.shares() == [0.5, 1.0]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.one_of(st.integers(1, 10_000), st.sampled_from([10_000, 20_000, 30_000])), max_size=30), st.randoms()
)
def test_no_gpu_is_given_out_twice(asks: list[int], random: object) -> None:
    slots = GpuSlots(4 * UNITS_PER_ONE)
    held: list[tuple[list[int], int]] = []
    for units in asks:
        if slots.fits(units):
            held.append((slots.take(units), units))
        elif held:
            slots.give(*held.pop(random.randrange(len(held))))  # type: ignore[attr-defined]
        slots.check()
        assert sum(slots.shares()) * UNITS_PER_ONE == pytest.approx(4 * UNITS_PER_ONE - sum(u for _, u in held))
    while held:
        slots.give(*held.pop())
    assert slots.shares() == [1.0] * 4
