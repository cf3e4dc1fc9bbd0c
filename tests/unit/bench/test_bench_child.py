"""Child processes: what they print, how they end, and that nothing of them stays."""

import json
import os
import sys
from pathlib import Path

import pytest

from rayd.bench.child import Answer, Failure, how_it_ended, parse, run
from rayd.bench.rowset.processes import wait_until_gone

PRINTED = """{"environment": {"python": "3.11.7", "ray": "2.60.0"}}
(worker pid=7) {"row": "not ours"}
{broken
[1]
{"row": "a", "unit": "s", "samples": [1, 2.5], "extras": {"cold_s": 3.0}}
{"row": "b", "error": "ValueError: no", "traceback": "..."}
"""


def test_a_childs_output_is_read_past_lines_of_others() -> None:
    environment, outcomes = parse(PRINTED)
    assert environment == {"python": "3.11.7", "ray": "2.60.0"}
    assert outcomes == {"a": Answer([1.0, 2.5], {"cold_s": 3.0}), "b": Failure("ValueError: no")}


def test_a_child_that_dies_keeps_what_it_said_and_explains_the_rest() -> None:
    said = json.dumps({"row": "a", "samples": [1.0], "extras": {}})
    program = f"import sys; print('{said}'); print('why', file=sys.stderr); sys.exit(3)"
    report = run([sys.executable, "-c", program], os.environ, 60.0)
    assert report.outcome("a") == Answer([1.0])
    assert report.outcome("b") == Failure("ended with exit code 3: why")


def test_a_child_that_says_nothing_of_a_row_is_a_failure() -> None:
    outcome = run([sys.executable, "-c", ""], os.environ, 60.0).outcome("a")
    assert isinstance(outcome, Failure)
    assert "reported nothing" in outcome.text


def test_a_child_over_its_time_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    # The grandchild is in a session of its own and ignores the polite request, like a daemon would.
    grandchild = (
        "import os, signal, pathlib, threading; os.setsid(); signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        f"pathlib.Path({str(tmp_path)!r}, str(os.getpid())).touch(); threading.Event().wait()"
    )
    program = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {grandchild!r}])"
    limit_s = 1.0
    report = run([sys.executable, "-c", program], os.environ, limit_s)
    assert report.outcome("a") == Failure("not done after 1 s", timed_out=True)
    wait_until_gone([int(file.name) for file in tmp_path.iterdir()], timeout_s=10.0)


@pytest.mark.parametrize(
    ("code", "text"),
    [(1, "ended with exit code 1"), (-9, "killed by SIGKILL"), (-250, "killed by signal 250")],
)
def test_the_end_of_a_process_is_told_in_words(code: int, text: str) -> None:
    assert how_it_ended(code) == text
