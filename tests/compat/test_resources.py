"""Resources: what a task or an actor asks for, what it gets, and what the cluster says it has."""

from __future__ import annotations

import gc
import os

import pytest

import ray
from ray.exceptions import GetTimeoutError

from .conftest import everything_is_given_back
from .support import Gate, until, until_arrived, wait_at


@pytest.fixture(scope="module", autouse=True)
def _cluster_with_devices():
    ray.init(num_cpus=4, num_gpus=3, resources={"disk": 2}, include_dashboard=False)
    yield
    try:
        until(everything_is_given_back)
    finally:
        ray.shutdown()


@ray.remote
def hold(gate, who=None):
    wait_at(gate, who)
    return who


@ray.remote
def devices():
    return [int(i) for i in ray.get_gpu_ids()], os.environ.get("CUDA_VISIBLE_DEVICES")


@ray.remote
class Holder:
    def devices(self):
        return [int(i) for i in ray.get_gpu_ids()], os.environ.get("CUDA_VISIBLE_DEVICES")

    def assigned(self):
        return ray.get_runtime_context().get_assigned_resources()

    def ping(self):
        return "pong"


def free(name):
    return ray.available_resources().get(name, 0.0)


def test_the_cluster_tells_what_it_has():
    total = ray.cluster_resources()
    assert (total["CPU"], total["GPU"], total["disk"]) == (4.0, 3.0, 2.0)
    assert total["memory"] > 0
    assert total["object_store_memory"] > 0
    address = ray.nodes()[0]["NodeManagerAddress"]
    assert total[f"node:{address}"] == 1.0
    assert total["node:__internal_head__"] == 1.0


def test_the_node_tells_what_it_has():
    (node,) = ray.nodes()
    assert node["Alive"] is True
    assert node["alive"] is True
    assert node["Resources"]["CPU"] == 4.0
    assert len(node["NodeID"]) == 56
    assert {"NodeManagerAddress", "NodeManagerHostname", "NodeName", "Labels", "ObjectManagerPort"} <= set(node)


def test_a_running_task_takes_what_it_asked_for_and_gives_it_back():
    gate = Gate.remote()
    until(everything_is_given_back)
    ref = hold.options(num_cpus=2, num_gpus=1, resources={"disk": 0.5}).remote(gate)
    until_arrived(gate, 1)
    # The task blocks, which gives its CPUs to others; what else it holds it keeps.
    until(lambda: (free("GPU"), free("disk")) == (2.0, 1.5))
    ray.get(gate.open.remote())
    ray.get(ref)
    until(lambda: (free("CPU"), free("GPU"), free("disk")) == (4.0, 3.0, 2.0))


def test_a_busy_task_holds_its_cpus(tmp_path):
    stop = tmp_path / "stop"

    @ray.remote(num_cpus=3)
    def busy():
        until(stop.exists, timeout_s=40)

    ref = busy.remote()
    until(lambda: free("CPU") == 1.0)
    stop.touch()
    ray.get(ref)
    until(lambda: free("CPU") == 4.0)


def test_a_task_without_cpus_runs_when_all_are_taken(tmp_path):
    stop = tmp_path / "stop"

    @ray.remote(num_cpus=4)
    def busy():
        until(stop.exists, timeout_s=40)

    ref = busy.remote()
    until(lambda: free("CPU") == 0.0)
    light = ray.remote(num_cpus=0)(lambda: "light")
    assert ray.get(light.remote(), timeout=30) == "light"
    one = ray.remote(num_cpus=1)(lambda: "one")
    waiting = one.remote()
    with pytest.raises(GetTimeoutError):
        ray.get(waiting, timeout=0.2)
    stop.touch()
    assert ray.get([waiting, ref], timeout=30) == ["one", None]


def test_fractions_of_a_cpu_let_more_tasks_run_at_once():
    gate = Gate.remote()
    refs = [hold.options(num_cpus=0.5).remote(gate, i) for i in range(8)]
    assert sorted(until_arrived(gate, 8, timeout_s=40)) == list(range(8))
    ray.get(gate.open.remote())
    assert ray.get(refs) == list(range(8))


def test_a_custom_resource_bounds_how_many_tasks_run_at_once():
    gate = Gate.remote()
    refs = [hold.options(num_cpus=0, resources={"disk": 1}).remote(gate, i) for i in range(5)]
    until_arrived(gate, 2)
    assert ray.wait(refs, timeout=0.2)[0] == []
    assert len(ray.get(gate.arrived.remote())) == 2
    ray.get(gate.open.remote())
    assert ray.get(refs) == list(range(5))


