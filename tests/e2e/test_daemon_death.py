"""The end of the daemon and of its fork server: nothing is left, nobody hangs, everybody is told."""

import os
import signal
from pathlib import Path

import pytest

import ray
from ray.exceptions import RayError, WorkerCrashedError
from rayd.shell import procfs

from .conftest import StartProgram
from .support import Record, all_gone, fork_server, log_of, only_daemon, process_titles, rayd, status, until, workers


@ray.remote
def add(x, y=1):
    return x + y


@ray.remote(max_retries=0)
def wait_for_file(path):
    path.with_suffix(".began").touch()
    while not path.exists():
        pass
    return os.getpid()


@ray.remote(num_cpus=0)
class Counter:
    def __init__(self):
        self.count = 0

    def add(self):
        self.count += 1
        return self.count

    def pid(self):
        return os.getpid()


# What a program says who waits for a task when the daemon dies, and then starts anew.
WAITS = """
    import sys, threading, time, traceback
    import ray

    ray.init({arguments})

    @ray.remote(num_cpus=0)
    def forever():
        time.sleep(1000)

    @ray.remote
    def one():
        return 1

    ref = forever.remote()
    other = forever.remote()
    done = one.remote()
    ray.get(done)

    def wait(name, call):
        try:
            call()
        except Exception as error:
            sys.stdout.write(f"{{name}} {{type(error).__name__}} {{error}}\\n")

    calls = {{
        "get": lambda: ray.get(ref),
        "wait": lambda: ray.wait([other]),
        "timeout": lambda: ray.get(ref, timeout=1000),
        "future": lambda: ref.future().result(),
    }}
    threads = [threading.Thread(target=wait, args=item) for item in calls.items()]
    for thread in threads:
        thread.start()
    print("ready", flush=True)
    for thread in threads:
        thread.join()
    wait("submit", lambda: ray.get(one.remote()))
    wait("put", lambda: ray.put(bytes(1_000_000)))
    wait("stale", lambda: ray.get(ref))
    ray.shutdown()
    print("down", flush=True)
    {again}
    print("again", ray.get(one.remote()), flush=True)
    ray.shutdown()
"""


CALLS = ("get", "wait", "timeout", "future", "submit", "put", "stale")


def test_a_driver_is_told_of_the_death_of_its_daemon_and_can_start_anew(
    program: StartProgram, ray_tmpdir: Path
) -> None:
    driver = program(WAITS.format(arguments="num_cpus=2", again="ray.init(num_cpus=1)"))
    driver.says("ready")
    record = only_daemon(ray_tmpdir)
    everything = [pid for pid in procfs.members(record.pid) if pid != record.pid]
    assert len(everything) >= 2
    os.kill(record.pid, signal.SIGKILL)
    driver.succeed()
    log = f"{record.session_dir}/logs/rayd.log"
    for call in CALLS:
        told = driver.says(f"{call} ")
        assert f"This session has ended: the daemon (pid {record.pid}) died; the end of its log is in {log}." in told
        assert "ray.shutdown() and ray.init()" in told
    assert driver.says("again") == "1"
    assert all_gone(everything)


def test_a_guest_is_told_of_the_death_of_the_daemon_and_can_join_the_next(
    cluster: Record, program: StartProgram
) -> None:
    again = "input(); ray.init(address='auto')"
    driver = program(WAITS.format(arguments="address='auto'", again=again))
    driver.says("ready")
    os.kill(cluster.pid, signal.SIGKILL)
    driver.says("down")
    assert "has died" in rayd("status", expect=1)
    rayd("start", "--head", "--port", "0", "--num-cpus", "1")
    driver.hear("go on")
    assert driver.says("again") == "1"
    driver.succeed()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_an_embedded_daemon_ends_it_in_order(
    program: StartProgram, ray_tmpdir: Path, number: signal.Signals
) -> None:
    driver = program(WAITS.format(arguments="num_cpus=2", again="ray.init(num_cpus=1)"))
    driver.says("ready")
    record = only_daemon(ray_tmpdir)
    everything = procfs.members(record.pid)
    os.kill(record.pid, number)
    driver.succeed()
    assert f"rayd stopped: received {number.name}" in log_of(record)
    for call in CALLS:
        reason = f"the daemon at {record.address} was stopped: received {number.name}."
        assert f"This session has ended: {reason}" in driver.says(f"{call} ")
    assert all_gone(everything)
    assert os.listdir(record.session_dir) == ["logs"]


