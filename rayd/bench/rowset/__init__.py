"""The rows of the benchmark, for any environment's ``ray``; see ``row`` for the rules of this folder."""

from __future__ import annotations

from . import actors, cluster, limits, objects, seeds, startup, tasks
from .measure import Bench
from .row import Result, Row, WrongResultError, select

#: Every row, in the order in which they are reported.
ROWS: tuple[Row, ...] = (
    *tasks.ROWS,
    *actors.ROWS,
    *objects.ROWS,
    *startup.ROWS,
    *seeds.ROWS,
    *limits.ROWS,
    *cluster.ROWS,
)

__all__ = ["ROWS", "Bench", "Result", "Row", "WrongResultError", "select"]
