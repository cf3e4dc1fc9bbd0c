"""Medians, ratios and the way figures are written."""

import pytest

from rayd.bench.figures import in_digits, median_of_rounds, times_better


def test_the_figure_of_a_row_is_the_median_over_rounds_of_the_median_samples() -> None:
    assert median_of_rounds([[1.0, 2.0, 100.0], [3.0], [50.0, 70.0]]) == 3.0


def test_rounds_that_measured_nothing_do_not_count() -> None:
    assert median_of_rounds([[], [4.0]]) == 4.0
    assert median_of_rounds([[], []]) is None
    assert median_of_rounds([]) is None


def test_of_two_rates_the_larger_is_better_and_of_two_times_the_smaller() -> None:
    assert times_better(30.0, 10.0, "more") == 3.0
    assert times_better(10.0, 30.0, "less") == 3.0
    assert times_better(10.0, 40.0, "more") == 0.25


def test_there_is_no_ratio_without_both_figures_or_with_a_zero_below() -> None:
    assert times_better(None, 1.0, "more") is None
    assert times_better(1.0, None, "more") is None
    assert times_better(1.0, 0.0, "more") is None
    assert times_better(0.0, 1.0, "less") is None


@pytest.mark.parametrize(
    ("value", "text"),
    [(17336.4, "17 336"), (747.0, "747"), (16.84, "16.8"), (2.571, "2.57"), (0.01234, "0.0123"), (0, "0"), (None, "")],
)
def test_figures_are_written_with_about_three_digits(value: float | None, text: str) -> None:
    assert in_digits(value) == text
