"""Worker processes: asking the fork server for them, their sockets and pipes, their death.

The fork server (``python -m ray._forkserver``) is a warm single-threaded process; the daemon talks to it over one
SOCK_SEQPACKET pair: ``["fork", worker, job info, environment, facts]`` with four descriptors (mailbox, session socket,
stdout, stderr) and ``["fence", time]`` one way, ``["forked", worker, pid]`` or ``["failed", worker, why]`` and later
``["exited", worker, pid, status, peak KiB]`` the other. It is the parent of all workers, so it alone reaps them.
"""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable
from errno import EMFILE
from typing import Any, Final

import msgpack

from rayd.shell.causes import CauseFinder, kernel_oom_kills
from rayd.shell.fork_server import ForkServer, start_fork_server
from rayd.shell.mailbox import Mailbox
from rayd.shell.output import Output
from rayd.wire.frame import TEXT_ERRORS

# A worker's last messages normally arrive before its death is reported; a child that keeps its socket open may delay
# their end.
LAST_WORDS_S: Final = 0.5


class WorkerProcess:
    """What the daemon holds of one worker process."""

    __slots__ = ("cause", "doomed", "err", "exited", "kills_before", "mailbox", "out", "pid", "session_open", "wid")

    def __init__(self, wid: int, mailbox: Mailbox) -> None:
        self.wid = wid
        self.mailbox = mailbox
        self.kills_before = kernel_oom_kills()
        self.pid = 0
        self.out: Output | None = None
        self.err: Output | None = None
        self.session_open = False
        self.doomed = False
        self.exited: tuple[int, int] | None = None
        self.cause: dict[str, Any] | None = None


