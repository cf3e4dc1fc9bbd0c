"""A time limit for every test, and programs that never outlive theirs."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest

import ray

from . import support
from .support import Program, Record, only_daemon, start_cluster, stopping

TIME_LIMIT_S = 60.0

StartProgram = Callable[..., Program]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"time_limit(seconds): fail after this long (default {TIME_LIMIT_S} s)")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """A call that hangs must not hang the run."""
    mark = item.get_closest_marker("time_limit")
    seconds = mark.args[0] if mark is not None else TIME_LIMIT_S

    def expired(_signal: int, _frame: FrameType | None) -> None:
        pytest.fail(f"{item.nodeid} was still running after {seconds} s")

    before = signal.signal(signal.SIGALRM, expired)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# Workers need not be able to import the tests: what these define travels by value.
ray.cloudpickle.register_pickle_by_value(support)


@pytest.fixture(scope="module", autouse=True)
def _test_module_travels_by_value(request: pytest.FixtureRequest) -> None:
    ray.cloudpickle.register_pickle_by_value(request.module)


@pytest.fixture
def program(tmp_path: Path, ray_tmpdir: Path) -> Iterator[StartProgram]:
    """Start programs: ``program(source, environment=...)``; whatever still runs at the end is killed."""
    started: list[Program] = []

    def start(source: str, environment: dict[str, str] | None = None) -> Program:
        started.append(Program(tmp_path, source, environment))
        return started[-1]

    yield start
    for running in started:
        running.close()


@pytest.fixture(scope="module")
def session(_module_sessions: Path) -> Iterator[Record]:
    """A cluster of two CPUs that this process owns, for all tests of a module."""
    ray.init(num_cpus=2)
    yield only_daemon(_module_sessions)
    ray.shutdown()


@pytest.fixture
def own_session(ray_tmpdir: Path) -> Iterator[Record]:
    """The same for one test."""
    ray.init(num_cpus=2)
    yield only_daemon(ray_tmpdir)
    ray.shutdown()


@pytest.fixture
def cluster(ray_tmpdir: Path) -> Iterator[Record]:
    """A daemon of two CPUs that outlives its drivers."""
    with stopping(start_cluster()) as record:
        yield record
