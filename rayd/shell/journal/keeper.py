"""The journal of a running daemon: opened at its start, fed by its core, closed or emptied at its end."""

import asyncio
import sys
from collections.abc import Callable

from rayd.core.effect import Write
from rayd.core.event import Event, Recover, Written
from rayd.errors import Fault
from rayd.shell.errors import StartError
from rayd.shell.journal.open import open_journal
from rayd.shell.journal.store import JournalError
from rayd.shell.journal.writer import JournalWriter


class JournalKeeper:
    """Keeps the journal of a head.

    Args:
        where: a file, or the URL of a Redis server.
        loop: of the daemon.
        feed: gives the core an event.
        stop: ends the daemon for a reason.

    Raises:
        StartError: it cannot be used.
    """

    def __init__(
        self,
        where: str,
        loop: asyncio.AbstractEventLoop,
        feed: Callable[[Event], None],
        stop: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._feed = feed
        self._stop = stop
        try:
            store = open_journal(where)
            rows = store.load()
        except JournalError as error:
            raise StartError(str(error)) from None
        self._writer = JournalWriter(store, self._written)
        self._rows = rows

    def recover(self) -> None:
        """Tell the core what is in it: the first event of all."""
        rows, self._rows = self._rows, []
        self._feed(Recover(rows))

    def put(self, row: Write) -> None:
        """Write a row soon."""
        self._writer.put(row)

    def close(self, *, forget: bool) -> None:
        """Write what there is, and let another head have it; or forget everything, if the cluster has ended."""
        self._writer.close()
        try:
            if forget:
                self._writer.store.clear()
            else:
                self._writer.store.close()
        except JournalError as error:
            print(error, file=sys.stderr, flush=True)

    def _written(self, number: int, why: Fault | None) -> None:
        """In the writer's thread."""
        self._loop.call_soon_threadsafe(self._take_written, number, why)

    def _take_written(self, number: int, why: Fault | None) -> None:
        if why is not None:
            print(why["message"], file=sys.stderr, flush=True)
            if why.get("taken"):
                self._stop(why["message"])
        self._feed(Written(number, why))
