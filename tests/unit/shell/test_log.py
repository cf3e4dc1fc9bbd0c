"""The daemon's log."""

import os
from pathlib import Path

from rayd.shell.log import open_log


def test_lines_are_there_at_once_and_whatever_they_contain(tmp_path: Path) -> None:
    path = tmp_path / "log"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    log = open_log(descriptor)
    print("a", "b", file=log)
    assert path.read_text() == "a b\n"
    print("\udcff \N{SNOWMAN}", file=log, flush=True)
    assert path.read_text() == "a b\n\\udcff \N{SNOWMAN}\n"
    log.close()
    os.close(descriptor)


def test_a_full_disk_stops_nobody() -> None:
    descriptor = os.open("/dev/full", os.O_WRONLY)
    log = open_log(descriptor)
    for size in (10, 100_000):
        print("x" * size, file=log, flush=True)
    log.close()
    os.close(descriptor)
