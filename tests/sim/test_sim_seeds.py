"""A smoke set of simulated clusters: whatever happens to them, no checker finds anything. ``make sim`` plays more."""

import pytest

from rayd.sim.options import Options
from rayd.sim.simulation import Simulation


@pytest.mark.parametrize("seed", range(20))
def test_a_small_cluster_with_faults_does_what_it_must(seed: int) -> None:
    report = Simulation(Options(seed=seed, nodes=4, tasks=300, encoded=True, check_every=5)).run()
    assert report.outcomes["value"] > 50


@pytest.mark.parametrize("seed", range(100, 103))
def test_a_larger_one_does_too(seed: int) -> None:
    report = Simulation(Options(seed=seed, nodes=8, drivers=4, cpus=3, tasks=1_000)).run()
    assert report.outcomes["value"] > 500


@pytest.mark.parametrize("seed", range(200, 204))
def test_without_faults_only_what_programs_ask_for_fails(seed: int) -> None:
    report = Simulation(Options(seed=seed, nodes=3, tasks=300, faults=False, encoded=True, check_every=5)).run()
    assert report.faults == {}


@pytest.mark.parametrize("seed", range(300, 303))
def test_a_head_without_a_journal_lives_as_long_as_its_cluster(seed: int) -> None:
    report = Simulation(Options(seed=seed, nodes=4, tasks=300, journal=False)).run()
    assert "kill_head" not in report.faults
