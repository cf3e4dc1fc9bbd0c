"""Medians and ratios of measured figures, and how a figure is written."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from rayd.bench.rowset.row import Better


def median_of_rounds(rounds: Sequence[Sequence[float]]) -> float | None:
    """The median over rounds of each round's median sample; None when no round measured anything."""
    middles = [statistics.median(samples) for samples in rounds if samples]
    return statistics.median(middles) if middles else None


def times_better(ours: float | None, theirs: float | None, better: Better) -> float | None:
    """How many times better ``ours`` is than ``theirs``; None when either is missing or the divisor is zero.

    For rates (``better="more"``) that is ours / theirs, for times and memory (``"less"``) theirs / ours.
    """
    if ours is None or theirs is None:
        return None
    above, below = (ours, theirs) if better == "more" else (theirs, ours)
    return above / below if below > 0 else None


def in_digits(value: float | None) -> str:
    """A figure with about three digits that matter and blanks between thousands: 17 336, 747, 2.57, 0.0123."""
    if value is None:
        return ""
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}".replace(",", " ")
    if size >= 10:
        return f"{value:.1f}"
    if size >= 1:
        return f"{value:.2f}"
    return f"{value:.3g}"
