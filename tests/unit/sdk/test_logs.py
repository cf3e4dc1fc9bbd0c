"""What the driver prints of its workers' output."""

import io
import re

import pytest

from ray._logs import OutputPrinter


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Gone(io.StringIO):
    def write(self, text):
        raise BrokenPipeError(32, "nobody reads")


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def out():
    return io.StringIO()


@pytest.fixture
def err():
    return io.StringIO()


@pytest.fixture
def printer(out, err, clock):
    return OutputPrinter(out, err, clock=clock, our_ip="10.0.0.1")


def worker(pid, name="f", ip=None):
    return {"name": name, "pid": pid, "ip": ip, "job": "01"}


def test_lines_have_a_prefix_and_go_where_they_were_written(printer, out, err):
    printer.lines(worker(1), False, ["hello", "", "  indented"])
    printer.lines(worker(1), True, ["oh no"])
    assert out.getvalue() == "(f pid=1) hello\n(f pid=1) \n(f pid=1)   indented\n"
    assert err.getvalue() == "(f pid=1) oh no\n"


def test_other_machines_are_named(printer, out):
    printer.lines(worker(1, name="Actor", ip="10.0.0.2"), False, ["hello"])
    printer.lines(worker(1, name="Actor", ip="10.0.0.1"), False, ["bye"])
    assert out.getvalue() == "(Actor pid=1, ip=10.0.0.2) hello\n(Actor pid=1) bye\n"


def test_garbage_is_replaced(printer, out):
    printer.lines(worker(1), False, [b"\xff\xfe ok"])
    assert out.getvalue() == "(f pid=1) \ufffd\ufffd ok\n"


def test_characters_that_the_stream_cannot_write_are_escaped(clock):
    raw = io.BytesIO()
    printer = OutputPrinter(io.TextIOWrapper(raw, encoding="ascii"), clock=clock)
    printer.lines(worker(1), False, ["naïve"])
    assert raw.getvalue() == b"(f pid=1) na\\xefve\n"


def test_a_closed_or_broken_stream_is_survived(clock):
    closed = io.StringIO()
    closed.close()
    for stream in (closed, Gone()):
        OutputPrinter(stream, stream, clock=clock).lines(worker(1), False, ["hello"])


def test_the_standard_streams_of_the_moment_are_used(capsys, clock):
    printer = OutputPrinter(clock=clock)
    printer.lines(worker(1), False, ["hello"])
    printer.lines(worker(1), True, ["oh no"])
    shown = capsys.readouterr()
    assert shown.out == "(f pid=1) hello\n"
    assert shown.err == "(f pid=1) oh no\n"


def test_the_prefix_is_coloured_on_a_terminal_or_when_asked(clock):
    terminal, file = Terminal(), io.StringIO()
    OutputPrinter(terminal, terminal, clock=clock).lines(worker(1), False, ["x"])
    assert terminal.getvalue() == "\x1b[36m(f pid=1)\x1b[0m x\n"
    OutputPrinter(file, file, color=True, clock=clock).lines(worker(1), False, ["x"])
    assert file.getvalue() == "\x1b[36m(f pid=1)\x1b[0m x\n"
    plain = Terminal()
    OutputPrinter(plain, plain, color=False, clock=clock).lines(worker(1), False, ["x"])
    assert plain.getvalue() == "(f pid=1) x\n"


def test_what_several_workers_say_is_shown_once_with_a_count(printer, out, clock):
    for pid in (1, 2, 3, 4):
        printer.lines(worker(pid), False, ["loading"])
    assert out.getvalue() == "(f pid=1) loading\n"
    printer.tick(clock.now + 4.9)
    assert out.getvalue() == "(f pid=1) loading\n"
    printer.tick(clock.now + 5.0)
    assert out.getvalue().splitlines()[1].startswith("(f pid=4) loading [repeated 3x across cluster]")


