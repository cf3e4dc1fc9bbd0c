"""RayTaskError: what the caller of a failed task catches."""

import copy
import gc
import io
import json
import logging
import os
import pickle
import weakref

import cloudpickle
import pytest

from ray import _errors
from ray.exceptions import RayError, RayTaskError, TaskCancelledError


class KeywordError(Exception):
    """Passes something else to Exception than it takes: default pickling cannot rebuild it."""

    def __init__(self, what, *, code):
        super().__init__(f"{what} failed with {code}")
        self.what = what
        self.code = code

    def explain(self):
        return f"{self.what}/{self.code}"


class CodeError(Exception):
    code = 1

    def __init__(self, code):
        super().__init__(code)
        self.code = code

    @property
    def double(self):
        return 2 * self.code


class SlottedError(Exception):
    __slots__ = ("detail",)

    def __init__(self, detail):
        super().__init__(detail)
        self.detail = detail


class CausedError(Exception):
    def __init__(self, cause):
        super().__init__("caused")
        self.cause = cause


class PropertyError(Exception):
    @property
    def cause(self):
        return "a property of the user"


class FinalError(Exception):
    def __init_subclass__(cls):
        raise TypeError("this class is final")


class ReducedError(Exception):
    def __init__(self, a, b):
        super().__init__(a)
        self.b = b

    def __reduce__(self):
        return ReducedError, (self.args[0], self.b)


def caught(function, *args):
    try:
        function(*args)
    except BaseException as exc:  # noqa: BLE001 - some are not Exception
        return _errors.capture(exc, "f", 12, "10.0.0.1")
    raise AssertionError("nothing was raised")


def received(function, *args):
    """The error as the caller gets it, after the way through bytes."""
    return pickle.loads(_errors.dump_error(caught(function, *args), cloudpickle.dumps)).as_instanceof_cause()


def throw(exc):
    raise exc


def test_the_error_is_of_the_users_class_and_of_ours():
    error = received(throw, ValueError("bad"))
    assert isinstance(error, ValueError)
    assert isinstance(error, RayTaskError)
    assert type(error).__name__ == "RayTaskError(ValueError)"
    assert type(error).__module__ == "ray.exceptions"
    assert repr(error) == "RayTaskError(ValueError)(ValueError('bad'))"
    assert error.args == (error.cause,)
    assert str(error.cause) == "bad"


def test_attributes_methods_and_properties_of_the_original_are_reachable():
    error = received(throw, CodeError(7))
    assert (error.code, error.double) == (7, 14)
    error = received(throw, KeywordError("copy", code=3))
    assert (error.what, error.code, error.explain()) == ("copy", 3, "copy/3")
    with pytest.raises(AttributeError, match="nothing_of_this_name"):
        _ = error.nothing_of_this_name


def test_our_facts_are_reachable_where_the_original_has_none_of_that_name():
    error = received(throw, ValueError("bad"))
    assert (error.function_name, error.pid, error.ip) == ("f", 12, "10.0.0.1")
    assert error.traceback_str.startswith("Traceback")


def test_an_init_that_takes_other_arguments_than_args_survives_the_way():
    error = received(throw, KeywordError("copy", code=3))
    assert isinstance(error, KeywordError)
    assert str(error.cause) == "copy failed with 3"


def test_slots_and_own_reduce_survive_the_way():
    assert received(throw, SlottedError("x")).detail == "x"
    assert received(throw, ReducedError("a", "b")).b == "b"


def test_a_cause_attribute_of_the_user_does_not_hide_the_original():
    inner = ValueError("inner")
    error = received(throw, CausedError(inner))
    assert isinstance(error.cause, CausedError)
    assert str(error.cause.cause) == "inner"
    assert isinstance(received(throw, PropertyError()).cause, PropertyError)


@pytest.mark.parametrize(
    ("make", "attribute", "value"),
    [
        (lambda: os.stat("/does/not/exist"), "errno", 2),
        (lambda: os.stat("/does/not/exist"), "filename", "/does/not/exist"),
        (b"\xff".decode, "start", 0),
        (lambda: json.loads("{"), "pos", 1),
        (lambda: __import__("no_such_module"), "name", "no_such_module"),
        (lambda: compile("x x", "somewhere", "exec"), "filename", "somewhere"),
        (lambda: next(iter([])), "value", None),
    ],
)
def test_attributes_that_builtin_classes_keep_outside_the_instance_dictionary_are_there(make, attribute, value):
    error = received(make)
    assert getattr(error, attribute) == value
    assert getattr(error.cause, attribute) == value


def test_an_attribute_kept_by_a_builtin_class_can_be_set():
    error = received(open, "/does/not/exist")
    error.filename = "elsewhere"
    assert error.filename == "elsewhere"


