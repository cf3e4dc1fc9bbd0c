"""The commands, as typed: what they print, and their exit codes."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import rayd
from rayd.cli import main
from rayd.shell import procfs, sessions
from rayd.trace import trace_events

START = ("start", "--head", "--port", "0", "--num-cpus", "2")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def refused(*arguments: str) -> str:
    """The text of a command that was used wrongly."""
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert sessions.live(os.environ["RAY_TMPDIR"] + "/ray") == []
    return result.output


def test_the_version_is_printed() -> None:
    assert run("--version").output == f"rayd {rayd.__version__}\n"


def test_the_help_names_every_command() -> None:
    output = run("--help").output
    for command in ("start", "stop", "status", "timeline"):
        assert command in output


def test_start_without_head_says_what_to_do() -> None:
    assert "--head" in refused("start")


@pytest.mark.parametrize("arguments", [(), ("--head", "--address", "10.0.0.1:6379")])
def test_a_daemon_is_either_a_head_or_joins_one(arguments: tuple[str, ...]) -> None:
    assert "say either --head, for a new cluster, or --address HOST:PORT, to join one" in refused("start", *arguments)


def test_an_address_that_is_none_cannot_be_joined() -> None:
    result = run("start", "--address", "nowhere")
    assert result.exit_code == 1
    assert "address 'nowhere' means no cluster" in result.output


@pytest.mark.parametrize(
    ("flag", "value", "words"),
    [
        ("--resources", "{disk: 2}", "is no JSON"),
        ("--resources", "[1]", "is no object"),
        ("--resources", '{"disk": "many"}', "number"),
        ("--resources", '{"CPU": 2}', "num_cpus"),
        ("--num-cpus", "-1", "--num-cpus"),
        ("--num-cpus", "four", "--num-cpus"),
        ("--num-gpus", "0.5", "whole"),
        ("--port", "99999", "65535"),
        ("--object-store-memory", "100", "75 MiB"),
        ("--memory", "-5", "--memory"),
        ("--labels", "zone", "'='"),
        ("--host", "0.0.0.0", "--host"),
        ("--unknown", "1", "--unknown"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_by_its_flag(flag: str, value: str, words: str) -> None:
    text = refused("start", "--head", flag, value)
    assert flag in text
    assert words in text


@pytest.mark.usefixtures("serving_daemon")
def test_start_prints_what_runs_and_what_to_type_next() -> None:
    result = run(*START, "--resources", '{"disk": 2}', "--labels", "zone=a, rack=7")
    assert result.exit_code == 0, result.output
    record = sessions.find("auto")
    assert f"A rayd daemon runs at {record.address} (pid {record.pid}): 2 CPUs" in result.output
    for line in (f"{record.session_dir}/logs", 'ray.init(address="auto")', "rayd status", "rayd stop"):
        assert line in result.output
    assert run("stop").output == "Stopped 1 rayd daemon.\n"
    assert not record.alive()


@pytest.mark.usefixtures("serving_daemon")
def test_a_daemon_in_another_folder_is_found_and_stopped(tmp_path: Path) -> None:
    result = run(*START, "--temp-dir", str(tmp_path / "elsewhere"))
    assert result.exit_code == 0, result.output
    assert sessions.find("auto").session_dir.startswith(str(tmp_path / "elsewhere"))
    assert run("stop").output == "Stopped 1 rayd daemon.\n"


@pytest.mark.usefixtures("serving_daemon")
def test_a_second_start_on_the_same_port_fails_with_the_way_out() -> None:
    run(*START)
    port = sessions.find("auto").address.rpartition(":")[2]
    result = run("start", "--head", "--port", port)
    assert result.exit_code == 1
    assert f"port {port} is taken by the rayd daemon" in result.output
    run("stop")


@pytest.mark.usefixtures("serving_daemon")
def test_status_shows_the_daemon_that_is_meant() -> None:
    run(*START)
    address = sessions.find("auto").address
    for arguments in (("status",), ("status", "--address", address)):
        result = run(*arguments)
        assert result.exit_code == 0, result.output
        assert "0B/100B object_store_memory (0 objects)" in result.output
    assert run("status", "--address", "127.0.0.1:1").exit_code == 1
    run("stop")


@pytest.mark.parametrize("command", ["status", "timeline"])
def test_asking_nobody_fails_and_says_how_to_start_a_daemon(command: str) -> None:
    result = run(command)
    assert result.exit_code == 1
    assert "`rayd start --head`" in result.output


def test_an_address_that_is_none_is_refused() -> None:
    result = run("status", "--address", "nonsense")
    assert result.exit_code == 1
    assert "'nonsense' means no cluster" in result.output


def test_stopping_nothing_is_no_error() -> None:
    result = run("stop")
    assert (result.exit_code, result.output) == (0, "No rayd daemon was running.\n")


@pytest.mark.usefixtures("serving_daemon")
def test_all_daemons_are_stopped_at_once() -> None:
    run(*START)
    run(*START)
    assert run("stop").output == "Stopped 2 rayd daemons.\n"


@pytest.mark.usefixtures("serving_daemon")
def test_a_daemon_whose_record_was_lost_is_stopped_too(ray_tmpdir: Path) -> None:
    run(*START)
    record = sessions.find("auto")
    Path(f"{record.session_dir}/daemon.json").unlink()
    assert run("stop").output == "Stopped 1 rayd daemon.\n"
    assert not record.alive()
    sessions.retire(sessions.Session(record.session_dir), str(ray_tmpdir / "ray"))


@pytest.mark.usefixtures("stubborn_daemon")
def test_a_daemon_that_does_not_stop_is_an_error_and_force_kills_it() -> None:
    run(*START)
    record = sessions.find("auto")
    result = run("stop", "--grace-period", "0.1")
    assert result.exit_code == 1
    assert f"still running after 0.1 s: pid {record.pid}; `rayd stop --force` kills it" in result.output
    assert run("stop", "--force").output == "Stopped 1 rayd daemon.\n"
    assert not record.alive()
    assert not os.path.exists(record.socket)


def test_force_kills_what_the_daemon_started(daemon_program: Callable[[str], None]) -> None:
    daemon_program("""
