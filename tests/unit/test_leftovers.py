"""The guard of tests/conftest.py: a test that leaves something behind fails, and the others are not blamed for it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"

TIDY = """
import subprocess

def test_tidy():
    subprocess.run(["true"])
"""


def outcome(folder: Path, source: str) -> tuple[dict[str, int], str]:
    """Run a test file with our guard: how many tests passed, failed or left something, and the output."""
    guard = CONFTEST.read_text()
    assert "GONE_WITHIN_S = 5.0" in guard
    (folder / "conftest.py").write_text(guard.replace("GONE_WITHIN_S = 5.0", "GONE_WITHIN_S = 0.5"))
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "test_it.py").write_text(source + TIDY)
    arguments = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py"]
    done = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    summary = done.stdout.splitlines()[-1]
    return {word: int(count) for count, word in re.findall(r"(\d+) (passed|failed|errors?)", summary)}, done.stdout


@pytest.mark.parametrize(
    ("leaves", "words"),
    [
        ("subprocess.Popen(['sleep', '1000'], start_new_session=True)", "sleep 1000"),
        ("os.posix_spawn('/bin/true', ['true'], os.environ)", "ended but not reaped"),
        ("(ray_tmpdir / 'ray').mkdir(); subprocess.run('setsid sleep 1000 &', shell=True)", "sleep 1000"),
        ("open('/dev/shm/rayd-left', 'w').close()", "/dev/shm/rayd-left"),
        ("d = ray_tmpdir / 'ray/session_1/sockets'; d.mkdir(parents=True); (d / 's').touch()", "session_1/sockets/s"),
    ],
)
def test_what_a_test_leaves_is_named(tmp_path: Path, leaves: str, words: str) -> None:
    source = f"import os, subprocess\nheld = []\ndef test_untidy(ray_tmpdir):\n    held.append(({leaves}))\n"
    if ";" in leaves:
        source = f"import os, subprocess\ndef test_untidy(ray_tmpdir):\n    {leaves}\n"
    try:
        counts, output = outcome(tmp_path, source)
    finally:
        Path("/dev/shm/rayd-left").unlink(missing_ok=True)
    assert "the test left behind" in output
    assert words in output
    assert counts == {"passed": 2, "error": 1}, "only the untidy test is blamed"


def test_a_cluster_of_the_module_is_no_leftover_of_its_tests(tmp_path: Path) -> None:
    source = """
import pytest
import ray

@pytest.fixture(scope="module")
def cluster():
    ray.init(num_cpus=1)
    yield
    ray.shutdown()

@pytest.mark.parametrize("number", range(2))
def test_uses_it(cluster, number):
    f = ray.remote(lambda: number)
    assert ray.get(f.remote()) == number
"""
    assert outcome(tmp_path, source)[0] == {"passed": 3}


def test_a_driver_that_stays_connected_is_disconnected_for_the_next_test(tmp_path: Path) -> None:
    source = """
import ray

def test_forgets():
    ray.init(num_cpus=1)

def test_starts_afresh():
    assert not ray.is_initialized()
"""
    assert outcome(tmp_path, source)[0] == {"passed": 3}
