"""Run rows on the ``ray`` of the interpreter that runs this file: ``PYTHON path/to/rows.py --rows a,b --json``.

The other environment needs no ``rayd``: run as a script, this file finds its rows in the folder beside it.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rayd.bench import rowset
    from rayd.bench.rowset import measure, script, startup
else:
    # Not "from rayd.bench": this file must not mix the two environments when both hold a package of that name.
    _PREFIX = f"{__package__}." if __package__ else ""
    rowset = importlib.import_module(f"{_PREFIX}rowset")
    measure, script, startup = (
        importlib.import_module(f"{_PREFIX}rowset.{name}") for name in ("measure", "script", "startup")
    )


def run_row(ray: Any, row: rowset.Row, min_seconds: float, scale: float = 1.0, host: str = "") -> rowset.Result:
    """Run one row in a session of its own, as large as the row says."""
    bench = measure.Bench(ray, min_seconds, scale, host)
    if row.cpus is None:
        return row.measure(bench)
    with measure.session(ray, row.cpus, host):
        return row.measure(bench)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the script; the exit code, see ``script.run_rows``."""
    options = script.parser("Run benchmark rows on this interpreter's ray.")
    options.add_argument(startup.PROBE_OPTION, action="store_true", help="measure one start of a session and end")
    arguments = options.parse_args(argv)
    if arguments.startup_probe:
        sys.stdout.write(json.dumps(startup.probe()) + "\n")
        return 0
    ray = importlib.import_module("ray")
    environment = {"ray": str(getattr(ray, "__version__", "")), "file": str(ray.__file__)}
    return script.run_rows(
        rowset.ROWS,
        arguments,
        environment,
        lambda row: run_row(ray, row, arguments.min_seconds, arguments.scale, arguments.host),
    )


if __name__ == "__main__":
    sys.exit(main())
