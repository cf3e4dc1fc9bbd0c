"""Reading memory and parents of processes from /proc."""

import os
import subprocess
import sys

import pytest

from rayd.bench.rowset.processes import (
    family,
    memory,
    memory_of_all,
    parents,
    parse_parent,
    parse_smaps_rollup,
    wait_until_gone,
)

ROLLUP = """55d6e0a5f000-7ffd2a9fe000 ---p 00000000 00:00 0                          [rollup]
Rss:                9000 kB
Pss:                5000 kB
Pss_Anon:           2000 kB
Private_Clean:      1000 kB
Private_Dirty:      3000 kB
"""


def test_memory_is_read_in_bytes() -> None:
    found = parse_smaps_rollup(ROLLUP)
    assert (found.pss, found.uss) == (5000 * 1024, 4000 * 1024)


def test_memory_without_its_lines_is_an_error() -> None:
    with pytest.raises(KeyError):
        parse_smaps_rollup("Rss: 1 kB\n")


def test_the_parent_is_found_behind_any_process_name() -> None:
    assert parse_parent("77 (a) b (c) S 12 77 77 0") == 12


def test_this_process_has_memory_and_its_parent() -> None:
    found = memory(os.getpid())
    assert found.pss >= found.uss > 0
    assert parents()[os.getpid()] == os.getppid()


def test_a_family_holds_descendants_and_the_detached_ancestors_of_workers_but_not_those_of_the_driver() -> None:
    driver, shell, child, grandchild, daemon, fork_server, worker, stranger = 10, 5, 11, 12, 20, 21, 22, 30
    parent_of = {shell: 1, driver: shell, child: driver, grandchild: child, daemon: 1}
    parent_of |= {fork_server: daemon, worker: fork_server, stranger: shell}
    assert family(parent_of, driver, [worker]) == {child, grandchild, daemon, fork_server, worker}


def test_ended_processes_are_left_out_and_waited_for() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with pytest.raises(TimeoutError, match=str(child.pid)):
        wait_until_gone([child.pid], timeout_s=0.0)
    child.communicate()
    wait_until_gone([child.pid], timeout_s=10.0)
    assert memory_of_all([child.pid]) == {}
