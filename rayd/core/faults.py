"""What users are told of tasks that did not end as they should: the exact cause and the way out."""

from collections.abc import Iterable
from typing import Any

from rayd.core.resources import Demand, Ledger
from rayd.core.task import Task
from rayd.core.worker import Worker
from rayd.errors import CANCELLED, OUT_OF_MEMORY, WORKER_CRASHED, fault


def cancelled(task: Task) -> dict[str, Any]:
    """Fault of a cancelled task."""
    return fault(
        CANCELLED, f"Task {task.spec.name} ({task.tid.hex()}) was cancelled by ray.cancel().", task_id=task.tid.hex()
    )


def crashed(task: Task, worker: Worker, cause: dict[str, Any], stderr: list[str]) -> dict[str, Any]:
    """Fault of a task whose worker died under it."""
    text = worker.fate or cause["text"]
    tail = "".join(f"\n  {line}" for line in stderr)
    said = f"\nIts last lines on stderr:{tail}" if stderr else ""
    code = OUT_OF_MEMORY if cause.get("kind") == "oom" else WORKER_CRASHED
    return fault(
        code,
        f"The worker (pid {worker.pid}) running {task.spec.name} died: {text}.{said}",
        cause=cause,
        pid=worker.pid,
        task=task.spec.name,
        stderr=stderr,
    )


def largest(nodes: Iterable[Ledger], demand: Demand) -> list[tuple[str, float, float]]:
    """What no node has enough of even when idle: (name, asked, the most that one has) of each resource."""
    rows = [{name: (asked, total) for name, asked, total in ledger.can_ever_fit(demand)} for ledger in nodes]
    lacking = [name for name in rows[0] if all(name in row for row in rows)]
    return [(name, rows[0][name][0], max(row[name][1] for row in rows)) for name in lacking]


def unsatisfiable(what: str, missing: list[tuple[str, float, float]], nodes: int) -> str:
    """Tell what no node has, and how to get it."""
    who = "the cluster" if nodes == 1 else "its largest node"
    lacks = ", ".join(f"{asked:g} {name} ({who} has {total:g})" for name, asked, total in missing)
    flags = " ".join(
        {"CPU": f"num_cpus={asked:g}", "GPU": f"num_gpus={asked:g}"}.get(name, f"resources={{{name!r}: {asked:g}}}")
        for name, asked, _ in missing
    )
    return (
        f"The {what} can never be scheduled: it asks for {lacks}. Ask for less, or start the cluster with {flags}."
        " It stays pending until then."
    )
