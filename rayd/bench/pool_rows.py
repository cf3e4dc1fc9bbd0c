"""Run the rows that have a counterpart on ``multiprocessing.Pool``: ``PYTHON path/to/pool_rows.py --rows a --json``.

The rows have the names of those that they are compared with. An actor's counterpart is the same pool: it keeps no state
and no order, which makes the comparison harder for the actor, not easier.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.pool import Pool
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rayd.bench.rowset import measure, row, script
else:
    # Not "from rayd.bench": run as a script, this file uses the folder beside it.
    _PREFIX = f"{__package__}." if __package__ else ""
    measure, row, script = (importlib.import_module(f"{_PREFIX}rowset.{name}") for name in ("measure", "row", "script"))

#: Calls that are outstanding at once in the batch rows.
BATCH = 1000


def small() -> bytes:
    """What every task and method of the compared rows does."""
    return b"ok"


def _sync(pool: Pool, bench: measure.Bench) -> row.Result:
    def work() -> None:
        row.check(holds=pool.apply(small) == b"ok", what="the call did not return b'ok'")

    return row.Result(bench.rate(work))


def _fetch_batch(pool: Pool, bench: measure.Bench) -> Callable[[], None]:
    count = bench.size(BATCH)
    expected = [b"ok"] * count

    def work() -> None:
        pending = [pool.apply_async(small) for _ in range(count)]
        row.check(holds=[one.get() for one in pending] == expected, what="a call of the batch did not return b'ok'")

    return work


def _batch(pool: Pool, bench: measure.Bench) -> row.Result:
    return row.Result(bench.rate(_fetch_batch(pool, bench), bench.size(BATCH)))


def _batches(pool: Pool, bench: measure.Bench) -> row.Result:
    return row.Result(bench.rate(_fetch_batch(pool, bench)))


def _row(name: str, unit: str, measure_on: Callable[[Pool, measure.Bench], row.Result]) -> row.Row:
    """A row that runs in a pool of as many processes as the compared session has CPUs, after all have started."""

    def run(bench: measure.Bench) -> row.Result:
        with multiprocessing.get_context("fork").Pool(row.CPUS) as pool:
            pids = set(pool.map(_hold, [0.05] * row.CPUS, chunksize=1))
            row.check(holds=len(pids) == row.CPUS, what=f"{len(pids)} of {row.CPUS} processes of the pool started")
            return measure_on(pool, bench)

    return row.row(name, unit)(run)


def _hold(duration_s: float) -> int:
    time.sleep(duration_s)
    return os.getpid()


ROWS: tuple[row.Row, ...] = (
    _row("single client tasks sync", "tasks/s", _sync),
    _row("single client tasks async", "tasks/s", _batch),
    _row("single client tasks and get batch", "batches/s", _batches),
    _row("1:1 actor calls sync", "calls/s", _sync),
    _row("1:1 actor calls async", "calls/s", _batch),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the script; the exit code, see ``script.run_rows``."""
    arguments = script.parser("Run benchmark rows on multiprocessing.Pool.").parse_args(argv)
    environment = {"pool": f"multiprocessing.Pool({row.CPUS})"}

    def run(one: row.Row) -> row.Result:
        return one.measure(measure.Bench(None, arguments.min_seconds, arguments.scale))

    return script.run_rows(ROWS, arguments, environment, run)


if __name__ == "__main__":
    sys.exit(main())
