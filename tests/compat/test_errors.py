"""Errors as they arrive at the caller: their class, their cause, their text, and that they travel."""

from __future__ import annotations

import pickle
import threading

import pytest

import ray
from ray.exceptions import ActorDiedError, RayActorError, RayError, RayTaskError, UnserializableException

pytestmark = pytest.mark.usefixtures("cluster")


class KitchenError(Exception):
    """An exception of a user, with attributes and a method of its own."""

    def __init__(self, message, dish=None):
        super().__init__(message, dish)
        self.message = message
        self.dish = dish

    def advice(self):
        return f"order something else than {self.dish}"


class UninheritableError(Exception):
    def __init_subclass__(cls, **_):
        raise TypeError("no heirs")


class UnpicklableError(Exception):
    def __init__(self, message):
        super().__init__(message)
        self.lock = threading.Lock()


class UnbuildableError(Exception):
    """Its pickled form cannot be read back: `args` do not fit the constructor."""

    def __init__(self, code, detail):
        super().__init__(f"code {code}")
        self.code = code
        self.detail = detail


@ray.remote
def raises(error):
    raise error


@ray.remote
def identity(value):
    return value


@ray.remote
def cook():
    raise KitchenError("burnt", dish="toast")


@ray.remote
class Cook:
    def cook(self):
        raise KitchenError("burnt", dish="soup")

    async def cook_slowly(self):
        raise KitchenError("burnt", dish="stew")


def error_of(ref):
    with pytest.raises(Exception) as caught:
        ray.get(ref, timeout=30)
    return caught.value


# --- the class and the cause -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        ValueError("v"),
        KeyError("k"),
        FileNotFoundError(2, "No such file", "/menu"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        ZeroDivisionError(),
        AssertionError("a"),
        StopIteration(3),
        KitchenError("burnt", dish="toast"),
        TimeoutError("t"),
    ],
    ids=repr,
)
def test_the_raised_error_is_a_ray_task_error_and_of_the_users_class(error):
    raised = error_of(raises.remote(error))
    assert isinstance(raised, RayTaskError)
    assert isinstance(raised, RayError)
    assert isinstance(raised, type(error))
    assert type(raised.cause) is type(error)
    assert repr(raised.cause) == repr(error)
    assert raised.args == (raised.cause,)


def test_attributes_and_methods_of_the_users_error_are_reachable():
    raised = error_of(cook.remote())
    assert raised.dish == "toast"
    assert raised.advice() == "order something else than toast"
    assert raised.cause.dish == "toast"
    with pytest.raises(AttributeError):
        _ = raised.bogus


def test_the_class_shows_both_names():
    assert type(error_of(cook.remote())).__name__ == "RayTaskError(KitchenError)"


def test_an_except_clause_of_the_users_class_catches_the_error():
    caught = None
    try:
        ray.get(cook.remote())
    except KitchenError as error:
        caught = error.dish
    assert caught == "toast"


def test_errors_of_actor_methods_follow_the_same_rules():
    actor = Cook.remote()
    for method, dish in ((actor.cook, "soup"), (actor.cook_slowly, "stew")):
        raised = error_of(method.remote())
        assert isinstance(raised, KitchenError)
        assert isinstance(raised, RayTaskError)
        assert raised.dish == dish


def test_an_exception_group_arrives_as_a_group():
    raised = error_of(raises.remote(ExceptionGroup("both", [ValueError(1), KeyError(2)])))
    assert isinstance(raised, ExceptionGroup)
    assert isinstance(raised, RayTaskError)
    assert [type(inner) for inner in raised.cause.exceptions] == [ValueError, KeyError]


def test_an_error_class_that_refuses_heirs_arrives_as_a_plain_task_error():
    raised = error_of(raises.remote(UninheritableError("final")))
    assert type(raised) is RayTaskError
    assert isinstance(raised.cause, UninheritableError)
    assert "final" in str(raised)


def test_an_error_that_cannot_be_pickled_arrives_with_its_text():
    @ray.remote
    def fail():
        raise UnpicklableError("with a lock")

    raised = error_of(fail.remote())
    assert isinstance(raised, RayTaskError)
    assert isinstance(raised.cause, RayError)
    assert "UnpicklableError" in str(raised)
    assert "with a lock" in str(raised)


def test_an_error_that_cannot_be_rebuilt_arrives_with_its_text():
    @ray.remote
    def fail():
        raise UnbuildableError(3, "detail")

    raised = error_of(fail.remote())
    assert isinstance(raised, RayError)
    assert isinstance(raised, (RayTaskError, UnserializableException))
    assert "code 3" in str(raised)
    assert "UnbuildableError" in str(raised)


def test_errors_may_hold_large_values():
    raised = error_of(raises.remote(KitchenError("large", dish="x" * 500_000)))
    assert len(raised.cause.dish) == 500_000


def test_raising_a_base_exception_does_not_take_the_driver_down():
    class Base(BaseException):
        pass

    @ray.remote
    def fail():
        raise Base("below Exception")

    raised = error_of(fail.remote())
    assert isinstance(raised, RayTaskError)
    assert "below Exception" in str(raised)
    assert ray.get(identity.remote(1)) == 1


# --- the text --------------------------------------------------------------------------------------------------------


def test_the_text_shows_the_remote_traceback_down_to_the_line():
    def deepest():
        raise KitchenError("burnt")  # the line to be shown

    @ray.remote
    def outer():
        deepest()

    text = str(error_of(outer.remote()))
    assert "outer" in text
    assert "deepest" in text
    assert "the line to be shown" in text or "KitchenError" in text
    assert "burnt" in text


