"""Options of tasks, actors and methods: what is accepted, what is refused, what it means."""

import pickle

import pytest

from ray._options import NOT_GIVEN, ActorOptions, MethodOptions, TaskOptions
from ray.util.scheduling_strategies import (
    Exists,
    NodeAffinitySchedulingStrategy,
    NodeLabelSchedulingStrategy,
    PlacementGroupSchedulingStrategy,
)


def task(**options):
    return TaskOptions.parse(options, is_generator=False)


def actor(**options):
    return ActorOptions.parse(options, is_async=False)


def method(**options):
    return MethodOptions.parse(options, is_generator=False)


def test_no_options_cost_no_object():
    assert task() is task()
    assert actor() is actor()
    assert method() is method()
    assert task().merged({}) is task()
    assert TaskOptions.parse({}, is_generator=True) is not task()


def test_a_task_has_one_cpu_and_the_defaults_of_ray():
    options = task()
    assert options.resources() == {"CPU": 1.0}
    assert (options.num_returns, options.max_calls, options.max_retries) == (1, 0, None)
    assert (options.retry_exceptions, options.name, options.enable_task_events) == (False, None, True)
    assert options.placement_group is NOT_GIVEN
    assert options.placement_group_bundle_index == -1
    assert options.generator_backpressure is None


def test_demands_are_collected_under_the_names_of_resources():
    options = task(num_cpus=2, num_gpus=0.5, memory=100, resources={"disk": 1.5, "none": 0}, accelerator_type="A100")
    assert options.resources() == {"CPU": 2.0, "GPU": 0.5, "memory": 100.0, "disk": 1.5, "accelerator_type:A100": 0.001}
    assert task(num_cpus=0).resources() == {}


@pytest.mark.parametrize(("share", "kept"), [(1 / 3, 0.3333), (1 / 6, 0.1666), (0.1 + 0.2, 0.3), (0.7 - 0.4, 0.3)])
def test_shares_are_cut_to_ten_thousandths_so_that_they_fit_together(share, kept):
    assert task(num_gpus=share).resources()["GPU"] == kept


@pytest.mark.parametrize(
    ("options", "placing", "running"),
    [
        ({}, {"CPU": 1.0}, {}),
        ({"num_cpus": 0}, {}, {}),
        ({"num_cpus": 2}, {"CPU": 2.0}, {"CPU": 2.0}),
        ({"num_cpus": None}, {"CPU": 1.0}, {}),
        ({"num_gpus": 1}, {"CPU": 1.0, "GPU": 1.0}, {"CPU": 1.0, "GPU": 1.0}),
        ({"num_gpus": 0}, {"CPU": 1.0}, {"CPU": 1.0}),
        ({"resources": {"x": 1}}, {"CPU": 1.0, "x": 1.0}, {"CPU": 1.0, "x": 1.0}),
        ({"resources": {}}, {"CPU": 1.0}, {}),
        ({"memory": 10}, {"CPU": 1.0, "memory": 10.0}, {"memory": 10.0}),
    ],
)
def test_an_actor_needs_a_cpu_to_be_placed_and_keeps_it_if_it_asked_for_a_resource(options, placing, running):
    assert actor(**options).placement_resources() == placing
    assert actor(**options).running_resources() == running


