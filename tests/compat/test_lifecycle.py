"""`ray.init`, `ray.shutdown` and what a session means to the objects made in it."""

from __future__ import annotations

import logging
import os
import platform
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

import ray

from .support import descendants, gone, run_source, start_program, until

pytestmark = pytest.mark.usefixtures("no_cluster")


@ray.remote
def square(x: int) -> int:
    return x * x


@ray.remote
class Counter:
    def __init__(self) -> None:
        self.value = 0

    def increment(self) -> int:
        self.value += 1
        return self.value


def start(**options: Any) -> Any:
    return ray.init(include_dashboard=False, **{"num_cpus": 2, **options})


def test_init_returns_a_context_that_describes_the_session() -> None:
    context = start()
    assert context.python_version == platform.python_version()
    assert context.ray_version == ray.__version__
    assert {"node_ip_address", "address", "gcs_address", "session_dir", "node_id"} <= set(context.address_info)
    assert Path(context.address_info["session_dir"]).is_dir()
    assert context.address_info["node_id"] == ray.nodes()[0]["NodeID"]
    assert hasattr(context, "dashboard_url")


def test_the_context_ends_the_session_at_the_end_of_a_with_block() -> None:
    with start():
        assert ray.get(square.remote(3)) == 9
    assert not ray.is_initialized()


def test_a_second_init_is_refused_and_leaves_the_first_session_alone() -> None:
    start()
    ref = ray.put("kept")
    with pytest.raises(RuntimeError):
        ray.init()
    assert ray.get(ref) == "kept"


def test_a_second_init_is_harmless_with_ignore_reinit_error() -> None:
    first = start()
    second = ray.init(ignore_reinit_error=True)
    assert second.address_info["node_id"] == first.address_info["node_id"]


def test_shutdown_can_be_called_before_init_and_twice() -> None:
    ray.shutdown()
    start()
    assert ray.is_initialized()
    ray.shutdown()
    ray.shutdown()
    assert not ray.is_initialized()


BAD_OPTIONS: list[tuple[dict[str, Any], tuple[type[Exception], ...]]] = [
    ({"num_cpu": 4}, (RuntimeError,)),
    ({"local_mode": True}, (RuntimeError,)),
    ({"num_cpus": -1}, (ValueError,)),
    ({"num_gpus": -1}, (ValueError,)),
    ({"resources": {"CPU": 2}}, (ValueError, AssertionError)),
    ({"resources": {"disk": -1}}, (ValueError,)),
    ({"object_store_memory": 1}, (ValueError,)),
    ({"namespace": ""}, (ValueError,)),
    ({"namespace": 3}, (ValueError, TypeError)),
]


@pytest.mark.parametrize(("options", "error"), BAD_OPTIONS, ids=str)
def test_init_refuses_a_bad_option(options: dict[str, Any], error: tuple[type[Exception], ...]) -> None:
    with pytest.raises(error):
        ray.init(**options)


@pytest.mark.beyond_ray("starts its processes before it looks at all options, and leaves some of them running")
def test_an_init_that_was_refused_leaves_no_session_and_no_process() -> None:
    before = set(descendants(os.getpid()))
    for options, error in BAD_OPTIONS:
        with pytest.raises(error):
            ray.init(**options)
        assert not ray.is_initialized()
    until(lambda: set(descendants(os.getpid())) <= before, timeout_s=5)


def test_joining_automatically_fails_where_no_cluster_runs(tmp_path: Path) -> None:
    source = "import ray\nray.init(address='auto')\n"
    done = run_source(tmp_path, source, expect_exit=1, environment={"RAY_TMPDIR": str(tmp_path)})
    assert "ConnectionError" in done.stderr


@pytest.mark.beyond_ray("retries for minutes where nothing listens")
def test_joining_by_address_fails_soon_where_nothing_listens(tmp_path: Path) -> None:
    done = run_source(tmp_path, "import ray\nray.init(address='127.0.0.1:1')\n", expect_exit=1, timeout_s=15)
    assert "ConnectionError" in done.stderr


def test_what_init_was_told_to_offer_is_what_the_cluster_has() -> None:
    ray.init(num_cpus=3, num_gpus=2, resources={"disk": 5}, object_store_memory=200 * 1024**2, include_dashboard=False)
    total = ray.cluster_resources()
    assert (total["CPU"], total["GPU"], total["disk"]) == (3.0, 2.0, 5.0)
    assert total["object_store_memory"] == pytest.approx(200 * 1024**2, rel=0.01)


def test_labels_given_to_init_are_labels_of_the_node() -> None:
    start(labels={"zone": "west"})
    assert ray.nodes()[0]["Labels"]["zone"] == "west"


def test_init_accepts_every_keyword_of_the_reference() -> None:
    ray.init(
        None,
        num_cpus=1,
        num_gpus=None,
        resources=None,
        labels=None,
        object_store_memory=None,
        local_mode=False,
        ignore_reinit_error=False,
        include_dashboard=False,
        dashboard_host="127.0.0.1",
        dashboard_port=None,
        job_config=None,
        configure_logging=True,
        logging_level=logging.INFO,
        logging_format=None,
        logging_config=None,
        log_to_driver=True,
        namespace=None,
        runtime_env=None,
    )
    assert ray.get(square.remote(2)) == 4


