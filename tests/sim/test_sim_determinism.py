"""Same seed, same trace: in one process, in another, and whatever the seed of hashes."""

import os
import subprocess
import sys

import pytest

from rayd.sim.options import Options
from rayd.sim.simulation import Simulation

ONE = Options(seed=11, nodes=4, tasks=200)


def test_the_same_seed_gives_the_same_trace() -> None:
    assert Simulation(ONE).run() == Simulation(ONE).run()


def test_another_seed_gives_another_trace() -> None:
    assert Simulation(ONE).run().digest != Simulation(ONE._replace(seed=12)).run().digest


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_the_seed_of_hashes_makes_no_difference(hash_seed: str) -> None:
    command = [sys.executable, "-m", "rayd.sim", "--seed", "11", "--nodes", "4", "--tasks", "200"]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert Simulation(ONE).run().digest in said


def test_the_file_of_a_trace_has_a_line_for_each_event_and_fault(tmp_path) -> None:
    path = tmp_path / "trace"
    report = Simulation(ONE._replace(trace=str(path))).run()
    lines = path.read_text().splitlines()
    assert sum(" fault " in line for line in lines) == sum(
        count for name, count in report.faults.items() if name != "node stopped itself"
    )
