"""The table, the lists below it, and the document."""

import io
import json

from rich.console import Console

from rayd.bench.child import Answer, Failure
from rayd.bench.compare import Cell, Line
from rayd.bench.report import cells_of, columns, document, failures, headline, misses, plain_table, show
from rayd.bench.rowset import ROWS, Row

VERSIONS = {"rayd": {"python": "3.11.7", "ray": "0.1.0", "file": "x"}, "ray": {"python": "3.11.7", "ray": "2.60.0"}}
MACHINE = {"cpus": "2", "system": "Linux"}


def row(name: str) -> Row:
    return next(one for one in ROWS if one.name == name)


def cell(*outcomes: Answer | Failure) -> Cell:
    found = Cell()
    for outcome in outcomes:
        found.add(outcome)
    return found


def sync_line(ours: Cell) -> Line:
    ray, pool = cell(Answer([700.0]), Answer([800.0])), cell(Answer([7000.0]))
    return Line(row("single client tasks sync"), {"rayd": ours, "ray": ray, "pool": pool})


def test_columns_appear_for_the_environments_that_were_measured() -> None:
    assert columns(["rayd"]) == ["row", "unit", "rayd", "verdict", "beside it"]
    assert columns(["rayd", "ray"]) == ["row", "unit", "rayd", "ray", "x ray", "floor", "verdict", "beside it"]
    assert len(columns(["rayd", "ray", "pool"])) == 11
    assert columns(["rayd", "rayd over TLS"]) == ["row", "unit", "rayd", "rayd over TLS", "verdict", "beside it"]


def test_a_line_holds_medians_ratios_floors_and_the_verdict() -> None:
    line = sync_line(cell(Answer([7500.0]), Answer([7400.0, 7600.0])))
    assert cells_of(line, ["rayd", "ray", "pool"]) == [
        *["single client tasks sync", "tasks/s", "7 500"],
        *["750", "10.0", "8.00", "7 000", "1.07", "1.00"],
        *["ok", ""],
    ]


def test_a_missed_floor_is_marked_and_listed() -> None:
    line = sync_line(cell(Answer([4000.0])))
    assert cells_of(line, ["rayd"])[3] == "MISS"
    assert misses([line]) == [
        "single client tasks sync: 5.33 x ray, floor 8.00",
        "single client tasks sync: 0.571 x pool, floor 1.00",
    ]


def test_an_error_stands_in_its_cell_and_is_listed_once_in_full() -> None:
    text = "RuntimeError: something that is too long for a cell of the table"
    line = sync_line(cell(Failure(text), Failure(text)))
    assert cells_of(line, ["rayd"])[2] == "RuntimeError: something tha…"
    assert cells_of(line, ["rayd"])[3] == "FAILED"
    assert failures([line]) == [f"single client tasks sync, rayd: {text}"]


def test_a_figure_of_fewer_rounds_than_planned_is_marked() -> None:
    line = sync_line(cell(Answer([9000.0]), Failure("not done after 1 s", timed_out=True)))
    assert cells_of(line, ["rayd"])[2] == "9 000!"
    assert line.cells["rayd"].given_up


def test_figures_beside_the_value_are_medians_over_rounds() -> None:
    runs = [Answer([10.0], {"memcpy_share": share}) for share in (0.5, 0.7, 0.8)]
    line = Line(row("single client put GB/s"), {"rayd": cell(*runs)})
    assert cells_of(line, ["rayd"])[-1] == "memcpy_share 0.7"
    assert [one.kept for one in line.verdicts] == [True]


def test_the_plain_table_sets_words_left_and_figures_right() -> None:
    assert plain_table(["row", "rayd", "verdict"], [["a", "1 000", "ok"], ["long name", "2", ""]]).splitlines() == [
        "row         rayd  verdict",
        "---------  -----  -------",
        "a          1 000  ok",
        "long name      2",
    ]


def test_the_report_is_plain_without_a_terminal_and_coloured_on_one() -> None:
    line = sync_line(cell(Answer([4000.0]), Failure("bad [red]")))
    plain, coloured = io.StringIO(), io.StringIO()
    show(Console(file=plain, width=40), [line], ["rayd", "ray", "pool"], "head")
    show(Console(file=coloured, force_terminal=True, width=200), [line], ["rayd", "ray", "pool"], "head")
    assert "\x1b[" not in plain.getvalue()
    assert "\x1b[" in coloured.getvalue()
    for text in (plain.getvalue(), coloured.getvalue()):
        assert "head" in text
        assert "0 of 2 floors reached." in text
        assert "single client tasks sync, rayd: bad [red]" in text
    widest = max(len(one) for one in plain.getvalue().splitlines())
    assert widest > 40, "the plain table must not be wrapped to a width that a file does not have"


def test_the_headline_names_versions_and_the_machine() -> None:
    assert headline(VERSIONS, MACHINE, 3) == (
        "rayd (python 3.11.7 ray 0.1.0) against ray (python 3.11.7 ray 2.60.0); "
        "medians of 3 interleaved rounds; 2 CPUs, Linux"
    )


def test_the_document_holds_all_samples_and_survives_json() -> None:
    made = json.loads(json.dumps(document([sync_line(cell(Answer([4000.0, 4100.0])))], VERSIONS, MACHINE)))
    (entry,) = made["rows"]
    assert entry["cells"]["rayd"] == {"median": 4050.0, "rounds": [[4000.0, 4100.0]], "extras": {}, "errors": []}
    assert entry["times_better"] == {"ray": 5.4, "pool": 4050.0 / 7000.0}
    assert [one["kept"] for one in entry["verdicts"]] == [False, False]
    assert made["environments"]["ray"]["ray"] == "2.60.0"
