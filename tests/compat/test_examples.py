"""Every program in examples/ runs to its end, prints something, and writes no traceback."""

from __future__ import annotations

import pytest

from .support import REPOSITORY, run_program

EXAMPLES = sorted((REPOSITORY / "examples").glob("*.py"))
ARGUMENTS = {"demo.py": ["--quick"]}


def test_the_examples_are_there():
    names = {path.name for path in EXAMPLES}
    expected = "hello map_reduce async_driver actors streaming shared_array pipeline demo".split()
    assert {f"{name}.py" for name in expected} <= names


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_as_a_user_runs_it(example):
    done = run_program(example, *ARGUMENTS.get(example.name, []), timeout_s=50)
    assert done.stdout.strip()
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_says_what_it_shows(example):
    assert example.read_text().startswith('"""')
