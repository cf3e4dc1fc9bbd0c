"""The tools' client: an answer, or an error that says what happened."""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rayd.config import Config
from rayd.shell import procfs
from rayd.shell.control import Control, ControlError
from rayd.shell.launch import Ready, launch


@pytest.fixture
def ready(serving_daemon: None) -> Iterator[Ready]:
    ready = launch(Config.make(num_cpus=1, port=0))
    yield ready
    with Control(ready.socket) as control:
        control.rpc("stop")
    procfs.wait_gone(ready.pid, ready.pid_start_time, 10)


@pytest.fixture
def answering(ray_tmpdir: Path) -> Iterator[Callable[[bytes], str]]:
    """A socket whose server says the given bytes to whoever connects, and hangs up."""
    listener = socket.socket(socket.AF_UNIX)
    path = str(ray_tmpdir / "s")
    listener.bind(path)
    listener.listen()

    def serve(answer: bytes) -> str:
        def run() -> None:
            client, _ = listener.accept()
            with client:
                client.recv(65536)
                client.sendall(answer)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return path

    yield serve
    listener.close()


def test_several_questions_on_one_connection_are_answered(ready: Ready) -> None:
    with Control(ready.socket) as control:
        assert control.rpc("status")["store"]["capacity"] == 100
        assert control.rpc("status", detail=True)["nodes"] == []


def test_a_fault_is_raised_with_its_message_and_code(ready: Ready) -> None:
    with Control(ready.socket) as control:
        with pytest.raises(ControlError, match="there is no dance") as raised:
            control.rpc("dance")
        assert raised.value.code == "bad_request"
        assert control.rpc("status")["nodes"] == [], "the connection goes on"


def test_a_daemon_that_hangs_up_is_an_error(ready: Ready) -> None:
    with Control(ready.socket) as control, pytest.raises(ControlError, match="closed the connection"):
        control.rpc("hang up")


def test_a_daemon_that_keeps_silent_is_an_error_after_the_time_limit(ready: Ready) -> None:
    with Control(ready.socket, timeout_s=0.1) as control, pytest.raises(ControlError, match=r"within 0\.1 s"):
        control.rpc("silence")


def test_nobody_at_the_socket_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ControlError, match=rf"{tmp_path}/none: No such file"):
        Control(f"{tmp_path}/none")


def test_garbage_from_the_other_side_is_an_error(answering: Callable[[bytes], str]) -> None:
    with pytest.raises(ControlError, match="something else than messages"):
        Control(answering(b"HTTP/1.1 400 Bad Request\r\n\r\n"))


def test_a_refused_greeting_is_raised_with_the_daemons_reason(answering: Callable[[bytes], str]) -> None:
    from rayd.wire import frame, messages

    refusal = frame.encode([messages.REFUSED, {"code": "version", "message": "protocol 1 meets protocol 2"}])
    with pytest.raises(ControlError, match="protocol 1 meets protocol 2") as raised:
        Control(answering(refusal))
    assert raised.value.code == "version"


def test_a_daemon_that_is_gone_before_it_greets_is_an_error(answering: Callable[[bytes], str]) -> None:
    with pytest.raises(ControlError, match="without an answer"):
        Control(answering(b""))


def test_a_closed_connection_leaves_no_file_open(ready: Ready) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        Control(ready.socket).close()
    assert len(os.listdir("/proc/self/fd")) == before
