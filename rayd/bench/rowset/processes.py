"""What /proc tells about processes: their memory and their parents."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of one process in bytes: proportional (shared pages divided by their users) and its very own."""

    pss: int
    uss: int


def parse_smaps_rollup(text: str) -> Memory:
    """Memory from the text of ``/proc/<pid>/smaps_rollup``; raises KeyError when a line is missing."""
    kilobytes: dict[str, int] = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) == 3 and words[2] == "kB":
            kilobytes[words[0].rstrip(":")] = int(words[1])
    own = kilobytes["Private_Clean"] + kilobytes["Private_Dirty"]
    return Memory(kilobytes["Pss"] * 1024, own * 1024)


def parse_parent(stat: str) -> int:
    """The parent's pid from the text of ``/proc/<pid>/stat``, whose second field may hold blanks and brackets."""
    return int(stat.rpartition(")")[2].split()[1])


def memory(pid: int) -> Memory:
    """Memory of a running process; raises OSError when it is gone or belongs to somebody else."""
    return parse_smaps_rollup((PROC / str(pid) / "smaps_rollup").read_text())


def parents() -> dict[int, int]:
    """The parent of every process of this machine that can be read."""
    found: dict[int, int] = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            try:
                found[int(entry.name)] = parse_parent((entry / "stat").read_text())
            except OSError:
                continue  # The process ended between listing and reading.
    return found


def family(parent_of: dict[int, int], driver: int, workers: Iterable[int]) -> set[int]:
    """The processes of a session without the driver: its descendants, and the ancestors of its workers.

    A daemon that detached itself is no descendant of the driver but still an ancestor of the workers. The first
    process of the machine and the ancestors of the driver do not count.
    """
    outside = {0, 1, driver, *_ancestors(parent_of, driver)}
    found = {pid for pid in parent_of if driver in _ancestors(parent_of, pid)}
    for worker in workers:
        found.add(worker)
        found.update(_ancestors(parent_of, worker))
    return found - outside


def memory_of_all(pids: Iterable[int]) -> dict[int, Memory]:
    """Memory of those of the processes that still run."""
    found: dict[int, Memory] = {}
    for pid in pids:
        try:
            found[pid] = memory(pid)
        except OSError:
            continue  # The process ended since it was listed.
    return found


def wait_until_gone(pids: Iterable[int], timeout_s: float) -> None:
    """Wait until none of the processes runs; raises TimeoutError naming those that still do."""
    left = set(pids)
    deadline = time.monotonic() + timeout_s
    while left := {pid for pid in left if _runs(pid)}:
        if time.monotonic() > deadline:
            message = f"processes {sorted(left)} still run {timeout_s:.0f} s after they were told to end"
            raise TimeoutError(message)
        time.sleep(0.02)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        state = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def _ancestors(parent_of: dict[int, int], pid: int) -> list[int]:
    found: list[int] = []
    while (pid := parent_of.get(pid, 0)) > 0 and pid not in found:
        found.append(pid)
    return found