REFUSED = [
    (task, {"num_cpus": -1}, ValueError, "num_cpus cannot be negative"),
    (task, {"num_cpus": 0.00001}, ValueError, "steps of 0.0001"),
    (task, {"num_cpus": float("nan")}, ValueError, "finite"),
    (task, {"num_cpus": "1"}, TypeError, "The type of keyword 'num_cpus' must be"),
    (task, {"num_gpus": 1.5}, ValueError, "whole number"),
    (task, {"memory": -5}, ValueError, "memory"),
    (task, {"resources": {"CPU": 1}}, ValueError, "num_cpus=1"),
    (task, {"resources": {"GPU": 2}}, ValueError, "num_gpus=2"),
    (task, {"resources": {"x": -1}}, ValueError, r"resources\['x'\]"),
    (task, {"resources": {"x": "1"}}, TypeError, "'x'"),
    (task, {"resources": {"x": None}}, TypeError, "leave the key out"),
    (task, {"resources": {1: 1}}, TypeError, "names"),
    (task, {"resources": [1]}, TypeError, "resources"),
    (task, {"num_returns": -1}, ValueError, "negative"),
    (task, {"num_returns": 1.5}, TypeError, "num_returns"),
    (task, {"num_returns": "many"}, ValueError, "'streaming'"),
    (task, {"num_returns": "streaming"}, ValueError, "no yield"),
    (task, {"num_returns": "dynamic"}, ValueError, "no yield"),
    (task, {"max_calls": -1}, ValueError, "at least 0"),
    (task, {"max_retries": -2}, ValueError, "at least -1"),
    (task, {"max_retries": 1.0}, TypeError, "max_retries"),
    (task, {"retry_exceptions": 1}, TypeError, "retry_exceptions"),
    (task, {"retry_exceptions": None}, TypeError, "retry_exceptions"),
    (task, {"retry_exceptions": [1]}, ValueError, "subclasses of Exception"),
    (task, {"retry_exceptions": [KeyboardInterrupt]}, ValueError, "KeyboardInterrupt"),
    (task, {"name": 1}, TypeError, "name"),
    (task, {"object_store_memory": 1}, ValueError, "actors"),
    (task, {"scheduling_strategy": "FAST"}, ValueError, "'SPREAD'"),
    (task, {"scheduling_strategy": 1}, TypeError, "scheduling_strategy"),
    (task, {"placement_group": 1}, TypeError, "placement_group"),
    (task, {"placement_group": "mine"}, TypeError, "placement_group"),
    (task, {"placement_group_bundle_index": "0"}, TypeError, "bundle_index"),
    (task, {"placement_group_bundle_index": -2}, ValueError, "-1 takes any"),
    (task, {"placement_group_capture_child_tasks": 1}, TypeError, "capture"),
    (task, {"scheduling_strategy": "SPREAD", "placement_group": object()}, ValueError, "together"),
    (task, {"label_selector": {"a": 1}}, TypeError, "strings"),
    (task, {"label_selector": {"a": "in(b"}}, ValueError, r"in\(a,b\)"),
    (task, {"label_selector": {"a": "in()"}}, ValueError, r"in\(a,b\)"),
    (task, {"label_selector": {"a": "b c"}}, ValueError, "'b c'"),
    (task, {"label_selector": {"a b": "c"}}, ValueError, "'a b'"),
    (task, {"label_selector": [1]}, TypeError, "label_selector"),
    (task, {"fallback_strategy": {}}, TypeError, "fallback_strategy"),
    (task, {"fallback_strategy": [1]}, ValueError, r"fallback_strategy\[0\]"),
    (task, {"fallback_strategy": [{"num_cpus": 1}]}, ValueError, "'num_cpus'"),
    (task, {"runtime_env": 1}, TypeError, "runtime_env"),
    (task, {"runtime_env": {"env_vars": {"A": 1}}}, TypeError, "as a string"),
    (task, {"runtime_env": {"env_vars": ["A"]}}, TypeError, "env_vars"),
    (task, {"enable_task_events": 1}, TypeError, "bool"),
    (task, {"_labels": 1}, TypeError, "_labels"),
    (task, {"_generator_backpressure_num_objects": 0}, ValueError, "at least 1"),
    (task, {"_num_objects_per_yield": 0}, ValueError, "at least 1"),
    (actor, {"name": ""}, ValueError, "empty"),
    (actor, {"name": 1}, TypeError, "name"),
    (actor, {"namespace": 1}, TypeError, "namespace"),
    (actor, {"lifetime": "long"}, ValueError, "'detached'"),
    (actor, {"lifetime": 1}, TypeError, "lifetime"),
    (actor, {"get_if_exists": True}, ValueError, "name="),
    (actor, {"get_if_exists": 1}, TypeError, "bool"),
    (actor, {"max_restarts": -2}, ValueError, "max_restarts"),
    (actor, {"max_task_retries": 0.5}, TypeError, "max_task_retries"),
    (actor, {"max_pending_calls": -2}, ValueError, "max_pending_calls"),
    (actor, {"max_concurrency": -1}, ValueError, "max_concurrency"),
    (actor, {"concurrency_groups": {"io": 0}}, ValueError, "at least 1"),
    (actor, {"concurrency_groups": {"io": "2"}}, TypeError, "io"),
    (actor, {"concurrency_groups": {1: 1}}, TypeError, "names"),
    (actor, {"concurrency_groups": ["io"]}, TypeError, "concurrency_groups"),
    (actor, {"allow_out_of_order_execution": 1}, TypeError, "bool"),
    (actor, {"num_returns": 2}, ValueError, "for actors"),
    (actor, {"max_retries": 2}, ValueError, "for actors"),
    (method, {"num_returns": -1}, ValueError, "negative"),
    (method, {"num_cpus": 1}, ValueError, "actor methods"),
    (method, {"concurrency_group": 1}, TypeError, "concurrency_group"),
    (method, {"tensor_transport": "nccl"}, ValueError, "'object_store'"),
    (method, {"tensor_transport": 1}, TypeError, "tensor_transport"),
]


