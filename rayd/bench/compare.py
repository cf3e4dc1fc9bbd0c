"""Running rows interleaved in several environments, each run in a child process, and collecting what they measured.

The order per row is A B C A B C …: machines drift, and only figures that were taken side by side can be compared.
"""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rayd.bench import child, pool_rows
from rayd.bench.figures import in_digits, median_of_rounds, times_better
from rayd.bench.floors import FLOORS, NO_FLOOR, Verdict, verdicts
from rayd.bench.rowset import ROWS, Row

FOLDER = Path(__file__).resolve().parent
OURS, OVER_TLS, RAY, POOL = "rayd", "rayd over TLS", "ray", "pool"

#: Would make a session join a running cluster, or import another environment's packages.
_UNSET_EVERYWHERE = ("RAY_ADDRESS", "RAY_NAMESPACE")
_UNSET_FOR_PEERS = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV")
#: Quiet peers: no statistics sent home, and no warning about a coming default, which would disturb the measurement.
_SET_FOR_PEERS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


@dataclass(frozen=True, slots=True)
class Environment:
    """One thing to measure: ``script`` run by ``python`` with ``options``; ``rows`` are the names of those it has."""

    label: str
    python: str
    script: Path
    rows: frozenset[str]
    environ: Mapping[str, str]
    options: tuple[str, ...] = ()

    def command(self, row: str, min_seconds: float, scale: float) -> list[str]:
        """The command that measures one row."""
        options = ["--rows", row, "--min-seconds", str(min_seconds), "--scale", str(scale), "--json"]
        return [self.python, str(self.script), *options, *self.options]


@dataclass(slots=True)
class Cell:
    """What one environment measured for one row, one entry per round that succeeded."""

    rounds: list[list[float]] = field(default_factory=list)
    extras_of_rounds: list[dict[str, float]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    given_up: bool = False

    @property
    def value(self) -> float | None:
        """Median over rounds of the median sample, in the row's unit."""
        return median_of_rounds(self.rounds)

    @property
    def extras(self) -> dict[str, float]:
        """Median over rounds of each further figure."""
        names = dict.fromkeys(name for extras in self.extras_of_rounds for name in extras)
        return {
            name: statistics.median(extras[name] for extras in self.extras_of_rounds if name in extras)
            for name in names
        }

    def add(self, outcome: child.Answer | child.Failure) -> None:
        """Take in what one round said."""
        if isinstance(outcome, child.Answer):
            self.rounds.append(outcome.samples)
            self.extras_of_rounds.append(outcome.extras)
        else:
            self.errors.append(outcome.text)
            self.given_up = outcome.timed_out


@dataclass(frozen=True, slots=True)
class Line:
    """A row with the cells of all environments that have it."""

    row: Row
    cells: Mapping[str, Cell]

    def value(self, label: str) -> float | None:
        """The environment's figure, None when it has none."""
        cell = self.cells.get(label)
        return cell.value if cell else None

    def times(self, label: str) -> float | None:
        """How many times better ours is than that environment."""
        return times_better(self.value(OURS), self.value(label), self.row.better)

    @property
    def verdicts(self) -> list[Verdict]:
        """Every floor of this row that the measured figures allow to judge."""
        ours = self.cells.get(OURS)
        floor = FLOORS.get(self.row.name, NO_FLOOR)
        return verdicts(floor, self.value(OURS), ours.extras if ours else {}, self.times(RAY), self.times(POOL))


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run: the rows, the rounds, seconds per rate, the factor of sizes, and the time limit of a child.

    ``limit_s`` None means each row's own limit. ``named`` says that the user chose the rows by name, which includes
    those that are too slow to be run on other environments otherwise.
    """

    rows: Sequence[Row]
    rounds: int
    min_seconds: float
    scale: float
    limit_s: float | None
    named: bool


def environments(
    against: str | None, *, pool: bool, environ: Mapping[str, str], tls_host: str | None = None
) -> list[Environment]:
    """This interpreter's ``ray``, the same with clusters that listen at ``tls_host``, the ``ray`` of the interpreter
    ``against``, and the process pool, in this order.
    """
    names = frozenset(row.name for row in ROWS)
    ours = {name: value for name, value in environ.items() if name not in _UNSET_EVERYWHERE}
    theirs = {name: value for name, value in ours.items() if name not in _UNSET_FOR_PEERS} | _SET_FOR_PEERS
    found = [Environment(OURS, sys.executable, FOLDER / "rows.py", names, ours)]
    if tls_host:
        found.append(Environment(OVER_TLS, sys.executable, FOLDER / "rows.py", names, ours, ("--host", tls_host)))
    if against:
        found.append(Environment(RAY, against, FOLDER / "rows.py", names, theirs))
    if pool:
        pool_names = frozenset(row.name for row in pool_rows.ROWS)
        found.append(Environment(POOL, sys.executable, FOLDER / "pool_rows.py", pool_names, ours))
    return found


def compare(
    plan: Plan,
    chosen: Sequence[Environment],
    tell: Callable[[str], None],
    versions: dict[str, dict[str, str]],
) -> Iterator[Line]:
    """Measure every row in every environment, round by round; yields a line as soon as its row is done.

    ``tell`` gets one line of words per run. ``versions`` receives what the environments say about themselves.
    """
    for number, row in enumerate(plan.rows, start=1):
        having = [one for one in chosen if _runs(one, row, named=plan.named)]
        cells = {one.label: Cell() for one in having}
        for turn in range(1, plan.rounds + 1):
            for one in having:
                cell = cells[one.label]
                if cell.given_up:
                    continue
                outcome = _measure(plan, one, row, versions)
                cell.add(outcome)
                where = f"[{number}/{len(plan.rows)}] {row.name}, round {turn}/{plan.rounds}, {one.label}"
                tell(f"{where}: {_in_words(outcome, row)}")
        yield Line(row, cells)


def _runs(one: Environment, row: Row, *, named: bool) -> bool:
    if row.name not in one.rows:
        return False
    return named or one.label == OURS or not row.by_request_for_peers


def _measure(
    plan: Plan,
    one: Environment,
    row: Row,
    versions: dict[str, dict[str, str]],
) -> child.Answer | child.Failure:
    limit_s = row.limit_s if plan.limit_s is None else plan.limit_s
    report = child.run(one.command(row.name, plan.min_seconds, plan.scale), one.environ, limit_s)
    if report.environment:
        versions[one.label] = report.environment
    return report.outcome(row.name)


def _in_words(outcome: child.Answer | child.Failure, row: Row) -> str:
    if isinstance(outcome, child.Failure):
        return f"FAILED, {outcome.text}"
    return f"{in_digits(median_of_rounds([outcome.samples]))} {row.unit}"


def this_machine() -> dict[str, str]:
    """What a reader must know of the machine to place the figures."""
    system = os.uname()
    return {"cpus": str(os.cpu_count()), "system": f"{system.sysname} {system.release} {system.machine}"}