def run(config, ready, fork_server, door):
    import subprocess
    child = subprocess.Popen(["sleep", "1000"])
    ready({"node_id": "00", "recovered": {}})
    child.wait()
""")
    run(*START)
    record = sessions.find("auto")
    assert len(procfs.members(record.pid)) == 3  # the daemon, its fork server, and what it has started
    run("stop", "--force")
    assert procfs.members(record.pid) == []


@pytest.mark.usefixtures("serving_daemon")
def test_start_with_block_ends_with_its_daemon_when_told_to() -> None:
    blocking = subprocess.Popen(
        [sys.executable, "-m", "rayd", *START, "--block"], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert blocking.stdout is not None
    assert "A rayd daemon runs at" in blocking.stdout.readline()
    record = sessions.find("auto")
    while "Stop it" not in blocking.stdout.readline():
        pass
    blocking.send_signal(signal.SIGTERM)
    output, _ = blocking.communicate(timeout=10)
    assert "The rayd daemon has stopped." in output
    assert blocking.returncode == 0
    assert not record.alive()
    sessions.clean(os.path.dirname(record.session_dir))


def test_start_with_block_fails_when_its_daemon_dies(daemon_program: Callable[[str], None]) -> None:
    daemon_program("""
def run(config, ready, fork_server, door):
    import os, sys
    ready({"node_id": "00", "recovered": {}})
    print("no more", file=sys.stderr, flush=True)
    os._exit(7)
""")
    arguments = [sys.executable, "-m", "rayd", *START, "--block"]
    result = subprocess.run(arguments, check=False, capture_output=True, text=True, timeout=30)
    assert result.returncode == 1
    assert "exited with code 7" in result.stderr
    assert "no more" in result.stderr
    assert run("stop").output == "No rayd daemon was running.\n"


def test_a_variable_that_cannot_be_used_is_refused_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", "relative")
    result = run("status")
    assert result.exit_code == 2
    assert "Error: RAY_TMPDIR 'relative': is a relative path" in result.output


def test_a_timeline_opens_in_trace_viewers() -> None:
    (event,) = trace_events([["f", "task", 7, 1000, 1500, "ab", True]], "host")
    assert event["ph"] == "X"
    assert (event["ts"], event["dur"]) == (1000, 500)
    assert (event["pid"], event["tid"], event["name"]) == ("host", "worker 7", "f")
    assert json.loads(json.dumps(event)) == event