def test_stop_with_force_ends_what_is_busy(cluster: Record, program: StartProgram) -> None:
    driver = program(WAITS.format(arguments="address='auto'", again="sys.exit()"))
    driver.says("ready")
    until(lambda: "ray::forever()" in process_titles(cluster).values())
    everything = procfs.members(cluster.pid)
    assert rayd("stop", "--force") == "Stopped 1 rayd daemon.\n"
    assert all_gone(everything)
    driver.says("down")
    assert os.listdir(cluster.session_dir) == ["logs"]


def test_work_goes_on_after_the_fork_server_was_killed(own_session: Record) -> None:
    actor = Counter.options(max_restarts=1, max_task_retries=-1).remote()
    assert ray.get(actor.add.remote()) == 1
    retried = [add.remote(i) for i in range(200)]
    server = fork_server(own_session)
    mortal = workers(own_session)
    os.kill(server, signal.SIGKILL)
    assert all_gone([server, *mortal])
    assert ray.get(retried) == list(range(1, 201))
    assert ray.get([add.remote(i) for i in range(200)]) == list(range(1, 201))
    assert ray.get(actor.add.remote()) in {1, 2}
    assert fork_server(own_session) != server
    until(lambda: not _zombies(own_session), saying=lambda: _zombies(own_session))


def test_the_death_of_the_fork_server_is_named_as_the_cause(own_session: Record, tmp_path: Path) -> None:
    ref = wait_for_file.remote(tmp_path / "never")
    until((tmp_path / "never.began").exists)
    actor = Counter.remote()
    ray.get(actor.add.remote())
    server = fork_server(own_session)
    os.kill(server, signal.SIGKILL)
    with pytest.raises(WorkerCrashedError) as caught:
        ray.get(ref)
    assert f"the fork server (pid {server}) was ended by SIGKILL and took it along" in str(caught.value)
    with pytest.raises(RayError) as caught:
        ray.get(actor.add.remote())
    assert f"the fork server (pid {server}) was ended by SIGKILL and took it along" in str(caught.value)


def test_the_fork_server_may_be_killed_again_and_again(own_session: Record) -> None:
    for turn in range(5):
        os.kill(until(lambda: _fork_server_or_none(own_session)), signal.SIGKILL)
        assert ray.get([add.remote(i, turn) for i in range(20)]) == [i + turn for i in range(20)]
    assert status(own_session)["demands"] == []


def test_what_a_dead_worker_leaves_behind_is_reaped(own_session: Record) -> None:
    @ray.remote(max_retries=0)
    def parent():
        import subprocess

        return subprocess.Popen(["sleep", "1000"]).pid, os.getpid()

    child, pid = ray.get(parent.remote())
    os.kill(pid, signal.SIGKILL)
    assert all_gone([child])
    until(lambda: not _zombies(own_session), saying=lambda: _zombies(own_session))


def _fork_server_or_none(record: Record) -> int | None:
    try:
        return fork_server(record)
    except ValueError:
        return None


def _zombies(record: Record) -> list[int]:
    """Children of the daemon that have ended and that nobody has reaped."""
    found = []
    for pid in procfs.own_processes():
        entry = procfs.stat(pid)
        if entry is not None and entry.state == "Z" and entry.session == record.pid:
            found.append(pid)
    return found
