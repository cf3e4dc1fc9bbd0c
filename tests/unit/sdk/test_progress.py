"""The live view of running tasks."""

import io
import sys

import pytest

from ray._progress import ProgressView, is_wanted


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture(autouse=True)
def _wide_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("LINES", "60")
    monkeypatch.setenv("TERM", "xterm")


@pytest.mark.parametrize(
    ("asked", "environ", "wanted"),
    [
        (None, {}, False),
        (None, {"RAY_PROGRESS": "1"}, True),
        (None, {"RAY_PROGRESS": "0"}, False),
        (True, {}, True),
        (False, {"RAY_PROGRESS": "1"}, False),
    ],
)
def test_it_is_opt_in(asked, environ, wanted):
    assert is_wanted(asked, environ) is wanted


def test_nothing_is_drawn_where_no_terminal_is():
    stream = io.StringIO()
    with ProgressView(stream) as view:
        view.update({"f": {"running": 1, "pending": 2, "finished": 3}})
    closed = io.StringIO()
    closed.close()
    ProgressView(closed).update({"f": {"running": 1}})
    assert stream.getvalue() == ""


class Hanging(Terminal):
    """A terminal that hangs up after the first drawing."""

    def __init__(self):
        super().__init__()
        self.hung_up = False

    def write(self, text):
        if self.hung_up:
            raise BrokenPipeError(32, "hung up")
        return super().write(text)


def test_a_terminal_that_hangs_up_ends_the_view_and_gives_the_streams_back():
    clock, stream = Clock(), Hanging()
    before = sys.stdout
    view = ProgressView(stream, clock)
    view.update({"f": {"running": 1}})
    assert sys.stdout is not before
    stream.hung_up = True
    clock.now = 1.0
    view.update({"f": {"running": 2}})
    clock.now = 2.0
    view.update({"f": {"running": 3}})
    view.close()
    assert sys.stdout is before


def test_the_counts_of_each_name_are_drawn():
    stream = Terminal()
    with ProgressView(stream) as view:
        view.update({"train": {"running": 11, "pending": 22, "finished": 33, "failed": 44}})
    drawn = stream.getvalue()
    row = next(line for line in drawn.splitlines() if "train" in line)
    assert [word for word in row.split() if word.isdigit()] == ["11", "22", "33", "44"]


def test_it_draws_no_more_often_than_it_can_be_seen_and_the_last_counts_for_sure():
    clock, stream = Clock(), Terminal()
    view = ProgressView(stream, clock)
    view.update({"f": {"running": 1}})
    size = len(stream.getvalue())
    view.update({"f": {"running": 777}})
    assert len(stream.getvalue()) == size
    clock.now = 0.2
    view.update({"f": {"running": 888}})
    assert "888" in stream.getvalue()
    view.update({"f": {"running": 999}})
    view.close()
    assert "999" in stream.getvalue()


def test_many_names_are_cut_and_those_with_work_come_first():
    stream = Terminal()
    counts = {f"done{number:02}": {"finished": 1} for number in range(30)}
    with ProgressView(stream) as view:
        view.update({**counts, "zz_busy": {"running": 1}})
    drawn = stream.getvalue()
    assert drawn.index("zz_busy") < drawn.index("done00")
    assert "and 11 more" in drawn


def test_without_counts_nothing_is_drawn():
    stream = Terminal()
    with ProgressView(stream) as view:
        view.update({})
    assert stream.getvalue() == ""
