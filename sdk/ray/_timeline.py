"""Recorded task events as a Chrome trace, which ``chrome://tracing`` and ui.perfetto.dev open."""

import json
from collections.abc import Iterable
from typing import Any, Final, TypeAlias

# name of the task, kind ("task", "actor_creation", "actor_task", "get", "put"...), pid of the worker, start and end in
# microseconds since the epoch, hexadecimal task id, whether it succeeded
TaskEvent: TypeAlias = tuple[str, str, int, int, int, str, bool]

_COLORS: Final = {True: "thread_state_running", False: "terrible"}


def chrome_trace(events: Iterable[TaskEvent], node: str = "node") -> list[dict[str, Any]]:
    """The events in the trace event format.

    A worker runs one row of events at a time; what overlaps in one process (threads, coroutines) is spread over rows,
    since a viewer drops boxes that cross.

    Args:
        events: in any order.
        node: name of the machine that they ran on, for the title of each process.

    Returns:
        Complete events (``ph`` ``"X"``) in the order of their start, after the titles of processes and rows.
    """
    rows_of: dict[int, list[int]] = {}  # pid -> end of the last event of each row
    trace = []
    for name, kind, pid, start_us, end_us, task_id, ok in sorted(events, key=lambda event: (event[3], -event[4])):
        row = _free_row(rows_of.setdefault(pid, []), start_us, end_us)
        trace.append(
            {
                "cat": kind,
                "name": name,
                "pid": pid,
                "tid": row,
                "ts": start_us,
                "dur": max(end_us - start_us, 0),
                "ph": "X",
                "cname": _COLORS[ok],
                "args": {"task_id": task_id, "ok": ok},
            }
        )
    return _titles(rows_of, node) + trace


def write_trace(trace: list[dict[str, Any]], filename: str) -> None:
    """Write a trace as JSON.

    Args:
        trace: from ``chrome_trace``.
        filename: replaced if it exists.

    Raises:
        OSError: the file cannot be written.
    """
    with open(filename, "w", encoding="utf-8") as file:
        json.dump(trace, file)


def _free_row(ends: list[int], start_us: int, end_us: int) -> int:
    for row, end in enumerate(ends):
        if end <= start_us:
            ends[row] = end_us
            return row
    ends.append(end_us)
    return len(ends) - 1


def _titles(rows_of: dict[int, list[int]], node: str) -> list[dict[str, Any]]:
    titles = []
    for pid in sorted(rows_of):
        titles.append({"ph": "M", "name": "process_name", "pid": pid, "args": {"name": f"{node}: worker {pid}"}})
        titles.extend(
            {"ph": "M", "name": "thread_name", "pid": pid, "tid": row, "args": {"name": title}}
            for row in range(len(rows_of[pid]))
            for title in [f"row {row}" if row else "tasks"]
        )
    return titles
