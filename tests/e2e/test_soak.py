"""The long runs in small: processes die under load, and nonsense is talked, and the cluster stays well."""

from pathlib import Path

from .conftest import StartProgram
from .support import free_port

FOLDER = Path(__file__).parent.parent / "soak"


def run(program: StartProgram, name: str, *arguments: str) -> str:
    """Run a script of that folder; what it printed."""
    source = f"""
        import runpy
        import sys

        sys.argv = [{name!r}, *{list(arguments)!r}]
        runpy.run_path({str(FOLDER / name)!r}, run_name="__main__")
        """
    return program(source, {}).succeed(within_s=120)


def test_nothing_hangs_or_comes_out_wrong_while_processes_die(ray_tmpdir: Path, program: StartProgram) -> None:
    assert "killed: 2 nodes, 12 workers" in run(program, "soak.py", "--workers", "12", "--nodes", "2")


def test_names_are_there_after_the_head_was_killed(ray_tmpdir: Path, program: StartProgram) -> None:
    said = run(program, "restart.py", "--names", "300", "--nodes", "6", "--port", free_port())
    assert "every name and node is there" in said


def test_nonsense_does_a_daemon_no_harm(ray_tmpdir: Path, program: StartProgram) -> None:
    assert "connections; the daemon has grown by" in run(program, "fuzz.py", "--seconds", "5")