def test_memory_bounds_how_many_tasks_run_at_once():
    gate = Gate.remote()
    half = int(ray.cluster_resources()["memory"] * 0.45)
    refs = [hold.options(num_cpus=0, memory=half).remote(gate, i) for i in range(4)]
    until_arrived(gate, 2)
    assert ray.wait(refs, timeout=0.2)[0] == []
    assert len(ray.get(gate.arrived.remote())) == 2
    ray.get(gate.open.remote())
    assert ray.get(refs) == list(range(4))


def test_a_task_that_nobody_can_run_stays_pending_and_harms_no_other():
    for options in ({"num_cpus": 100}, {"resources": {"nonexistent": 1}}, {"num_gpus": 50}):
        ref = hold.options(**options).remote(None)
        with pytest.raises(GetTimeoutError):
            ray.get(ref, timeout=0.2)
        assert ray.get(devices.remote(), timeout=30) is not None
        ray.cancel(ref)


def test_a_task_with_a_gpu_sees_only_its_own():
    ids, visible = ray.get(devices.options(num_gpus=1).remote())
    assert len(ids) == 1
    assert visible == str(ids[0])
    ids, visible = ray.get(devices.options(num_gpus=2).remote())
    assert len(ids) == 2
    assert sorted(visible.split(",")) == sorted(map(str, ids))


def test_a_task_without_a_gpu_is_given_none():
    assert ray.get(devices.remote())[0] == []
    assert ray.get_gpu_ids() == []


def test_actors_that_hold_gpus_hold_different_ones():
    actors = [Holder.options(num_gpus=1).remote() for _ in range(3)]
    found = ray.get([actor.devices.remote() for actor in actors])
    assert sorted(ids[0] for ids, _ in found) == [0, 1, 2]
    assert [visible for _, visible in found] == [str(ids[0]) for ids, _ in found]


def test_fractions_of_a_gpu_share_one_device():
    actors = [Holder.options(num_cpus=0, num_gpus=0.5).remote() for _ in range(6)]
    found = ray.get([actor.devices.remote() for actor in actors], timeout=40)
    assert sorted(ids[0] for ids, _ in found) == [0, 0, 1, 1, 2, 2]


def test_more_gpus_than_the_machine_has_are_logical_and_allowed():
    assert ray.cluster_resources()["GPU"] == 3.0


def test_an_actor_without_resource_options_holds_no_cpu_while_it_lives():
    actors = [Holder.remote() for _ in range(6)]
    assert ray.get([actor.ping.remote() for actor in actors], timeout=40) == ["pong"] * 6
    until(lambda: free("CPU") == 4.0)


def test_an_actor_that_asked_for_cpus_holds_them_for_life():
    actor = Holder.options(num_cpus=3).remote()
    assert ray.get(actor.ping.remote()) == "pong"
    until(lambda: free("CPU") == 1.0)
    ray.kill(actor)
    until(lambda: free("CPU") == 4.0)


def test_an_actor_that_asked_for_anything_else_holds_one_cpu_too():
    actor = Holder.options(num_gpus=1).remote()
    assert ray.get(actor.ping.remote()) == "pong"
    until(lambda: (free("CPU"), free("GPU")) == (3.0, 2.0))
    ray.kill(actor)
    until(lambda: (free("CPU"), free("GPU")) == (4.0, 3.0))


def test_the_resources_of_a_dead_handle_come_back():
    actor = Holder.options(num_gpus=2).remote()
    assert ray.get(actor.ping.remote()) == "pong"
    until(lambda: free("GPU") == 1.0)
    del actor
    gc.collect()
    until(lambda: free("GPU") == 3.0)


def test_assigned_resources_are_visible_inside():
    @ray.remote(num_cpus=2, resources={"disk": 0.5})
    def assigned():
        return ray.get_runtime_context().get_assigned_resources()

    found = ray.get(assigned.remote())
    assert (found["CPU"], found["disk"]) == (2.0, 0.5)
    actor = Holder.options(num_gpus=1).remote()
    assert ray.get(actor.assigned.remote())["GPU"] == 1.0


def test_gpu_tasks_do_not_share_a_worker_with_tasks_without():
    pid = ray.remote(lambda: (os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES")))
    with_gpu = [ray.get(pid.options(num_gpus=1).remote()) for _ in range(3)]
    plain = [ray.get(pid.remote()) for _ in range(3)]
    assert all(visible not in (None, "") for _, visible in with_gpu)
    assert {visible for _, visible in plain} <= {None, ""}


def test_nothing_available_means_no_key():
    actor = Holder.options(num_gpus=3).remote()
    ray.get(actor.ping.remote())
    until(lambda: "GPU" not in ray.available_resources() or ray.available_resources()["GPU"] == 0)
