"""Kill random workers and nodes under load, and look whether anything hangs or comes out wrong.

    python tests/soak/soak.py --workers 1000 --nodes 100

A head and two more nodes run rounds of tasks, large results, actors, streams and placement groups that may all be
tried again, and tasks that may not, whose errors have to name what killed them. Meanwhile a thread sends SIGKILL to
worker processes and to daemons, and starts a new node for each that it killed. The exit code is 1 when a result was
wrong, nothing came for a minute, or an error had no cause.
"""

import argparse
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import psutil

import ray
from ray.cluster_utils import Cluster
from ray.util import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy
from rayd.config import Environment
from rayd.shell import sessions

PATIENCE_S = 60.0
CPUS = 2
NODES = 2
# What an error of a killed task or actor may say.
CAUSES = ("SIGKILL", "which has died", "to which the connection has ended", "it ran on node", "was on node")


class WrongError(Exception):
    """A result is wrong, or an error has no cause."""


@ray.remote(max_retries=-1)
def double(value: int) -> int:
    if value % 7 == 0:
        time.sleep(0.03)
    return value * 2


@ray.remote(max_retries=-1, scheduling_strategy="SPREAD")
def filled(size: int, value: int) -> Any:
    return np.full(size, value)


@ray.remote(max_retries=-1)
def first_and_last(array: Any) -> tuple[int, int]:
    return int(array[0]), int(array[-1])


@ray.remote(max_retries=-1)
def nested(count: int) -> int:
    return sum(ray.get([double.remote(value) for value in range(count)]))


@ray.remote(max_retries=-1, num_returns="streaming")
def counting(count: int) -> Iterator[int]:
    for value in range(count):
        time.sleep(0.001)
        yield value


@ray.remote(max_retries=0)
def once(value: int) -> int:
    time.sleep(0.02)
    return value


@ray.remote(num_cpus=0.2, max_restarts=-1, max_task_retries=-1, scheduling_strategy="SPREAD")
class Echo:
    def __init__(self, base: int) -> None:
        self.base = base

    def add(self, value: int) -> int:
        return self.base + value


def _is_worker(process: psutil.Process) -> bool:
    return any("ray::" in argument for argument in process.info["cmdline"] or ())


class Killer(threading.Thread):
    """Kills processes until it has killed enough.

    Args:
        cluster: whose processes.
        rng: chooses them.
        workers, nodes: how many to kill.
        pause_s: mean time between two kills.
    """

    def __init__(self, cluster: Cluster, rng: random.Random, workers: int, nodes: int, pause_s: float) -> None:
        super().__init__(daemon=True)
        self.cluster = cluster
        self.rng = rng
        self.left = ["worker"] * workers + ["node"] * nodes
        rng.shuffle(self.left)
        self.pause_s = pause_s
        self.killed: Counter[str] = Counter()
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while self.left:
                time.sleep(self.rng.uniform(0, 2 * self.pause_s))
                if getattr(self, f"kill_{self.left[-1]}")():
                    self.killed[self.left.pop()] += 1
        except BaseException as error:  # noqa: BLE001 - the main thread has to hear of it
            self.error = error

    def kill_worker(self) -> bool:
        daemons = {record.pid for record in sessions.live(Environment.read().temp_dir())}
        workers = [process for process in psutil.process_iter(["cmdline"]) if _is_worker(process)]
        if not workers:
            return False
        chosen = self.rng.choice(workers)
        try:
            if os.getsid(chosen.pid) not in daemons:  # somebody else's
                return False
            chosen.kill()
        except (psutil.NoSuchProcess, ProcessLookupError):
            return False
        return True

    def kill_node(self) -> bool:
        node = self.rng.choice(self.cluster.worker_nodes)
        node.kill_raylet()
        self.cluster.worker_nodes.remove(node)
        self.cluster.add_node(num_cpus=CPUS)
        return True


def expect(found: Any, wanted: Any, what: str) -> None:
    """Raise WrongError unless a result is the right one."""
    if found != wanted:
        raise WrongError(f"{what}: {str(found)[:200]} instead of {str(wanted)[:200]}")


