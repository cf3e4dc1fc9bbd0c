"""What a worker runs: a spec it has learned, and one execution of it."""

import os
import time
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from ray.exceptions import TaskCancelledError


@dataclass(slots=True)
class Work:
    """What a worker knows of one spec: how to run it."""

    cid: int
    kind: str
    name: str
    function: Any
    num_returns: int
    dynamic: bool
    retry: bool | tuple[type[BaseException], ...]
    backpressure: int
    options: dict[str, Any]
    repeatable: bool = True
    captured: bytes | None = None  # the placement group in which it runs, if its children go there too


@dataclass(slots=True)
class Running:
    """One task or call in execution.

    Attributes:
        tid: task id.
        what: its spec.
        gpus: GPU ids granted.
    """

    tid: bytes
    what: Work
    gpus: list[int]


running_call: ContextVar[Running | None] = ContextVar("running_call", default=None)


def cancelled(call: Running) -> TaskCancelledError:
    """The error of a task or call that ``ray.cancel`` has ended."""
    text = f"Task {call.what.name} ({call.tid.hex()}) was cancelled by ray.cancel()."
    return TaskCancelledError(call.tid.hex(), text)


def run_us(started: int) -> int:
    return (time.perf_counter_ns() - started) // 1000


def timeval(seconds: float) -> bytes:
    whole = int(seconds)
    return whole.to_bytes(8, "little") + int((seconds - whole) * 1e6).to_bytes(8, "little")


def show_gpus(gpus: list[int]) -> None:
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, gpus))
