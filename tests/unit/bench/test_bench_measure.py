"""Repeating and timing work."""

from rayd.bench.rowset import Bench


def test_a_rate_repeats_its_work_until_the_time_is_over_and_counts_what_each_call_does() -> None:
    calls = 0

    def work() -> None:
        nonlocal calls
        calls += 1

    once = Bench(None, min_seconds=0.02).rate(work)
    counted_calls = calls
    thousandfold = Bench(None, min_seconds=0.02).rate(work, count=1e9)
    assert 1 <= len(once) <= 4
    assert counted_calls > 4
    assert min(thousandfold) > max(once)


def test_a_rate_warms_up_and_takes_at_least_one_sample_however_long_the_work() -> None:
    calls = 0

    def work() -> None:
        nonlocal calls
        calls += 1

    samples = Bench(None, min_seconds=1e-9).rate(work, warm_calls=3)
    assert len(samples) == 1
    assert calls >= 3 + 1


def test_timed_runs_stay_within_their_bounds() -> None:
    def nothing() -> None:
        return None

    assert len(Bench(None, min_seconds=60.0).seconds(nothing, runs_max=5)) == 5
    assert len(Bench(None, min_seconds=1e-12).seconds(nothing, runs_min=3)) == 3


def test_sizes_scale_and_never_vanish() -> None:
    assert Bench(None, 1.0).size(1000) == 1000
    assert Bench(None, 1.0, scale=0.25).size(1000) == 250
    assert Bench(None, 1.0, scale=0.0001).size(1000) == 1
