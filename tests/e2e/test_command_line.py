"""`rayd` as a user types it, with real daemons, workers and programs."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rayd.shell import procfs, sessions
from rayd.shell.sessions import Record

TIME_LIMIT_S = 60

# Uses whatever cluster it finds, keeps an actor there, wants what nobody has, and says when everything runs.
HOLDS = """
    import sys
    import ray

    ray.init()

    @ray.remote(num_cpus=1)
    class Holder:
        def ping(self):
            return "pong"

    @ray.remote(num_gpus=1)
    def wants_a_gpu():
        return 1

    waiting = wants_a_gpu.remote()
    holder = Holder.remote()
    print(ray.get(holder.ping.remote()), flush=True)
    sys.stdin.read()
"""


def rayd(*arguments: str, expect: int = 0) -> str:
    """The output of a command; fails when its exit code is another."""
    done = subprocess.run(
        [sys.executable, "-m", "rayd", *arguments], capture_output=True, text=True, timeout=TIME_LIMIT_S, check=False
    )
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


def start(*arguments: str) -> Record:
    """Start a daemon of two CPUs on any free port."""
    rayd("start", "--head", "--port", "0", "--num-cpus", "2", *arguments)
    return sessions.find("auto")


def run(folder: Path, source: str) -> str:
    """Run a program to its end; its output."""
    program = folder / "program.py"
    program.write_text(textwrap.dedent(source))
    done = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, timeout=TIME_LIMIT_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def daemon() -> Iterator[Record]:
    record = start()
    yield record
    rayd("stop", "--force")


@pytest.fixture
def holder(daemon: Record, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A program that has an actor in the cluster."""
    program = tmp_path / "holds.py"
    program.write_text(textwrap.dedent(HOLDS))
    process = subprocess.Popen(
        [sys.executable, str(program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "pong\n"
    yield process
    process.kill()
    process.communicate()


def all_gone(pids: list[int]) -> bool:
    """Wait for the end of all these processes."""
    deadline = time.monotonic() + 10
    return all(
        started is None or procfs.wait_gone(pid, started, max(0.0, deadline - time.monotonic()))
        for pid, started in ((pid, procfs.start_time(pid)) for pid in pids)
    )


def test_a_started_cluster_is_used_by_programs_and_outlives_them(daemon: Record, tmp_path: Path) -> None:
    source = """
        import ray
        context = ray.init()
        @ray.remote
        def f(x):
            return x + 1
        print(ray.get(f.remote(1)), context.address_info["address"])
    """
    for _ in range(2):
        assert run(tmp_path, source).split() == ["2", daemon.address]
    assert daemon.alive()


def test_the_printed_lines_are_what_one_can_type_next(tmp_path: Path) -> None:
    output = rayd("start", "--head", "--port", "0", "--num-cpus", "3", "--resources", '{"disk": 2}')
    use = next(line for line in output.splitlines() if line.startswith("Use it:")).removeprefix("Use it:").strip()
    command = use.replace("python ", f"{sys.executable} ", 1)
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=TIME_LIMIT_S, check=True)
    assert "'CPU': 3.0" in done.stdout
    assert "'disk': 2.0" in done.stdout
    assert " 0.0/3.0 CPU" in rayd("status")
    assert rayd("stop") == "Stopped 1 rayd daemon.\n"


def test_status_shows_what_is_used_and_what_is_wanted_in_vain(daemon: Record, holder: subprocess.Popen[str]) -> None:
    output = rayd("status")
    assert " 1.0/2.0 CPU" in output
    assert "1 actors" in output
    assert " {'CPU': 1.0, 'GPU': 1.0}: 1+ pending tasks/actors (wants_a_gpu); no node has that much" in output
    assert daemon.address in output


def test_a_timeline_holds_the_tasks_that_ran(daemon: Record, tmp_path: Path) -> None:
    run(tmp_path, "import ray\nray.init()\nf = ray.remote(lambda: 1)\nray.get([f.remote() for _ in range(3)])")
    output = rayd("timeline")
    path = Path(output.split(" are in ")[1].partition(";")[0])
    try:
        assert output.startswith("3 tasks are in /tmp/ray-timeline-")
        assert path.read_text().count('"ph": "X"') == 3
    finally:
        path.unlink()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_a_daemon_cleanly(daemon: Record, holder: subprocess.Popen[str], number: int) -> None:
    started = [pid for pid in procfs.members(daemon.pid) if pid != daemon.pid]
    assert started, "there are workers to take along"
    os.kill(daemon.pid, number)
    assert all_gone([daemon.pid, *started])
    assert os.listdir(daemon.session_dir) == ["logs"]
    assert rayd("stop") == "No rayd daemon was running.\n"


def test_a_killed_daemon_takes_its_workers_along_and_the_next_one_cleans_up(
    daemon: Record, holder: subprocess.Popen[str]
) -> None:
    started = procfs.members(daemon.pid)
    os.kill(daemon.pid, signal.SIGKILL)
    assert all_gone(started)
    assert "has died" in rayd("status", expect=1)
    again = start()
    assert again.pid != daemon.pid
    rayd("status")
    assert os.listdir(daemon.session_dir) == ["logs"]


def test_a_second_daemon_on_the_same_port_is_refused_with_the_way_out(daemon: Record) -> None:
    port = daemon.address.rpartition(":")[2]
    output = rayd("start", "--head", "--port", port, expect=1)
    assert f"port {port} is taken by the rayd daemon with pid {daemon.pid}" in output
    assert "`rayd stop`" in output
    assert daemon.alive()


def test_garbage_on_the_socket_hurts_nobody_else(daemon: Record, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(daemon.socket)
        stranger.settimeout(TIME_LIMIT_S)
        stranger.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100)
        while stranger.recv(65536):
            pass
    assert "Node status" in rayd("status")


def test_stop_takes_along_the_cluster_inside_a_running_program(tmp_path: Path) -> None:
    program = tmp_path / "embedded.py"
    program.write_text(textwrap.dedent(HOLDS.replace("ray.init()", "ray.init(num_cpus=1)")))
    process = subprocess.Popen(
        [sys.executable, str(program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "pong\n"
        assert " 1.0/1.0 CPU" in rayd("status")
        assert rayd("stop") == "Stopped 1 rayd daemon.\n"
    finally:
        process.kill()
        process.communicate()
