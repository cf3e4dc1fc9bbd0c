"""``rayd microbenchmark``: the rows, the runs in child processes, and the report.

``rowset`` holds the rows; it and the scripts ``rows.py`` and ``pool_rows.py`` run under any environment's interpreter.
``compare`` runs them interleaved, ``floors`` holds what must be reached, ``report`` prints. ``ray`` is imported only
in the child processes.
"""

from __future__ import annotations

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with the given arguments (default: those of the process); the exit code."""
    import click

    from rayd.bench.command import microbenchmark

    try:
        code = microbenchmark.main(args=argv, prog_name="rayd microbenchmark", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        click.echo("Interrupted.", err=True)
        return 130
    return code if isinstance(code, int) else 0
