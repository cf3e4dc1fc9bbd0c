"""The environment of the peers."""

import sys
from pathlib import Path

import pytest

from rayd.bench import peers


def fake_interpreter(folder: Path, version: str) -> Path:
    python = folder / peers.FOLDER / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\necho {version}\n")
    python.chmod(0o755)
    return python


def test_an_environment_with_the_right_ray_is_used_as_it_is(tmp_path: Path) -> None:
    python = fake_interpreter(tmp_path, "2.60.1")
    told: list[str] = []
    assert peers.build(tmp_path, told.append) == python
    assert told == []


def test_an_interpreter_without_the_distribution_has_no_version(tmp_path: Path) -> None:
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\nexit 1\n")
    script.chmod(0o755)
    assert peers.ray_version(script) == ""


def test_a_failing_step_is_named_with_its_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(peers.PeersError, match=r"'/bin/false -m venv .*' ended with code 1"):
        peers.build(tmp_path, lambda _text: None)