def test_the_joined_error_pickles_and_copies():
    error = received(throw, KeywordError("copy", code=3))
    for twin in (pickle.loads(cloudpickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert isinstance(twin, KeywordError)
        assert isinstance(twin, RayTaskError)
        assert str(twin) == str(error)
        assert twin.code == 3


def test_notes_that_the_caller_adds_survive_pickling():
    error = received(throw, ValueError("bad"))
    error.add_note("while counting")
    assert pickle.loads(pickle.dumps(error)).__notes__ == ["while counting"]


def test_an_exception_group_can_be_split_and_keeps_its_members():
    group = ExceptionGroup("several", [KeywordError("copy", code=3), ValueError("bad")])
    error = received(throw, group)
    assert isinstance(error, ExceptionGroup)
    assert [type(member) for member in error.exceptions] == [KeywordError, ValueError]
    matched, rest = error.split(ValueError)
    assert matched is not None
    assert rest is not None
    assert len(matched.exceptions) == len(rest.exceptions) == 1
    with pytest.raises(ExceptionGroup):
        throw(error)
    assert "ValueError: bad" in str(error)


def test_a_class_that_cannot_be_subclassed_gives_the_plain_error_and_one_warning(caplog):
    with caplog.at_level(logging.WARNING, logger="ray"):
        errors = [received(throw, FinalError("x")) for _ in range(2)]
    assert [type(error) for error in errors] == [RayTaskError, RayTaskError]
    assert isinstance(errors[0].cause, FinalError)
    told = [record for record in caplog.records if "FinalError" in record.getMessage()]
    assert len(told) == 1
    assert "this class is final" in told[0].getMessage()


@pytest.mark.parametrize("exc", [SystemExit(3), KeyboardInterrupt(), BaseException("base")])
def test_what_would_end_or_interrupt_the_caller_is_not_joined(exc):
    error = received(throw, exc)
    assert type(error) is RayTaskError
    assert type(error.cause) is type(exc)


def test_a_plain_exception_needs_no_joined_class():
    error = received(throw, Exception("plain"))
    assert type(error) is RayTaskError
    assert error.args == (error.cause,)


def test_a_stop_iteration_can_be_had_without_its_class():
    error = received(throw, StopIteration(3))
    assert isinstance(error, StopIteration)
    assert not isinstance(error.as_plain(), StopIteration)
    assert error.as_plain().cause.value == 3


def test_system_errors_are_joined_like_any_other():
    error = received(throw, TaskCancelledError("ab"))
    assert isinstance(error, TaskCancelledError)
    assert error.task_id == "ab"


def test_a_nested_failure_is_of_the_innermost_class_and_tells_both_stories():
    def inner():
        raise KeywordError("copy", code=3)

    def outer():
        raise received(inner)

    error = received(outer)
    assert isinstance(error, KeywordError)
    assert type(error.cause) is KeywordError
    assert error.code == 3
    text = str(error)
    assert text.count("ray::f() (pid=12, ip=10.0.0.1)") == 2
    assert text.index("in outer") < text.index("in inner")
    assert text.endswith("KeywordError: copy failed with 3")


def test_a_failed_argument_tells_whose_failure_it_was():
    failed = received(throw, ValueError("bad"))
    error = _errors.failed_argument(failed, "g", 13, "10.0.0.2").as_instanceof_cause()
    assert isinstance(error, ValueError)
    lines = str(error).splitlines()
    assert lines[0] == "ray::g() (pid=13, ip=10.0.0.2)"
    assert "argument" in lines[1]
    assert "ray::f() (pid=12, ip=10.0.0.1)" in lines[2]
    assert lines[-1] == "ValueError: bad"


def test_the_header_names_the_actor():
    error = RayTaskError("A.m", "no traceback", ValueError(1), pid=1, ip="::1", actor_id="ab" * 16, actor_repr="A(1)")
    assert str(error).splitlines()[0] == f"ray::A.m() (pid=1, ip=::1, actor_id={'ab' * 16}, repr=A(1))"
    assert str(RayTaskError("f", "no traceback", ValueError(1))).splitlines()[0] == "ray::f()"


def test_joining_twice_gives_the_same_class_while_one_error_lives():
    first, second = received(throw, CodeError(1)), received(throw, CodeError(2))
    assert type(first) is type(second)


def test_a_redefined_class_of_a_notebook_is_not_kept_alive():
    local = type("LocalError", (Exception,), {})
    error = RayTaskError("f", "", local("x")).as_instanceof_cause()
    assert isinstance(error, local)
    alive = weakref.ref(local)
    del error, local
    gc.collect()  # the joined class, which held the other one
    gc.collect()
    assert alive() is None


def test_a_class_with_a_metaclass_and_frozen_attributes_is_joined():
    class Meta(type):
        pass

    class FrozenError(Exception, metaclass=Meta):
        def __setattr__(self, name, value):
            raise AttributeError("frozen")

    error = RayTaskError("f", "", FrozenError("x")).as_instanceof_cause()
    assert isinstance(error, FrozenError)
    assert error.args == (error.cause,)


def test_an_os_error_with_an_init_of_its_own_keeps_its_number():
    class DiskError(OSError):
        def __init__(self, path):
            super().__init__(28, "No space left", path)

    error = pickle.loads(cloudpickle.dumps(RayTaskError("f", "", DiskError("/x")))).as_instanceof_cause()
    assert (error.errno, error.filename) == (28, "/x")


def test_an_extension_type_with_a_layout_of_its_own_is_carried():
    error = received(throw, io.UnsupportedOperation("read"))
    assert isinstance(error, io.UnsupportedOperation)


def test_a_ray_error_as_cause_stays_a_plain_task_error():
    assert type(received(throw, RayError("x"))) is RayTaskError
