"""What the compatibility tests share: waiting for a condition, running a program, looking at processes.

Nothing here knows which implementation is under test, and nothing here is a test.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

import ray

T = TypeVar("T")

REPOSITORY = Path(__file__).resolve().parents[2]


def until(condition: Callable[[], T], *, timeout_s: float = 20.0, every_s: float = 0.01) -> T:
    """Return the first true value of `condition()`; fail when none came within `timeout_s` seconds."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"the condition did not come true within {timeout_s} s; its last value was {value!r}")
        time.sleep(every_s)


@ray.remote(num_cpus=0)
class Gate:
    """A door that many calls can wait at, and a list of those who came; used to order things without sleeping."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self._came = asyncio.Condition()
        self._arrived: list[Any] = []

    async def arrive(self, who: Any = None) -> None:
        """Note that `who` is here, without waiting."""
        async with self._came:
            self._arrived.append(who)
            self._came.notify_all()

    async def wait(self, who: Any = None) -> None:
        """Note that `who` is here, then wait until the gate is opened."""
        await self.arrive(who)
        await self._open.wait()

    async def arrived(self) -> list[Any]:
        """Those who came so far, in the order of their coming."""
        return list(self._arrived)

    async def met(self, count: int) -> list[Any]:
        """Wait until `count` have come, and return them in the order of their coming."""
        async with self._came:
            await self._came.wait_for(lambda: len(self._arrived) >= count)
        return list(self._arrived)

    async def open(self) -> None:
        self._open.set()


def wait_at(gate: Any, who: Any = None) -> None:
    """Block the calling task at `gate` until it opens."""
    ray.get(gate.wait.remote(who))


def until_arrived(gate: Any, count: int, *, timeout_s: float = 20.0) -> list[Any]:
    """Block until `count` callers have come to `gate` and return them in the order of their coming."""
    arrived: list[Any] = ray.get(gate.met.remote(count), timeout=timeout_s)
    return arrived


def count_up(path: Path) -> int:
    """Add one mark to the file at `path` and return how many it has: a counter that survives dying processes."""
    with path.open("ab") as file:
        file.write(b".")
    return path.stat().st_size


def marks(path: Path) -> int:
    """How often `count_up` ran for `path`."""
    return path.stat().st_size if path.exists() else 0


def alive(pid: int) -> bool:
    """Whether the process exists and is not merely waiting to be reaped."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def descendants(pid: int) -> list[int]:
    """Pids of all living processes below `pid`, read from /proc."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found: list[int] = []
    pending = [pid]
    while pending:
        below = children.get(pending.pop(), [])
        found += below
        pending += below
    return [child for child in found if alive(child)]


def gone(pids: Iterable[int]) -> bool:
    return not any(alive(pid) for pid in pids)


@dataclass(frozen=True, slots=True)
class Finished:
    """How a program ended and what it wrote."""

    exit_code: int
    stdout: str
    stderr: str


def run_program(
    program: Path,
    *arguments: str,
    timeout_s: float = 60.0,
    environment: Mapping[str, str] | None = None,
    expect_exit: int | None = 0,
) -> Finished:
    """Run a Python file as a user would, in a process group of its own, and return what it wrote.

    Fails with the program's output when the exit code is not `expect_exit` (None accepts any) or when the
    program is still running after `timeout_s` seconds.
    """
    process = start_program(program, *arguments, environment=environment)
    return finish_program(process, program.name, timeout_s=timeout_s, expect_exit=expect_exit)


def finish_program(
    process: subprocess.Popen[str], name: str, *, timeout_s: float = 60.0, expect_exit: int | None = 0
) -> Finished:
    """Wait for a program that `start_program` started; fails as `run_program` does."""
    try:
        stdout, stderr = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        stdout, stderr = process.communicate()
        raise AssertionError(f"{name} still ran after {timeout_s} s\n{stdout}\n{stderr}") from None
    if expect_exit is not None and process.returncode != expect_exit:
        raise AssertionError(f"{name} ended with {process.returncode}, not {expect_exit}\n{stdout}\n{stderr}")
    return Finished(process.returncode, stdout, stderr)


def start_program(
    program: Path,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    stdin: int | None = None,
    stdout: int | IO[str] = subprocess.PIPE,
    stderr: int | IO[str] = subprocess.PIPE,
) -> subprocess.Popen[str]:
    """Start a Python file in a process group of its own, its output in pipes unless told otherwise."""
    command: Sequence[str] = [sys.executable, str(program), *arguments]
    return subprocess.Popen(
        command,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        text=True,
        cwd=program.parent,
        env={**os.environ, **(environment or {})},
        start_new_session=True,
    )


def run_source(folder: Path, source: str, *arguments: str, **options: Any) -> Finished:
    """Write `source`, which may be indented, to a file in `folder` and run it; `options` as for `run_program`."""
    program = folder / "program.py"
    program.write_text(textwrap.dedent(source))
    return run_program(program, *arguments, **options)
