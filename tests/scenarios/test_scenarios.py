"""Stories about one node, in ``*.txt``: prose, commands after ``$``, and under each what the core asks for, indented.

    RAYD_REWRITE_SCENARIOS=1 pytest tests/scenarios

writes what the core asks for now into the stories. Commit that only when you understand what made the difference.
"""

import os
from pathlib import Path

import pytest

from stage import Stage

HERE = Path(__file__).parent
INDENT = "    "


def played(story: str) -> str:
    """The story with what the core asks for now."""
    stage = Stage()
    told = []
    for line in story.splitlines():
        if line.startswith(INDENT):
            continue
        told.append(line)
        if line.startswith("$ "):
            told += [INDENT + effect for effect in stage.play(line[2:])]
    return "\n".join(told) + "\n"


@pytest.mark.parametrize("path", sorted(HERE.glob("*.txt")), ids=lambda path: path.stem)
def test_the_story_goes_as_it_is_told(path: Path) -> None:
    story = path.read_text(encoding="utf-8")
    now = played(story)
    if os.environ.get("RAYD_REWRITE_SCENARIOS"):
        path.write_text(now, encoding="utf-8")
    else:
        assert now == story


def test_there_are_stories() -> None:
    assert len(list(HERE.glob("*.txt"))) >= 8


def test_a_command_that_does_not_exist_is_no_silent_success() -> None:
    with pytest.raises(AssertionError, match="no such command: ann dances"):
        played("$ ann connects\n$ ann dances\n")
