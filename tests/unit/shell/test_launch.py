"""Starting a daemon: it serves, or the error says in its own words why not and nothing of it is left."""

import dataclasses
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from rayd.config import Config
from rayd.shell import procfs, sessions
from rayd.shell.control import Control
from rayd.shell.launch import LaunchError, Ready, launch, log_tail

Program = Callable[[str], None]


def config(**given: object) -> Config:
    return Config.make(num_cpus=1, **{"port": 0, **given})  # type: ignore[arg-type]


def stop(ready: Ready) -> None:
    with Control(ready.socket) as control:
        control.rpc("stop")
    assert procfs.wait_gone(ready.pid, ready.pid_start_time, 10)


def logged(ray_tmpdir: Path) -> list[str]:
    return sorted(path.name for path in (ray_tmpdir / "ray").glob("session_2*"))


@pytest.mark.usefixtures("serving_daemon")
def test_a_launched_daemon_serves_and_is_found(ray_tmpdir: Path) -> None:
    ready = launch(config())
    record = sessions.find("auto")
    assert record.address == ready.address != "127.0.0.1:0"
    assert (record.pid, record.socket, record.session_dir) == (ready.pid, ready.socket, ready.session_dir)
    assert record.python == ".".join(map(str, sys.version_info[:3]))
    assert ready.node_id == "ab" * 28
    assert ready.session_dir.startswith(f"{ray_tmpdir}/ray/session_")
    with Control(ready.socket) as control:
        assert control.rpc("status")["nodes"] == []
    stop(ready)
    assert not os.path.exists(f"{ready.session_dir}/sockets")


@pytest.mark.usefixtures("serving_daemon")
def test_the_folder_of_a_daemon_is_locked_so_that_what_clears_temporary_files_leaves_it_alone() -> None:
    ready = launch(config())
    folder = os.open(ready.session_dir, os.O_RDONLY)
    try:
        with pytest.raises(BlockingIOError):
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        stop(ready)
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(folder)


@pytest.mark.usefixtures("serving_daemon")
def test_a_daemon_leads_its_own_posix_session_and_keeps_none_of_our_files_open(tmp_path: Path) -> None:
    with (tmp_path / "held").open("w") as held:
        os.set_inheritable(held.fileno(), True)
        ready = launch(config())
    entry = procfs.stat(ready.pid)
    assert entry is not None
    assert entry.session == ready.pid
    held_by_daemon = [os.readlink(link) for link in Path(f"/proc/{ready.pid}/fd").iterdir()]
    assert str(tmp_path / "held") not in held_by_daemon
    assert procfs.command_line(ready.pid)[-1] == ready.session_dir
    stop(ready)