@pytest.mark.parametrize(("parse", "options", "error", "words"), REFUSED)
def test_what_makes_no_sense_is_refused_by_name(parse, options, error, words):
    with pytest.raises(error, match=words) as caught:
        parse(**options)
    assert type(caught.value) is error


@pytest.mark.parametrize(
    ("parse", "wrong", "right", "owner"),
    [
        (task, "num_cpu", "num_cpus", "for remote functions"),
        (task, "max_retry", "max_retries", "for remote functions"),
        (actor, "max_restart", "max_restarts", "for actors"),
        (method, "num_return", "num_returns", "for actor methods"),
    ],
)
def test_an_unknown_option_is_answered_with_the_nearest_one_and_the_list(parse, wrong, right, owner):
    with pytest.raises(ValueError, match=f"'{wrong}' {owner}.* Did you mean '{right}'.* Valid ones are: "):
        parse(**{wrong: 1})
    with pytest.raises(ValueError, match="'zzzzzz'") as caught:
        parse(zzzzzz=1)
    assert "Did you mean" not in str(caught.value)


ACCEPTED = [
    (task, {"num_returns": 0}),
    (task, {"num_returns": None}),
    (task, {"max_retries": -1}),
    (task, {"retry_exceptions": [ValueError, KeyError]}),
    (task, {"name": ""}),
    (task, {"runtime_env": {"env_vars": {"A": "1"}, "pip": ["x"]}}),
    (task, {"placement_group": "default"}),
    (task, {"placement_group": None, "scheduling_strategy": "SPREAD"}),
    (task, {"scheduling_strategy": PlacementGroupSchedulingStrategy(object(), 0)}),
    (task, {"scheduling_strategy": NodeAffinitySchedulingStrategy("ab" * 28, soft=False)}),
    (task, {"scheduling_strategy": NodeLabelSchedulingStrategy({"a": Exists()})}),
    (task, {"label_selector": {"ray.io/x": "a", "b": "!c", "d": "in(e, f)", "g": "!in(h)", "i": ""}}),
    (task, {"fallback_strategy": [{"label_selector": {"a": "b"}}, {}]}),
    (task, {"_labels": {"a": "b"}, "enable_task_events": False}),
    (actor, {"object_store_memory": 100}),
    (actor, {"enable_tensor_transport": True}),
    (actor, {"name": "x", "namespace": "y", "get_if_exists": True, "lifetime": "detached"}),
    (actor, {"allow_out_of_order_execution": False}),
    (actor, {"_actor_generator_backpressure_num_objects": 3}),
    (method, {"_num_objects_per_yield": 2, "tensor_transport": "OBJECT_STORE"}),
]


