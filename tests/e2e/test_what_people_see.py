"""What a person at a terminal gets to see."""

import os
import pty
import select
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rayd.shell import sessions

from .support import LIMIT_S, all_gone, until

# Leaves a task with a name of its own running until its stdin ends.
NAMED_TASK = """
    import sys
    import ray

    ray.init(num_cpus=1, progress=True)

    @ray.remote
    class Gate:
        def __init__(self):
            self.opened = False
        def open(self):
            self.opened = True
        def is_open(self):
            return self.opened

    @ray.remote
    def grind_the_corn(gate):
        while not ray.get(gate.is_open.remote()):
            pass
        return "flour"

    gate = Gate.options(num_cpus=0).remote()
    ref = grind_the_corn.remote(gate)
    sys.stdin.readline()
    gate.open.remote()
    print(ray.get(ref))
"""


def read_terminal(fd: int, text: str) -> str:
    """What a terminal shows until ``text`` is among it."""
    seen = ""
    deadline = time.monotonic() + LIMIT_S
    while text not in seen:
        assert time.monotonic() < deadline, f"no {text!r} in {seen!r}"
        if select.select([fd], [], [], 0.1)[0]:
            try:
                seen += os.read(fd, 65536).decode(errors="replace")
            except OSError:  # how Linux says that the last program has left the terminal
                raise AssertionError(f"no {text!r} in {seen!r}") from None
    return seen


@pytest.mark.usefixtures("ray_tmpdir")
def test_the_progress_view_shows_running_tasks_by_name_in_a_terminal(tmp_path: Path) -> None:
    program = tmp_path / "named.py"
    program.write_text(textwrap.dedent(NAMED_TASK))
    ours, theirs = pty.openpty()
    running = subprocess.Popen(
        [sys.executable, str(program)], stdin=subprocess.PIPE, stdout=theirs, stderr=theirs, text=True
    )
    os.close(theirs)
    try:
        shown = read_terminal(ours, "grind_the_corn")
        assert "\x1b[" in shown, "a live view moves the cursor"
        assert running.stdin is not None
        running.stdin.write("\n")
        running.stdin.flush()
        read_terminal(ours, "flour")
        until(lambda: drain(ours) and running.poll() is not None)
        assert running.returncode == 0
    finally:
        running.kill()
        running.wait()
        if running.stdin is not None:
            running.stdin.close()
        os.close(ours)


def drain(fd: int) -> bool:
    """Take what a terminal still shows: a program cannot end while nobody takes its output."""
    try:
        while select.select([fd], [], [], 0)[0] and os.read(fd, 65536):
            pass
    except OSError:
        pass
    return True


@pytest.mark.usefixtures("ray_tmpdir")
def test_the_progress_view_is_quiet_where_there_is_no_terminal(tmp_path: Path) -> None:
    program = tmp_path / "named.py"
    program.write_text(textwrap.dedent(NAMED_TASK))
    done = subprocess.run(
        [sys.executable, str(program)], input="\n", capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "flour\n", "")


@contextmanager
def daemon_in_the_foreground() -> Iterator[subprocess.Popen[str]]:
    daemon = subprocess.Popen(
        [sys.executable, "-m", "rayd", "start", "--head", "--port", "0", "--num-cpus", "1", "--block"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with daemon:
        try:
            yield daemon
        finally:
            daemon.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_daemon_in_the_foreground_says_where_it_is_and_ends_with_a_signal(
    number: signal.Signals, ray_tmpdir: Path
) -> None:
    with daemon_in_the_foreground() as daemon:
        assert daemon.stdout is not None
        assert daemon.stdout.readline().startswith("A rayd daemon runs at 127.0.0.1:")
        (record,) = sessions.live(str(ray_tmpdir / "ray"))
        daemon.send_signal(number)
        shown, _ = daemon.communicate(timeout=LIMIT_S)
    assert (daemon.returncode, shown.splitlines()[-1]) == (0, "The rayd daemon has stopped.")
    assert all_gone([record.pid])
    assert not sessions.live(str(ray_tmpdir / "ray"))


@pytest.mark.parametrize("sign", ["session_*", "session_*/sockets/*", "session_*/daemon.json"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_a_daemon_starts_leaves_nothing_of_it(
    number: signal.Signals, sign: str, ray_tmpdir: Path
) -> None:
    with daemon_in_the_foreground() as daemon:
        until(lambda: list((ray_tmpdir / "ray").glob(sign)))
        daemon.send_signal(number)
        shown, _ = daemon.communicate(timeout=LIMIT_S)
    assert (daemon.returncode, shown.splitlines()[-1]) in ((1, "Aborted!"), (0, "The rayd daemon has stopped."))
    assert not list((ray_tmpdir / "ray").glob("session_*/sockets/*"))


def test_the_original_beside_this_package_is_refused_with_the_way_out(tmp_path: Path) -> None:
    info = tmp_path / "ray-2.60.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ray\nVersion: 2.60.0\n")
    done = subprocess.run(
        [sys.executable, "-c", "import ray"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "pip uninstall ray" in done.stderr
