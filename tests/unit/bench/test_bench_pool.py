"""The rows on multiprocessing.Pool, as scripts and in small."""

import os
import sys
from pathlib import Path

from rayd.bench import child, pool_rows
from rayd.bench.compare import FOLDER


def test_every_row_of_the_pool_measures_its_work_as_a_script_outside_the_package(tmp_path: Path) -> None:
    script = FOLDER / "pool_rows.py"
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"HOME": str(tmp_path)}
    options = ["--min-seconds", "0.01", "--scale", "0.01", "--json"]
    report = child.run([sys.executable, str(script), *options], environ, 60.0)
    assert report.environment["pool"] == "multiprocessing.Pool(2)"
    outcomes = [report.outcome(row.name) for row in pool_rows.ROWS]
    assert all(isinstance(one, child.Answer) and min(one.samples) > 0 for one in outcomes), outcomes


def test_a_script_refuses_a_pattern_without_rows() -> None:
    report = child.run([sys.executable, str(FOLDER / "pool_rows.py"), "--rows", "nothing"], os.environ, 60.0)
    assert isinstance(report.end, child.Failure)
    assert "ended with exit code 2: no row matches 'nothing'" in report.end.text