class Workers:
    """All worker processes of this daemon.

    Args:
        loop: the event loop.
        log_dir: folder of the session's logs.
        on_session: called with (worker id, our end of its session socket) when it is to be served.
        on_forked: called with (worker id, pid).
        on_exited: called with (worker id, cause, last stderr lines, ids of unread tasks) once everything it said
            has been read.
        on_lines: called with (worker id, pid, name, is_err, lines).
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        log_dir: str,
        *,
        on_session: Callable[[int, socket.socket], None],
        on_forked: Callable[[int, int], None],
        on_exited: Callable[[int, dict[str, Any], list[str], list[bytes]], None],
        on_lines: Callable[[int, int, str, bool, list[str]], None],
    ) -> None:
        self._loop = loop
        self._log_dir = log_dir
        self._on_session = on_session
        self._on_forked = on_forked
        self._on_exited = on_exited
        self._on_lines = on_lines
        self._causes = CauseFinder(kernel_oom_kills())
        self._server: ForkServer
        self.by_id: dict[int, WorkerProcess] = {}
        self.stopping = False

    # ---- fork server -------------------------------------------------------------------------------------------------

    def adopt_fork_server(self, server: ForkServer) -> None:
        """Use a fork server that was started before the loop existed, so that both start up at the same time."""
        self._server = server
        server.listen(self._loop, self._on_said)

    def _on_said(self) -> None:
        while True:
            try:
                data = self._server.control.recv(65536)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._fork_server_lost()
                return
            message = msgpack.unpackb(data, unicode_errors=TEXT_ERRORS)
            if message[0] == "forked":
                process = self.by_id.get(message[1])
                if process is not None:
                    process.pid = message[2]
                    self._on_forked(message[1], message[2])
                    if process.doomed:
                        self.kill(message[1])
            elif message[0] == "failed":
                self._not_started(message[1], message[2])
            else:
                self._reaped(message[1], message[3], message[4])

    def _not_started(self, wid: int, why: str) -> None:
        """There never was a process."""
        process = self.by_id.get(wid)
        if process is not None:
            process.cause = {"kind": "start", "text": why}
            self._reaped(wid, 0, 0)

    def _fork_server_lost(self) -> None:
        """Its workers die with it (parent-death signal) and become our children; report them and start a new one."""
        self._server.close()
        if self.stopping:
            return
        cause = self._causes.cause_of_server(self._server.pid, self._server.wait())
        self.adopt_fork_server(start_fork_server())
        for process in list(self.by_id.values()):
            if process.exited is None:
                process.cause = cause
                self._reaped(process.wid, *_end_orphan(process.pid))

    def reap_orphans(self) -> None:
        """SIGCHLD: reap what is no child of the fork server."""
        self._server.reap_orphans()

    def fence_at(self, due: int) -> None:
        """Have all workers killed at a time, in monotonic ns, unless another one is told before; this process may not
        be able to do it then.
        """
        self._server.tell(msgpack.packb(["fence", due]))

    # ---- birth -------------------------------------------------------------------------------------------------------

    def start(
        self, wid: int, job_info: dict[str, Any], env: tuple[tuple[str, str], ...], facts: dict[str, Any]
    ) -> None:
        """Have a worker forked."""
        request = msgpack.packb(
            ["fork", wid, job_info, dict(env), facts], use_bin_type=True, unicode_errors=TEXT_ERRORS
        )
        if len(request) > self._server.request_bytes_max:
            text = (
                f"its environment variables and what is known of its job take {len(request)} bytes, of which"
                f" {self._server.request_bytes_max} can be passed on; pass what is large as an argument"
            )
            self._cannot_start(wid, text)
            return
        with contextlib.ExitStack() as opened:
            try:
                mailbox = Mailbox(self._on_full)
                opened.callback(mailbox.close)
                mail = os.dup(mailbox.theirs.fileno())
                opened.callback(os.close, mail)
                ours, theirs = map(opened.enter_context, socket.socketpair())
                (out_r, out_w), (err_r, err_w) = self._pipe(opened), self._pipe(opened)
            except OSError as error:
                remedy = "; raise the limit (`ulimit -n`) where the daemon is started" if error.errno == EMFILE else ""
                self._cannot_start(wid, f"its sockets and pipes could not be made: {error.strerror}{remedy}")
                return
            opened.pop_all()
        process = self.by_id[wid] = WorkerProcess(wid, mailbox)
        process.out = self._listen(process, out_r, False)
        process.err = self._listen(process, err_r, True)
        process.session_open = True
        self._server.tell(request, [mail, theirs.detach(), out_w, err_w])
        self._on_session(wid, ours)

    def _cannot_start(self, wid: int, text: str) -> None:
        """Not even asked for."""
        self._loop.call_soon(self._on_exited, wid, {"kind": "start", "text": text}, [], [])

    @staticmethod
    def _pipe(opened: contextlib.ExitStack) -> tuple[int, int]:
        ends = os.pipe()
        for fd in ends:
            opened.callback(os.close, fd)
        return ends

    def _listen(self, process: WorkerProcess, fd: int, is_err: bool) -> Output:
        path = os.path.join(self._log_dir, f"worker-{process.wid}.{'err' if is_err else 'out'}")

        def emit(name: str, err: bool, lines: list[str]) -> None:
            self._on_lines(process.wid, process.pid, name, err, lines)

        output = Output(fd, path, is_err, emit)

        def readable() -> None:
            if not output.read():
                self._loop.remove_reader(fd)

        self._loop.add_reader(fd, readable)
        return output

    def _on_full(self, mailbox: Mailbox, full: bool) -> None:
        if full:
            self._loop.add_writer(mailbox.ours.fileno(), mailbox.retry)
        elif mailbox.ours.fileno() >= 0:
            self._loop.remove_writer(mailbox.ours.fileno())

    # ---- death -------------------------------------------------------------------------------------------------------

    def kill(self, wid: int) -> None:
        """SIGKILL to the worker's process group, as soon as there is one."""
        process = self.by_id.get(wid)
        if process is None:
            return
        process.doomed = True
        if process.pid and process.exited is None:
            _signal_group(process.pid, signal.SIGKILL)

    def interrupt(self, wid: int) -> None:
        """SIGINT to the worker itself."""
        process = self.by_id.get(wid)
        if process is not None and process.pid and process.exited is None:
            try:
                os.kill(process.pid, signal.SIGINT)
            except ProcessLookupError:
                return

    def session_closed(self, wid: int) -> None:
        """Everything the worker sent has been handed on."""
        process = self.by_id.get(wid)
        if process is not None:
            process.session_open = False
            if process.exited is not None:
                self._finish(process)

    def _reaped(self, wid: int, status: int, peak_kib: int) -> None:
        process = self.by_id.get(wid)
        if process is None or process.exited is not None:
            return
        process.exited = (status, peak_kib)
        if process.session_open:
            self._loop.call_later(LAST_WORDS_S, self._finish, process)
        else:
            self._finish(process)

    def _finish(self, process: WorkerProcess) -> None:
        if self.by_id.pop(process.wid, None) is None or process.exited is None:
            return
        for output in (process.out, process.err):
            if output is not None:
                self._loop.remove_reader(output.fd)
                output.drain()
        unread = process.mailbox.take_back()
        process.mailbox.close()
        stderr = list(process.err.tail) if process.err is not None else []
        cause = process.cause or self._causes.cause(*process.exited, process.kills_before)
        self._on_exited(process.wid, cause, stderr, unread)

    def stop(self) -> None:
        """Kill everything and wait until nothing is left; the loop need not run any more."""
        self.stopping = True
        for process in self.by_id.values():
            if process.pid and process.exited is None:
                _signal_group(process.pid, signal.SIGKILL)
        self._server.close()
        self._server.wait()
        for process in self.by_id.values():
            for output in (process.out, process.err):
                if output is not None:
                    self._loop.remove_reader(output.fd)
                    output.drain()
            process.mailbox.close()
        self.by_id.clear()


def _end_orphan(pid: int) -> tuple[int, int]:
    """Make sure of the end of a worker whose fork server has died, and reap it; its status and peak memory in KiB."""
    if pid:
        _signal_group(pid, signal.SIGKILL)
        try:
            _, status, usage = os.wait4(pid, 0)
        except ChildProcessError:
            return signal.SIGKILL, 0
        return status, usage.ru_maxrss
    return signal.SIGKILL, 0


def _signal_group(pid: int, number: signal.Signals) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        try:
            os.kill(pid, number)  # it has been forked but has not made its own group yet
        except ProcessLookupError:
            return
