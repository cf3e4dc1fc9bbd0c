"""Processes as the kernel shows them: who lives, who belongs together, and waiting for an end without polling.

A process is named by its pid *and* its start time, because pids are used again. What a daemon started is found by its
POSIX session: the daemon leads one (``setsid``), its children inherit it, and the kernel never reuses a pid while a
session of that number exists.
"""

import os
import select
import signal
from collections.abc import Iterator
from typing import NamedTuple


class Stat(NamedTuple):
    """What is used of /proc/<pid>/stat."""

    state: str
    parent: int
    session: int
    start_time: int  # in clock ticks since boot


def stat(pid: int) -> Stat | None:
    """The process's entry; None when there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except OSError:
        return None
    # The second field, the command in parentheses, may itself hold blanks and parentheses.
    after = text[text.rindex(b")") + 2 :].split()
    return Stat(after[0].decode(), int(after[1]), int(after[3]), int(after[19]))


def start_time(pid: int) -> int | None:
    """When the process started, in clock ticks since boot; None when it is gone or dead and only not yet reaped."""
    entry = stat(pid)
    return None if entry is None or entry.state in "ZX" else entry.start_time


def alive(pid: int, started: int) -> bool:
    """Whether exactly this process still runs."""
    return start_time(pid) == started


def pid_namespace() -> str:
    """Name of the namespace in which this process's pids mean something."""
    return os.readlink("/proc/self/ns/pid")


def kill(pid: int, number: int) -> bool:
    """Send a signal; whether the process was still there."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def command_line(pid: int) -> list[str]:
    """The process's arguments; empty when it is gone or not ours to read."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().decode(errors="replace").split("\0")[:-1]
    except OSError:
        return []


def own_processes() -> Iterator[int]:
    """Pids of this user's processes."""
    uid = os.getuid()
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                if os.stat(f"/proc/{name}").st_uid == uid:
                    yield int(name)
            except OSError:
                continue  # it ended meanwhile


def members(session: int) -> list[int]:
    """Live processes of a POSIX session."""
    found = []
    for pid in own_processes():
        entry = stat(pid)
        if entry is not None and entry.session == session and entry.state not in "ZX":
            found.append(pid)
    return found


def end_session(session: int) -> None:
    """Kill every process of a POSIX session, and then what those had forked meanwhile."""
    for _ in range(5):
        found = [(pid, start_time(pid)) for pid in members(session)]
        for pid, _started in found:
            kill(pid, signal.SIGKILL)
        for pid, started in found:
            if started is not None:
                wait_gone(pid, started, 1.0)
        if not found:
            return


def wait_gone(pid: int, started: int, timeout_s: float) -> bool:
    """Wait until the process has ended, and reap it if it is a child of this one.

    Args:
        started: its start time, see ``start_time``.
        timeout_s: how long to wait, in seconds; 0 only looks.

    Returns:
        Whether it has ended.
    """
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        if not alive(pid, started):
            ended = True
        else:
            poller = select.poll()
            poller.register(handle, select.POLLIN)
            ended = bool(poller.poll(timeout_s * 1000))
    finally:
        os.close(handle)
    if ended:
        reap(pid)
    return ended


def reap(pid: int) -> int | None:
    """Collect an ended child; its exit code (negative: signal number), None when it runs or is no child."""
    try:
        reaped, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return None
    return os.waitstatus_to_exitcode(status) if reaped else None
