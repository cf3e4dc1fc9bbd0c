"""Starting the fork server; kept apart and light, so that it can be under way while the daemon still imports the rest
of itself.
"""

import os
import socket
import sys
from typing import Final

# Room in the command line of the fork server, and so of each worker, for the process title.
TITLE_ROOM: Final = "-" * 120


class ForkServer:
    """A running fork server.

    Args:
        control: our end of the control socket; closing it ends the server.
        pid: its process, a child of this one.
    """

    def __init__(self, control: socket.socket, pid: int) -> None:
        self.control = control
        self.pid = pid
        self._status: int | None = None

    def wait(self) -> int:
        """Wait for its end and reap it; its status, as waitpid gives it."""
        if self._status is None:
            _, self._status = os.waitpid(self.pid, 0)
        return self._status

    def reap_orphans(self) -> None:
        """Reap what has ended: the server, and what its dead workers had started, handed to us as subreaper."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.pid:
                self._status = status


def start_fork_server() -> ForkServer:
    """Start a fork server."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        os.set_inheritable(theirs.fileno(), True)
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-P", "-m", "ray._forkserver", str(theirs.fileno()), TITLE_ROOM],
            os.environ,
            file_actions=[(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)],
        )
    return ForkServer(ours, pid)
