"""Sessions: found while their daemon lives, cleaned up after when it does not."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rayd.shell import procfs, sessions
from rayd.shell.sessions import AddressError, NoDaemonError, Record, Session, SessionError

# Stands for a daemon: a process that leads a POSIX session and waits until its stdin is closed.
WAITS = "import sys; sys.stdin.read()"


@pytest.fixture
def base(ray_tmpdir: Path) -> str:
    return str(ray_tmpdir / "ray")


@pytest.fixture
def process() -> Iterator[Callable[..., int]]:
    """Starts processes that live until the test's end; gives their pids."""
    started: list[subprocess.Popen[bytes]] = []

    def start(program: str = WAITS, *arguments: str) -> int:
        started.append(
            subprocess.Popen([sys.executable, "-c", program, *arguments], stdin=subprocess.PIPE, start_new_session=True)
        )
        return started[-1].pid

    yield start
    for child in started:
        procfs.end_session(child.pid)
        child.communicate()


def publish(base: str, pid: int, address: str = "127.0.0.1:6379", *, embedded: bool = False, temp: str = "") -> Record:
    """A new session with a record of this process as its daemon."""
    session = sessions.create(temp or base)
    Path(session.log(sessions.DAEMON_LOG)).touch()
    record = Record(
        pid=pid,
        pid_start_time=procfs.start_time(pid) or 0,
        pid_namespace=procfs.pid_namespace(),
        address=address,
        socket=session.socket(sessions.DAEMON_SOCKET),
        node_id="ab",
        version="0",
        embedded=embedded,
        python="3",
        session_dir=session.path,
    )
    sessions.publish(session, record, base)
    return record


def retire(base: str, record: Record) -> None:
    sessions.retire(Session(record.session_dir), base)


def end(pid: int) -> None:
    """Kill a child the hard way and wait until the kernel is done with it."""
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def test_a_new_session_has_folders_that_only_its_user_may_enter(base: str) -> None:
    session = sessions.create(base)
    for folder in (session.path, f"{session.path}/logs", session.sockets_dir):
        assert os.stat(folder).st_mode & 0o777 == 0o700
    assert session.name.startswith("session_")
    assert session.name.endswith(f"_{os.getpid()}")


def test_sessions_sort_by_the_time_of_their_making(base: str) -> None:
    names = [sessions.create(base).name for _ in range(5)]
    assert names == sorted(names)
    assert len(set(names)) == 5


def test_a_folder_that_cannot_be_made_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SessionError, match=r"file.*--temp-dir or the variable RAY_TMPDIR"):
        sessions.create(str(tmp_path / "file"))


def test_a_socket_in_a_deep_folder_gets_a_short_path(tmp_path: Path) -> None:
    session = sessions.create(str(tmp_path / ("d" * 100)))
    try:
        path = session.socket(sessions.DAEMON_SOCKET)
        assert len(path) < 107
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
        assert os.stat(session.sockets_dir).st_mode & 0o777 == 0o700
    finally:
        sessions.discard(session)
    assert not os.path.exists(session.sockets_dir)


def test_a_published_daemon_is_found_by_its_address_and_as_the_current_one(base: str) -> None:
    record = publish(base, os.getpid())
    for address in (None, "auto", "127.0.0.1:6379", "localhost:6379"):
        assert sessions.find(address, base) == record
    assert os.readlink(f"{base}/session_latest") == record.session_dir
    retire(base, record)


def test_find_looks_where_the_environment_says_unless_told_otherwise(base: str) -> None:
    record = publish(base, os.getpid())
    assert sessions.find() == record
    retire(base, record)


def test_a_retired_daemon_is_not_found_and_its_sockets_are_gone_but_not_its_logs(base: str) -> None:
    record = publish(base, os.getpid())
    Path(record.socket).touch()
    retire(base, record)
    with pytest.raises(NoDaemonError, match="no rayd daemon is running for this user; start one with `rayd start"):
        sessions.find("auto", base)
    assert sorted(os.listdir(record.session_dir)) == ["logs"]


