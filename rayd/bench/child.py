"""Running a script of rows in a child process with a time limit, and reading what it prints."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import psutil

#: What a child and its processes get between being asked to end and being killed.
GRACE_S = 5.0
#: How much of a child's error output is reported.
STDERR_LINES = 12


@dataclass(frozen=True, slots=True)
class Answer:
    """What one child measured for one row: samples in the row's unit and further figures by name."""

    samples: list[float]
    extras: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a child gave no figure for a row. ``timed_out``: a further attempt would only cost the time limit again."""

    text: str
    timed_out: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """All that a child said: its environment (versions), and an outcome per row that it got to."""

    environment: dict[str, str]
    outcomes: dict[str, Answer | Failure]
    end: Failure | None

    def outcome(self, row: str) -> Answer | Failure:
        """The row's outcome, or how the child ended when it did not get to the row."""
        return self.outcomes.get(row) or self.end or Failure("the child ended well but reported nothing for this row")


def parse(output: str) -> tuple[dict[str, str], dict[str, Answer | Failure]]:
    """The environment and the outcomes in a child's output; lines that are not ours (of workers) are skipped."""
    environment: dict[str, str] = {}
    outcomes: dict[str, Answer | Failure] = {}
    for line in output.splitlines():
        entry = _entry(line)
        if "environment" in entry:
            environment = {str(name): str(value) for name, value in entry["environment"].items()}
        elif "error" in entry and "row" in entry:
            outcomes[entry["row"]] = Failure(str(entry["error"]))
        elif "samples" in entry and "row" in entry:
            outcomes[entry["row"]] = Answer([float(one) for one in entry["samples"]], entry.get("extras", {}))
    return environment, outcomes


def _entry(line: str) -> dict[str, Any]:
    if not line.startswith("{"):
        return {}
    try:
        entry = json.loads(line)
    except ValueError:
        return {}
    return entry if isinstance(entry, dict) else {}


def run(command: Sequence[str], environ: Mapping[str, str], limit_s: float) -> Report:
    """Run the command to its end or to its time limit, and end everything that it started."""
    # Files, not pipes: a process that outlives the child would keep a pipe open and the reader waiting.
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        child = subprocess.Popen(
            command,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            start_new_session=True,
        )
        timed_out = False
        try:
            child.wait(limit_s)
        except subprocess.TimeoutExpired:
            timed_out = True
            end_with_descendants(child)
        except BaseException:
            end_with_descendants(child)
            raise
        environment, outcomes = parse(_text(output))
        error_text = _text(errors)
    end: Failure | None = None
    if timed_out:
        end = Failure(f"not done after {limit_s:g} s", timed_out=True)
    elif child.returncode != 0:
        end = Failure(f"{how_it_ended(child.returncode)}: {last_lines(error_text)}")
    return Report(environment, outcomes, end)


def _text(file: BinaryIO) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def how_it_ended(code: int) -> str:
    """A return code of ``subprocess`` in words."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def last_lines(text: str) -> str:
    """The end of an error output, on one line."""
    return " | ".join(line.strip() for line in text.strip().splitlines()[-STDERR_LINES:] if line.strip())


def end_with_descendants(child: subprocess.Popen[bytes]) -> None:
    """Ask the child to end, then kill what is left of it, of its process group and of its descendants."""
    try:
        family = psutil.Process(child.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    child.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(GRACE_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    for process in family:
        # psutil compares start times, so a pid that was given to another process meanwhile is not hit.
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(family, GRACE_S)
    child.wait()
