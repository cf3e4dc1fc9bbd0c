"""The programs of the seed documents.

First, programs of our own in programs/ that make the same calls in the same way. Second, where the documents are there
(the folder named by RAYD_SEEDS, else ../shared/seeds beside the repository), the programs printed in them, unmodified
but for what their layout lost; see seed_documents.py for what that is and why.
"""

from __future__ import annotations

import os
import re
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from .seed_documents import BLOCKS
from .support import REPOSITORY, finish_program, run_program, run_source, start_program

OWN_PROGRAMS = sorted((Path(__file__).parent / "programs").glob("*.py"))
SEEDS = Path(os.environ.get("RAYD_SEEDS") or REPOSITORY.parent / "shared" / "seeds").resolve()
# Modules without which a program of our own cannot run.
NEEDS = {"gang": "ray.util.placement_group"}
# These sleep nearly all of their time, so they run beside the others.
LONG_SLEEPERS = {"uneven tasks with get", "uneven tasks with wait"}

needs_documents = pytest.mark.skipif(
    not SEEDS.is_dir(), reason=f"the seed documents are not at {SEEDS}; RAYD_SEEDS names their folder"
)


def need(module):
    """Skip the test where there is no such module."""
    if module:
        pytest.importorskip(module, reason=f"{module} is not part of this version")


@pytest.mark.parametrize("program", OWN_PROGRAMS, ids=lambda path: path.stem)
def test_an_own_program_with_the_calls_of_the_seeds_runs(program):
    need(NEEDS.get(program.stem, ""))
    done = run_program(program)
    assert done.stdout.rstrip().endswith("ok")
    assert "Traceback" not in done.stderr


def run_block(block, folder):
    return run_source(folder, block.program(SEEDS), timeout_s=block.limit_s)


@pytest.fixture(scope="module")
def long_sleepers():
    """The programs that mostly sleep, under way since this was first asked for, each with sessions of its own."""
    with tempfile.TemporaryDirectory(prefix="s", dir="/tmp") as folder, ThreadPoolExecutor(len(LONG_SLEEPERS)) as pool:
        under_way = {}
        for block in BLOCKS:
            if block.name in LONG_SLEEPERS:
                program = Path(folder) / str(len(under_way)) / "program.py"
                program.parent.mkdir()
                program.write_text(block.program(SEEDS))
                process = start_program(program, environment={"RAY_TMPDIR": str(program.parent)})
                under_way[block.name] = pool.submit(finish_program, process, block.name, timeout_s=block.limit_s)
        yield under_way


def case(block):
    marks = [pytest.mark.beyond_ray(block.beyond_ray, run=False)] if block.beyond_ray else []
    return pytest.param(block, id=block.name, marks=marks)


@needs_documents
@pytest.mark.time_limit(300)
@pytest.mark.parametrize("block", [case(block) for block in BLOCKS])
def test_a_program_printed_in_a_seed_runs(block, tmp_path, long_sleepers):
    need(block.needs)
    done = long_sleepers[block.name].result() if block.name in LONG_SLEEPERS else run_block(block, tmp_path)
    assert re.search(block.printed, done.stdout, re.MULTILINE)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.name)
def test_every_completion_of_a_seed_has_its_reason(block):
    assert bool(block.reason) == bool(block.before or block.after or block.levels or block.edits or block.cut)
