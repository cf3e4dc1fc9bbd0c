"""Naming the part that cannot be pickled."""

import functools
import io
import threading

import cloudpickle
import pytest

from ray.util.check_serialize import FailureTuple, explain_unpicklable, inspect_serializability

LOCK = threading.Lock()


class Session:
    def __init__(self):
        self.name = "x"
        self.lock = threading.Lock()


class Client:
    def __init__(self):
        self.session = Session()


class Slotted:
    __slots__ = ("lock",)

    def __init__(self):
        self.lock = threading.Lock()


class Stateful:
    def __getstate__(self):
        return [threading.Lock()]


class Refusing:
    def __reduce__(self):
        raise RuntimeError("never pickle me")


def make_closure():
    client = Client()

    def inner():
        return client.session

    return inner


def line_of(text):
    with open(__file__) as source:
        return next(number for number, line in enumerate(source, 1) if text in line)


def by_value(function):
    """As cloudpickle treats functions of __main__: not by reference."""
    function.__module__ = "__main__"
    return function


@by_value
def uses_global():
    return [LOCK for _ in range(1)]


@by_value
def has_default(lock=LOCK):
    return lock


def test_a_closure_variable_is_named_with_its_line_and_the_way_down():
    where = f"make_closure.<locals>.inner (test_check_serialize.py:{line_of('return client.session')})"
    text = explain_unpicklable(make_closure(), "f")
    assert text == f"closure variable 'client' of {where} -> .session -> .lock -> _thread.lock"


def test_a_global_variable_is_named_with_its_line():
    line = line_of("return [LOCK for")
    text = explain_unpicklable(uses_global, "f")
    assert text == f"global variable 'LOCK' used by uses_global (test_check_serialize.py:{line}) -> _thread.lock"


def test_a_default_is_named():
    assert explain_unpicklable(has_default, "f").startswith("default of parameter 'lock' of has_default (")


@pytest.mark.parametrize(
    ("make", "path"),
    [
        (threading.Lock, "x -> _thread.lock"),
        (Client, "x -> .session -> .lock -> _thread.lock"),
        (Slotted, "x -> .lock -> _thread.lock"),
        (lambda: {"a": [1, (2, threading.Lock())]}, "x -> ['a'] -> [1] -> [1] -> _thread.lock"),
        (lambda: {1, frozenset([threading.Lock()])}, "x -> an item -> an item -> _thread.lock"),
        (lambda: functools.partial(print, threading.Lock()), "x -> .args[0] -> _thread.lock"),
        (lambda: functools.partial(print, end=threading.Lock()), "x -> .keywords['end'] -> _thread.lock"),
        (lambda: ValueError(threading.Lock()), "x -> .args[0] -> _thread.lock"),
        (lambda: Session().__init__, "x -> .__self__ -> .lock -> _thread.lock"),
        (Stateful, "x -> its __getstate__() -> [0] -> _thread.lock"),
        (Refusing, f"x -> {__name__}.Refusing"),
    ],
)
def test_the_way_down_through_an_object_is_named(make, path):
    assert explain_unpicklable(make(), "x") == path


def test_attributes_and_methods_of_a_class_are_named():
    def run(self):
        return LOCK

    holder = type("Holder", (), {"lock": threading.Lock(), "__module__": "__main__"})
    assert explain_unpicklable(holder, "Holder") == "attribute 'lock' of class Holder -> _thread.lock"
    worker = type("Worker", (), {"run": run, "__module__": "__main__"})
    text = explain_unpicklable(worker(), "self")
    assert text.startswith("self -> class Worker -> method 'run' of class Worker -> global variable 'LOCK' used by ")


def test_what_can_be_pickled_has_no_explanation():
    assert explain_unpicklable({"a": 1}, "x") == ""


def test_cycles_end():
    loop = [threading.Lock()]
    loop.insert(0, loop)
    assert explain_unpicklable(loop, "x") == "x -> [1] -> _thread.lock"


def test_the_search_ends_with_what_it_has_when_its_time_is_over():
    large = [b"x" * 1_000_000, threading.Lock()]
    assert explain_unpicklable(large, "x", limit_s=-1.0) == "x -> list"


def test_the_pickler_that_refused_is_the_one_that_is_asked():
    class Knowing(cloudpickle.Pickler):
        def persistent_id(self, obj):
            return "known" if obj is LOCK else None

    with open(__file__, "rb") as file:
        text = explain_unpicklable([LOCK, io.StringIO(), file], "x", pickler=lambda sink: Knowing(sink, protocol=5))
    assert text == "x -> [2] -> _io.BufferedReader"


def test_inspecting_reports_all_culprits_and_prints_them():
    out = io.StringIO()
    ok, failures = inspect_serializability([threading.Lock(), Client()], name="both", print_file=out)
    assert not ok
    assert {failure.path for failure in failures} == {"both -> [0]", "both -> [1] -> .session -> .lock"}
    assert {failure.name for failure in failures} == {"[0]", "lock"}
    assert "both cannot be pickled: TypeError: cannot pickle '_thread.lock' object" in out.getvalue()
    assert "both -> [1] -> .session -> .lock is a _thread.lock" in out.getvalue()


def test_inspecting_goes_no_deeper_than_asked():
    _, failures = inspect_serializability(Client(), depth=1, print_file=io.StringIO())
    (failure,) = failures
    assert isinstance(failure, FailureTuple)
    assert isinstance(failure.obj, Session)
    assert isinstance(failure.parent, Client)
    assert failure.name == "session"


def test_inspecting_something_good_says_so(capsys):
    assert inspect_serializability(len, name="len") == (True, set())
    assert capsys.readouterr().out == "len can be pickled.\n"