def test_the_text_names_the_task_and_its_process():
    @ray.remote
    def who():
        import os

        raise KitchenError(f"raised in {os.getpid()}")

    text = str(error_of(who.remote()))
    pid = text.rpartition("raised in ")[2].split("'")[0].split('"')[0].split(",")[0].strip()
    assert f"pid={pid}" in text
    assert "who" in text


def test_the_text_has_no_frames_of_the_framework():
    text = str(error_of(cook.remote()))
    files = [line for line in text.splitlines() if line.strip().startswith("File ")]
    assert files
    assert all("test_errors" in line for line in files), text


def test_a_chain_of_causes_is_shown_in_full():
    @ray.remote
    def explicit():
        try:
            _ = 1 / 0
        except ZeroDivisionError as error:
            raise KitchenError("outer") from error

    @ray.remote
    def implicit():
        try:
            raise KeyError("first")
        except KeyError:
            raise KitchenError("second")  # noqa: B904

    text = str(error_of(explicit.remote()))
    assert "ZeroDivisionError" in text
    assert "direct cause" in text
    assert "outer" in text
    text = str(error_of(implicit.remote()))
    assert "KeyError" in text
    assert "During handling" in text
    assert "second" in text


def test_the_text_of_an_actor_error_shows_the_repr_of_the_actor():
    @ray.remote
    class Chef:
        def __repr__(self):
            return "Chef(Anna)"

        def cook(self):
            raise KitchenError("burnt")

    text = str(error_of(Chef.remote().cook.remote()))
    assert "Chef(Anna)" in text
    assert "Chef.cook" in text


# --- on its way ------------------------------------------------------------------------------------------------------


def test_a_failed_argument_fails_the_task_with_the_same_class():
    raised = error_of(identity.remote(identity.remote(cook.remote())))
    assert isinstance(raised, KitchenError)
    assert isinstance(raised, RayTaskError)
    assert "burnt" in str(raised)


def test_an_error_crosses_several_tasks():
    @ray.remote
    def level(n):
        return ray.get(cook.remote() if n == 0 else level.remote(n - 1))

    raised = error_of(level.remote(2))
    assert isinstance(raised, KitchenError)
    assert "burnt" in str(raised)
    assert raised.dish == "toast"


def test_a_task_may_catch_the_error_of_another():
    @ray.remote
    def careful():
        try:
            return ray.get(cook.remote())
        except KitchenError as error:
            return f"no {error.dish} today"

    assert ray.get(careful.remote()) == "no toast today"


def test_the_same_failed_ref_raises_every_time_it_is_read():
    ref = cook.remote()
    first, second = error_of(ref), error_of(ref)
    assert isinstance(first, KitchenError)
    assert isinstance(second, KitchenError)


def test_an_error_can_be_sent_on_and_read_back():
    raised = error_of(cook.remote())
    copy = ray.get(ray.put({"error": raised}))["error"]
    assert isinstance(copy, RayTaskError)
    assert isinstance(copy, KitchenError)
    assert copy.dish == "toast"
    assert str(copy) == str(raised)
    copy = ray.cloudpickle.loads(ray.cloudpickle.dumps(raised))
    assert isinstance(copy, KitchenError)


@pytest.mark.beyond_ray("the class made at run time is unknown to pickle")
def test_an_error_survives_plain_pickle():
    raised = error_of(raises.remote(KeyError("k")))
    copy = pickle.loads(pickle.dumps(raised))
    assert isinstance(copy, RayTaskError)
    assert isinstance(copy, KeyError)
    assert str(copy) == str(raised)


def test_get_of_many_raises_when_any_of_them_failed():
    refs = [identity.remote(i) for i in range(10)] + [cook.remote()]
    with pytest.raises(KitchenError):
        ray.get(refs)


def test_every_result_of_a_failed_task_fails():
    @ray.remote(num_returns=3)
    def fail():
        raise KitchenError("all three")

    for ref in fail.remote():
        assert isinstance(error_of(ref), KitchenError)


# --- actors that cannot be made --------------------------------------------------------------------------------------


def test_an_actor_whose_constructor_failed_tells_so_with_the_traceback():
    @ray.remote
    class Broken:
        def __init__(self):
            raise KitchenError("no gas")

        def cook(self):
            return 1

    raised = error_of(Broken.remote().cook.remote())
    assert isinstance(raised, ActorDiedError)
    assert isinstance(raised, RayActorError)
    assert "no gas" in str(raised)
    assert "__init__" in str(raised)
    assert raised.actor_init_failed
    assert isinstance(raised.actor_id, str)


def test_an_actor_whose_argument_failed_cannot_be_made():
    @ray.remote
    class Needs:
        def __init__(self, dish):
            self.dish = dish

        def get(self):
            return self.dish

    raised = error_of(Needs.remote(cook.remote()).get.remote())
    assert isinstance(raised, RayError)
    assert "burnt" in str(raised)


def test_a_killed_actor_is_named_in_the_error():
    actor = Cook.remote()
    ray.get(actor.__ray_ready__.remote())
    ray.kill(actor)
    raised = error_of(actor.cook.remote())
    assert isinstance(raised, ActorDiedError)
    assert raised.actor_id == actor._actor_id.hex()
    assert not raised.actor_init_failed
    assert "kill" in str(raised)