def test_lines_that_differ_only_in_numbers_are_the_same(printer, out):
    printer.lines(worker(1), False, ["step 1 at 0x7f00 took 0.25 s"])
    printer.lines(worker(2), False, ["step 7 at 0x8f11 took 12.5 s"])
    printer.lines(worker(2), False, ["another step"])
    assert out.getvalue().splitlines() == ["(f pid=1) step 1 at 0x7f00 took 0.25 s", "(f pid=2) another step"]


def test_one_worker_may_repeat_itself(printer, out):
    printer.lines(worker(1), False, ["tick", "tick"])
    printer.lines(worker(2), False, ["tick"])
    printer.lines(worker(1), False, ["tick"])
    assert out.getvalue() == "(f pid=1) tick\n" * 3


def test_the_same_pid_on_another_machine_is_another_worker(printer, out):
    printer.lines(worker(1), False, ["tick"])
    printer.lines(worker(1, ip="10.0.0.2"), False, ["tick"])
    assert out.getvalue() == "(f pid=1) tick\n"


def test_after_the_window_a_line_is_shown_again(printer, out, clock):
    printer.lines(worker(1), False, ["tick"])
    printer.lines(worker(2), False, ["tick"])
    clock.now += 6
    printer.lines(worker(2), False, ["tick"])
    lines = out.getvalue().splitlines()
    assert len(lines) == 3
    assert "[repeated 1x across cluster]" in lines[1]
    assert lines[2] == "(f pid=2) tick"


def test_closing_tells_what_is_left_on_the_right_stream_and_the_hint_once(printer, out, err):
    for pid in (1, 2):
        printer.lines(worker(pid), True, ["oh no"])
        printer.lines(worker(pid), False, ["fine"])
    printer.close()
    printer.close()
    assert err.getvalue().endswith("(f pid=2) oh no [repeated 1x across cluster] (RAY_DEDUP_LOGS=0 shows every line)\n")
    assert out.getvalue().endswith("(f pid=2) fine [repeated 1x across cluster]\n")


def test_blank_lines_are_never_counted(printer, out):
    printer.lines(worker(1), False, [""])
    printer.lines(worker(2), False, [""])
    printer.close()
    assert out.getvalue() == "(f pid=1) \n(f pid=2) \n"


def test_without_deduplication_every_line_is_shown(out, clock):
    printer = OutputPrinter(out, out, dedup=False, clock=clock)
    for pid in (1, 2):
        printer.lines(worker(pid), False, ["same"])
    assert len(out.getvalue().splitlines()) == 2


def test_patterns_choose_what_is_always_and_what_is_never_shown(out, clock):
    printer = OutputPrinter(out, out, clock=clock, always=re.compile("metric"), never=re.compile("^debug"))
    for pid in (1, 2):
        printer.lines(worker(pid), False, ["metric 5", "debug: x"])
    assert out.getvalue() == "(f pid=1) metric 5\n(f pid=2) metric 5\n"


def test_a_program_that_never_repeats_itself_does_not_fill_the_memory(printer, out):
    words = ["".join(chr(97 + int(digit)) for digit in str(number)) for number in range(20_100)]
    printer.lines(worker(1), False, words)
    assert len(printer._seen) <= 10_000
    assert len(out.getvalue().splitlines()) == 20_100


def test_the_environment_sets_it_up(capsys):
    printer = OutputPrinter.from_environ({"RAY_DEDUP_LOGS": "0", "RAY_COLOR_PREFIX": "1"})
    for pid in (1, 2):
        printer.lines(worker(pid, ip=None), False, ["same"])
    assert capsys.readouterr().out == "\x1b[36m(f pid=1)\x1b[0m same\n\x1b[36m(f pid=2)\x1b[0m same\n"


@pytest.mark.parametrize("name", ["RAY_DEDUP_LOGS_AGG_WINDOW_S", "RAY_DEDUP_LOGS_ALLOW_REGEX"])
def test_a_variable_that_means_nothing_is_named(name):
    with pytest.raises(ValueError, match=name):
        OutputPrinter.from_environ({name: "("})
