"""Markers, time limits and the shared cluster of the compatibility tests.

The same files run on this repository's `ray` and on upstream Ray, which is the reference of behaviour. What is promised
here and not kept by upstream is marked `beyond_ray(reason)`: such a test must fail there, and must pass here.
"""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from importlib import metadata
from types import FrameType
from typing import Any

import pytest

import ray

from . import support
from .support import until

CPUS = 4
TIME_LIMIT_S = 60.0


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "beyond_ray(reason, run=True): promised by this project and not kept by upstream Ray; fails there, "
        "and is not even tried there with run=False",
    )
    config.addinivalue_line("markers", f"time_limit(seconds): fail the test after this long (default {TIME_LIMIT_S} s)")


# Workers need not be able to import the tests: what these define travels by value, whatever the import mode is.
ray.cloudpickle.register_pickle_by_value(support)


@pytest.fixture(scope="module", autouse=True)
def _test_module_travels_by_value(request: pytest.FixtureRequest) -> None:
    ray.cloudpickle.register_pickle_by_value(request.module)


def upstream() -> bool:
    """Whether `import ray` is the original: only that one is installed under the distribution name `ray`."""
    try:
        metadata.distribution("ray")
    except metadata.PackageNotFoundError:
        return False
    return True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not upstream():
        return
    for item in items:
        mark = item.get_closest_marker("beyond_ray")
        if mark is not None:
            item.add_marker(pytest.mark.xfail(reason=mark.args[0], run=mark.kwargs.get("run", True), strict=True))


@contextmanager
def _time_limit(item: pytest.Item) -> Iterator[None]:
    """Raise in the main thread when the phase of a test takes too long: a call that hangs must not hang the run."""
    mark = item.get_closest_marker("time_limit")
    seconds = mark.args[0] if mark is not None else TIME_LIMIT_S

    def expired(_signal: int, _frame: FrameType | None) -> None:
        pytest.fail(f"{item.nodeid} was still running after {seconds} s")  # a BaseException: no retry loop eats it

    before = signal.signal(signal.SIGALRM, expired)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    with _time_limit(item):
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    with _time_limit(item):
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    with _time_limit(item):
        yield


def everything_is_given_back() -> bool:
    """Whether no task or actor holds a resource any more."""
    gc.collect()
    total, free = ray.cluster_resources(), ray.available_resources()
    return all(free.get(name) == total[name] for name in total if name in ("CPU", "GPU"))


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster of four CPUs for the tests of one module, given as the context of `ray.init`.

    At the end nothing may still hold a CPU.
    """
    yield ray.init(num_cpus=CPUS, include_dashboard=False)
    try:
        until(everything_is_given_back)
    finally:
        ray.shutdown()


@pytest.fixture
def no_cluster() -> Iterator[None]:
    """The test begins without a session and leaves none."""
    ray.shutdown()
    yield
    ray.shutdown()


RunAsync = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture(params=["asyncio", "uvloop"])
def run_async(request: pytest.FixtureRequest) -> RunAsync:
    """Run a coroutine to its end, once on the standard event loop and once on uvloop."""
    if request.param == "asyncio":
        return asyncio.run
    uvloop = pytest.importorskip("uvloop")

    def run(main: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(main)

    return run