def test_an_embedded_daemon_is_never_the_current_one_but_has_an_address(base: str) -> None:
    record = publish(base, os.getpid(), "127.0.0.1:41000", embedded=True)
    with pytest.raises(NoDaemonError):
        sessions.find(None, base)
    assert sessions.find("127.0.0.1:41000", base) == record
    assert sessions.find(None, base, embedded=True) == record
    retire(base, record)


def test_when_the_current_daemon_retires_another_one_takes_its_place(base: str) -> None:
    first = publish(base, os.getpid(), "127.0.0.1:1")
    second = publish(base, os.getpid(), "127.0.0.1:2")
    assert sessions.find(None, base) == second
    retire(base, second)
    assert sessions.find(None, base) == first
    retire(base, first)


def test_an_unknown_address_is_answered_with_those_that_exist(base: str) -> None:
    record = publish(base, os.getpid())
    with pytest.raises(NoDaemonError, match=rf"127\.0\.0\.1:7.*running: 127\.0\.0\.1:6379 \(pid {os.getpid()}\)"):
        sessions.find("127.0.0.1:7", base)
    retire(base, record)


def test_an_unknown_address_where_nothing_runs_says_how_to_start_it(base: str) -> None:
    with pytest.raises(NoDaemonError, match="rayd start --head --port 7"):
        sessions.find("127.0.0.1:7", base)


@pytest.mark.parametrize("address", ["nonsense", "ray://host:10001", "host:port", ":6379", ""])
def test_what_is_no_address_is_refused(base: str, address: str) -> None:
    with pytest.raises(AddressError, match="host:port"):
        sessions.find(address, base)


def test_a_daemon_that_was_killed_is_not_found_and_the_error_says_so(base: str, process: Callable[..., int]) -> None:
    record = publish(base, process())
    end(record.pid)
    with pytest.raises(NoDaemonError, match=rf"the rayd daemon at 127.0.0.1:6379 \(pid {record.pid}\) has died"):
        sessions.find(None, base)
    assert sessions.clean(base) == [record.session_dir]


def test_a_pid_that_was_used_again_does_not_make_a_daemon_live(base: str, process: Callable[..., int]) -> None:
    record = publish(base, process())
    text = Path(f"{record.session_dir}/daemon.json").read_text()
    Path(f"{record.session_dir}/daemon.json").write_text(
        text.replace(str(record.pid_start_time), str(record.pid_start_time - 1))
    )
    assert sessions.live(base) == []
    assert sessions.clean(base) == [record.session_dir]
    assert procfs.alive(record.pid, record.pid_start_time), "the stranger with the same pid is left alone"


def test_cleaning_removes_what_a_killed_daemon_left(base: str, process: Callable[..., int]) -> None:
    program = (
        "import subprocess, sys; "
        f"subprocess.Popen([sys.executable, '-c', {WAITS!r}, 'ray worker']); "
        "sys.stdout.write('x'); sys.stdout.flush(); sys.stdin.read()"
    )
    daemon = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    assert daemon.stdout is not None
    daemon.stdout.read(1)
    record = publish(base, daemon.pid)
    Path(record.socket).touch()
    (worker,) = set(procfs.members(daemon.pid)) - {daemon.pid}
    worker_started = procfs.start_time(worker)
    daemon.kill()
    daemon.communicate()
    bystander = process(WAITS, "ray of another session")

    assert sessions.clean(base) == [record.session_dir]

    assert worker_started is not None
    assert procfs.wait_gone(worker, worker_started, 5)
    assert procfs.start_time(bystander) is not None
    assert sorted(os.listdir(record.session_dir)) == ["logs"]
    assert not os.path.lexists(f"{base}/rayd_current")


def test_cleaning_leaves_a_live_daemon_alone(base: str) -> None:
    record = publish(base, os.getpid())
    assert sessions.clean(base) == []
    assert sessions.live(base) == [record]
    retire(base, record)


