"""Start a daemon and wait until it is ready.

This stands in the way of every ``ray.init()``, so it imports little, spawns without forking the caller's memory and
waits for the daemon's one line of JSON instead of looking for its socket again and again. See ``rayd.shell.main`` for
the other end.
"""

import dataclasses
import json
import os
import select
import signal
import sys
import time
from typing import Any, Final, NamedTuple, NoReturn

from rayd.config import Config
from rayd.shell import procfs, sessions

_ENTRY: Final = os.path.join(os.path.dirname(os.path.abspath(__file__)), "entry.py")
_LOG_TAIL_LINES: Final = 20
_LOG_TAIL_BYTES: Final = 16 * 1024


class LaunchError(RuntimeError):
    """The daemon did not get ready; the text says why, in the daemon's own words where it had any."""


class Ready(NamedTuple):
    """A daemon that serves.

    Attributes:
        pid: its process, a child of this one: ``procfs.wait_gone`` waits for it and reaps it.
        pid_start_time: in clock ticks since boot.
        address: "host:port".
        socket: path of its Unix socket.
        session_dir: absolute path.
        node_id: hex.
        recovered: what it has found in the journal of a head that was killed: counts by name; empty if there was none.
    """

    pid: int
    pid_start_time: int
    address: str
    socket: str
    session_dir: str
    node_id: str
    recovered: dict[str, int]


class Launching:
    """A daemon that was started and is not ready yet; the caller may do something useful meanwhile.

    Args:
        config: how it is to run; its ``session_name`` is chosen here.

    Raises:
        SessionError: the session's folder cannot be made.
        LaunchError: the process cannot be started.
    """

    def __init__(self, config: Config) -> None:
        self._answered = False
        self._interrupted = False
        self._session = sessions.create(config.temp_dir)
        config = dataclasses.replace(config, session_name=self._session.name)
        self._pid, self._reply = _spawn(config, self._session)

    def abandon(self) -> None:
        """End it at once; nothing of it is left running."""
        os.close(self._reply)
        _kill(self._pid)

    def interrupt(self) -> None:
        """End it, from a signal handler: killed and ``finish`` interrupted while it is not ready, else asked to end."""
        self._interrupted = True
        procfs.kill(self._pid, signal.SIGTERM if self._answered else signal.SIGKILL)

    def finish(self, timeout_s: float = 30.0) -> Ready:
        """Wait until it is ready.

        Args:
            timeout_s: how long it may take, in seconds.

        Raises:
            LaunchError: it refused, died or was not ready in time; nothing of it is left running.
            KeyboardInterrupt: ``interrupt`` was called before it was ready; nothing of it is left at all.
        """
        pid, session = self._pid, self._session
        try:
            line = _read_line(self._reply, time.monotonic() + timeout_s)
        except BaseException:
            _kill(pid)
            raise
        finally:
            os.close(self._reply)
        self._answered = True  # first, so that no signal falls between this line and the next
        if self._interrupted:
            _kill(pid)
            sessions.discard(session)
            raise KeyboardInterrupt
        if line is None:
            _kill(pid)
            tail = log_tail(session.path)
            raise LaunchError(f"the rayd daemon (pid {pid}) was not ready after {timeout_s:g} s and was killed{tail}")
        if not line.endswith(b"\n"):
            _report_death(pid, session)
        answer: dict[str, Any] = json.loads(line)
        if not answer["ok"]:
            _wait(pid)
            sessions.discard(session)
            raise LaunchError(answer["error"])
        return Ready(
            pid=pid,
            pid_start_time=answer["pid_start_time"],
            address=answer["address"],
            socket=answer["socket"],
            session_dir=session.path,
            node_id=answer["node_id"],
            recovered=answer["recovered"],
        )


def launch(config: Config, *, timeout_s: float = 30.0) -> Ready:
    """Start a daemon in a new session folder and wait until it is ready; arguments and errors as for ``Launching``."""
    return Launching(config).finish(timeout_s)


def _spawn(config: Config, session: sessions.Session) -> tuple[int, int]:
    """Start the process; its pid and the end of the pipe on which it reports.

    It leads a POSIX session of its own, so that a terminal's Ctrl-C does not reach it and all that it starts can be
    found by the session's number; and it starts with the default signal actions, whatever the caller ignores or blocks.
    """
    if not sys.executable:
        raise LaunchError("this interpreter does not know its own path (sys.executable is empty); set it before init")
    arguments = [sys.executable, "-P", _ENTRY, session.path]
    stdin_read, stdin_write = os.pipe()
    stdout_read, stdout_write = os.pipe()
    log = os.open(session.log(sessions.DAEMON_LOG), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        pid = os.posix_spawn(
            sys.executable,
            arguments,
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, stdin_read, 0),
                (os.POSIX_SPAWN_DUP2, stdout_write, 1),
                (os.POSIX_SPAWN_DUP2, log, 2),
            ],
            setsid=True,
            setsigmask=[],
            setsigdef=[signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGCHLD],
        )
        # A configuration is far smaller than a pipe's buffer, so this does not wait for the daemon to read it.
        os.write(stdin_write, config.to_json().encode())
    except OSError as error:
        os.close(stdout_read)
        sessions.discard(session)
        raise LaunchError(f"cannot start {sys.executable}: {error.strerror}") from None
    finally:
        for descriptor in (stdin_read, stdin_write, stdout_write, log):
            os.close(descriptor)
    return pid, stdout_read


def _read_line(descriptor: int, deadline: float) -> bytes | None:
    """What the daemon wrote: one line, less if it died; None when the deadline passed."""
    received = b""
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    while not received.endswith(b"\n"):
        if not poller.poll(max(0.0, deadline - time.monotonic()) * 1000):
            return None
        data = os.read(descriptor, 65536)
        if not data:
            break
        received += data
    return received


def _report_death(pid: int, session: sessions.Session) -> NoReturn:
    """Raise for a daemon that ended without an answer."""
    code = _wait(pid)
    if code is None:
        how = "ended"
    else:
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"
    raise LaunchError(f"the rayd daemon (pid {pid}) {how} before it was ready{log_tail(session.path)}")


def log_tail(session_dir: str) -> str:
    """The daemon's last lines of stderr, as the end of an error's text."""
    path = sessions.Session(session_dir).log(sessions.DAEMON_LOG)
    with open(path, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _LOG_TAIL_BYTES))
        lines = file.read().decode(errors="replace").splitlines()[-_LOG_TAIL_LINES:]
    if not lines:
        return f"; it wrote nothing to {path}"
    return f"; the end of {path}:\n" + "\n".join(f"  {line}" for line in lines)


def _kill(pid: int) -> None:
    """End a daemon that is not ready together with what it may have started, and reap it."""
    procfs.kill(pid, signal.SIGKILL)
    procfs.end_session(pid)
    _wait(pid)


def _wait(pid: int) -> int | None:
    """Reap the daemon once it ends; its exit code, None if a handler of the calling program was quicker to reap it."""
    try:
        _, status = os.waitpid(pid, 0)
    except ChildProcessError:
        return None
    return os.waitstatus_to_exitcode(status)
