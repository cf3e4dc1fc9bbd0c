"""Interleaving environments and preparing their processes."""

import sys
from pathlib import Path

import pytest

from rayd.bench import main
from rayd.bench.compare import Environment, Plan, compare, environments
from rayd.bench.rowset import ROWS, Row

PATH = {"PATH": "/bin", "PYTHONPATH": "/ours", "RAY_ADDRESS": "auto", "VIRTUAL_ENV": "/v"}


def scripted(label: str, folder: Path, program: str, *rows: Row) -> Environment:
    """An environment whose script is the given program; its row's name is ``sys.argv[2]``."""
    script = folder / f"{label}.py"
    script.write_text("import json, sys\nname = sys.argv[2]\n" + program)
    return Environment(label, sys.executable, script, frozenset(row.name for row in rows), {})


def test_our_children_inherit_the_path_and_the_peers_do_not() -> None:
    ours, ray, pool = environments("/other/python", pool=True, environ=PATH)
    assert (ours.python, ray.python, pool.python) == (sys.executable, "/other/python", sys.executable)
    assert ours.environ == pool.environ == {"PATH": "/bin", "PYTHONPATH": "/ours", "VIRTUAL_ENV": "/v"}
    assert not {"PYTHONPATH", "VIRTUAL_ENV", "RAY_ADDRESS"} & set(ray.environ)
    assert ours.rows == ray.rows > pool.rows


def test_without_peers_and_pool_only_ours_is_run() -> None:
    assert [one.label for one in environments(None, pool=False, environ={})] == ["rayd"]


def test_the_same_rows_are_run_over_tls_beside_the_others() -> None:
    ours, over_tls = environments(None, pool=False, environ={}, tls_host="10.0.0.5")
    assert over_tls.label == "rayd over TLS"
    assert over_tls.command("x", 1.0, 1.0) == [*ours.command("x", 1.0, 1.0), "--host", "10.0.0.5"]


def test_environments_take_turns_row_by_row_and_a_failing_cell_does_not_stop_the_others(tmp_path: Path) -> None:
    first, second = ROWS[0], ROWS[1]
    good = "print(json.dumps({'row': name, 'samples': [2.0], 'extras': {}}))"
    bad = "print(json.dumps({'row': name, 'error': 'KeyError: 1'}))"
    chosen = [
        scripted("rayd", tmp_path, good, first, second),
        scripted("ray", tmp_path, bad, first, second),
        scripted("pool", tmp_path, good, first),
    ]
    told: list[str] = []
    plan = Plan([first, second], rounds=2, min_seconds=0.1, scale=1.0, limit_s=60.0, named=False)
    lines = list(compare(plan, chosen, told.append, {}))
    assert [text.split(":")[0].rpartition(", ")[2] for text in told] == [
        *["rayd", "ray", "pool"] * 2,
        *["rayd", "ray"] * 2,
    ]
    assert [line.value("rayd") for line in lines] == [2.0, 2.0]
    assert [line.value("ray") for line in lines] == [None, None]
    assert lines[0].cells["ray"].errors == ["KeyError: 1"] * 2
    assert lines[0].times("pool") == 1.0


def test_rows_that_are_slow_on_peers_run_there_only_when_they_are_named(tmp_path: Path) -> None:
    slow = next(row for row in ROWS if row.by_request_for_peers)
    good = "print(json.dumps({'row': name, 'samples': [2.0], 'extras': {}}))"
    chosen = [scripted("rayd", tmp_path, good, slow), scripted("ray", tmp_path, good, slow)]
    for named, labels in ((False, ["rayd"]), (True, ["rayd", "ray"])):
        plan = Plan([slow], rounds=1, min_seconds=0.1, scale=1.0, limit_s=60.0, named=named)
        (line,) = compare(plan, chosen, lambda _text: None, {})
        assert list(line.cells) == labels


def test_a_cell_that_ran_into_its_time_limit_is_not_tried_again(tmp_path: Path) -> None:
    endless = scripted("rayd", tmp_path, "import threading; threading.Event().wait()", ROWS[0])
    plan = Plan([ROWS[0]], rounds=3, min_seconds=0.1, scale=1.0, limit_s=0.3, named=False)
    (line,) = compare(plan, [endless], lambda _text: None, {})
    assert line.cells["rayd"].errors == ["not done after 0.3 s"]


def test_the_command_lists_its_rows(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    printed = capsys.readouterr().out
    assert all(f"{row.name} [{row.unit}]" in printed for row in ROWS)


def test_a_pattern_without_rows_and_a_missing_folder_are_wrong_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--rows", "nothing like this"]) == 2
    assert "no row matches 'nothing like this'" in capsys.readouterr().err
    assert main(["--json", str(tmp_path / "absent" / "file.json")]) == 2
    assert f"the folder {tmp_path / 'absent'} does not exist" in capsys.readouterr().err