def test_the_logs_of_the_newest_ended_sessions_are_kept(base: str) -> None:
    records = [publish(base, os.getpid()) for _ in range(sessions.KEPT_SESSIONS + 3)]
    for record in records:
        retire(base, record)
        os.utime(record.session_dir, (0, 0))
    young = sessions.create(base)
    Path(young.log(sessions.DAEMON_LOG)).touch()
    sessions.clean(base)
    left = sorted(name for name in os.listdir(base) if name != "session_latest")
    assert left == [*(os.path.basename(record.session_dir) for record in records[4:]), young.name]


def test_a_folder_of_a_session_that_is_just_starting_is_kept(base: str) -> None:
    made = [sessions.create(base) for _ in range(sessions.KEPT_SESSIONS + 3)]
    for session in made:
        Path(session.log(sessions.DAEMON_LOG)).touch()
    sessions.clean(base)
    assert all(os.path.isdir(session.path) for session in made)


def test_folders_of_other_programs_are_never_touched(base: str) -> None:
    for number in range(sessions.KEPT_SESSIONS + 3):
        os.makedirs(f"{base}/session_2020-01-01_00-00-{number:02d}_000000_1/logs")
    sessions.clean(base)
    assert len(os.listdir(base)) == sessions.KEPT_SESSIONS + 3


def test_a_session_in_another_folder_is_found_from_the_usual_place(base: str, tmp_path: Path) -> None:
    elsewhere = str(tmp_path / "elsewhere")
    record = publish(base, os.getpid(), temp=elsewhere)
    assert sessions.find(None, base) == record
    assert sessions.find("127.0.0.1:6379", base) == record
    assert sessions.find(None, elsewhere, embedded=True) == record
    retire(base, record)
    assert sessions.live(base) == []
    assert os.listdir(base) == ["session_latest"]
    assert os.path.isdir(f"{record.session_dir}/logs")


def test_a_link_to_a_session_that_was_removed_by_hand_goes(base: str, tmp_path: Path) -> None:
    record = publish(base, os.getpid(), temp=str(tmp_path / "elsewhere"))
    sessions.discard(Session(record.session_dir))
    sessions.clean(base)
    assert os.path.basename(record.session_dir) not in os.listdir(base)


@pytest.mark.skipif(os.getuid() != 0, reason="only the superuser can give a file to somebody else")
def test_a_record_of_another_user_is_ignored(base: str) -> None:
    record = publish(base, os.getpid())
    os.chown(f"{record.session_dir}/daemon.json", 12345, 12345)
    assert sessions.live(base) == []
    with pytest.raises(NoDaemonError):
        sessions.find(None, base)
    os.chown(f"{record.session_dir}/daemon.json", 0, 0)
    retire(base, record)


def test_a_record_of_another_container_is_neither_live_nor_cleaned(base: str, process: Callable[..., int]) -> None:
    record = publish(base, process())
    path = Path(f"{record.session_dir}/daemon.json")
    path.write_text(path.read_text().replace(record.pid_namespace, "pid:[1]"))
    end(record.pid)
    assert sessions.live(base) == []
    assert sessions.clean(base) == []
    assert path.exists()
    path.unlink()


def test_a_record_that_is_no_json_counts_as_none(base: str) -> None:
    record = publish(base, os.getpid())
    Path(f"{record.session_dir}/daemon.json").write_text("{")
    assert sessions.live(base) == []
    retire(base, record)


def test_waiting_for_a_processs_end_does_not_outlast_its_time(process: Callable[..., int]) -> None:
    pid = process()
    started = procfs.start_time(pid)
    assert started is not None
    before = time.monotonic()
    assert not procfs.wait_gone(pid, started, 0.05)
    assert time.monotonic() - before >= 0.05
    end(pid)
    assert procfs.wait_gone(pid, started, 0)


def test_a_process_that_never_was_is_gone() -> None:
    assert procfs.wait_gone(2**22 + 1, 1, 0)
    assert procfs.start_time(2**22 + 1) is None
    assert procfs.command_line(2**22 + 1) == []
    assert not procfs.kill(2**22 + 1, signal.SIGTERM)
