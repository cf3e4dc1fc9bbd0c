"""How a row is measured: repeating work for a given time, timing single runs, and the session around it."""

from __future__ import annotations

import logging
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from .row import WrongResultError

#: Of each node of a cluster.
STORE_BYTES = 1_500_000_000

#: Into how many samples the time of a rate is divided.
SAMPLES = 4
#: How long all workers of a session may take to start before its row is measured.
SETTLE_S = 60.0


@dataclass(frozen=True, slots=True)
class Bench:
    """What a row gets: the module ``ray`` of this environment, the time to measure, and the size of the work.

    ``min_seconds`` is about how long a rate is measured after its warm-up; ``scale`` multiplies the sizes of the work
    (1.0 is the documented size; tests use less); ``ray`` is None for rows of the process pool. ``host`` is an address
    at which clusters listen instead of loopback, so that what crosses the network goes over TLS; "" for loopback.
    """

    ray: Any
    min_seconds: float
    scale: float = 1.0
    host: str = ""

    def size(self, full: int) -> int:
        """The documented size, scaled, and at least 1."""
        return max(1, round(full * self.scale))

    def rate(self, work: Callable[[], object], count: float = 1, warm_calls: int = 1) -> list[float]:
        """Samples of ``count`` per second, where one call of ``work`` does ``count`` of the row's unit.

        The warm-up takes half of ``min_seconds`` and at least ``warm_calls`` calls. The clock is read only about ten
        times per sample, because work of a microsecond would otherwise measure the clock.
        """
        calls, elapsed = _repeat(work, self.min_seconds / 2, warm_calls)
        sample_s = self.min_seconds / SAMPLES
        step = max(1, int(sample_s / 10 * calls / elapsed))
        samples: list[float] = []
        end = time.perf_counter() + self.min_seconds
        while len(samples) < SAMPLES and (not samples or time.perf_counter() < end):
            calls, elapsed = _repeat(work, sample_s, step)
            samples.append(count * calls / elapsed)
        return samples

    def seconds(self, work: Callable[[], object], runs_min: int = 1, runs_max: int = 8) -> list[float]:
        """Seconds of each of several runs of ``work``: until ``min_seconds`` are over, within the given bounds."""
        samples: list[float] = []
        while len(samples) < runs_min or (sum(samples) < self.min_seconds and len(samples) < runs_max):
            samples.append(elapsed_s(work))
        return samples


def elapsed_s(work: Callable[[], object]) -> float:
    """Seconds that one call of ``work`` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def memcpy_seconds(source: Any, runs: int = 5) -> float:
    """Median seconds of copying the numpy array ``source`` into memory that was written before (warm)."""
    import numpy as np

    target = source.copy()
    return statistics.median(elapsed_s(lambda: np.copyto(target, source)) for _ in range(runs))


@contextmanager
def session(ray: Any, cpus: int, host: str = "") -> Iterator[None]:
    """A session of ``cpus`` logical CPUs in which all workers have started, shut down at the end; with a ``host`` its
    daemon listens there.
    """
    cluster = head(host, num_cpus=cpus) if host else None
    try:
        if cluster is None:
            ray.init(num_cpus=cpus, include_dashboard=False, logging_level=logging.ERROR)
        else:
            ray.init(address=cluster.address, logging_level=logging.ERROR)
        settle(ray, cpus)
        yield
    finally:
        ray.shutdown()
        if cluster is not None:
            cluster.shutdown()


def head(host: str, **args: Any) -> Any:
    """A cluster of one node, which listens at ``host``, or on loopback if that is ""."""
    from ray.cluster_utils import Cluster

    return Cluster(initialize_head=True, head_node_args={**node_at(host), **args})


def node_at(host: str) -> dict[str, Any]:
    """Arguments of ``add_node`` that all nodes have: their stores' size and, unless that is loopback, their address."""
    where = {"node_ip_address": host} if host else {}
    return {"object_store_memory": STORE_BYTES, **where}


def settle(ray: Any, cpus: int) -> None:
    """Wait until ``cpus`` tasks run at once in as many processes, so that no row measures the start of workers.

    Raises WrongResultError when that many workers have not come up in time.
    """

    def hold(duration_s: float) -> int:
        time.sleep(duration_s)
        return os.getpid()

    remote = ray.remote(hold)
    pids: set[int] = set()
    hold_s = 0.05
    deadline = time.monotonic() + SETTLE_S
    while len(pids) < cpus:
        if time.monotonic() > deadline:
            message = f"only {len(pids)} of {cpus} workers ran a task at the same time within {SETTLE_S:.0f} s"
            raise WrongResultError(message)
        pids = set(ray.get([remote.remote(hold_s) for _ in range(cpus)]))
        hold_s = min(0.5, hold_s * 2)


def _repeat(work: Callable[[], object], duration_s: float, step: int) -> tuple[int, float]:
    """Call ``work`` in steps of ``step`` calls until ``duration_s`` are over; the calls made and the seconds taken."""
    calls = 0
    start = time.perf_counter()
    while True:
        for _ in range(step):
            work()
        calls += step
        elapsed = time.perf_counter() - start
        if elapsed >= duration_s:
            return calls, max(elapsed, 1e-9)
