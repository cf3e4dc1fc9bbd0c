"""A stand-in for the daemon's inside, so that what surrounds it can be tested in real processes.

``rayd.shell.launch`` starts a real interpreter that runs the real ``rayd.shell.main``; only the module
``rayd.shell.daemon`` is replaced, by a ``sitecustomize`` on the child's path.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

SITE = """
import sys, types
module = types.ModuleType("rayd.shell.daemon")
with open({path!r}) as file:
    exec(compile(file.read(), {path!r}, "exec"), module.__dict__)
sys.modules["rayd.shell.daemon"] = module
"""

# Serves one connection after the other until it is asked to stop.
SERVES = """
def run(config, ready, fork_server, door):
    import os, signal, socket
    from rayd.shell.sessions import DAEMON_SOCKET, Session
    from rayd.wire import frame, messages
    status = {"nodes": [], "demands": [], "store": {"used": 0, "capacity": 100, "objects": 0}}
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0) if STUBBORN is None else None)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(Session(config.session_dir).socket(DAEMON_SOCKET))
    listener.listen()
    ready({"node_id": "ab" * 28, "recovered": {}})
    while True:
        client, _ = listener.accept()
        framer = frame.Framer()
        stopping = False
        while data := client.recv(65536):
            for message in framer.feed(data):
                if message[0] == messages.HELLO and message[2] != "cli":
                    client.sendall(frame.encode([messages.REFUSED, {"code": "version", "message": "only tools"}]))
                elif message[0] == messages.HELLO:
                    client.sendall(frame.encode([messages.WELCOME, {}]))
                elif message[2] == "stop" and STUBBORN is None:
                    stopping = True
                    client.sendall(frame.encode([messages.REPLY, message[1], True, None]))
                elif message[2] == "status":
                    log = [messages.LOG, {}, False, ["a line that nobody asked for"]]
                    client.sendall(frame.encode_many([log, [messages.REPLY, message[1], True, status]]))
                elif message[2] == "hang up":
                    client.shutdown(socket.SHUT_RDWR)
                elif message[2] != "silence":
                    fault = {"code": "bad_request", "message": f"there is no {message[2]}"}
                    client.sendall(frame.encode([messages.REPLY, message[1], False, fault]))
        client.close()
        if stopping:
            listener.close()
            return 0
"""


@pytest.fixture
def daemon_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Sets what a daemon that is started from now on does; the text defines ``run(config, ready)``."""
    folder = tmp_path / "site"
    folder.mkdir()
    program = folder / "daemon_program.py"
    (folder / "sitecustomize.py").write_text(SITE.format(path=str(program)))
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=":")

    def set_program(text: str) -> None:
        program.write_text(text)

    return set_program


@pytest.fixture
def serving_daemon(daemon_program: Callable[[str], None]) -> None:
    """Daemons started by the test answer tools."""
    daemon_program("STUBBORN = None\n" + SERVES)


@pytest.fixture
def stubborn_daemon(daemon_program: Callable[[str], None]) -> None:
    """Daemons started by the test answer tools, but neither stop when asked nor at SIGTERM."""
    daemon_program("STUBBORN = True\n" + SERVES)