@pytest.mark.parametrize(("parse", "options"), ACCEPTED)
def test_every_option_of_the_interface_is_accepted_and_survives_pickling(parse, options):
    parsed = parse(**options)
    assert set(parsed.given) == set(options)
    if "scheduling_strategy" not in options:
        assert pickle.loads(pickle.dumps(parsed)).given == parsed.given


def test_values_that_the_daemon_reads_are_resolved():
    options = actor(lifetime="detached", max_restarts=None, max_concurrency=3, concurrency_groups={"io": 2})
    assert options.detached
    assert (options.max_restarts, options.max_task_retries, options.max_pending_calls) == (0, 0, -1)
    assert options.allow_out_of_order_execution
    assert options.concurrency_groups == {"io": 2}
    assert not actor(lifetime="non_detached").detached
    assert task(retry_exceptions=[ValueError]).retry_exceptions == (ValueError,)
    assert (
        TaskOptions.parse({"_generator_backpressure_num_objects": -1}, is_generator=True).generator_backpressure is None
    )


def test_generators_stream_unless_told_otherwise():
    assert TaskOptions.parse({}, is_generator=True).num_returns == "streaming"
    assert TaskOptions.parse({"num_cpus": 1}, is_generator=True).num_returns == "streaming"
    assert TaskOptions.parse({"num_returns": 3}, is_generator=True).num_returns == 3
    assert TaskOptions.parse({"num_returns": "dynamic"}, is_generator=True).num_returns == "dynamic"
    assert MethodOptions.parse({}, is_generator=True).num_returns == "streaming"


def test_a_worker_that_used_a_gpu_ends_unless_told_otherwise():
    assert task(num_gpus=1).max_calls == 1
    assert task(num_gpus=1, max_calls=0).max_calls == 0
    assert task().merged({"num_gpus": 1}).max_calls == 1


def test_async_actors_run_many_calls_and_cannot_promise_order():
    options = ActorOptions.parse({}, is_async=True)
    assert (options.max_concurrency, options.allow_out_of_order_execution) == (1000, True)
    assert ActorOptions.parse({"max_concurrency": 5}, is_async=True).max_concurrency == 5
    assert (actor().max_concurrency, actor().allow_out_of_order_execution) == (1, False)
    assert actor(max_concurrency=0).max_concurrency == 1
    with pytest.raises(ValueError, match="await"):
        ActorOptions.parse({"allow_out_of_order_execution": False}, is_async=True)


def test_options_given_later_win_and_the_earlier_ones_stay():
    first = task(num_cpus=2, name="a")
    second = first.merged({"name": "b", "num_gpus": 1})
    assert second.resources() == {"CPU": 2.0, "GPU": 1.0}
    assert (first.name, second.name) == ("a", "b")
    assert second.merged({"num_cpus": None}).resources() == {"CPU": 1.0, "GPU": 1.0}
    assert method(num_returns=2).merged({"name": "x"}).num_returns == 2


def test_conflicts_that_arise_by_merging_are_refused():
    with pytest.raises(ValueError, match="together"):
        task(scheduling_strategy="SPREAD").merged({"placement_group": object()})
    with pytest.raises(ValueError, match="name"):
        actor().merged({"get_if_exists": True})
    assert actor(name="x").merged({"get_if_exists": True}).get_if_exists


def test_what_cannot_change_per_call_is_refused_in_options():
    with pytest.raises(ValueError, match="max_calls"):
        task().merged({"max_calls": 1})
    with pytest.raises(ValueError, match="concurrency_groups"):
        actor().merged({"concurrency_groups": {"io": 1}})


def test_options_are_frozen():
    with pytest.raises(AttributeError):
        task().name = "other"
