"""The journal's file and its writer: all or nothing, in order, and what a crash leaves is cut."""

import os
import stat
import threading
from pathlib import Path

import pytest

from rayd.core.effect import Write
from rayd.errors import Fault
from rayd.shell.journal.open import open_journal
from rayd.shell.journal.sqlite import SqliteJournal
from rayd.shell.journal.store import JournalError, Row, pack
from rayd.shell.journal.writer import JournalWriter


def row(key: bytes, value: object) -> Row:
    return Row("key", key, pack(value))


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Where a journal can be."""
    return str(tmp_path / "folder" / "journal")


def test_rows_are_there_after_it_was_opened_again(path: str) -> None:
    journal = open_journal(path)
    assert isinstance(journal, SqliteJournal)
    assert journal.load() == []
    journal.write([row(b"a", {"x": [1, b"\0", None]}), row(b"b", 2), Row("node", b"a", pack(3))])
    journal.write([row(b"b", None), row(b"a", "later")])
    journal.close()
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    journal = SqliteJournal(path)
    assert journal.load() == [("key", b"a", "later"), ("node", b"a", 3)]
    journal.clear()
    assert os.listdir(os.path.dirname(path)) == []


def test_what_a_crash_has_left_of_a_transaction_is_cut(path: str, tmp_path: Path) -> None:
    journal = SqliteJournal(path)
    for number in range(4):
        journal.write([row(b"%d" % number, bytes(1_000)), row(b"twin %d" % number, 1)])
    whole = Path(path + "-wal").read_bytes()
    for length in range(len(whole) - 3_000, len(whole), 500):
        copy = tmp_path / f"copy{length}"
        copy.write_bytes(Path(path).read_bytes())
        Path(f"{copy}-wal").write_bytes(whole[:length] + os.urandom(200))
        found = SqliteJournal(str(copy))
        keys = {key for _, key, _ in found.load()}
        numbers = {key for key in keys if not key.startswith(b"twin")}
        assert keys == numbers | {b"twin " + key for key in numbers}, "half of a transaction has come back"
        assert {b"0", b"1"} <= numbers
        found.close()
    journal.close()


def test_a_file_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match=r"the journal .*/file/journal cannot be made: .*--journal"):
        SqliteJournal(str(tmp_path / "file" / "journal"))


class Written:
    """What the writer reports, to be waited for."""

    def __init__(self) -> None:
        self.said: list[tuple[int, Fault | None]] = []
        self._news = threading.Condition()

    def __call__(self, number: int, why: Fault | None) -> None:
        with self._news:
            self.said.append((number, why))
            self._news.notify()

    def upto(self, number: int) -> list[tuple[int, Fault | None]]:
        """Wait for a report up to this row."""
        with self._news:
            assert self._news.wait_for(lambda: bool(self.said) and self.said[-1][0] >= number, 20), self.said
            return self.said


class Breaking:
    """A journal whose disk is full as long as it is told to be."""

    name = "breaking"

    def __init__(self) -> None:
        self.full = False
        self.rows: list[Row] = []

    def load(self) -> list[tuple[str, bytes, object]]:
        return []

    def write(self, rows: list[Row]) -> None:
        if self.full:
            raise JournalError("database or disk is full")
        self.rows += rows

    def clear(self) -> None: ...
    def close(self) -> None: ...


def test_what_came_together_is_written_together_and_in_order(path: str) -> None:
    heard = Written()
    writer = JournalWriter(SqliteJournal(path), heard)
    for number in range(1, 2_001):
        writer.put(Write(number, "key", b"%d" % (number % 7), number, fresh=False))
    assert all(why is None for _, why in heard.upto(2_000))
    assert len(heard.said) < 1_000
    assert sorted(value for _, _, value in writer.store.load()) == list(range(1_994, 2_001))
    writer.close()
    writer.store.close()


def test_nothing_that_builds_on_what_was_refused_is_written() -> None:
    heard, store = Written(), Breaking()
    writer = JournalWriter(store, heard)
    writer.put(Write(1, "key", b"a", 1, fresh=False))
    assert heard.upto(1) == [(1, None)]
    store.full = True
    writer.put(Write(2, "key", b"a", 2, fresh=False))
    (_, why) = heard.upto(2)[-1]
    assert why is not None
    assert "database or disk is full" in why["message"]
    store.full = False
    writer.put(Write(3, "key", b"b", 3, fresh=False))  # the core did not know yet
    writer.put(Write(4, "key", b"c", 4, fresh=True))
    assert heard.upto(4)[-1] == (4, None)
    assert [row.key for row in store.rows] == [b"a", b"c"]
    writer.close()
