"""The command line of the scripts that run rows in a child process, and the lines that they print.

A script prints one line of JSON for every row as soon as it is done: ``{"row", "unit", "samples", "extras"}``, or
``{"row", "error", "traceback"}`` for one that failed; and first ``{"environment": {...}}``.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import traceback
from collections.abc import Callable, Sequence

from .row import Result, Row, select


def parser(description: str) -> argparse.ArgumentParser:
    """The options that all scripts share."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--rows", default="", help="names or patterns of rows, separated by commas; default: all")
    options.add_argument("--min-seconds", type=float, default=2.0, help="about how long to measure a rate; default: 2")
    options.add_argument("--scale", type=float, default=1.0, help="factor for the sizes of the work; default: 1")
    options.add_argument("--host", default="", help="address at which clusters listen; default: loopback")
    options.add_argument("--json", action="store_true", help="print one line of JSON per row instead of words")
    return options


def run_rows(
    rows: Sequence[Row],
    arguments: argparse.Namespace,
    environment: dict[str, str],
    run: Callable[[Row], Result],
) -> int:
    """Run the rows that the arguments choose, printing each result; 0, or 1 when one failed, or 2 for a bad pattern."""
    patterns = [pattern for pattern in arguments.rows.split(",") if pattern.strip()]
    try:
        names = select([one.name for one in rows], patterns)
    except LookupError as error:
        sys.stderr.write(f"{error.args[0]}\n")
        return 2
    if arguments.json:
        _print(json.dumps({"environment": {"python": platform.python_version(), **environment}}))
    failed = False
    for one in (one for one in rows if one.name in names):
        answer = _answer(one, run)
        failed = failed or "error" in answer
        _print(json.dumps(answer) if arguments.json else _in_words(answer))
    return 1 if failed else 0


def _answer(one: Row, run: Callable[[Row], Result]) -> dict[str, object]:
    try:
        result = run(one)
    except Exception as error:  # noqa: BLE001 - whatever a row raises is its answer; the other rows must still run
        text = f"{type(error).__name__}: {error}"
        return {"row": one.name, "error": text, "traceback": traceback.format_exc()}
    return {"row": one.name, "unit": one.unit, "samples": list(result.samples), "extras": result.extras}


def _in_words(answer: dict[str, object]) -> str:
    if "error" in answer:
        return f"{answer['row']}: FAILED\n{answer['traceback']}"
    samples, extras = answer["samples"], answer["extras"]
    assert isinstance(samples, list)
    assert isinstance(extras, dict)
    middle = statistics.median(samples)
    beside = "".join(f", {name} {value:.4g}" for name, value in extras.items())
    return f"{answer['row']}: {middle:.4g} {answer['unit']} ({min(samples):.4g} to {max(samples):.4g}){beside}"


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