def test_a_daemon_gets_the_configuration_as_given(daemon_program: Program, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    daemon_program(f"""
def run(config, ready, fork_server, door):
    open({str(seen)!r}, "w").write(config.to_json())
    ready({{"node_id": "00", "recovered": {{}}}})
    return 0
""")
    given = config(resources={"disk": 2.0}, labels={"zone": "a"})
    ready = launch(given)
    assert procfs.wait_gone(ready.pid, ready.pid_start_time, 10)
    port = int(ready.address.rpartition(":")[2])
    session_name = os.path.basename(ready.session_dir)
    assert Config.from_json(seen.read_text()) == dataclasses.replace(given, session_name=session_name, port=port)


def test_a_daemon_that_dies_is_quoted(daemon_program: Program, ray_tmpdir: Path) -> None:
    daemon_program("def run(config, ready, fork_server, door):\n    raise OSError('the disk is on fire')")
    with pytest.raises(LaunchError, match=r"exited with code 1 before it was ready; the end of .*rayd\.log") as raised:
        launch(config())
    assert "OSError: the disk is on fire" in str(raised.value)
    assert len(logged(ray_tmpdir)) == 1, "the log that the error names is kept"


def test_a_daemon_that_is_killed_is_reported_by_the_signals_name(daemon_program: Program) -> None:
    daemon_program(
        "def run(config, ready, fork_server, door):\n    import os, signal\n    os.kill(os.getpid(), signal.SIGKILL)"
    )
    with pytest.raises(
        LaunchError, match=r"was killed by SIGKILL before it was ready; it wrote nothing to .*rayd\.log"
    ):
        launch(config())


def test_only_the_last_lines_of_a_long_log_are_quoted(daemon_program: Program) -> None:
    daemon_program("""
def run(config, ready, fork_server, door):
    import sys
    for number in range(10000):
        print("line", number, file=sys.stderr)
    raise SystemExit(3)
""")
    with pytest.raises(LaunchError, match="exited with code 3") as raised:
        launch(config())
    assert len(str(raised.value).splitlines()) == 21
    assert str(raised.value).endswith("  line 9999")


def test_what_a_daemon_prints_does_not_disturb_its_answer(daemon_program: Program) -> None:
    daemon_program("""
def run(config, ready, fork_server, door):
    import os
    print("to stdout", flush=True)
    os.system("echo from a child")
    ready({"node_id": "00", "recovered": {}})
    return 0
""")
    ready = launch(config())
    assert procfs.wait_gone(ready.pid, ready.pid_start_time, 10)
    assert "to stdout" in log_tail(ready.session_dir)
    assert "from a child" in log_tail(ready.session_dir)


def test_a_daemon_that_is_not_ready_in_time_is_killed_with_its_children(daemon_program: Program) -> None:
    daemon_program("""
def run(config, ready, fork_server, door):
    import subprocess
    subprocess.run(["sleep", "1000"])
""")
    with pytest.raises(LaunchError, match=r"was not ready after 1 s and was killed; it wrote nothing to .*rayd\.log"):
        launch(config(), timeout_s=1)


def test_an_interrupted_launch_leaves_no_daemon(daemon_program: Program) -> None:
    daemon_program(f"""
def run(config, ready, fork_server, door):
    import os, signal, time
    os.kill({os.getpid()}, signal.SIGINT)
    signal.pause()
""")
    with pytest.raises(KeyboardInterrupt):
        launch(config())


def test_a_broken_file_in_the_working_folder_cannot_break_the_daemon(
    daemon_program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon_program(
        "def run(config, ready, fork_server, door):\n    ready({'node_id': '00', 'recovered': {}})\n    return 0"
    )
    (tmp_path / "json.py").write_text("raise RuntimeError('mine')")
    monkeypatch.chdir(tmp_path)
    ready = launch(config())
    assert procfs.wait_gone(ready.pid, ready.pid_start_time, 10)


@pytest.mark.usefixtures("serving_daemon")
def test_a_port_that_another_daemon_has_is_refused_with_the_way_out(ray_tmpdir: Path) -> None:
    first = launch(config())
    port = int(first.address.rpartition(":")[2])
    with pytest.raises(LaunchError) as raised:
        launch(config(port=port))
    text = str(raised.value)
    assert f"port {port} is taken by the rayd daemon with pid {first.pid}" in text
    assert first.session_dir in text
    assert "`rayd stop`" in text
    assert logged(ray_tmpdir) == [os.path.basename(first.session_dir)], "a refused start leaves no folder"
    stop(first)


@pytest.mark.usefixtures("serving_daemon")
def test_a_port_that_another_program_has_is_refused_with_its_name() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(LaunchError, match=rf"port {port} is taken by another program \(pid {os.getpid()}: "):
            launch(config(port=port))


@pytest.mark.usefixtures("serving_daemon")
def test_a_host_that_is_not_of_this_machine_is_refused() -> None:
    with pytest.raises(LaunchError, match=r"host='192\.0\.2\.1' is no address of this machine"):
        launch(config(host="192.0.2.1"))


@pytest.mark.usefixtures("serving_daemon")
def test_the_port_of_a_stopped_daemon_can_be_used_again_at_once() -> None:
    first = launch(config())
    port = int(first.address.rpartition(":")[2])
    stop(first)
    again = launch(config(port=port))
    assert again.address == first.address
    stop(again)


@pytest.mark.usefixtures("serving_daemon")
def test_two_daemons_at_once_get_different_ports_and_folders() -> None:
    ready: list[Ready] = []
    threads = [threading.Thread(target=lambda: ready.append(launch(config()))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({one.address for one in ready}) == len({one.session_dir for one in ready}) == 2
    for one in ready:
        stop(one)


@pytest.mark.usefixtures("serving_daemon")
def test_the_next_daemon_cleans_up_after_one_that_was_killed() -> None:
    first = launch(config())
    os.kill(first.pid, signal.SIGKILL)
    assert procfs.wait_gone(first.pid, first.pid_start_time, 10)
    second = launch(config())
    stop(second)  # answered only after the cleaning, which follows the report at once
    assert sorted(os.listdir(first.session_dir)) == ["logs"]


@pytest.mark.usefixtures("serving_daemon")
def test_a_program_that_ignores_signals_starts_a_daemon_that_does_not() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        ready = launch(config())
    finally:
        signal.signal(signal.SIGTERM, before)
    os.kill(ready.pid, signal.SIGTERM)
    assert procfs.wait_gone(ready.pid, ready.pid_start_time, 10)
    sessions.clean(os.path.dirname(ready.session_dir))


def test_the_launcher_imports_nothing_heavy() -> None:
    program = (
        "import sys; before = set(sys.modules); import rayd.shell.launch; "
        "import json; print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    output = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    heavy = {"asyncio", "uvloop", "click", "rich", "psutil", "numpy", "msgpack", "subprocess", "logging", "cloudpickle"}
    assert heavy & set(json.loads(output)) == set()
