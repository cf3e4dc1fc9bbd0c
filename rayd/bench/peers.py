"""The environment of the peers: a virtual environment with upstream Ray, beside the one that holds ours."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

FOLDER = ".venv-peers"
RAY_VERSION = "2.60"
REQUIREMENTS = (f"ray[default]=={RAY_VERSION}.*", "numpy")
#: A wheel of Ray has some 70 MB, and its requirements as much again.
BUILD_LIMIT_S = 1800.0
PROBE_LIMIT_S = 60.0


class PeersError(Exception):
    """The environment of the peers could not be made or used; the text names the step and its output."""


def build(parent: Path, tell: Callable[[str], None]) -> Path:
    """The interpreter of ``parent/.venv-peers``, which is made first unless it already holds the right Ray.

    Raises PeersError when the virtual environment or the installation fails.
    """
    folder = parent / FOLDER
    python = folder / "bin" / "python"
    if python.exists() and ray_version(python).startswith(f"{RAY_VERSION}."):
        return python
    tell(f"making {folder} with {', '.join(REQUIREMENTS)}")
    _run([sys.executable, "-m", "venv", str(folder)])
    _run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *REQUIREMENTS])
    found = ray_version(python)
    if not found.startswith(f"{RAY_VERSION}."):
        message = f"{python} imports ray {found or '(none)'} after the installation of {REQUIREMENTS[0]}"
        raise PeersError(message)
    return python


def ray_version(python: Path) -> str:
    """The version of ``ray`` that an interpreter imports, without what PYTHONPATH adds; empty when it has none."""
    program = "import importlib.metadata as m; print(m.version('ray'))"
    done = subprocess.run(
        [str(python), "-I", "-c", program],
        capture_output=True,
        text=True,
        timeout=PROBE_LIMIT_S,
        check=False,
    )
    return done.stdout.strip() if done.returncode == 0 else ""


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_LIMIT_S, check=False)
    except subprocess.TimeoutExpired as error:
        message = f"'{' '.join(command)}' was not done after {BUILD_LIMIT_S:.0f} s"
        raise PeersError(message) from error
    if done.returncode != 0:
        message = f"'{' '.join(command)}' ended with code {done.returncode}: {done.stderr.strip()[-2000:]}"
        raise PeersError(message)
