"""The same events give the same effects in the same order, whatever the process."""

import os
import subprocess
import sys
from pathlib import Path

from play import play

PROGRAM = """
import hashlib, sys
from play import play
stage = play(seed=int(sys.argv[1]), steps=1500)
for kind, who, what in stage.world.trace:
    print(kind, who, what)
"""


def trace(seed: int, hash_seed: str) -> list[str]:
    """The effects of a random play in an interpreter of its own."""
    folders = [str(Path(__file__).parent), *filter(None, sys.path)]
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(seed)],
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(folders)},
        capture_output=True,
        text=True,
        check=True,
    )
    return run.stdout.splitlines()


def test_the_same_events_give_the_same_effects_whatever_the_seed_of_hashes() -> None:
    one, two = trace(5, "1"), trace(5, "4242")
    assert len(one) > 200
    for number, (left, right) in enumerate(zip(one, two, strict=True)):
        assert left == right, f"effect {number} differs"


def test_two_plays_of_one_process_are_the_same() -> None:
    assert play(6, 200).world.trace == play(6, 200).world.trace


def test_different_seeds_give_different_plays() -> None:
    assert play(6, 50).world.trace != play(7, 50).world.trace
