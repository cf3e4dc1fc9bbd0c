"""The fork server: ``python -m ray._forkserver FD ROOM``, started by a daemon.

A warm process with everything a worker needs already imported. It has one thread for ever, so a fork is safe, and it is
the parent of all workers, so it alone reaps them and knows how they ended. Requests and reports are described in
``rayd.shell.workers``.

It dies with the daemon, and its workers die with it (parent-death signal), so a killed daemon leaves nothing behind.
"""

import contextlib
import ctypes
import gc
import os
import select
import signal
import socket
import sys
import time
from errno import EAGAIN
from importlib import import_module
from typing import Any, Final, NoReturn

import msgpack

from ray import _process
from rayd.wire.frame import TEXT_ERRORS

_PR_SET_PDEATHSIG: Final = 1
# What async actors need; imported when nothing has been asked for this long. numpy follows when a driver uses it.
_SPARE_IMPORTS: Final = ("asyncio", "ray._concurrency", "ray._awaiting", "uvloop")
_QUIET_MS: Final = 150
_REQUEST_BYTES_MAX: Final = 1024 * 1024


def main() -> int:
    """Serve until the daemon closes the control socket."""
    control = socket.socket(fileno=int(sys.argv[1]))
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        # As many workers run as there are CPUs; each of them starting a thread for every CPU would only make them wait.
        os.environ.setdefault(name, "1")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    wake_r, wake_w = os.pipe()
    os.set_blocking(wake_w, False)
    os.set_blocking(wake_r, False)
    signal.set_wakeup_fd(wake_w, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    _process.title("ray::FORKSERVER")
    _import_worker()
    gc.collect()
    gc.freeze()
    children: dict[int, int] = {}
    poller = select.poll()
    poller.register(control, select.POLLIN)
    poller.register(wake_r, select.POLLIN)
    spare = list(_SPARE_IMPORTS)
    fence = Fence(children)
    while True:
        ready = {fd for fd, _ in poller.poll(_QUIET_MS if spare else fence.left_ms())}
        if not ready and spare:
            _import_spare(spare.pop(0))
        if wake_r in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(wake_r, 4096)
            _reap(control, children)
        if control.fileno() in ready:
            job_info = _serve_one(control, children, libc, (wake_r, wake_w), fence)
            if job_info is None:
                return 0
            if job_info.get("numpy") and "numpy" not in sys.modules and "numpy" not in spare:
                spare.append("numpy")
        elif fence.is_due():
            fence.kill()


class Fence:
    """When the workers of a node have to end because its daemon, stopped or starved, can neither hear the head nor end
    them itself: see ``rayd.core.cluster``.

    Args:
        children: worker by process id.
    """

    def __init__(self, children: dict[int, int]) -> None:
        self._children = children
        self.due: int | None = None  # in monotonic ns

    def left_ms(self) -> float | None:
        """How long there is still time; None for ever."""
        return None if self.due is None else max(0.0, (self.due - time.monotonic_ns()) / 1e6)

    def is_due(self) -> bool:
        """Whether that is over."""
        return self.due is not None and time.monotonic_ns() >= self.due

    def kill(self) -> None:
        """Do it, once."""
        self.due = None
        count = len(self._children)
        sys.stderr.write(
            f"fork server: the daemon has not said in time that it hears the head; {count} workers are killed\n"
        )
        sys.stderr.flush()
        for pid in self._children:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)


def _import_worker() -> None:
    """Pay once, here, for what every worker needs."""
    import ray._worker  # noqa: F401


def _import_spare(name: str) -> None:
    """Import something that many workers will need, in a quiet moment, so that they share its pages and need not wait
    for it.
    """
    try:
        import_module(name)
    except ImportError:
        return
    gc.collect()
    gc.freeze()


def _serve_one(
    control: socket.socket, children: dict[int, int], libc: ctypes.CDLL, ours: tuple[int, int], fence: Fence
) -> dict[str, Any] | None:
    """Answer one request; returns what the job's driver said of itself, if anything, None when the daemon has gone."""
    try:
        data, fds, _, _ = socket.recv_fds(control, _REQUEST_BYTES_MAX, 4)
    except ConnectionResetError:
        return None
    if not data:
        return None
    request = msgpack.unpackb(data, unicode_errors=TEXT_ERRORS)
    if request[0] == "fence":
        fence.due = request[1]
        return {}
    _, wid, job_info, env, facts = request
    server = os.getpid()
    try:
        pid = os.fork()
    except OSError as error:
        for fd in fds:
            os.close(fd)
        remedy = "; end other processes, or raise the limit on their number" if error.errno == EAGAIN else ""
        control.send(msgpack.packb(["failed", wid, f"the system made no process: {error.strerror}{remedy}"]))
        return {}
    if pid == 0:
        _become_worker(server, control, fds, libc, ours, wid, job_info, env, facts)
    for fd in fds:
        os.close(fd)
    children[pid] = wid
    control.send(msgpack.packb(["forked", wid, pid]))
    info: dict[str, Any] = job_info
    return info


def _reap(control: socket.socket, children: dict[int, int]) -> None:
    while children:
        try:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        wid = children.pop(pid, None)
        if wid is None:
            continue
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)  # what the worker itself had started
        with contextlib.suppress(BrokenPipeError):
            control.send(msgpack.packb(["exited", wid, pid, status, usage.ru_maxrss]))


def _become_worker(
    server: int,
    control: socket.socket,
    fds: list[int],
    libc: ctypes.CDLL,
    ours: tuple[int, int],
    wid: int,
    job_info: dict[str, Any],
    env: dict[str, str],
    facts: dict[str, Any],
) -> NoReturn:
    """The child's side of the fork; never returns into the server's loop."""
    code = 1
    try:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != server:
            os._exit(1)  # it died between fork and prctl
        os.setpgid(0, 0)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        control.close()
        for fd in ours:
            os.close(fd)
        mailbox, session, out, err = fds
        os.dup2(out, 1)
        os.dup2(err, 2)
        os.close(out)
        os.close(err)
        os.environ.update(env)
        import ray._worker

        code = ray._worker.main(mailbox, session, wid, job_info, facts)
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
