"""The report of a comparison: a table for a terminal, the same as plain text, and a document for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rayd.bench.compare import OURS, OVER_TLS, POOL, RAY, Line
from rayd.bench.figures import in_digits
from rayd.bench.floors import FLOORS, NO_FLOOR

#: Columns that hold words; all others hold figures and are set to the right.
WORDS = frozenset({"row", "unit", "verdict", "beside it"})
#: How much of an error fits into a cell; the whole of it is listed below the table.
ERROR_CHARS = 28

Versions = Mapping[str, Mapping[str, str]]


def columns(labels: Sequence[str]) -> list[str]:
    """The columns for the environments that were measured."""
    heads = ["row", "unit", OURS, *([OVER_TLS] if OVER_TLS in labels else [])]
    for label in (RAY, POOL):
        if label in labels:
            heads += [label, f"x {label}", "floor"]
    return [*heads, "verdict", "beside it"]


def cells_of(line: Line, labels: Sequence[str]) -> list[str]:
    """The texts of one line of the table, in the order of ``columns``."""
    floor = FLOORS.get(line.row.name, NO_FLOOR)
    texts = [line.row.name, line.row.unit, _figure(line, OURS)]
    if OVER_TLS in labels:
        texts.append(_figure(line, OVER_TLS))
    for label, least in ((RAY, floor.ray), (POOL, floor.pool)):
        if label in labels:
            texts += [_figure(line, label), in_digits(line.times(label)), in_digits(least)]
    return [*texts, _verdict(line), _beside(line)]


def _figure(line: Line, label: str) -> str:
    cell = line.cells.get(label)
    if cell is None:
        return ""
    if cell.value is None:
        text = cell.errors[-1] if cell.errors else "not measured"
        return text if len(text) <= ERROR_CHARS else text[: ERROR_CHARS - 1] + "…"
    mark = "!" if cell.errors else ""
    return in_digits(cell.value) + mark


def _verdict(line: Line) -> str:
    ours = line.cells.get(OURS)
    if ours is not None and ours.value is None:
        return "FAILED"
    found = line.verdicts
    if not found:
        return ""
    return "ok" if all(one.kept for one in found) else "MISS"


def _beside(line: Line) -> str:
    cell = line.cells.get(OURS)
    return ", ".join(f"{name} {in_digits(value)}" for name, value in cell.extras.items()) if cell else ""


def plain_table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Columns set apart by two blanks, words to the left, figures to the right, no blanks at the ends of lines."""
    widths = [max(len(texts[index]) for texts in (heads, *lines)) for index in range(len(heads))]

    def one(texts: Sequence[str]) -> str:
        set_texts = (
            text.ljust(width) if head in WORDS else text.rjust(width)
            for head, text, width in zip(heads, texts, widths, strict=True)
        )
        return "  ".join(set_texts).rstrip()

    return "\n".join([one(heads), one(["-" * width for width in widths]), *(one(texts) for texts in lines)])


def misses(lines: Sequence[Line]) -> list[str]:
    """One text per floor that was not reached."""
    return [f"{line.row.name}: {one.text}" for line in lines for one in line.verdicts if not one.kept]


def failures(lines: Sequence[Line]) -> list[str]:
    """One text per different error of an environment in a row."""
    return [
        f"{line.row.name}, {label}: {error}"
        for line in lines
        for label, cell in line.cells.items()
        for error in dict.fromkeys(cell.errors)
    ]


def show(console: Console, lines: Sequence[Line], labels: Sequence[str], head: str) -> None:
    """Print the whole report: rich when the console is a terminal, plain text otherwise."""
    heads, body = columns(labels), [cells_of(line, labels) for line in lines]
    if console.is_terminal:
        console.print(_rich_table(heads, body, head))
    else:
        console.out(f"{head}\n\n{plain_table(heads, body)}", highlight=False)
    judged = sum(len(line.verdicts) for line in lines)
    missed = misses(lines)
    if judged:
        console.out(f"\n{judged - len(missed)} of {judged} floors reached.", highlight=False)
    for title, texts in (("Floors missed:", missed), ("Errors:", failures(lines))):
        if texts:
            console.out("\n".join(["", title, *(f"  {text}" for text in texts)]), highlight=False)


def _rich_table(heads: Sequence[str], body: Sequence[Sequence[str]], title: str) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD)
    for head in heads:
        table.add_column(head, justify="left" if head in WORDS else "right", overflow="fold")
    verdict = heads.index("verdict")
    for texts in body:
        style = {"FAILED": "red", "MISS": "red", "ok": "green"}.get(texts[verdict])
        shown = list(texts)
        if style:
            shown[verdict] = f"[{style}]{texts[verdict]}[/{style}]"
        table.add_row(*(text if index == verdict else escape(text) for index, text in enumerate(shown)))
    return table


def headline(versions: Versions, machine: Mapping[str, str], rounds: int) -> str:
    """One line that says what was measured where."""
    sides = []
    for label, about in versions.items():
        details = " ".join(f"{name} {value}" for name, value in about.items() if name != "file")
        sides.append(f"{label} ({details})")
    place = f"{machine.get('cpus', '?')} CPUs, {machine.get('system', '?')}"
    return f"{' against '.join(sides)}; medians of {rounds} interleaved rounds; {place}"


def document(lines: Sequence[Line], versions: Versions, machine: Mapping[str, str]) -> dict[str, Any]:
    """Everything measured, for ``--json``: samples of each round, medians, ratios, verdicts, errors."""
    return {
        "machine": dict(machine),
        "environments": {label: dict(about) for label, about in versions.items()},
        "rows": [_entry(line) for line in lines],
    }


def _entry(line: Line) -> dict[str, Any]:
    cells = {
        label: {"median": cell.value, "rounds": cell.rounds, "extras": cell.extras, "errors": cell.errors}
        for label, cell in line.cells.items()
    }
    others = [label for label in line.cells if label != OURS]
    return {
        "row": line.row.name,
        "unit": line.row.unit,
        "better": line.row.better,
        "about": line.row.about,
        "cells": cells,
        "times_better": {label: line.times(label) for label in others},
        "verdicts": [{"text": one.text, "kept": one.kept} for one in line.verdicts],
    }
