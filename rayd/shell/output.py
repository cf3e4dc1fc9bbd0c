"""Output of workers: their pipes, files in the session folder, and lines for the driver.

A worker writes a mark, ``MARK name MARK newline``, into its own pipes whenever the name of what it runs changes, so
lines carry the right name even though the daemon reads them later.
"""

import fcntl
import os
from collections import deque
from collections.abc import Callable
from typing import Final

MARK: Final = b"\x1e\x1dray-name:"
_READ_BYTES: Final = 65536
# A line longer than this is passed on in pieces, so that a worker that never writes a newline cannot fill the daemon.
_LINE_BYTES_MAX: Final = 64 * 1024
_TAIL_LINES: Final = 20
_TAIL_LINE_CHARS: Final = 400


class Output:
    """One pipe of one worker.

    Args:
        fd: read end, owned from now on.
        path: file that keeps everything, as long as it can be written.
        is_err: stderr rather than stdout.
        emit: called with (name, is_err, lines) for complete lines.
    """

    __slots__ = ("_emit", "_file", "_kept", "_partial", "fd", "is_err", "name", "tail")

    def __init__(self, fd: int, path: str, is_err: bool, emit: Callable[[str, bool, list[str]], None]) -> None:
        self.fd = fd
        self.is_err = is_err
        self.name = ""
        self.tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._emit = emit
        self._partial = b""
        self._file = path
        self._kept = True
        os.set_blocking(fd, False)

    def read(self) -> bool:
        """Take what is there; False at the end of the pipe."""
        try:
            data = os.read(self.fd, _READ_BYTES)
        except BlockingIOError:
            return True
        except OSError:
            data = b""
        if data:
            self._take(data)
            return True
        return False

    def drain(self) -> None:
        """Take all that is left without waiting, the unfinished last line too, and close.

        What the worker has left is no more than the pipe holds; beyond that a child of it is writing on.
        """
        left = fcntl.fcntl(self.fd, fcntl.F_GETPIPE_SZ)
        while left > 0:
            try:
                data = os.read(self.fd, min(left, _READ_BYTES))
            except OSError:
                break
            if not data:
                break
            left -= len(data)
            self._take(data)
        if self._partial:
            self._take(b"\n")
        os.close(self.fd)

    def _take(self, data: bytes) -> None:
        lines = (self._partial + data).split(b"\n")
        self._partial = lines.pop()
        if len(self._partial) > _LINE_BYTES_MAX:
            lines.append(self._partial)
            self._partial = b""
        ready: list[str] = []
        for line in lines:
            while MARK in line:
                before, _, rest = line.partition(MARK)
                name, _, after = rest.partition(MARK)
                if before:
                    ready.append(_text(before))
                self._flush(ready)
                ready = []
                self.name = _text(name)
                self.tail.clear()  # what another task wrote explains nothing about this one
                line = after  # noqa: PLW2901 - the rest of it
                if not line:
                    break
            else:
                ready.append(_text(line))
                continue
        self._flush(ready)

    def _flush(self, ready: list[str]) -> None:
        if not ready:
            return
        self.tail.extend(map(_tail_line, ready[-_TAIL_LINES:]))
        try:
            with open(self._file, "a", encoding="utf-8", errors="replace") as file:
                file.write("\n".join(ready) + "\n")
        except OSError as error:
            if self._kept:
                ready = [f"(rayd) Lines like the following are not kept in {self._file}: {error.strerror}", *ready]
            self._kept = False
        self._emit(self.name, self.is_err, ready)


def _tail_line(line: str) -> str:
    """A line fit for the text of an error: of bounded length, and without what would garble a terminal."""
    if len(line) > _TAIL_LINE_CHARS:
        line = f"{line[:_TAIL_LINE_CHARS]}... ({len(line)} characters)"
    if line.isprintable():
        return line
    return "".join(char if char.isprintable() or char == "\t" else repr(char)[1:-1] for char in line)


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace").rstrip("\r")