def test_the_namespace_given_to_init_is_the_namespace_of_the_job() -> None:
    start(namespace="kitchen")
    assert ray.get_runtime_context().namespace == "kitchen"


def test_calling_a_remote_function_before_init_starts_a_session() -> None:
    assert ray.get(square.remote(4)) == 16
    assert ray.is_initialized()


def test_put_before_init_starts_a_session() -> None:
    assert ray.get(ray.put("hello")) == "hello"
    assert ray.is_initialized()


def test_asking_for_the_state_of_the_cluster_does_not_start_one() -> None:
    for question in (ray.cluster_resources, ray.available_resources, ray.nodes):
        with pytest.raises(ray.exceptions.RaySystemError):
            question()
    assert not ray.is_initialized()


def test_remote_functions_and_classes_work_again_in_the_next_session() -> None:
    for _ in range(2):
        start()
        assert ray.get(square.remote(5)) == 25
        counter = Counter.remote()
        assert ray.get(counter.increment.remote()) == 1
        ray.shutdown()


def test_a_ref_of_an_earlier_session_is_refused_everywhere() -> None:
    start()
    stored, returned = ray.put("old"), square.remote(2)
    assert ray.get(returned) == 4
    ray.shutdown()
    start()
    for ref in (stored, returned):
        with pytest.raises(ValueError):
            ray.get(ref, timeout=10)
        with pytest.raises(ValueError):
            ray.wait([ref], timeout=10)
        with pytest.raises(ValueError):
            ray.get(square.remote(ref), timeout=10)


def test_a_ref_of_an_earlier_session_never_names_an_object_of_this_one() -> None:
    start()
    old = [ray.put(f"old {i}") for i in range(20)]
    ray.shutdown()
    start()
    new = [ray.put(f"new {i}") for i in range(20)]
    for ref in old:
        with pytest.raises(ValueError):
            ray.get(ref, timeout=10)
    assert ray.get(new) == [f"new {i}" for i in range(20)]


@pytest.mark.beyond_ray("upstream refuses the ref only in the next session; before that it starts a session to say so")
def test_get_after_shutdown_says_no_and_starts_nothing() -> None:
    start()
    ref = ray.put("old")
    ray.shutdown()
    with pytest.raises((ValueError, RuntimeError)):
        ray.get(ref, timeout=10)
    assert not ray.is_initialized()


def test_a_handle_of_an_earlier_session_is_refused() -> None:
    start()
    counter = Counter.remote()
    assert ray.get(counter.increment.remote()) == 1
    ray.shutdown()
    start()
    with pytest.raises(Exception) as caught:
        ray.get(counter.increment.remote(), timeout=10)
    assert not isinstance(caught.value, ray.exceptions.GetTimeoutError)
    with pytest.raises(ValueError):
        ray.kill(counter)


def test_shutdown_ends_every_process_of_the_session() -> None:
    before = set(descendants(os.getpid()))
    start()
    pids = ray.get([pid_of_worker.remote() for _ in range(4)])
    processes = {*descendants(os.getpid()), *pids} - before
    assert processes
    ray.shutdown()
    until(lambda: gone(processes))


@ray.remote
def pid_of_worker() -> int:
    return os.getpid()


def test_shutdown_in_a_fixture_lets_test_modules_follow_each_other() -> None:
    for _ in range(2):
        ray.init(num_cpus=2)
        assert ray.get([square.remote(i) for i in range(4)]) == [0, 1, 4, 9]
        ray.shutdown()


JOINING_DRIVER = """
import sys, ray
ray.init(address=sys.argv[1], namespace="shared", log_to_driver=False)
clerk = ray.get_actor("clerk")
print(ray.get(clerk.increment.remote()), ray.get_runtime_context().get_job_id(), ray.cluster_resources()["CPU"])
"""


def test_a_second_driver_joins_by_address_and_meets_the_named_actors(tmp_path: Path) -> None:
    context = start(namespace="shared", num_cpus=3)
    clerk = Counter.options(name="clerk").remote()
    assert ray.get(clerk.increment.remote()) == 1
    done = run_source(tmp_path, JOINING_DRIVER, context.address_info["address"])
    count, job, cpus = done.stdout.split()
    assert (count, cpus) == ("2", "3.0")
    assert job != ray.get_runtime_context().get_job_id()
    assert ray.get(clerk.increment.remote()) == 3


def test_the_environment_may_name_the_cluster_to_join(tmp_path: Path) -> None:
    context = start(num_cpus=3)
    source = """
        import ray
        ray.init(log_to_driver=False)
        print(ray.cluster_resources()["CPU"])
    """
    done = run_source(tmp_path, source, environment={"RAY_ADDRESS": context.address_info["address"]})
    assert done.stdout.strip() == "3.0"


