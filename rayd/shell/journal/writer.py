"""A thread that writes the journal, so that the daemon's loop never waits for a disk.

Rows that came while a transaction was under way go together into the next one.
"""

import queue
import threading
from collections.abc import Callable

from rayd.core.effect import Write
from rayd.errors import JOURNAL, Fault, fault
from rayd.shell.journal.store import JournalError, JournalStore, Row, TakenError, pack


class JournalWriter:
    """Writes rows in order and reports.

    Args:
        store: where to.
        report: called in the thread with the number of the last row written and None, or with that of the last one
            refused and why.
    """

    def __init__(self, store: JournalStore, report: Callable[[int, Fault | None], None]) -> None:
        self.store = store
        self._report = report
        self._rows: queue.SimpleQueue[Write | None] = queue.SimpleQueue()
        self._refusing = False
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    def put(self, row: Write) -> None:
        """Write a row soon."""
        self._rows.put(row)

    def close(self) -> None:
        """Write what there is and end."""
        self._rows.put(None)
        self._thread.join()

    def _run(self) -> None:
        while True:
            batch, over = self._take()
            if batch:
                self._write(batch)
            if over:
                return

    def _take(self) -> tuple[list[Write], bool]:
        """All rows that are there, at least one unless there will be no more."""
        batch: list[Write] = []
        row = self._rows.get()
        while row is not None:
            batch.append(row)
            try:
                row = self._rows.get_nowait()
            except queue.Empty:
                return batch, False
        return batch, True

    def _write(self, batch: list[Write]) -> None:
        while batch and self._refusing and not batch[0].fresh:
            batch.pop(0)  # the core takes these back when it hears of the ones before
        if not batch:
            return
        self._refusing = False
        last = batch[-1].number
        try:
            self.store.write([Row(row.kind, row.key, pack(row.value)) for row in batch])
        except JournalError as error:
            self._refusing = True
            text = (
                f"The head cannot write its journal {self.store.name}: {error}. Nothing was changed. Make it writable"
                " again, then try again."
            )
            self._report(last, fault(JOURNAL, text, taken=isinstance(error, TakenError)))
        else:
            self._report(last, None)
