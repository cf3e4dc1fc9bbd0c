"""The journal in a file: SQLite with a write-ahead log, each transaction on disk before it counts.

Each page of the log carries a checksum over all before it, so what a power cut has left of the last transaction is cut
off when the file is opened (https://www.sqlite.org/wal.html). The file is locked as long as it is open: one journal
has one head.
"""

import os
import sqlite3
from typing import Any, Final

from rayd.shell.journal.store import JournalError, Row, unpack

_TABLE: Final = """
CREATE TABLE IF NOT EXISTS journal (kind TEXT NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL, PRIMARY KEY (kind, key))
WITHOUT ROWID
"""
_BUSY: Final = "database is locked"


class SqliteJournal:
    """Rows in a file, made if there is none, for its owner only.

    Args:
        path: of the file; its folder is made too.

    Raises:
        JournalError: it cannot be opened, another head has it, or it is damaged.
    """

    def __init__(self, path: str) -> None:
        self.name = path
        try:
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        except OSError as error:
            raise JournalError(f"the journal {path} cannot be made: {error.strerror}; {_REMEDY}") from None
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0)
        try:
            # Without memory shared between processes the log also works on network file systems.
            self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute("BEGIN EXCLUSIVE")
            self._db.execute(_TABLE)
            self._db.execute("COMMIT")
            (verdict,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.Error as error:
            self._db.close()
            raise JournalError(self._why_closed(error)) from None
        if verdict != "ok":
            self._db.close()
            raise JournalError(f"the journal {path} is damaged ({verdict}); {_REMEDY}")

    def _why_closed(self, error: sqlite3.Error) -> str:
        if _BUSY in str(error):
            return f"the journal {self.name} is in use by another head; stop that one, or give another with --journal"
        return f"the journal {self.name} cannot be used: {error}; {_REMEDY}"

    def load(self) -> list[tuple[str, bytes, Any]]:
        """All rows."""
        try:
            rows = self._db.execute("SELECT kind, key, value FROM journal ORDER BY kind, key").fetchall()
            return [(kind, bytes(key), unpack(value)) for kind, key, value in rows]
        except (sqlite3.Error, ValueError) as error:
            raise JournalError(f"the journal {self.name} cannot be read: {error}; {_REMEDY}") from None

    def write(self, rows: list[Row]) -> None:
        """All rows in one transaction."""
        try:
            self._db.execute("BEGIN")
            for kind, key, value in rows:
                if value is None:
                    self._db.execute("DELETE FROM journal WHERE kind = ? AND key = ?", (kind, key))
                else:
                    self._db.execute("INSERT OR REPLACE INTO journal VALUES (?, ?, ?)", (kind, key, value))
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back()
            raise JournalError(str(error)) from None

    def _roll_back(self) -> None:
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        except sqlite3.Error:  # it has rolled back by itself, or will when it is opened again
            pass

    def clear(self) -> None:
        """Remove the file."""
        self._db.close()
        for suffix in ("", "-wal", "-shm", "-journal"):
            try:
                os.unlink(self.name + suffix)
            except FileNotFoundError:
                pass

    def close(self) -> None:
        """Let another process open it."""
        self._db.close()


_REMEDY: Final = "give another file with --journal, or move this one away to begin with an empty cluster"
