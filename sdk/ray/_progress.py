"""A live table of the running tasks by name, in the terminal. Opt-in, and silent where there is no terminal."""

import sys
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TextIO

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

ROWS_MAX: Final = 20
REDRAW_S: Final = 0.1


def is_wanted(asked: bool | None, environ: Mapping[str, str]) -> bool:
    """Whether the user wants the view.

    Args:
        asked: what ``ray.init`` was told; None if nothing.
        environ: ``RAY_PROGRESS=1`` asks for it when ``ray.init`` was not told.
    """
    return environ.get("RAY_PROGRESS", "0") not in ("", "0") if asked is None else asked


class ProgressView:
    """Shows the latest counts; also a context manager that closes it.

    Args:
        stream: where to draw; None for ``sys.stdout``.
        clock: gives the time in seconds.
    """

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream or sys.stdout
        self._clock = clock
        self._live: Live | None = None
        self._gone = False
        self._drawn_s = float("-inf")
        self._latest: Mapping[str, Mapping[str, int]] = {}

    def update(self, counts: Mapping[str, Mapping[str, int]]) -> None:
        """Take over new counts; drawn at most every 0.1 s.

        Args:
            counts: by name of the task, how many are ``running``, ``pending`` and ``finished``; ``failed`` is optional.
        """
        self._latest = counts
        now = self._clock()
        if now - self._drawn_s >= REDRAW_S:
            self._drawn_s = now
            self._draw()

    def close(self) -> None:
        """Draw the last counts and leave them standing."""
        if self._live is not None:
            self._draw()
            self._stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _draw(self) -> None:
        if self._gone or not self._latest:
            return
        try:
            if self._live is None:
                if not self._stream.isatty():
                    return
                self._live = self._start()
            self._live.update(_table(self._latest), refresh=True)
        except (OSError, ValueError):  # the terminal is closed or gone
            self._gone = True
            self._stop()

    def _start(self) -> "Live":
        from rich.console import Console  # costs more to import than the rest of the SDK
        from rich.live import Live

        class QuietConsole(Console):
            """Leaves it to us when nobody reads any more; rich would end the user's program."""

            def on_broken_pipe(self) -> None:
                self.quiet = True
                raise BrokenPipeError("nobody reads the progress view")

        # Lines of workers are printed while the table stands: rich puts them above it.
        console = QuietConsole(file=self._stream)
        live = Live(console=console, auto_refresh=False, redirect_stdout=True, redirect_stderr=True)
        live.start()
        return live

    def _stop(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            try:
                live.stop()
            except (OSError, ValueError):  # as in _draw; sys.stdout is given back first
                return


def _table(counts: Mapping[str, Mapping[str, int]]) -> "Table":
    from rich.progress_bar import ProgressBar  # see _start
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in ("task", "", "running", "pending", "finished", "failed"):
        table.add_column(title, justify="left" if title in ("task", "") else "right")
    # Those with work left first; the order stays put while only counts change.
    names = sorted(counts, key=lambda name: (not _open(counts[name]), name))
    for name in names[:ROWS_MAX]:
        row = counts[name]
        done = row.get("finished", 0) + row.get("failed", 0)
        bar: Any = ProgressBar(total=max(done + _open(row), 1), completed=done, width=24)
        table.add_row(name, bar, *(str(row.get(key, 0)) for key in ("running", "pending", "finished", "failed")))
    if len(names) > ROWS_MAX:
        table.add_row(f"and {len(names) - ROWS_MAX} more", "", "", "", "", "")
    return table


def _open(row: Mapping[str, int]) -> int:
    return row.get("running", 0) + row.get("pending", 0)
