"""Tests that mostly wait, run at the same time.

A test that must let a network be cut for 40 s has nothing to do meanwhile, nor have its neighbours. So all those of a
module that were selected run in threads, each in a folder of its own, when the first one's turn comes; each test then
tells how its own has ended.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeAlias

import pytest

from .hosts import NotHereError

# Called with an empty folder; returns what it has measured, in seconds, by name.
Scenario: TypeAlias = Callable[[Path], dict[str, float]]
Outcomes: TypeAlias = dict[str, Future[dict[str, float]]]

ATTRIBUTE: Final = "scenario"
# More would keep each other from their work.
AT_A_TIME: Final = 10


def side_by_side(scenario: Scenario) -> Callable[..., None]:
    """Make a test of a scenario, which runs beside the others of its module."""

    def test(outcomes: Outcomes, record_property: Callable[[str, Any], None]) -> None:
        try:
            measured = outcomes[scenario.__name__].result()
        except NotHereError as error:
            pytest.skip(str(error))
        for name, seconds in measured.items():
            record_property(name, round(seconds, 2))
            print(f"{name}: {seconds:.2f} s")

    test.__name__ = test.__qualname__ = scenario.__name__
    test.__doc__ = scenario.__doc__
    test.__module__ = scenario.__module__
    setattr(test, ATTRIBUTE, scenario)
    return test


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest) -> Iterator[Outcomes]:
    """Of all selected scenarios of the module, which have ended."""
    tests = [item.function for item in request.session.items if getattr(item, "module", None) is request.module]
    scenarios = [getattr(test, ATTRIBUTE) for test in tests if hasattr(test, ATTRIBUTE)]
    folder = Path(tempfile.mkdtemp(prefix="h", dir="/tmp"))  # short, for Unix sockets lie in it
    try:
        with ThreadPoolExecutor(AT_A_TIME) as threads:
            started = {}
            for number, scenario in enumerate(scenarios):
                own = folder / str(number)
                own.mkdir()
                started[scenario.__name__] = threads.submit(scenario, own)
        yield started
    finally:
        shutil.rmtree(folder, ignore_errors=True)
