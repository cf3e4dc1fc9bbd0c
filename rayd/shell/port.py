"""The TCP port that names a cluster: claimed for the daemon's life, so that no two clusters have one name.

A program's own daemon only claims it: everything on one machine goes through the Unix socket, and what does not listen
needs no authentication. Others listen on it, see ``rayd.shell.door``.
"""

import errno
import os
import socket
from typing import Final

from rayd.config import Config
from rayd.shell import procfs, sessions
from rayd.shell.errors import StartError

BACKLOG: Final = 1024


def claim(config: Config, base: str) -> socket.socket:
    """Bind the configured address; with port 0 to any free port.

    Args:
        base: folder of all sessions, to tell who has the port if it is taken.

    Raises:
        StartError: it cannot be bound; says who has it.
    """
    claimed = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listens = config.embedded_pid is None
    try:
        # Connections of a daemon that was killed take a minute to come to their end, and its successor cannot wait.
        # What is bound like this is not ours alone until we listen.
        claimed.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, listens)
        claimed.bind((config.host, config.port))
        if listens:
            claimed.listen(BACKLOG)
    except OSError as error:
        claimed.close()
        raise StartError(_reason(error, config, base)) from None
    return claimed


def _reason(error: OSError, config: Config, base: str) -> str:
    if isinstance(error, socket.gaierror):
        return f"host={config.host!r} cannot be resolved ({error.strerror}); give an IP address of this machine"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"host={config.host!r} is no address of this machine; give one that is, such as 127.0.0.1"
    if error.errno == errno.EACCES:
        return f"port {config.port} is reserved for the system administrator; choose one above 1023 with --port"
    if error.errno == errno.EADDRINUSE:
        return f"port {config.port} is taken {_by_whom(config, base)}"
    return f"cannot bind {config.host}:{config.port}: {error.strerror}; choose another with --host or --port"


def _by_whom(config: Config, base: str) -> str:
    """Who has the port, and the way out."""
    running = sessions.live(base)
    for record in running:
        if record.address.rpartition(":")[2] == str(config.port):
            return (
                f"by the rayd daemon with pid {record.pid} (session {record.session_dir}); use that one with "
                f'ray.init(address="{record.address}"), stop it with `rayd stop`, or choose another port with --port'
            )
    for pid, session_dir in sessions.daemons(base):
        if pid not in (os.getpid(), *(record.pid for record in running)):
            return f"by a rayd daemon that is just starting (pid {pid}, session {session_dir}); use that one"
    holder = _listener(config.port)
    if holder is None:
        return "by a program that this user may not look at; choose another port with --port"
    program = " ".join(procfs.command_line(holder))[:80]
    return f"by another program (pid {holder}: {program}); choose another port with --port"


def _listener(number: int) -> int | None:
    """Process that has a TCP port, None when the kernel does not tell us."""
    import psutil  # only an error needs it

    for connection in psutil.net_connections("tcp"):
        if connection.laddr and connection.laddr.port == number and connection.pid is not None:
            return int(connection.pid)
    return None