def test_the_address_local_always_starts_a_cluster_of_its_own(tmp_path: Path) -> None:
    context = start(num_cpus=3)
    source = """
        import ray
        ray.init("local", num_cpus=1, include_dashboard=False)
        print(ray.cluster_resources()["CPU"])
    """
    done = run_source(tmp_path, source, environment={"RAY_ADDRESS": context.address_info["address"]})
    assert done.stdout.strip() == "1.0"


def test_automatic_init_can_be_switched_off(tmp_path: Path) -> None:
    source = """
        import ray
        try:
            ray.put(1)
        except Exception:
            print("refused", ray.is_initialized())
    """
    done = run_source(tmp_path, source, environment={"RAY_ENABLE_AUTO_CONNECT": "0"})
    assert done.stdout.strip() == "refused False"


def test_environment_variables_of_the_job_reach_its_workers() -> None:
    start(runtime_env={"env_vars": {"DISH": "toast"}})
    read = ray.remote(lambda: os.environ.get("DISH"))
    assert ray.get(read.remote()) == "toast"
    assert ray.get_runtime_context().runtime_env["env_vars"] == {"DISH": "toast"}


def test_joining_a_cluster_refuses_to_redefine_its_resources(tmp_path: Path) -> None:
    context = start()
    source = f"import ray\nray.init(address={context.address_info['address']!r}, num_cpus=8)\n"
    done = run_source(tmp_path, source, expect_exit=1)
    assert "ValueError" in done.stderr


def test_the_session_ends_with_a_program_that_never_calls_shutdown(tmp_path: Path) -> None:
    source = """
        import os, ray
        ray.init(num_cpus=2, include_dashboard=False)
        @ray.remote
        def pid():
            return os.getpid()
        print(*ray.get([pid.remote() for _ in range(4)]))
    """
    done = run_source(tmp_path, source)
    until(lambda: gone(int(pid) for pid in done.stdout.split()))


KILLED_DRIVER = """
import os, sys, time, ray
ray.init(num_cpus=2, include_dashboard=False)
@ray.remote
def forever():
    print(os.getpid(), file=open(sys.argv[1], "a"), flush=True)
    time.sleep(600)
@ray.remote
class Idle:
    def pid(self):
        return os.getpid()
idle = Idle.remote()
print(ray.get(idle.pid.remote()), file=open(sys.argv[1], "a"), flush=True)
ray.get([forever.remote()])
"""


def kill_driver(tmp_path: Path, signal_number: signal.Signals) -> tuple[list[int], list[int]]:
    """Send the signal to a driver with busy workers; gives the pids of its workers and of all processes below it."""
    program, pids = tmp_path / "killed.py", tmp_path / "pids"
    program.write_text(KILLED_DRIVER.replace("sys.argv[1]", repr(str(pids))))
    driver = start_program(program)
    until(lambda: pids.exists() and len(pids.read_text().split()) == 2, timeout_s=40)
    workers, below = [int(pid) for pid in pids.read_text().split()], descendants(driver.pid)
    driver.send_signal(signal_number)
    driver.communicate()
    return workers, below


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda s: s.name)
def test_a_driver_that_is_killed_takes_its_workers_with_it(tmp_path: Path, signal_number: signal.Signals) -> None:
    workers, _ = kill_driver(tmp_path, signal_number)
    until(lambda: gone(workers))


@pytest.mark.beyond_ray("after a SIGKILL of the driver some of the session's own processes stay for ever")
def test_a_driver_that_is_killed_leaves_no_process_at_all(tmp_path: Path) -> None:
    _, below = kill_driver(tmp_path, signal.SIGKILL)
    assert below
    until(lambda: gone(below), timeout_s=10)


def test_remote_functions_of_a_program_may_use_modules_beside_it(tmp_path: Path) -> None:
    (tmp_path / "kitchen.py").write_text("def dish(n):\n    return f'dish {n}'\n\nclass Cook:\n    name = 'Ann'\n")
    source = """
        import ray
        from kitchen import Cook, dish
        @ray.remote
        def cook(n, cook):
            return dish(n) + " by " + cook.name
        ray.init(num_cpus=2, include_dashboard=False)
        print(ray.get(cook.remote(1, Cook())))
    """
    assert "dish 1 by Ann" in run_source(tmp_path, source).stdout


def test_classes_and_functions_of_main_travel_both_ways(tmp_path: Path) -> None:
    source = """
        import ray
        class Point:
            def __init__(self, x):
                self.x = x
        def double(point):
            return Point(point.x * 2)
        @ray.remote
        def work(point):
            return double(point)
        if __name__ == "__main__":
            ray.init(num_cpus=2, include_dashboard=False)
            result = ray.get(work.remote(Point(21)))
            assert type(result) is Point
            print(result.x)
    """
    assert "42" in run_source(tmp_path, source).stdout


def test_the_python_under_test_is_one_the_project_supports() -> None:
    assert sys.version_info >= (3, 11)
