"""Options of tasks and actors: what is refused, when, and with which class of error."""

from __future__ import annotations

import pytest

import ray

pytestmark = pytest.mark.usefixtures("cluster")


def function():
    return 1


def generator():
    yield 1


class Plain:
    def method(self):
        return 1


BAD_TASK_OPTIONS = [
    ("num_cpus", -1, ValueError),
    ("num_cpus", "one", TypeError),
    ("num_cpus", 0.00001, ValueError),
    ("num_gpus", -1, ValueError),
    ("memory", -1, ValueError),
    ("resources", {"CPU": 1}, ValueError),
    ("resources", {"GPU": 1}, ValueError),
    ("resources", {"disk": -1}, ValueError),
    ("resources", [1], TypeError),
    ("num_returns", -1, ValueError),
    ("num_returns", 1.5, TypeError),
    ("num_returns", "streaming", ValueError),
    ("num_returns", "dynamic", ValueError),
    ("num_returns", "bogus", (ValueError, TypeError)),
    ("max_calls", -1, ValueError),
    ("max_calls", "one", TypeError),
    ("max_retries", -2, ValueError),
    ("max_retries", "one", TypeError),
    ("retry_exceptions", 1, TypeError),
    ("retry_exceptions", [1], ValueError),
    ("name", 1, TypeError),
    ("scheduling_strategy", 1, TypeError),
    ("runtime_env", 3, TypeError),
    ("accelerator_type", 3, TypeError),
    ("label_selector", 3, TypeError),
    ("bogus", 1, ValueError),
    ("max_restarts", 1, ValueError),
    ("max_concurrency", 2, ValueError),
    ("lifetime", "detached", ValueError),
    ("concurrency_groups", {"io": 1}, ValueError),
    ("_generator_backpressure_num_objects", 0, ValueError),
]

BAD_ACTOR_OPTIONS = [
    ("num_cpus", -1, ValueError),
    ("num_cpus", "one", TypeError),
    ("num_cpus", 0.00001, ValueError),
    ("resources", {"CPU": 1}, ValueError),
    ("max_restarts", -2, ValueError),
    ("max_restarts", "one", TypeError),
    ("max_task_retries", -2, ValueError),
    ("max_concurrency", -1, ValueError),
    ("max_concurrency", "one", TypeError),
    ("max_pending_calls", -2, ValueError),
    ("name", 3, TypeError),
    ("namespace", 3, TypeError),
    ("lifetime", "bogus", ValueError),
    ("get_if_exists", True, ValueError),
    ("get_if_exists", 3, TypeError),
    ("concurrency_groups", 3, TypeError),
    ("num_returns", 2, ValueError),
    ("max_calls", 2, ValueError),
    ("max_retries", 2, ValueError),
    ("bogus", 1, ValueError),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("option", "value", "error"), BAD_TASK_OPTIONS)
def test_a_bad_task_option_is_refused_by_the_decorator_and_by_options(option, value, error):
    with pytest.raises(error):
        ray.remote(**{option: value})(function)
    with pytest.raises(error):
        ray.remote(function).options(**{option: value})


@pytest.mark.parametrize(("option", "value", "error"), BAD_ACTOR_OPTIONS)
def test_a_bad_actor_option_is_refused_by_the_decorator_and_by_options(option, value, error):
    with pytest.raises(error):
        ray.remote(**{option: value})(Plain)
    with pytest.raises(error):
        ray.remote(Plain).options(**{option: value})


@pytest.mark.parametrize("target", [function, Plain])
def test_gpus_above_one_must_be_whole_at_the_latest_at_the_call(target):
    with pytest.raises(ValueError):
        ray.remote(target).options(num_gpus=1.5).remote()


@pytest.mark.parametrize("target", [function, Plain])
def test_an_unknown_scheduling_strategy_is_refused_at_the_latest_at_the_call(target):
    with pytest.raises(ValueError):
        ray.remote(target).options(scheduling_strategy="bogus").remote()


