"""Output of workers, through real pipes: whole lines, under the right name, nothing lost and nothing unbounded."""

import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from rayd.shell.output import MARK, Output


class Pipe:
    """A worker's pipe and what comes out of it."""

    def __init__(self, path: Path, is_err: bool = False) -> None:
        read_end, self.fd = os.pipe()
        self.path = path
        self.emitted: list[tuple[str, bool, list[str]]] = []
        self.output = Output(read_end, str(self.path), is_err, lambda *said: self.emitted.append(said))
        self.open = True

    def write(self, data: bytes) -> None:
        """The worker writes, the daemon reads all of it."""
        while data:
            data = data[os.write(self.fd, data[:60_000]) :]
            self.output.read()

    def mark(self, name: str) -> None:
        self.write(MARK + name.encode() + MARK + b"\n")

    def lines(self) -> list[str]:
        """Emitted since the last look, whatever the name."""
        lines = [line for _, _, group in self.emitted for line in group]
        self.emitted.clear()
        return lines

    def end(self) -> None:
        """The worker is gone."""
        if self.open:
            self.open = False
            os.close(self.fd)
            self.output.drain()


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[Pipe]:
    made = Pipe(tmp_path / "worker.out")
    yield made
    made.end()


def test_lines_come_when_they_are_complete(pipe: Pipe) -> None:
    pipe.write(b"one\ntwo\nthr")
    assert pipe.lines() == ["one", "two"]
    pipe.write(b"ee\n")
    assert pipe.lines() == ["three"]


def test_lines_of_one_read_come_together_with_name_and_kind(tmp_path: Path) -> None:
    pipe = Pipe(tmp_path / "worker.out", is_err=True)
    pipe.mark("f")
    pipe.write(b"one\n\ntwo\n")
    assert pipe.emitted == [("f", True, ["one", "", "two"])]
    pipe.end()


def test_a_mark_names_the_lines_after_it(pipe: Pipe) -> None:
    pipe.write(b"early\n")
    pipe.mark("f")
    pipe.write(b"by f\n")
    pipe.mark("g")
    pipe.write(b"by g\n")
    assert pipe.emitted == [("", False, ["early"]), ("f", False, ["by f"]), ("g", False, ["by g"])]


def test_marks_and_lines_of_one_read_are_kept_apart(pipe: Pipe) -> None:
    mark = MARK + b"%b" + MARK + b"\n"
    pipe.write(b"0\n" + mark % b"f" + b"1\n2\n" + mark % b"g" + mark % b"h" + b"3\n")
    assert pipe.emitted == [("", False, ["0"]), ("f", False, ["1", "2"]), ("h", False, ["3"])]


def test_an_unfinished_line_before_a_mark_belongs_to_the_name_before(pipe: Pipe) -> None:
    pipe.mark("f")
    pipe.write(b"no newline")
    pipe.mark("g")
    pipe.write(b"next\n")
    assert pipe.emitted == [("f", False, ["no newline"]), ("g", False, ["next"])]


def test_a_mark_may_be_cut_anywhere(tmp_path: Path) -> None:
    data = b"a\n" + MARK + b"name" + MARK + b"\nb\n"
    for cut in range(1, len(data)):
        pipe = Pipe(tmp_path / "worker.out")
        pipe.write(data[:cut])
        pipe.write(data[cut:])
        assert pipe.emitted == [("", False, ["a"]), ("name", False, ["b"])], cut
        pipe.end()


def test_the_last_line_needs_no_newline_when_the_worker_ends(pipe: Pipe) -> None:
    pipe.write(b"one\nlast words")
    assert pipe.lines() == ["one"]
    pipe.end()
    assert pipe.lines() == ["last words"]


def test_what_was_written_just_before_the_end_is_not_lost(pipe: Pipe) -> None:
    os.write(pipe.fd, b"".join(b"line %d\n" % number for number in range(5_000)))
    pipe.end()
    assert pipe.lines() == [f"line {number}" for number in range(5_000)]


def test_reading_never_waits(pipe: Pipe) -> None:
    assert pipe.output.read() is True
    assert pipe.lines() == []


def test_the_end_of_the_pipe_is_told(tmp_path: Path) -> None:
    pipe = Pipe(tmp_path / "worker.out")
    os.write(pipe.fd, b"x\n")
    os.close(pipe.fd)
    pipe.open = False
    assert [pipe.output.read(), pipe.output.read()] == [True, False]
    pipe.output.drain()


def test_a_child_that_keeps_the_pipe_open_and_writes_for_ever_does_not_keep_the_daemon(tmp_path: Path) -> None:
    pipe = Pipe(tmp_path / "worker.out")
    child = os.fork()
    if not child:
        while True:
            os.write(pipe.fd, b"x\n" * 10_000)
    try:
        os.close(pipe.fd)
        pipe.open = False
        assert select.select([pipe.output.fd], [], [], 10)[0]
        pipe.output.drain()
        assert 1 <= len(pipe.lines()) <= 1 << 20
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


def test_binary_garbage_is_passed_on_as_text(pipe: Pipe) -> None:
    pipe.write(bytes(range(256)) + b"\n" + b"\xff\xfe\n" + "grüße\r\n".encode())
    lines = pipe.lines()
    assert len(lines) == 4  # 0x0a is a newline wherever it stands
    assert lines[2] == "\ufffd\ufffd"
    assert lines[3] == "grüße"


def test_a_line_without_end_is_passed_on_in_pieces(pipe: Pipe) -> None:
    pipe.write(b"x" * 1_000_000)
    pipe.write(b"\n")
    pieces = pipe.lines()
    assert "".join(pieces) == "x" * 1_000_000
    assert max(map(len, pieces)) <= 2 * 65536


def test_the_file_keeps_everything_but_the_marks(pipe: Pipe) -> None:
    pipe.write(b"one\n")
    pipe.mark("f")
    pipe.write(b"two\n\nthree")
    pipe.end()
    assert pipe.path.read_text() == "one\ntwo\n\nthree\n"


def test_the_tail_has_the_last_lines_of_what_runs_now(pipe: Pipe) -> None:
    pipe.mark("f")
    pipe.write(b"of f\n")
    pipe.mark("g")
    pipe.write(b"".join(b"%d\n" % number for number in range(100)))
    assert list(pipe.output.tail) == [str(number) for number in range(80, 100)]


def test_lines_of_the_tail_are_short_and_harm_no_terminal(pipe: Pipe) -> None:
    pipe.write(b"\x1b[31mred\x07\n" + b"y" * 5_000 + b"\n")
    first, second = pipe.output.tail
    assert first == "\\x1b[31mred\\x07"
    assert second == "y" * 400 + "... (5000 characters)"


@pytest.mark.parametrize("path", ["/dev/full", "/nowhere/worker.out"])
def test_lines_that_cannot_be_kept_are_passed_on_all_the_same_and_the_first_ones_say_so(path: str) -> None:
    pipe = Pipe(Path(path))
    pipe.write(b"one\n")
    note, line = pipe.lines()
    assert f"not kept in {path}: No " in note
    assert line == "one"
    pipe.write(b"two\n")
    assert pipe.lines() == ["two"]
    pipe.write(b"last")
    pipe.end()
    assert pipe.lines() == ["last"]
    assert list(pipe.output.tail) == ["one", "two", "last"]
