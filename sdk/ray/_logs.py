"""The driver's printing of what its workers write.

Each line gets a prefix that says where it comes from. Many workers that say the same within a few seconds are shown as
one: the line of the first worker at once, and those of the others as one line with a count when the time is over.
Lines that differ only in numbers are the same. What one worker says again and again is never withheld.
"""

import dataclasses
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Self, TextIO

WINDOW_S: Final = 5.0
# A program that never repeats itself must not fill the memory with lines to compare with.
_PATTERNS_MAX: Final = 10_000
_NUMBER: Final = re.compile(r"0[xX][0-9a-fA-F]+|\d+")
_CYAN, _RESET = "\x1b[36m", "\x1b[0m"


@dataclasses.dataclass(slots=True)
class _Seen:
    """One line, told in the same words by one or more workers."""

    first: tuple[Any, Any]  # address and pid of the worker whose lines are printed
    since_s: float
    repeats: int = 0
    last: str = ""  # the latest withheld line, with its prefix
    is_err: bool = False


class OutputPrinter:
    """Prints lines of workers.

    Args:
        stdout: where lines of their stdout go; None for whatever ``sys.stdout`` is at the time.
        stderr: where lines of their stderr go; None likewise.
        color: whether the prefix is coloured; None for "if it is a terminal".
        dedup: whether equal lines of several workers are shown once.
        clock: gives the time in seconds.
        our_ip: address of this machine, which is not worth telling.
        window_s: for how many seconds after its first printing a line is withheld.
        always: lines in which this is found are never withheld.
        never: lines in which this is found are not shown at all.
    """

    def __init__(
        self,
        stdout: TextIO | None = None,
        stderr: TextIO | None = None,
        *,
        color: bool | None = None,
        dedup: bool = True,
        clock: Callable[[], float] = time.monotonic,
        our_ip: str | None = None,
        window_s: float = WINDOW_S,
        always: re.Pattern[str] | None = None,
        never: re.Pattern[str] | None = None,
    ) -> None:
        self._streams = (stdout, stderr)
        self._color = color
        self._dedup = dedup
        self._clock = clock
        self._our_ip = our_ip
        self._window_s = window_s
        self._always = always
        self._never = never
        self._seen: dict[str, _Seen] = {}  # in the order of since_s
        self._told = False
        self._lock = threading.Lock()  # lines arrive on whichever thread reads the connection

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], our_ip: str | None = None) -> Self:
        """A printer to the standard streams, as the environment wants it.

        Args:
            environ: read for ``RAY_COLOR_PREFIX``, ``RAY_DEDUP_LOGS`` and ``RAY_DEDUP_LOGS_AGG_WINDOW_S``,
                ``..._ALLOW_REGEX``, ``..._SKIP_REGEX``.
            our_ip: address of this machine.

        Raises:
            ValueError: one of them has a value that means nothing.
        """
        color = environ.get("RAY_COLOR_PREFIX")
        window = environ.get("RAY_DEDUP_LOGS_AGG_WINDOW_S", str(WINDOW_S))
        try:
            window_s = float(window)
        except ValueError:
            raise ValueError(f"RAY_DEDUP_LOGS_AGG_WINDOW_S takes a number of seconds, got {window!r}") from None
        return cls(
            color=None if color is None else color != "0",
            dedup=environ.get("RAY_DEDUP_LOGS", "1") != "0",
            our_ip=our_ip,
            window_s=window_s,
            always=_pattern(environ, "RAY_DEDUP_LOGS_ALLOW_REGEX"),
            never=_pattern(environ, "RAY_DEDUP_LOGS_SKIP_REGEX"),
        )

    def lines(self, source: Mapping[str, Any], is_err: bool, lines: Iterable[str | bytes]) -> None:
        """Print what a worker wrote.

        Args:
            source: ``name`` of its task or actor, ``pid``, and ``ip`` of its machine.
            is_err: whether it was written to stderr.
            lines: without line ends; bytes need not be text.
        """
        with self._lock:
            self._flush(self._clock() - self._window_s)
            prefix = self._prefix(source, is_err)
            worker = (source.get("ip"), source.get("pid"))
            texts = (line.decode("utf-8", "replace") if isinstance(line, bytes) else line for line in lines)
            shown = [f"{prefix}{text}\n" for text in texts if self._is_shown(text, worker, prefix, is_err)]
            self._write(is_err, "".join(shown))

    def tick(self, now: float) -> None:
        """Print the counts whose time is over.

        Args:
            now: time of the clock, in seconds.
        """
        with self._lock:
            self._flush(now - self._window_s)

    def close(self) -> None:
        """Print all counts."""
        with self._lock:
            self._flush(float("inf"))

    def _is_shown(self, text: str, worker: tuple[Any, Any], prefix: str, is_err: bool) -> bool:
        if self._never is not None and self._never.search(text):
            return False
        if not self._dedup or not text.strip() or (self._always is not None and self._always.search(text)):
            return True
        pattern = _NUMBER.sub("#", text)
        seen = self._seen.get(pattern)
        if seen is None:
            if len(self._seen) >= _PATTERNS_MAX:
                self._flush(next(iter(self._seen.values())).since_s)
            self._seen[pattern] = _Seen(worker, self._clock())
            return True
        if seen.first == worker:
            return True
        seen.repeats += 1
        seen.last = f"{prefix}{text}"
        seen.is_err = is_err
        return False

    def _flush(self, until_s: float) -> None:
        """Forget lines first printed at ``until_s`` or earlier, telling how often they were withheld."""
        while self._seen:
            pattern, seen = next(iter(self._seen.items()))
            if seen.since_s > until_s:
                return
            del self._seen[pattern]
            if seen.repeats:
                hint = "" if self._told else " (RAY_DEDUP_LOGS=0 shows every line)"
                self._told = True
                self._write(seen.is_err, f"{seen.last} [repeated {seen.repeats}x across cluster]{hint}\n")

    def _prefix(self, source: Mapping[str, Any], is_err: bool) -> str:
        ip = source.get("ip")
        place = f", ip={ip}" if ip and ip != self._our_ip else ""
        text = f"({source.get('name') or 'worker'} pid={source.get('pid')}{place})"
        return f"{_CYAN}{text}{_RESET} " if self._is_colored(is_err) else f"{text} "

    def _is_colored(self, is_err: bool) -> bool:
        if self._color is not None:
            return self._color
        stream = self._stream(is_err)
        try:
            return stream is not None and stream.isatty()
        except ValueError:  # closed
            return False

    def _stream(self, is_err: bool) -> TextIO | None:
        # Looked up each time: notebooks and tests replace the standard streams while a session runs.
        return self._streams[is_err] or (sys.stderr if is_err else sys.stdout)

    def _write(self, is_err: bool, text: str) -> None:
        stream = self._stream(is_err)
        if not text or stream is None:
            return
        try:
            try:
                stream.write(text)
            except UnicodeEncodeError:
                encoding = stream.encoding or "ascii"
                stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
            stream.flush()
        except (OSError, ValueError):  # closed, or its reader is gone: nobody is left to tell
            return


def _pattern(environ: Mapping[str, str], name: str) -> re.Pattern[str] | None:
    try:
        return re.compile(environ[name]) if environ.get(name) else None
    except re.error as reason:
        raise ValueError(f"{name} takes a regular expression, got {environ[name]!r}: {reason}") from None
