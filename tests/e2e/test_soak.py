"""The soak command in small: workers and nodes die under load, and nothing hangs or comes out wrong."""

from pathlib import Path

from .conftest import StartProgram

SOAK = Path(__file__).parent.parent / "soak" / "soak.py"


def test_a_short_soak_ends_well(ray_tmpdir: Path, program: StartProgram) -> None:
    source = f"""
        import runpy
        import sys

        sys.argv = ["soak", "--workers", "12", "--nodes", "2"]
        runpy.run_path({str(SOAK)!r}, run_name="__main__")
        """
    running = program(source, {})
    assert "killed: 2 nodes, 12 workers" in running.succeed(within_s=120)
