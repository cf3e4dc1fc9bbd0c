"""The daemon's process: takes its configuration from stdin, answers with one line of JSON on stdout, then serves.

The answer is ``{"ok": true, "pid", "pid_start_time", "address", "socket", "session_dir", "node_id"}`` once clients
can connect, or ``{"ok": false, "error": text}`` when it cannot start as configured. A defect answers nothing: the
traceback is in the log, which ``rayd.shell.launch`` quotes. From the answer until the end a record in the session's
folder lets others find the daemon.
"""

import dataclasses
import faulthandler
import json
import os
import resource
import socket
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TextIO

import rayd
from rayd.config import Config, ConfigError, Environment
from rayd.shell import fork_server, port, procfs, sessions
from rayd.shell.errors import StartError
from rayd.shell.log import open_log

if TYPE_CHECKING:
    from rayd.shell.door import Door


def main() -> int:
    """Run one daemon; the process's exit code."""
    answer = _take_over_stdio()
    try:
        config = Config.from_json(sys.stdin.read())
        base = Environment.read().temp_dir()
        with port.claim(config, base) as claimed:
            config = dataclasses.replace(config, port=claimed.getsockname()[1])
            return _serve(config, base, answer, _door(config, claimed))
    except (ConfigError, StartError) as error:
        if answer.closed:
            raise
        _say(answer, {"ok": False, "error": str(error)})
        return 1


def _serve(config: Config, base: str, answer: TextIO, door: "Door | None") -> int:
    # The slow imports of the two processes run side by side; a refusal comes before either is paid for.
    started = fork_server.start_fork_server()
    _allow_many_files()
    from rayd.shell import daemon

    session = sessions.Session(config.session_dir)
    try:
        with sessions.in_use(session):
            return daemon.run(config, _announcer(config, session, base, answer), started, door)
    finally:
        sessions.retire(session, base)


def _door(config: Config, claimed: socket.socket) -> "Door | None":
    """What lets clients of other machines in; a program's own daemon has none."""
    if config.embedded_pid is not None:
        return None
    from rayd.shell.door import Door
    from rayd.shell.token_file import TokenFileError

    try:
        return Door(claimed, Environment.read().token_path(), unencrypted=config.unencrypted)
    except TokenFileError as error:
        raise StartError(str(error)) from None


def _allow_many_files() -> None:
    """Each worker takes a handful of descriptors here; workers themselves keep the limit that programs are used to."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _announcer(
    config: Config, session: sessions.Session, base: str, answer: TextIO
) -> Callable[[dict[str, Any]], None]:
    """What the daemon calls once when clients can connect, with ``{"node_id": hex, "recovered": counts}``."""

    def announce(ready: dict[str, Any]) -> None:
        pid = os.getpid()
        record = sessions.Record(
            pid=pid,
            pid_start_time=procfs.start_time(pid) or 0,
            pid_namespace=procfs.pid_namespace(),
            address=f"{config.host}:{config.port}",
            socket=session.socket(sessions.DAEMON_SOCKET),
            node_id=ready["node_id"],
            version=rayd.__version__,
            embedded=config.embedded_pid is not None,
            python=".".join(map(str, sys.version_info[:3])),
            session_dir=session.path,
        )
        sessions.publish(session, record, base)
        _say(answer, {"ok": True, "recovered": ready["recovered"], **record._asdict()})
        # Only now, so that nobody waits for it.
        for folder in {base, config.temp_dir}:
            sessions.clean(folder)

    return announce


def _take_over_stdio() -> TextIO:
    """Leave stdout to the answer alone; what is printed goes to the log, whether its disk is full or not, and nothing
    of the starting program stays open.
    """
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr = open_log(2)
    faulthandler.enable()
    return answer


def _say(answer: TextIO, line: dict[str, Any]) -> None:
    """Write the one line; a parent that has gone meanwhile is not an error of ours."""
    try:
        with answer:
            answer.write(json.dumps(line) + "\n")
    except BrokenPipeError:
        sys.stderr.write("the process that started this daemon did not wait for it\n")


if __name__ == "__main__":
    sys.exit(main())