def test_an_empty_actor_name_is_refused_at_the_latest_at_the_call():
    with pytest.raises(ValueError):
        ray.remote(Plain).options(name="").remote()


def test_an_empty_namespace_is_refused_at_the_latest_at_the_call():
    with pytest.raises(ValueError):
        ray.remote(Plain).options(name="named", namespace="").remote()


def test_concurrency_groups_belong_to_the_decorator_and_not_to_options():
    ray.remote(concurrency_groups={"io": 2})(Plain)
    with pytest.raises(ValueError):
        ray.remote(Plain).options(concurrency_groups={"io": 2})


def test_max_calls_belongs_to_the_decorator_and_not_to_options():
    ray.remote(max_calls=1)(function)
    with pytest.raises(ValueError):
        ray.remote(function).options(max_calls=1).remote()


def test_an_async_actor_cannot_promise_order():
    @ray.remote
    class Async:
        async def method(self):
            return 1

    with pytest.raises(ValueError):
        Async.options(allow_out_of_order_execution=False).remote()


def test_a_method_option_that_does_not_exist_is_refused():
    with pytest.raises((AssertionError, TypeError, ValueError)):
        ray.method(bogus=1)(Plain.method)
    actor = ray.remote(Plain).remote()
    with pytest.raises((TypeError, ValueError)):
        actor.method.options(bogus=1).remote()


def test_a_negative_number_of_results_of_a_method_is_refused():
    actor = ray.remote(Plain).remote()
    with pytest.raises(ValueError):
        actor.method.options(num_returns=-1).remote()


@pytest.mark.parametrize(
    "options",
    [
        {"num_cpus": 0.5},
        {"num_cpus": 0},
        {"num_cpus": 2, "memory": 1024},
        {"max_retries": 0},
        {"max_retries": -1},
        {"retry_exceptions": True},
        {"retry_exceptions": [ValueError]},
        {"retry_exceptions": (ValueError, KeyError)},
        {"name": "a name with spaces"},
        {"scheduling_strategy": "DEFAULT"},
        {"scheduling_strategy": "SPREAD"},
        {"runtime_env": None},
        {"num_returns": None},
        {"resources": None},
        {"resources": {}},
        {"enable_task_events": False},
        {"_labels": {"team": "red"}},
    ],
    ids=str,
)
def test_good_task_options_are_accepted_in_both_places(options):
    assert ray.get(ray.remote(**options)(function).remote()) == 1
    assert ray.get(ray.remote(function).options(**options).remote()) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"num_cpus": 0.5},
        {"max_restarts": -1},
        {"max_task_retries": 2, "max_restarts": 1},
        {"max_concurrency": 3},
        {"max_pending_calls": 10},
        {"lifetime": "non_detached"},
        {"lifetime": None},
        {"name": "good options", "get_if_exists": True},
        {"namespace": None},
        {"scheduling_strategy": "SPREAD"},
        {"allow_out_of_order_execution": True},
    ],
    ids=str,
)
def test_good_actor_options_are_accepted_in_both_places(options):
    assert ray.get(ray.remote(**options)(Plain).remote().method.remote()) == 1
    assert ray.get(ray.remote(Plain).options(**options).remote().method.remote()) == 1


def test_options_of_options_add_up():
    make = ray.remote(num_returns=2, num_cpus=0.5)(lambda: (1, 2))
    assert ray.get(make.options(name="pair").remote()) == [1, 2]
    assert ray.get(make.options(num_returns=1).remote()) == (1, 2)


def test_a_task_display_name_is_visible_inside_the_task():
    name = ray.remote(lambda: ray.get_runtime_context().get_task_name())
    assert ray.get(name.options(name="polish the silver").remote()) == "polish the silver"


def test_a_generator_function_accepts_the_generator_values_of_num_returns():
    assert [ray.get(ref) for ref in ray.remote(num_returns="streaming")(generator).remote()] == [1]
    assert ray.get(ray.remote(num_returns=1)(generator).remote()) == 1