def at_most_once(refs: list[Any], seen: Counter[str]) -> None:
    """Tasks without retries: their value, or an error that says what has happened."""
    for value, ref in enumerate(refs):
        try:
            expect(ray.get(ref, timeout=PATIENCE_S), value, "a task without retries")
        except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError) as error:
            seen[type(error).__name__] += 1
            if not any(cause in str(error) for cause in CAUSES):
                raise WrongError(f"an error without a cause: {error}") from error


def one_round(rng: random.Random, seen: Counter[str]) -> None:
    """Everything once."""
    size = rng.choice([1_000, 50_000, 2_000_000])
    doubles = [double.remote(value) for value in range(200)]
    arrays = [filled.remote(size, value) for value in range(8)]
    ends = [first_and_last.remote(array) for array in arrays]
    echoes = [Echo.remote(1000 * number) for number in range(3)]
    answers = [echo.add.remote(value) for echo in echoes for value in range(20)]
    sums = [nested.remote(10) for _ in range(3)]
    single = [once.remote(value) for value in range(20)]
    stream = counting.remote(30)
    group = placement_group([{"CPU": 0.5}] * 2, strategy="SPREAD")
    inside = [
        double.options(num_cpus=0.5, scheduling_strategy=PlacementGroupSchedulingStrategy(group, index)).remote(index)
        for index in range(2)
    ]
    expect(ray.get(doubles, timeout=PATIENCE_S), [2 * value for value in range(200)], "tasks")
    expect(ray.get(ends, timeout=PATIENCE_S), [(value, value) for value in range(8)], "large results")
    for value, array in enumerate(ray.get(arrays[:3], timeout=PATIENCE_S)):
        expect((len(array), int(array.min()), int(array.max())), (size, value, value), "a large result")
    wanted = [1000 * number + value for number in range(3) for value in range(20)]
    expect(ray.get(answers, timeout=PATIENCE_S), wanted, "calls of actors")
    expect(ray.get(sums, timeout=PATIENCE_S), [90] * 3, "nested tasks")
    expect([ray.get(ref, timeout=PATIENCE_S) for ref in stream], list(range(30)), "a stream")
    expect(ray.get(inside, timeout=PATIENCE_S), [0, 2], "tasks in a placement group")
    remove_placement_group(group)
    at_most_once(single, seen)


def settled(cpus: int) -> bool:
    """Whether everything is free again within ``PATIENCE_S``."""
    end = time.monotonic() + PATIENCE_S
    while ray.available_resources().get("CPU") != cpus or ray.cluster_resources().get("CPU") != cpus:
        if time.monotonic() > end:
            print("not free again:", ray.available_resources(), "of", ray.cluster_resources(), flush=True)
            return False
        time.sleep(0.1)
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=100, help="worker processes to kill")
    parser.add_argument("--nodes", type=int, default=10, help="nodes to kill")
    parser.add_argument("--pause", type=float, default=0.25, help="mean seconds between two kills")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp") as folder:
        os.environ["RAY_TMPDIR"] = folder  # what is killed is this cluster's, not that of anybody else on the machine
        return soak(options)


def soak(options: argparse.Namespace) -> int:
    """Run until enough has been killed; the exit code."""
    rng, seen, rounds, start = random.Random(options.seed), Counter[str](), 0, time.monotonic()
    with Cluster(initialize_head=True, connect=True, head_node_args={"num_cpus": CPUS}) as cluster:
        for _ in range(NODES):
            cluster.add_node(num_cpus=CPUS)
        killer = Killer(cluster, random.Random(options.seed), options.workers, options.nodes, options.pause)
        killer.start()
        while killer.is_alive():
            one_round(rng, seen)
            rounds += 1
        if killer.error is not None:
            raise killer.error
        one_round(rng, seen)
        good = settled(CPUS * (NODES + 1))
    killed = ", ".join(f"{count} {kind}s" for kind, count in sorted(killer.killed.items()))
    errors = ", ".join(f"{count} {name}" for name, count in sorted(seen.items())) or "none"
    print(
        f"{rounds} rounds in {time.monotonic() - start:.0f} s; killed: {killed}; errors, each with its cause: {errors}"
    )
    return 0 if good else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ray.exceptions.GetTimeoutError as error:
        sys.exit(f"nothing came for {PATIENCE_S:g} s: {error}")
