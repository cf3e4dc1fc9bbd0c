"""Where the bundles of a placement group go."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayd.core.packing import STRATEGIES, choose
from rayd.core.resources import Demand, Ledger


def nodes(*cpus: float) -> dict[int, Ledger]:
    return {number: Ledger({"CPU": amount}) for number, amount in enumerate(cpus)}


def bundles(*cpus: float) -> dict[int, Demand]:
    return {index: Demand.of({"CPU": amount}) for index, amount in enumerate(cpus)}


@pytest.mark.parametrize(
    ("strategy", "wanted", "free", "expected"),
    [
        ("STRICT_PACK", [1, 1], [1, 4, 2], {0: 2, 1: 2}),
        ("STRICT_PACK", [1, 2], [2, 2], None),
        ("PACK", [1, 1], [4, 2], {0: 1, 1: 1}),
        ("PACK", [2, 2, 1], [2, 3], {0: 1, 1: 0, 2: 1}),
        ("PACK", [3], [2, 2], None),
        ("SPREAD", [1, 1], [4, 4], {0: 0, 1: 1}),
        ("SPREAD", [1, 1, 1], [1, 4], {0: 1, 1: 0, 2: 1}),
        ("STRICT_SPREAD", [1, 2], [2, 1], {0: 1, 1: 0}),
        ("STRICT_SPREAD", [1, 1], [4], None),
        ("STRICT_SPREAD", [1, 1, 2], [1, 2, 1], {0: 2, 1: 0, 2: 1}),
    ],
)
def test_each_strategy(strategy: str, wanted: list[float], free: list[float], expected: Mapping[int, int]) -> None:
    assert choose(strategy, bundles(*wanted), nodes(*free)) == expected


def test_bundles_that_stay_are_taken_into_account() -> None:
    assert choose("STRICT_SPREAD", bundles(1), nodes(4, 4), placed=[0]) == {0: 1}
    assert choose("STRICT_SPREAD", bundles(1), nodes(4), placed=[0]) is None
    assert choose("SPREAD", bundles(1), nodes(9, 4), placed=[0]) == {0: 1}
    assert choose("PACK", bundles(1), nodes(9, 4), placed=[0]) == {0: 0}


def test_there_is_no_other_strategy() -> None:
    with pytest.raises(ValueError, match="SOMEHOW"):
        choose("SOMEHOW", bundles(1), nodes(1))


_SIZES = st.lists(st.integers(1, 4), min_size=1, max_size=4)


@given(st.sampled_from(STRATEGIES), _SIZES, _SIZES)
def test_what_is_chosen_fits_and_keeps_the_strategy(strategy: str, wanted: list[int], free: list[int]) -> None:
    ledgers = nodes(*free)
    chosen = choose(strategy, bundles(*wanted), ledgers)
    if chosen is None:
        return
    assert chosen.keys() == set(range(len(wanted)))
    for index, number in chosen.items():
        ledgers[number].take(bundles(*wanted)[index])
    if strategy == "STRICT_PACK":
        assert len(set(chosen.values())) == 1
    if strategy == "STRICT_SPREAD":
        assert len(set(chosen.values())) == len(wanted)


@given(_SIZES, _SIZES)
def test_the_strict_strategies_find_what_there_is(wanted: list[int], free: list[int]) -> None:
    apart = all(
        size <= space for size, space in zip(sorted(wanted, reverse=True), sorted(free, reverse=True), strict=False)
    )
    possible = apart and len(wanted) <= len(free)
    assert (choose("STRICT_SPREAD", bundles(*wanted), nodes(*free)) is not None) == possible
    assert (choose("STRICT_PACK", bundles(*wanted), nodes(*free)) is not None) == (sum(wanted) <= max(free))
