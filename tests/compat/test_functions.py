"""Remote functions: calling them, what they may close over, where they run and what they return."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import os
import threading
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor

import pytest

import ray

from .support import Gate, until_arrived, wait_at

pytestmark = pytest.mark.usefixtures("cluster")


@ray.remote
def add(x, y=10, *, z=100):
    """Add three numbers."""
    return x + y + z


@ray.remote
def everything(*args, **kwargs):
    return args, kwargs


@ray.remote
def identity(value):
    return value


class Colour(enum.Enum):
    RED = 1


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


Pair = namedtuple("Pair", "left right")


def test_a_call_returns_a_ref_at_once_and_get_gives_the_result():
    ref = add.remote(1)
    assert isinstance(ref, ray.ObjectRef)
    assert ray.get(ref) == 111


@pytest.mark.parametrize(
    ("args", "kwargs", "total"),
    [((1,), {}, 111), ((1, 2), {}, 103), ((1,), {"z": 3}, 14), ((), {"x": 1, "y": 2, "z": 3}, 6)],
)
def test_arguments_may_be_positional_by_keyword_or_left_to_their_defaults(args, kwargs, total):
    assert ray.get(add.remote(*args, **kwargs)) == total


def test_variable_arguments_arrive_as_they_were_given():
    assert ray.get(everything.remote(1, "two", three=3)) == ((1, "two"), {"three": 3})


@pytest.mark.parametrize(("args", "kwargs"), [((), {}), ((1, 2, 3), {}), ((1,), {"bogus": 1}), ((1,), {"x": 1})])
def test_arguments_that_do_not_fit_are_refused_at_the_call(args, kwargs):
    with pytest.raises(TypeError):
        add.remote(*args, **kwargs)


def test_calling_a_remote_function_directly_is_refused():
    with pytest.raises(TypeError):
        add(1)


def test_the_signature_of_remote_is_that_of_the_function():
    assert list(inspect.signature(add.remote).parameters) == ["x", "y", "z"]


@pytest.mark.beyond_ray("upstream drops the name of the function")
def test_a_remote_function_keeps_the_name_and_docstring_of_the_function():
    assert (add.__name__, add.__doc__) == ("add", "Add three numbers.")


@pytest.mark.parametrize("value", [3, "text", None, len], ids=str)
def test_only_functions_and_classes_can_be_made_remote(value):
    with pytest.raises((TypeError, AssertionError)):
        ray.remote(value)


def test_a_decorator_with_empty_parentheses_or_positional_options_is_refused():
    with pytest.raises((TypeError, AssertionError)):
        ray.remote()
    with pytest.raises((TypeError, AssertionError)):
        ray.remote(add, identity)


def test_a_coroutine_function_is_refused_as_a_task():
    async def work():
        return 1

    with pytest.raises(ValueError):
        ray.remote(work)


def test_remote_can_be_used_as_a_function_on_a_lambda():
    assert ray.get(ray.remote(lambda x: x + 1).remote(1)) == 2


def test_underscore_remote_takes_arguments_and_options_as_collections():
    assert ray.get(add._remote(args=[1], kwargs={"y": 2}, num_cpus=0.5)) == 103


def test_options_make_a_variant_and_leave_the_original_as_it_was():
    @ray.remote
    def three():
        return 1, 2, 3

    refs = three.options(num_returns=3).remote()
    assert ray.get(refs) == [1, 2, 3]
    assert ray.get(three.remote()) == (1, 2, 3)


def test_tasks_run_in_other_processes():
    @ray.remote
    def pid():
        return os.getpid()

    assert os.getpid() not in ray.get([pid.remote() for _ in range(8)])


def test_as_many_tasks_run_at_once_as_there_are_cpus():
    gate = Gate.remote()

    @ray.remote
    def meet(number):
        wait_at(gate, number)
        return number

    refs = [meet.remote(i) for i in range(4)]
    assert sorted(until_arrived(gate, 4)) == [0, 1, 2, 3]
    ray.get(gate.open.remote())
    assert ray.get(refs) == [0, 1, 2, 3]


def test_a_closure_carries_the_variables_it_uses():
    base, names = 7, {"a": [1, 2]}

    @ray.remote
    def work(x):
        return base + x, names

    assert ray.get(work.remote(1)) == (8, {"a": [1, 2]})


def test_a_closure_is_captured_at_the_first_call():
    box = [1]

    @ray.remote
    def read():
        return box[0]

    assert ray.get(read.remote()) == 1
    box[0] = 2
    assert ray.get(read.remote()) == 1


def test_changes_to_arguments_and_globals_stay_in_the_worker():
    mine = [1]

    @ray.remote
    def change(theirs):
        theirs.append(2)
        REGISTER.append("seen in the worker only")
        return theirs

    assert ray.get(change.remote(mine)) == [1, 2]
    assert mine == [1]
    assert REGISTER == []


REGISTER: list[str] = []


def test_a_function_may_be_defined_again_under_the_same_name():
    @ray.remote
    def version():
        return 1

    first = version

    @ray.remote
    def version():
        return 2

    assert ray.get([first.remote(), version.remote(), first.remote()]) == [1, 2, 1]


def test_functions_made_in_a_loop_do_not_get_mixed_up():
    def make(n):
        @ray.remote
        def number():
            return n

        return number

    functions = [make(n) for n in range(20)]
    assert ray.get([function.remote() for function in functions]) == list(range(20))


def test_a_task_may_call_other_tasks_and_wait_for_them():
    @ray.remote
    def outer(n):
        return sum(ray.get([identity.remote(i) for i in range(n)]))

    assert ray.get([outer.remote(4) for _ in range(6)]) == [6] * 6


def test_a_task_may_call_itself():
    @ray.remote
    def factorial(n):
        return 1 if n == 0 else n * ray.get(factorial.remote(n - 1))

    assert ray.get(factorial.remote(8)) == 40320


def test_a_tree_of_tasks_deeper_than_the_cpus_does_not_deadlock():
    @ray.remote
    def fibonacci(n):
        return n if n < 2 else sum(ray.get([fibonacci.remote(n - 1), fibonacci.remote(n - 2)]))

    assert ray.get(fibonacci.remote(6)) == 8


def test_a_task_may_define_a_remote_function():
    @ray.remote
    def outer(x):
        @ray.remote
        def inner(y):
            return x * y

        return ray.get([inner.remote(i) for i in range(3)])

    assert ray.get(outer.remote(5)) == [0, 5, 10]


def test_a_remote_function_can_be_an_argument_and_a_result():
    @ray.remote
    def call(function, value):
        return ray.get(function.remote(value))

    @ray.remote
    def make(factor):
        return ray.remote(lambda x: x * factor)

    assert ray.get(call.remote(identity, "passed")) == "passed"
    assert ray.get(ray.get(make.remote(3)).remote(5)) == 15


def test_a_task_may_return_a_ref_of_another_task():
    @ray.remote
    def launch():
        return identity.remote("from below")

    inner = ray.get(launch.remote())
    assert isinstance(inner, ray.ObjectRef)
    assert ray.get(inner) == "from below"


@pytest.mark.parametrize(
    "value",
    [None, True, 2**80, 1.5, "käse", b"\0\xff", [1, [2]], {"a": {1}}, Colour.RED, Point(1, 2), Pair(1, 2), range(3)],
    ids=repr,
)
def test_values_come_back_equal_and_of_the_same_type(value):
    result = ray.get(identity.remote(value))
    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize("size", [0, 1, 99_000, 101_000, 5_000_000])
def test_small_and_large_values_travel_alike(size):
    value = os.urandom(size)
    assert ray.get(identity.remote(value)) == value


def test_a_returned_exception_is_a_value_and_is_not_raised():
    result = ray.get(identity.remote(ValueError("just a value")))
    assert isinstance(result, ValueError)
    assert result.args == ("just a value",)


def test_a_function_travels_as_an_argument():
    factor = 3
    assert ray.get(ray.remote(lambda f, x: f(x)).remote(lambda x: x * factor, 5)) == 15


def test_num_returns_gives_one_ref_for_each_result():
    @ray.remote(num_returns=3)
    def split(values):
        return values

    refs = split.remote([1, 2, 3])
    assert isinstance(refs, list)
    assert ray.get(refs) == [1, 2, 3]
    assert ray.get(split.remote((4, 5, 6))[1]) == 5


def test_num_returns_one_in_a_decorator_keeps_the_tuple_whole():
    @ray.remote(num_returns=1)
    def pair():
        return 1, 2

    assert ray.get(pair.remote()) == (1, 2)


def test_num_returns_zero_gives_nothing_but_runs_the_task():
    gate = Gate.remote()

    @ray.remote(num_returns=0)
    def note():
        ray.get(gate.arrive.remote("ran"))

    assert note.remote() is None
    assert until_arrived(gate, 1) == ["ran"]


@pytest.mark.parametrize("count", [2, 4])
def test_a_wrong_number_of_results_is_an_error_of_every_ref(count):
    @ray.remote(num_returns=3)
    def split():
        return list(range(count))

    for ref in split.remote():
        with pytest.raises(ValueError):
            ray.get(ref)


def test_a_single_value_where_several_were_promised_is_an_error():
    @ray.remote(num_returns=2)
    def split():
        return 5

    with pytest.raises((TypeError, ValueError)):
        ray.get(split.remote())


def test_a_list_comprehension_of_appends_works_as_in_the_first_tutorials():
    refs = []
    [refs.append(identity.remote(i)) for i in range(10)]
    assert ray.get(refs) == list(range(10))


def test_threads_of_the_driver_may_all_submit_and_get():
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda i: ray.get(identity.remote(i)), range(64)))
    assert results == list(range(64))


def test_threads_of_a_task_may_submit_and_get():
    @ray.remote
    def work():
        found = []
        threads = [threading.Thread(target=lambda i=i: found.append(ray.get(identity.remote(i)))) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sorted(found)

    assert ray.get(work.remote()) == [0, 1, 2, 3]


def test_thousands_of_tasks_keep_their_order_in_the_list():
    assert ray.get([identity.remote(i) for i in range(3000)]) == list(range(3000))


def test_a_thousand_refs_can_be_arguments_of_one_call():
    refs = [identity.remote(i) for i in range(1000)]
    args, _ = ray.get(everything.remote(*refs))
    assert args == tuple(range(1000))


@pytest.mark.parametrize("where", ["argument", "nested argument", "closure", "put"])
def test_what_cannot_be_pickled_is_refused_at_the_call(where):
    lock = threading.Lock()

    @ray.remote
    def closure():
        return lock

    calls = {
        "argument": lambda: identity.remote(lock),
        "nested argument": lambda: identity.remote({"inside": [lock]}),
        "closure": closure.remote,
        "put": lambda: ray.put(lock),
    }
    with pytest.raises(TypeError):
        calls[where]()


def test_a_result_that_cannot_be_pickled_is_an_error_of_the_task():
    @ray.remote
    def make_lock():
        return threading.Lock()

    with pytest.raises(TypeError):
        ray.get(make_lock.remote())


class Service:
    """Keeps something that cannot travel, and does not show it."""

    def __init__(self):
        self.connection = threading.Lock()

    def __repr__(self):
        return "Service()"


@pytest.mark.parametrize("call", [identity.remote, ray.put], ids=["argument", "put"])
def test_the_error_names_the_attribute_that_cannot_be_pickled(call):
    with pytest.raises(TypeError) as caught:
        call(Service())
    assert "lock" in str(caught.value)
    assert "connection" in str(caught.value)
