"""Open the journal that a configuration names."""

from rayd.config import REDIS_SCHEMES
from rayd.shell.journal.redis import RedisJournal
from rayd.shell.journal.sqlite import SqliteJournal
from rayd.shell.journal.store import JournalStore


def open_journal(where: str) -> JournalStore:
    """The journal at a path or URL.

    Raises:
        JournalError: it cannot be used.
    """
    return RedisJournal(where) if where.partition("://")[0] in REDIS_SCHEMES else SqliteJournal(where)
