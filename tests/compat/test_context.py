"""`ray.get_runtime_context()`, `ray.nodes()` and `ray.timeline()`."""

from __future__ import annotations

import json
import os

import pytest

import ray

from .support import until

pytestmark = pytest.mark.usefixtures("cluster")

HEX = set("0123456789abcdef")


def context_of_here():
    context = ray.get_runtime_context()
    return {
        "job": context.get_job_id(),
        "node": context.get_node_id(),
        "worker": context.get_worker_id(),
        "task": context.get_task_id(),
        "task_name": context.get_task_name(),
        "function": context.get_task_function_name(),
        "actor": context.get_actor_id(),
        "actor_name": context.get_actor_name(),
        "group": context.get_placement_group_id(),
        "namespace": context.namespace,
    }


@ray.remote
def in_task():
    return context_of_here()


@ray.remote
class Inside:
    def look(self):
        return context_of_here()

    async def look_async(self):
        return context_of_here()


@pytest.mark.filterwarnings("ignore")
def test_the_driver_knows_its_job_and_node_and_has_no_task_or_actor():
    here = context_of_here()
    assert set(here["job"]) <= HEX
    assert len(here["job"]) == 8
    assert here["node"] == ray.nodes()[0]["NodeID"]
    assert len(here["worker"]) == 56
    assert (here["task"], here["actor"], here["group"]) == (None, None, None)


def test_a_task_knows_itself_and_shares_job_node_and_namespace_with_the_driver():
    mine = ray.get_runtime_context()
    ref = in_task.options(name="looking around").remote()
    there = ray.get(ref)
    assert there["job"] == mine.get_job_id()
    assert there["node"] == mine.get_node_id()
    assert there["namespace"] == mine.namespace
    assert there["task"] == ref.task_id().hex()
    assert there["task_name"] == "looking around"
    assert there["function"].endswith("in_task")
    assert (there["actor"], there["group"]) == (None, None)
    assert there["worker"] != mine.get_worker_id()


def test_a_task_without_a_name_is_called_after_its_function():
    assert ray.get(in_task.remote())["task_name"].endswith("in_task")


@pytest.mark.parametrize("method", ["look", "look_async"])
def test_an_actor_knows_itself_and_the_task_that_runs(method):
    actor = Inside.options(name=f"inside {method}").remote()
    ref = getattr(actor, method).remote()
    there = ray.get(ref)
    assert there["actor"] == actor._actor_id.hex()
    assert there["actor_name"] == f"inside {method}"
    assert there["task"] == ref.task_id().hex()
    assert there["task_name"].endswith(method)


def test_an_actor_without_a_name_has_an_empty_name():
    assert not ray.get(Inside.remote().look.remote())["actor_name"]


def test_every_call_has_its_own_task_id():
    actor = Inside.remote()
    assert len({there["task"] for there in ray.get([actor.look.remote() for _ in range(5)])}) == 5


def test_a_namespace_that_was_not_given_is_anonymous_and_not_empty():
    assert ray.get_runtime_context().namespace


def test_the_context_names_the_session_and_its_folder():
    context = ray.get_runtime_context()
    assert context.get_session_name().startswith("session_")
    assert os.path.isdir(context.get_temp_dir())


def test_accelerator_ids_and_labels_can_be_asked_for():
    context = ray.get_runtime_context()
    assert context.get_accelerator_ids()["GPU"] == []
    assert isinstance(context.get_node_labels(), dict)


def test_the_runtime_environment_reads_like_a_dictionary():
    context = ray.get_runtime_context()
    assert context.runtime_env.get("env_vars") is None
    assert isinstance(context.get_runtime_env_string(), str)


def test_environment_variables_can_be_set_for_one_task_or_actor():
    @ray.remote
    def read(name):
        return os.environ.get(name)

    @ray.remote
    class Reader:
        def read(self, name):
            return os.environ.get(name)

    toast = {"env_vars": {"DISH": "toast"}}
    assert ray.get(read.options(runtime_env=toast).remote("DISH"), timeout=60) == "toast"
    assert ray.get(Reader.options(runtime_env=toast).remote().read.remote("DISH"), timeout=60) == "toast"
    assert ray.get([read.remote("DISH") for _ in range(8)]) == [None] * 8


def test_environment_variables_that_are_too_large_to_be_passed_on_are_refused_with_the_reason():
    large = {"env_vars": {"DISH": "x" * 3_000_000}}
    with pytest.raises(ray.exceptions.RuntimeEnvSetupError, match="pass what is large as an argument") as caught:
        ray.get(ray.remote(lambda: None).options(runtime_env=large).remote(), timeout=60)
    assert len(str(caught.value)) < 1000


def test_tasks_are_not_cancelled_unless_somebody_did():
    assert ray.get(ray.remote(lambda: ray.get_runtime_context().is_canceled()).remote()) is False


@pytest.mark.filterwarnings("ignore")
def test_the_old_properties_of_the_context_still_answer():
    context = ray.get_runtime_context()
    assert context.job_id.hex() == context.get_job_id()
    assert context.node_id.hex() == context.get_node_id()
    assert context.get()["job_id"].hex() == context.get_job_id()


def test_the_timeline_is_a_trace_with_a_bar_for_each_task(tmp_path):
    def polish():
        return 1

    task = ray.remote(polish)
    ray.get([task.options(name="polish the spoons").remote() for _ in range(3)])

    def bars():
        return [event for event in ray.timeline() if event["ph"] == "X" and "polish the spoons" in json.dumps(event)]

    found = until(lambda: len(bars()) >= 3 and bars())
    for event in found:
        assert {"cat", "name", "pid", "tid", "ts", "dur", "ph", "args"} <= set(event)
        assert event["dur"] >= 0
    path = tmp_path / "timeline.json"
    ray.timeline(str(path))
    assert len(json.loads(path.read_text())) >= 3
