"""The one session of this process: complete or absent.

``current`` is the only process-wide variable of the SDK, set by ``start`` and ``stop`` alone. A session joins a client
(objects, requests), what this process is (driver or worker), and what has to be undone at the end.
"""

import atexit
import contextlib
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from ray import _collector

if TYPE_CHECKING:
    from ray._client import Client
    from ray._driver_output import DriverOutput
    from ray._executor import Executor
    from rayd.shell.dial import Stream, Target


# A critical stretch takes microseconds; if a signal has waited in one for this long, it hangs, and Ctrl-C is meant for
# that.
_PATIENCE_S: Final = 1.0


class Session:
    """One connected process.

    Attributes:
        client: objects and requests.
        executor: what runs tasks here; None in a driver.
        daemon: the daemon this process started for itself, with what is needed to see it gone; None when it joined one.
        output: prints what workers write; None in a worker or with log_to_driver=False.
        runtime_env: the job's.
    """

    def __init__(
        self,
        client: "Client",
        *,
        executor: "Executor | None" = None,
        daemon: Any = None,
        output: "DriverOutput | None" = None,
        runtime_env: Mapping[str, Any] | None = None,
    ) -> None:
        self.client = client
        self.executor = executor
        self.daemon = daemon
        self.output = output
        self.runtime_env = dict(runtime_env or {})
        self.namespace: str = client.info["namespace"]
        self.interrupts = Interrupts(client)
        from ray._remote import Exports
        from ray._repeats import Repeats

        client.exports = Exports()
        client.repeats = Repeats(client)
        client.job_env = {str(k): str(v) for k, v in dict(self.runtime_env.get("env_vars") or {}).items()}

    def disown(self) -> None:
        """For a forked child: whatever it does, nothing of it reaches the sockets, which are its parent's."""
        self.client.link.broken = "this process was forked from the one that has the session"
        sockets: list[Stream] = [self.client.link.sock]
        if self.output is not None:
            sockets.append(self.output.sock)
        if self.executor is not None:
            sockets.append(self.executor.mailbox)
            self.executor.forked = True
        null = os.open(os.devnull, os.O_RDWR)
        for sock in sockets:
            if sock.fileno() >= 0:
                os.dup2(null, sock.fileno(), inheritable=False)
        os.close(null)


current: Session | None = None
_lock = threading.RLock()


def find() -> Session | None:
    """The session, if there is one."""
    return current


def need() -> Session:
    """The session; starts one with default settings if there is none and RAY_ENABLE_AUTO_CONNECT is not 0.

    Raises:
        RaySystemError: no session, and none may be started.
    """
    if current is not None:
        return current
    if os.environ.get("RAY_ENABLE_AUTO_CONNECT", "1") == "0":
        from ray.exceptions import RaySystemError

        raise RaySystemError(
            "ray is not initialized, and RAY_ENABLE_AUTO_CONNECT=0 forbids to do so silently. Call ray.init() first."
        )
    from ray import _init

    with _lock:
        session = find()
        if session is None:
            _init.init()
            session = find()
    assert session is not None
    return session


def start(session: Session) -> None:
    """Make a session the current one."""
    global current
    current = session
    session.interrupts.install()


def stop() -> None:
    """End the current session; does nothing without one."""
    global current
    with _lock:
        session, current = current, None
        if session is None:
            return
        session.interrupts.remove()
        if session.output is not None:
            session.output.finish()
        if session.daemon is not None:
            with contextlib.suppress(Exception):  # it may be dead already, which is what we want
                session.client.rpc("stop", timeout=2.0, reason="ray.shutdown()")
        session.client.close()
        if session.output is not None:
            session.output.close()
        if session.daemon is not None:
            session.daemon.wait_gone()


def connect(target: "Target", kind: str, info: dict[str, Any]) -> "Client":
    """Connect to a daemon.

    Raises:
        ConnectionError: nobody listens there, or the daemon refuses.
    """
    from ray._client import Client
    from rayd.shell.dial import UnreachableError, dial

    try:
        stream = dial(target)
    except UnreachableError as error:
        raise ConnectionError(str(error)) from None
    return Client(stream, kind, info, remote=not target.path)


def self_description(namespace: str | None, env: Mapping[str, str]) -> dict[str, Any]:
    """What a driver says of itself."""
    return {
        "pid": os.getpid(),
        "python": platform.python_version(),
        "namespace": namespace or "",
        "cwd": _cwd(),
        "sys_path": [os.path.abspath(path) if path == "" else path for path in sys.path],
        "entrypoint": " ".join(sys.argv),
        "numpy": "numpy" in sys.modules,
        "env_vars": dict(env),
    }


def _cwd() -> str:
    try:
        return os.getcwd()
    except OSError:
        return "/"


class Interrupts:
    """Keeps Ctrl-C from tearing a message apart: while the link is in a critical stretch the signal waits for its end.

    Args:
        client: whose link is guarded.
    """

    def __init__(self, client: "Client") -> None:
        self._link = client.link
        self._previous: Any = None
        self._installed = False
        self._waiting_since = 0.0

    def install(self) -> None:
        """Stand before the present handler. Only the main thread gets signals; elsewhere there is nothing to guard."""
        if threading.current_thread() is not threading.main_thread():
            return
        previous = signal.getsignal(signal.SIGINT)
        if not callable(previous):
            return
        self._previous = previous
        signal.signal(signal.SIGINT, self._on_signal)
        self._installed = True

    def _on_signal(self, number: int, frame: Any) -> None:
        link = self._link
        if link.critical or _collector.within(frame):
            now = time.monotonic()
            self._waiting_since = self._waiting_since or now
            if now - self._waiting_since < _PATIENCE_S:
                link.interrupted = lambda: self._pass_on(number, frame)
                link.flush_soon()
                return
        self._pass_on(number, frame)

    def _pass_on(self, number: int, frame: Any) -> None:
        self._waiting_since = 0.0
        self._link.interrupted = None
        self._previous(number, frame)

    def remove(self) -> None:
        """Put the former handler back, unless somebody has set another since."""
        if not self._installed:
            return
        with contextlib.suppress(
            ValueError
        ):  # shutdown from another thread: the handler stays and passes everything on
            if signal.getsignal(signal.SIGINT) == self._on_signal:
                signal.signal(signal.SIGINT, self._previous)
        self._installed = False


def _after_fork() -> None:
    """A forked child shares the sockets but is not the session's process."""
    global current
    session, current = current, None
    if session is not None:
        session.disown()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(stop)
