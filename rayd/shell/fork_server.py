"""Starting the fork server; kept apart and light, so that it can be under way while the daemon still imports the rest of itself."""

import os
import socket
import sys
from typing import Final, NamedTuple

# Room in the command line of the fork server, and so of each worker, for the process title.
TITLE_ROOM: Final = "-" * 120


class ForkServer(NamedTuple):
    """A running fork server.

    Attributes:
        control: our end of the control socket; closing it ends the server.
        pid: its process, a child of this one.
    """

    control: socket.socket
    pid: int

    def wait(self) -> None:
        """Reap it; returns when it has ended."""
        os.waitpid(self.pid, 0)


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
