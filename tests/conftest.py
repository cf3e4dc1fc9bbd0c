"""What holds for every test: sessions lie in a folder of its own, and afterwards nothing that it started is left.

Each test gets a short RAY_TMPDIR (Unix sockets have short paths), removed at its end. A cluster that a module-scoped
fixture starts lies in the module's folder, which its tests then share, and is held to the same standard at the
module's end.
"""

import os
import select
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rayd.shell import procfs, sessions

# What a stopped cluster may take to be gone: workers end by themselves when their daemon does.
UNREAPED = ", ended but not reaped"
GONE_WITHIN_S = 5.0
KERNEL_THREADS = 2  # their common parent
# Helpers of the standard library that live as long as the process that needed them first.
STANDARD_HELPERS = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")


@pytest.fixture(scope="module", autouse=True)
def _module_sessions() -> Iterator[Path]:
    """RAY_TMPDIR for what the module's fixtures start."""
    yield from _sessions_of_its_own()


@pytest.fixture(autouse=True)
def _test_sessions(_module_sessions: Path) -> Iterator[Path]:
    """RAY_TMPDIR for one test: the module's while a cluster runs there, else a new one."""
    if sessions.live(str(_module_sessions / "ray")):
        before = _present(_module_sessions)
        yield _module_sessions
        _expect_nothing_new(_module_sessions, before)
    else:
        yield from _sessions_of_its_own()


@pytest.fixture
def ray_tmpdir(_test_sessions: Path) -> Path:
    """The folder that RAY_TMPDIR names; sessions lie in its folder ``ray``."""
    return _test_sessions


def _sessions_of_its_own() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="r", dir="/tmp"))
    before = _present(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", str(folder))
        patch.setenv("RAYD_TOKEN_FILE", str(folder / "token"))
        patch.delenv("RAY_ADDRESS", raising=False)
        yield folder
        try:
            _end_session_of_this_process()
            _expect_nothing_new(folder, before)
        finally:
            _remove_what_is_new(folder, before)


def _remove_what_is_new(folder: Path, before: set[str]) -> None:
    """So that the tests after it are not blamed."""
    for item in _present(folder) - before:
        if item.startswith("/dev/shm/"):
            os.unlink(item)
    for pid in [pid for pid in _processes(folder) if _name(pid) not in before]:
        procfs.kill(pid, signal.SIGKILL)
        _wait_for_an_end({pid}, time.monotonic() + GONE_WITHIN_S)
        procfs.reap(pid)
    shutil.rmtree(folder, ignore_errors=True)


def _end_session_of_this_process() -> None:
    """A test that failed half-way leaves its driver connected, which would spoil the tests after it."""
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        ray.shutdown()


def _present(folder: Path) -> set[str]:
    """Everything a test might leave behind, as text that says what it is."""
    found = {_name(pid) for pid in _processes(folder)}
    found |= {f"/dev/shm/{name}" for name in os.listdir("/dev/shm") if "rayd" in name}
    for path in folder.glob("ray/session_*"):
        if path.name == "session_latest":
            continue
        if (path / "daemon.json").exists():
            found.add(f"the record of a daemon: {path}/daemon.json")
        sockets = Path(sessions.Session(str(path)).sockets_dir)
        if sockets.exists():
            found |= {f"socket {socket}" for socket in sockets.iterdir()}
            if sockets.parent != path:
                found.add(f"folder {sockets}")
    return found


def _processes(folder: Path) -> list[int]:
    """Children of this process, and whatever has the folder in its environment or belongs to a daemon there."""
    suspects = set(_children())
    if (folder / "ray").exists():  # only then can there be any, and to look through all processes takes a while
        daemons = {record.pid for record in sessions.live(str(folder / "ray"))}
        marker = f"RAY_TMPDIR={folder}\0".encode()
        for pid in procfs.own_processes():
            entry = procfs.stat(pid)
            if entry is not None and (entry.session in daemons or marker in _environment(pid)):
                suspects.add(pid)
    found = []
    for pid in suspects - {os.getpid()}:
        arguments = " ".join(procfs.command_line(pid))
        if not any(helper in arguments for helper in STANDARD_HELPERS):
            found.append(pid)
    return found


def _children() -> list[int]:
    """Child processes of all threads of this one."""
    found: list[int] = []
    for path in Path("/proc/self/task").glob("*/children"):
        try:
            found += map(int, path.read_text().split())
        except OSError:
            continue  # the thread has ended
    return found


def _expect_nothing_new(folder: Path, before: set[str]) -> None:
    """Fail if the test left something; what is just ending gets the time to do so."""
    deadline = time.monotonic() + GONE_WITHIN_S
    seen: set[str] = set()
    while left := _left(folder, before):
        ending = {pid for pid in _processes(folder) if procfs.start_time(pid) is not None and _name(pid) in left}
        # A process may end between two looks at it, so what is not ending counts once it is seen twice.
        unreaped = any(item.endswith(UNREAPED) for item in left)  # its parent is about to do so
        if time.monotonic() > deadline or (left == seen and not ending and not unreaped):
            text = "\n".join(f"  {item}" for item in sorted(left))
            commands = "\n".join(f"  {pid}: {' '.join(procfs.command_line(pid))[:200]}" for pid in sorted(ending))
            pytest.fail(f"the test left behind:\n{text}\n{commands}")
        seen = left
        _wait_for_an_end(ending, deadline)
        if unreaped:
            select.select([], [], [], 0.01)


def _left(folder: Path, before: set[str]) -> set[str]:
    """What is new, without the workers that a cluster of the module has started meanwhile."""
    left = _present(folder) - before
    for record in sessions.live(str(folder / "ray")):
        if f"the record of a daemon: {record.session_dir}/daemon.json" in before:
            left -= {_name(pid) for pid in procfs.members(record.pid)}
    return left


def _wait_for_an_end(pids: set[int], deadline: float) -> None:
    if not pids:
        return
    poller = select.poll()
    handles = []
    for pid in pids:
        try:
            handles.append(os.pidfd_open(pid))
        except ProcessLookupError:
            continue
        poller.register(handles[-1], select.POLLIN)
    poller.poll(max(0.0, deadline - time.monotonic()) * 1000)
    for handle in handles:
        os.close(handle)


def _name(pid: int) -> str:
    """One process's name for ever: its pid alone may be used again."""
    entry = procfs.stat(pid)
    if entry is None:
        return f"process {pid}, just gone"
    return f"process {pid} of time {entry.start_time}{UNREAPED if entry.state == 'Z' else ''}"


def _environment(pid: int) -> bytes:
    """The environment a process started with; empty when it is gone."""
    for _ in range(100):
        try:
            text = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            return b""
        entry = procfs.stat(pid)
        if text or entry is None or entry.state == "Z" or KERNEL_THREADS in (pid, entry.parent):
            return text
        os.sched_yield()  # it is just being replaced by another program
    return b""
