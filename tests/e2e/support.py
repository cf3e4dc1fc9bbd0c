"""What these tests share: waiting for a condition, programs beside the test, looking at a cluster from outside."""

import contextlib
import os
import re
import select
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import psutil

from rayd.shell import procfs, sessions
from rayd.shell.control import Control
from rayd.shell.sessions import Record

T = TypeVar("T")

# How long something may take that normally takes milliseconds: only a hang is to fail, not a busy machine.
LIMIT_S = 20.0
# What is promised for the end of a driver: everything of it is gone after this long.
PROMISED_S = 2.0
LOOK_AGAIN_S = 0.005


def until(condition: Callable[[], T], *, within_s: float = LIMIT_S, saying: Callable[[], object] = str) -> T:
    """The first true value of ``condition()``; fails when none has come in time, with what ``saying()`` tells."""
    deadline = time.monotonic() + within_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not so within {within_s} s (last: {value!r}) {saying()}")
        select.select([], [], [], LOOK_AGAIN_S)


def all_gone(pids: Iterable[int], *, within_s: float = LIMIT_S) -> bool:
    """Wait for the end of processes; whether all of them ended in time."""
    deadline = time.monotonic() + within_s
    started = [(pid, procfs.start_time(pid)) for pid in pids]
    return all(
        since is None or procfs.wait_gone(pid, since, max(0.0, deadline - time.monotonic())) for pid, since in started
    )


class Program:
    """A Python program in a process group of its own, written to files so that it never waits for its reader.

    Args:
        folder: where its source and its output lie.
        source: may be indented.
        environment: further variables.
        prefix: what its command line begins with, if another program is to start it.
    """

    def __init__(
        self, folder: Path, source: str, environment: Mapping[str, str] | None = None, *, prefix: Sequence[str] = ()
    ) -> None:
        number = len(list(folder.glob("program*.py")))
        self.path = folder / f"program{number}.py"
        self.path.write_text(textwrap.dedent(source))
        self._out = self.path.with_suffix(".out")
        self._err = self.path.with_suffix(".err")
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [*prefix, sys.executable, str(self.path)],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def stdout(self) -> str:
        """What it has written until now."""
        return self._out.read_text(errors="replace")

    @property
    def stderr(self) -> str:
        return self._err.read_text(errors="replace")

    def says(self, text: str, *, within_s: float = LIMIT_S) -> str:
        """Wait until a whole line of its stdout begins with ``text``; the rest of that line."""

        def found() -> list[str]:
            lines = self.stdout.split("\n")[:-1]
            return [line.removeprefix(text).strip() or " " for line in lines if line.startswith(text)]

        def look() -> list[str]:
            lines = found()
            if not lines and self.process.poll() is not None:
                lines = found()
                assert lines, f"ended with {self.process.returncode} without saying {text!r}: {self._told()}"
            return lines

        return until(look, within_s=within_s, saying=self._told)[-1].strip()

    def hear(self, line: str) -> None:
        """Write a line to its stdin."""
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self, *, within_s: float = LIMIT_S) -> int:
        """Wait for its end; its exit code."""
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still runs after {within_s} s: {self._told()}") from None

    def succeed(self, *, within_s: float = LIMIT_S) -> str:
        """Wait for its end, which must be a good one; what it wrote to stdout."""
        code = self.end(within_s=within_s)
        assert code == 0, f"ended with {code}: {self._told()}"
        return self.stdout

    def close(self) -> None:
        """End it with all its process group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()

    def _told(self) -> str:
        return f"\n--- stdout\n{self.stdout}\n--- stderr\n{self.stderr}"


# Words with which a text would pass its guesses on to the reader.
GUESSES = re.compile(
    r"\b(possibl[ey]|may have|might|perhaps|probably|likely|could have|can have|unexpectedly|either)\b"
)


def exact(error: BaseException) -> str:
    """The text of an error, which must name one cause: no guesses, and no alternatives in what a daemon found out."""
    text = str(error)
    assert not GUESSES.search(text), text
    fault = getattr(error, "fault", None) or {}
    cause = fault.get("cause") or {}
    assert " or " not in cause.get("text", ""), text
    return text


def rayd(*arguments: str, expect: int = 0) -> str:
    """The output of a command; fails when its exit code is another."""
    done = subprocess.run(
        [sys.executable, "-m", "rayd", *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


def start_cluster(*arguments: str, cpus: int = 2) -> Record:
    """Start a daemon on any free port; the test stops it."""
    rayd("start", "--head", "--port", "0", "--num-cpus", str(cpus), *arguments)
    return sessions.find("auto")


def only_daemon(tmpdir: Path) -> Record:
    """The one daemon that runs below a RAY_TMPDIR."""
    (record,) = sessions.live(str(tmpdir / "ray"))
    return record


def process_titles(record: Record) -> dict[int, str]:
    """Titles, as ``ps`` shows them, of a daemon's workers, by pid."""
    return {pid: title(pid) for pid in workers(record)}


def title(pid: int) -> str:
    """How ``ps`` shows a process."""
    return " ".join(procfs.command_line(pid)).rstrip("\0 ")


def workers(record: Record) -> list[int]:
    """Pids of a daemon's workers."""
    server = fork_server(record)
    return [pid for pid in procfs.members(record.pid) if _parent(pid) == server]


def fork_server(record: Record) -> int:
    """Pid of its fork server."""
    (pid,) = [pid for pid in procfs.members(record.pid) if _parent(pid) == record.pid]
    return pid


def _parent(pid: int) -> int:
    entry = procfs.stat(pid)
    return entry.parent if entry is not None else 0


def status(record: Record) -> dict[str, Any]:
    """What ``rayd status`` is made of."""
    with Control(record.socket) as control:
        answer: dict[str, Any] = control.rpc("status")
        return answer


def log_of(record: Record) -> str:
    """The daemon's own log."""
    return Path(record.session_dir, "logs", sessions.DAEMON_LOG).read_text(errors="replace")


@contextlib.contextmanager
def stopping(record: Record) -> Iterator[Record]:
    """Stop a daemon at the end."""
    try:
        yield record
    finally:
        rayd("stop", "--force")


def own_address() -> str | None:
    """An address of this machine that is not only its own."""
    for addresses in psutil.net_if_addrs().values():
        for address in addresses:
            if address.family == socket.AF_INET and not address.address.startswith("127."):
                return str(address.address)
    return None


def free_port() -> str:
    """A port that nobody has at the moment, below those that connections are given."""
    with socket.socket() as probe:
        for number in range(20_000 + os.getpid() % 5_000, 32_000):
            try:
                probe.bind(("127.0.0.1", number))
            except OSError:
                continue
            return str(number)
    raise AssertionError("no port is free")
