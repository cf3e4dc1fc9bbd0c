"""What a driver's terminal shows of the cluster: lines of its workers, warnings of the daemon, a view of running tasks.

A connection and a thread of its own, so that printing neither waits for nor delays the program's requests.
"""

import collections
import contextlib
import os
import select
import socket
import sys
import threading
import time
from typing import Any, Final

from ray._client import Client, load_error
from ray._logs import OutputPrinter
from ray._progress import ProgressView, is_wanted
from rayd.shell.dial import Target, dial
from rayd.wire.frame import Framer, encode
from rayd.wire.messages import EVENT, HELLO, LOG, PROTOCOL_VERSION, REPLY, RPC, UNREAD

_TURN_S: Final = 0.5
_PROGRESS_TURN_S: Final = 0.2
_LAST_LINES_S: Final = 2.0
# Two answers in a row: between them the daemon has looked at the pipes of all workers.
_FINAL_ROUNDS: Final = 2
# An error that comes again within this time, among so many different ones, is counted instead of shown.
_SAME_ERROR_S: Final = 5.0
_ERRORS_KEPT: Final = 100


class DriverOutput:
    """Prints until closed.

    Args:
        target: where the daemon serves.
        client: of the driver; its job's workers are printed, and its forgotten errors.
        show_lines: print lines of workers (warnings of the daemon are printed in any case).
        progress: show running tasks; None for what RAY_PROGRESS says.
    """

    def __init__(self, target: Target, client: Client, *, show_lines: bool, progress: bool | None) -> None:
        self.sock = dial(target)
        self.sock.sendall(encode((HELLO, PROTOCOL_VERSION, "logs", {"job": client.job, "pid": os.getpid()})))
        self._client = client
        self._report_errors = os.environ.get("RAY_IGNORE_UNHANDLED_ERRORS", "0") != "1"
        self._framer = Framer()
        self._printer = OutputPrinter.from_environ(os.environ)
        self._show_lines = show_lines
        self._errors: collections.Counter[str] = collections.Counter()
        self._errors_since = 0.0
        self._view = ProgressView() if is_wanted(progress, os.environ) else None
        self._answers = 0
        self._asked = 0
        self._final = 0
        self._thread = threading.Thread(target=self._run, name="ray-output", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        turn_s = _PROGRESS_TURN_S if self._view is not None else _TURN_S
        while True:
            if poll.poll(turn_s * 1000):
                try:
                    data = self.sock.recv(65536)
                except OSError:
                    data = b""
                if not data:
                    break
                for message in self._framer.feed(data):
                    self._show(message)
            self._printer.tick(time.monotonic())
            self._show_forgotten()
            if self._view is not None and self._asked == self._answers:
                self._ask("progress")
        self._show_repeated()
        self._printer.close()
        if self._view is not None:
            self._view.close()

    def _ask(self, method: str) -> None:
        self._asked += 1
        with contextlib.suppress(OSError):
            self.sock.sendall(encode((RPC, self._asked, method, {})))

    def _show(self, message: list[Any]) -> None:
        tag = message[0]
        if tag == LOG:
            if self._show_lines:
                self._printer.lines(message[1], message[2], message[3])
        elif tag == UNREAD:
            self._show_error(message[1], message[2])
        elif tag == EVENT:
            self._say(f"({message[1]}) {message[2]}")
        elif tag == REPLY:
            self._answers += 1
            if self._view is not None and isinstance(message[3], dict) and message[3]:
                self._view.update(message[3])
            elif self._answers < self._final:
                self._ask("ping")

    def _show_forgotten(self) -> None:
        while self._client.forgotten:
            self._show_error(*self._client.forgotten.popleft())

    def _show_error(self, kind: int, data: Any) -> None:
        """An error that nobody has looked at."""
        if not self._report_errors:
            return
        try:
            error = load_error(kind, data)
        except Exception as problem:  # noqa: BLE001 - loading runs code of the user
            error = problem
        from ray.exceptions import TaskCancelledError

        if isinstance(error, TaskCancelledError):  # somebody wanted that
            return
        text = str(error)
        now = time.monotonic()
        if len(self._errors) > _ERRORS_KEPT or now - self._errors_since > _SAME_ERROR_S:
            self._show_repeated()
            self._errors_since = now
        self._errors[text] += 1
        if self._errors[text] == 1:
            self._say(f"(error) nobody asked for the result of this task, which failed:\n{text}")

    def _show_repeated(self) -> None:
        """How often those errors came again that were shown once."""
        for text, count in self._errors.items():
            if count > 1:
                lines = text.strip().splitlines() or [""]
                self._say(f"(error) {count - 1} more results that nobody asked for failed like this: {lines[-1]}")
        self._errors.clear()

    @staticmethod
    def _say(text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            print(text, file=sys.stderr, flush=True)

    def finish(self) -> None:
        """Print what workers have written until now."""
        if threading.current_thread() is self._thread or not self._thread.is_alive():
            return
        self._show_forgotten()
        self._final = self._asked + _FINAL_ROUNDS
        self._ask("ping")
        deadline = time.monotonic() + _LAST_LINES_S
        while self._answers < self._final and self._thread.is_alive() and time.monotonic() < deadline:
            self._thread.join(0.001)

    def close(self) -> None:
        """Stop printing."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(_LAST_LINES_S)
        self.sock.close()
