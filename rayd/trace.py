"""Finished task runs as a trace that Perfetto and chrome://tracing open."""

from collections.abc import Iterable, Sequence
from typing import Any

# Colours that the trace viewers know by name.
_COLOUR_OK = "rail_response"
_COLOUR_FAILED = "terrible"


def trace_events(runs: Iterable[Sequence[Any]], hostname: str) -> list[dict[str, Any]]:
    """Complete events ("ph": "X") of the Chrome trace format, one for each run.

    Args:
        runs: rows of the daemon's RPC "timeline": [name, kind, pid, start_us, end_us, task id hex, whether it
            succeeded].
        hostname: of the daemon's machine; the viewers group rows by it.
    """
    return [
        {
            "cat": kind,
            "name": name,
            "pid": hostname,
            "tid": f"worker {pid}",
            "ts": start_us,
            "dur": end_us - start_us,
            "ph": "X",
            "cname": _COLOUR_OK if succeeded else _COLOUR_FAILED,
            "args": {"name": name, "task_id": task_id, "succeeded": succeeded},
        }
        for name, kind, pid, start_us, end_us, task_id, succeeded in runs
    ]
