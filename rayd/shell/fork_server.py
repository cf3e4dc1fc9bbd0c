"""Starting the fork server; kept apart and light, so that it can be under way while the daemon still imports the rest
of itself.
"""

import os
import socket
import sys
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio

# Room in the command line of the fork server, and so of each worker, for the process title.
TITLE_ROOM: Final = "-" * 120
# Requests that wait for it, as far as the system allows so many; and what the system needs for itself in a datagram.
_REQUESTS_BYTES: Final = 512 * 1024
_HEADROOM_BYTES: Final = 1024


class ForkServer:
    """A running fork server.

    Args:
        control: our end of the control socket; closing it ends the server.
        pid: its process, a child of this one.

    Attributes:
        request_bytes_max: what is longer than this cannot be told.
    """

    def __init__(self, control: socket.socket, pid: int) -> None:
        self.control = control
        self.pid = pid
        self.request_bytes_max = control.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) - _HEADROOM_BYTES
        self._status: int | None = None
        self._untold: deque[tuple[bytes, list[int]]] = deque()
        self._loop: asyncio.AbstractEventLoop

    def listen(self, loop: "asyncio.AbstractEventLoop", on_said: Callable[[], None]) -> None:
        """Have a function called whenever it may have said something; ``tell`` is possible from now on."""
        self.control.setblocking(False)
        loop.add_reader(self.control.fileno(), on_said)
        self._loop = loop

    def tell(self, request: bytes, descriptors: Sequence[int] = ()) -> None:
        """Send it a request, behind those that it has not had the time to take; not at all if it is gone.

        Args:
            descriptors: sent along; closed here once they are.
        """
        self._untold.append((request, list(descriptors)))
        if len(self._untold) == 1:
            self._tell_on()

    def _tell_on(self) -> None:
        while self._untold:
            request, descriptors = self._untold[0]
            try:
                socket.send_fds(self.control, [request], descriptors)
            except BlockingIOError:
                self._loop.add_writer(self.control.fileno(), self._tell_on)
                return
            except OSError:  # its end is about to be read, and tells of everything that it has not done
                pass
            self._untold.popleft()
            _close(descriptors)
        self._loop.remove_writer(self.control.fileno())

    def close(self) -> None:
        """Have it end; nobody listens any more."""
        if self.control.fileno() < 0:
            return
        self._loop.remove_reader(self.control.fileno())
        self._loop.remove_writer(self.control.fileno())
        self.control.close()
        while self._untold:
            _close(self._untold.popleft()[1])

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


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def start_fork_server() -> ForkServer:
    """Start a fork server."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _REQUESTS_BYTES)
    with theirs:
        os.set_inheritable(theirs.fileno(), True)
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-P", "-m", "ray._forkserver", str(theirs.fileno()), TITLE_ROOM],
            os.environ,
            file_actions=[(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)],
        )
    return ForkServer(ours, pid)
