"""From an exception in the worker to bytes."""

import pickle
import subprocess
import sys
import threading

import cloudpickle
import pytest

import ray._ids
from ray import _errors
from ray.exceptions import RayError, RayTaskError


class LockedError(Exception):
    def __init__(self, text):
        super().__init__(text)
        self.lock = threading.Lock()


class OneWayError(Exception):
    def __reduce__(self):
        return _rebuild_one_way, (1, 2)


def _rebuild_one_way(only_one):
    raise AssertionError("never called with two")


class MuteError(Exception):
    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()

    def __str__(self):
        raise RuntimeError("no words")


def captured(function):
    try:
        function()
    except BaseException as exc:  # noqa: BLE001 - some are not Exception
        return _errors.capture(exc, "f", 1, "10.0.0.1")
    raise AssertionError("nothing was raised")


def sent(function):
    return pickle.loads(_errors.dump_error(captured(function), cloudpickle.dumps))


def raise_locked():
    raise LockedError("held")


def test_the_first_line_of_the_text_says_where_it_ran():
    def fail():
        raise ValueError("bad")

    text = str(captured(fail))
    assert text.splitlines()[0] == "ray::f() (pid=1, ip=10.0.0.1)"
    assert text.splitlines()[-1] == "ValueError: bad"
    assert 'raise ValueError("bad")' in text


def test_frames_of_our_own_packages_are_left_out():
    def fail():
        ray._ids.ActorID(b"short")

    text = str(captured(fail))
    assert "_ids.py" not in text
    assert "test_errors.py" in text
    assert text.endswith("got 5")


def test_chained_causes_are_told_without_our_frames():
    def fail():
        try:
            ray._ids.ActorID(b"short")
        except ValueError as error:
            raise KeyError("k") from error

    text = str(captured(fail))
    assert "direct cause" in text
    assert "ValueError: ActorID takes exactly 16 bytes" in text
    assert "_ids.py" not in text
    assert text.count("ray::f() (pid=1, ip=10.0.0.1)") == 2


def test_members_of_a_group_are_told_without_our_frames():
    def fail():
        try:
            ray._ids.ActorID(b"short")
        except ValueError as error:
            raise ExceptionGroup("several", [error]) from None

    text = str(captured(fail))
    assert text.startswith("ray::f() (pid=1, ip=10.0.0.1)\n")
    assert "_ids.py" not in text


def test_endless_recursion_makes_a_short_story():
    def odd():
        even()

    def even():
        odd()

    text = str(captured(odd))
    assert "RecursionError" in text
    assert len(text) < 100_000


def test_lines_of_a_program_that_is_main_are_shown(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "from ray import _errors\n"
        "def f():\n"
        "    return 1 / 0  # the line\n"
        "try:\n"
        "    f()\n"
        "except Exception as e:\n"
        "    print(_errors.capture(e, 'f', 1, 'ip'))\n"
    )
    run = subprocess.run([sys.executable, program], capture_output=True, text=True, check=True, timeout=60)
    assert "return 1 / 0  # the line" in run.stdout


def test_a_cause_that_cannot_be_pickled_is_replaced_by_its_description():
    error = sent(raise_locked)
    assert type(error) is RayTaskError
    assert type(error.as_instanceof_cause()) is RayTaskError
    assert type(error.cause) is RayError
    said = str(error.cause)
    assert "LockedError: held" in said
    assert "cannot pickle '_thread.lock' object (the exception -> .lock -> _thread.lock)" in said
    assert "__reduce__" in said
    assert "raise LockedError" in str(error)
    assert said in error.__notes__


def test_a_cause_whose_pickle_cannot_be_loaded_is_replaced_by_its_description():
    def fail():
        raise OneWayError("x")

    error = sent(fail)
    assert type(error.cause) is RayError
    assert "OneWayError: x" in str(error.cause)
    assert "_rebuild_one_way() takes 1 positional argument" in str(error.cause)
    assert "OneWayError: x" in str(error)


def test_a_cause_that_cannot_even_be_printed_is_described():
    def fail():
        raise MuteError

    assert "its __str__ raised RuntimeError" in str(sent(fail).cause)


def test_plain_builtin_errors_are_not_tried_out():
    def refuse(data):
        raise AssertionError("loaded")

    def fail():
        raise KeyError("k")

    data = _errors.dump_error(captured(fail), cloudpickle.dumps, refuse)
    assert isinstance(pickle.loads(data).as_instanceof_cause(), KeyError)


def test_other_errors_are_tried_out_with_the_given_loader():
    tried = []

    def fail():
        raise ValueError({"not": "plain"})

    _errors.dump_error(captured(fail), cloudpickle.dumps, tried.append)
    assert len(tried) == 1


@pytest.mark.parametrize("failing", [raise_locked, lambda: 1 / 0])
def test_facts_about_the_place_are_kept(failing):
    error = sent(failing)
    assert (error.function_name, error.pid, error.ip) == ("f", 1, "10.0.0.1")
