"""The command ``rayd microbenchmark``."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click
from rich.console import Console

from rayd.bench import peers, report
from rayd.bench.compare import Line, Plan, compare, environments, this_machine
from rayd.bench.rowset import ROWS, Row, select


@click.command("microbenchmark")
@click.option("--against", metavar="PYTHON", help="Also run the rows on the ray of this other interpreter.")
@click.option("--build-peers", is_flag=True, help=f"Make ./{peers.FOLDER} with upstream Ray and run against it.")
@click.option(
    "--rows", "patterns", metavar="PATTERNS", default="", help="Names, parts of names or patterns, comma-separated."
)
@click.option(
    "--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="Interleaved runs of each row."
)
@click.option(
    "--min-seconds",
    type=click.FloatRange(min=0.01),
    default=2.0,
    show_default=True,
    help="About how long a rate is measured in each round.",
)
@click.option(
    "--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Also write all figures here."
)
@click.option(
    "--tls-host",
    metavar="ADDRESS",
    help="Also run the rows in clusters that listen at this address of the machine, so over TLS.",
)
@click.option("--no-pool", is_flag=True, help="Do not run the counterparts on multiprocessing.Pool.")
@click.option(
    "--scale",
    type=click.FloatRange(min=0.0, min_open=True),
    default=1.0,
    show_default=True,
    help="Factor for the sizes of the work; floors are meant for 1.",
)
@click.option(
    "--timeout", type=click.FloatRange(min=1.0), help="Seconds for each run, instead of each row's own limit."
)
@click.option("--list", "only_list", is_flag=True, help="List the rows and what they do, and end.")
@click.pass_context
def microbenchmark(
    context: click.Context,
    against: str | None,
    build_peers: bool,
    patterns: str,
    rounds: int,
    min_seconds: float,
    json_file: Path | None,
    tls_host: str | None,
    no_pool: bool,
    scale: float,
    timeout: float | None,
    only_list: bool,
) -> None:
    """Measure tasks, actors, objects, start and memory, and compare them with Ray and with multiprocessing.Pool.

    Every run is a process of its own, the environments take turns, and all results are fetched and checked. The exit
    code is 1 when a row of ours failed; a floor that was missed is reported and does not change it.
    """
    rows = _rows(patterns)
    if only_list:
        for row in rows:
            click.echo(f"{row.name} [{row.unit}]\n    {row.about}")
        return
    progress = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    if build_peers:
        if against:
            raise click.UsageError("--against and --build-peers both name the peers' interpreter; give one of them")
        against = str(_build_peers(progress))
    if json_file is not None and not json_file.resolve().parent.is_dir():
        raise click.BadParameter(f"the folder {json_file.resolve().parent} does not exist", param_hint="--json")
    chosen = environments(against, pool=not no_pool, environ=os.environ, tls_host=tls_host)
    plan = Plan(rows, rounds, min_seconds, scale, timeout, named=bool(patterns))
    versions: dict[str, dict[str, str]] = {}
    lines: list[Line] = []
    machine = this_machine()
    for line in compare(plan, chosen, progress.print, versions):
        lines.append(line)
        _write(json_file, lines, versions, machine)  # After every row: a long run that is interrupted keeps its rows.
    console = Console(soft_wrap=False)
    report.show(console, lines, [one.label for one in chosen], report.headline(versions, machine, rounds))
    context.exit(1 if any(line.value(chosen[0].label) is None for line in lines) else 0)


def _rows(patterns: str) -> list[Row]:
    try:
        names = select([row.name for row in ROWS], [one for one in patterns.split(",") if one.strip()])
    except LookupError as error:
        raise click.BadParameter(str(error.args[0]), param_hint="--rows") from error
    return [row for row in ROWS if row.name in names]


def _build_peers(progress: Console) -> Path:
    try:
        return peers.build(Path.cwd(), progress.print)
    except peers.PeersError as error:
        raise click.ClickException(str(error)) from error


def _write(file: Path | None, lines: list[Line], versions: report.Versions, machine: dict[str, str]) -> None:
    if file is not None:
        file.write_text(json.dumps(report.document(lines, versions, machine), indent=1) + "\n")
