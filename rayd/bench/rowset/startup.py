"""Rows about starting: a session with its first task, many actors; and what an idle worker holds in memory."""

from __future__ import annotations

import importlib
import json
import logging
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from .measure import Bench
from .processes import Memory, memory, wait_until_gone
from .row import CPUS_SEEDS, Result, Row, check, row

#: Option of the script that makes it measure one start instead of rows.
PROBE_OPTION = "--startup-probe"
PROBE_LIMIT_S = 60.0
PROBES_MIN, PROBES_MAX = 3, 5
NEW_ACTORS = 40
IDLE_ACTORS = 16
#: How long ended actors may take to disappear.
ACTOR_END_S = 60.0
MB = 1e6


def probe() -> dict[str, float]:
    """Start and end one session in this fresh process; the seconds of each step."""
    times = [time.perf_counter()]
    ray: Any = importlib.import_module("ray")
    times.append(time.perf_counter())
    ray.init(num_cpus=CPUS_SEEDS, include_dashboard=False, logging_level=logging.ERROR)
    times.append(time.perf_counter())

    def double(value: int) -> int:
        return 2 * value

    check(holds=ray.get(ray.remote(double).remote(21)) == 42, what="the first task did not return 42")
    times.append(time.perf_counter())
    ray.shutdown()
    times.append(time.perf_counter())
    names = ("import_s", "init_s", "first_task_s", "shutdown_s")
    return {name: later - earlier for name, earlier, later in zip(names, times, times[1:], strict=False)}


def _run_probe() -> dict[str, float]:
    script = Path(__file__).resolve().parent.parent / "rows.py"
    command = [sys.executable, str(script), PROBE_OPTION]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_LIMIT_S, check=False)
    last = done.stdout.strip().rpartition("\n")[2]
    if done.returncode != 0 or not last.startswith("{"):
        message = f"the fresh process ended with code {done.returncode}: {done.stderr.strip()[-2000:]}"
        raise RuntimeError(message)
    return {name: float(value) for name, value in json.loads(last).items()}


@row("startup: ray.init and first task", "s", better="less", cpus=None)
def startup(bench: Bench) -> Result:
    """Seconds from ``ray.init(num_cpus=4)`` to the result of a first task; each sample in a fresh process.

    Beside it the medians of ``import ray`` (``import_s``), of the two parts, and of ``ray.shutdown`` (``shutdown_s``).
    """
    runs: list[dict[str, float]] = []
    start = time.perf_counter()
    while len(runs) < PROBES_MIN or (len(runs) < PROBES_MAX and time.perf_counter() - start < bench.min_seconds):
        runs.append(_run_probe())
    extras = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    return Result([run["init_s"] + run["first_task_s"] for run in runs], extras)


def _new_actors(ray: Any, count: int) -> tuple[list[Any], list[int]]:
    """``count`` new actors without a CPU, all ready, and their pids."""

    class Idle:
        def pid(self) -> int:
            return os.getpid()

    idle = ray.remote(num_cpus=0)(Idle)
    actors = [idle.remote() for _ in range(count)]
    pids = ray.get([actor.pid.remote() for actor in actors])
    check(holds=len(set(pids)) == count, what=f"{count} actors run in {len(set(pids))} processes")
    return actors, pids


@row("actors ready (40 new)", "actors/s", limit_s=240.0)
def actors_ready(bench: Bench) -> Result:
    """Create 40 actors without a CPU and get an answer of each; they are killed between samples; num_cpus=2."""
    count = bench.size(NEW_ACTORS)
    samples: list[float] = []
    end = time.perf_counter() + bench.min_seconds
    while not samples or time.perf_counter() < end:
        start = time.perf_counter()
        actors, pids = _new_actors(bench.ray, count)
        samples.append(count / (time.perf_counter() - start))
        for actor in actors:
            bench.ray.kill(actor)
        wait_until_gone(pids, ACTOR_END_S)
    return Result(samples)


@row("memory per idle worker (PSS)", "MB", better="less")
def idle_worker_memory(bench: Bench) -> Result:
    """Proportional memory of each of 16 idle actor processes in millions of bytes; num_cpus=2.

    Beside it the median of the memory that a worker shares with nobody (``uss_mb``).
    """
    actors, pids = _new_actors(bench.ray, bench.size(IDLE_ACTORS))
    found: list[Memory] = [memory(pid) for pid in pids]
    check(holds=len(found) == len(actors), what="an idle worker ended while it was measured")
    return Result([one.pss / MB for one in found], {"uss_mb": statistics.median(one.uss / MB for one in found)})


ROWS: tuple[Row, ...] = (startup, actors_ready, idle_worker_memory)
