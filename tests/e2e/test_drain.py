"""`rayd drain`: a node goes, and nobody misses what it had."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from e2e.support import Program, all_gone, log_of, rayd, status, until
from e2e.test_cluster import head, node, row, start, to
from rayd.shell.sessions import Record

__all__ = ["head", "node"]

StartProgram: TypeAlias = Callable[..., Program]

HAS_MUCH_THERE = """
    import os, time
    import numpy as np
    import ray

    ray.init()
    gate = os.environ["GATE"]

    @ray.remote
    class Counter:
        def __init__(self):
            self.count = 0

        def add(self):
            self.count += 1
            return self.count, ray.get_runtime_context().get_node_id()

    @ray.remote(num_cpus=0.5)
    def make(n):
        return np.full(300_000, n)

    @ray.remote(num_cpus=0.5)
    def nested(n):
        return [ray.put(np.full(300_000, n))]

    @ray.remote(num_cpus=0.5, max_retries=0)
    def rests():
        while not os.path.exists(gate):
            time.sleep(0.01)
        return np.full(300_000, 7)

    here = ray.get_runtime_context().get_node_id()
    other = next(row["NodeID"] for row in ray.nodes() if row["NodeID"] != here)
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as Affinity
    there = Affinity(other, soft=False)
    soft = Affinity(other, soft=True)

    made = [make.options(scheduling_strategy=there).remote(n) for n in range(5)]
    inner = nested.options(scheduling_strategy=there).remote(9)
    counter = Counter.options(num_cpus=0, scheduling_strategy=soft, max_restarts=1).remote()
    ray.wait([*made, inner], num_returns=6, fetch_local=False)
    assert ray.get(counter.add.remote()) == (1, other)
    resting = rests.options(scheduling_strategy=there).remote()
    @ray.remote(num_cpus=0)
    def begun():
        return True
    assert ray.get(begun.options(scheduling_strategy=there).remote())
    print("ready", flush=True)
    assert input() == "draining"
    new = [make.remote(n) for n in range(8)]
    assert [int(a[0]) for a in ray.get(new, timeout=30)] == list(range(8))
    print("went on", flush=True)
    assert input() == "gone"
    assert [int(a[0]) for a in ray.get(made, timeout=30)] == list(range(5))
    assert int(ray.get(ray.get(inner, timeout=30)[0], timeout=30)[0]) == 9
    assert int(ray.get(resting, timeout=30)[0]) == 7
    assert ray.get(counter.add.remote(), timeout=30) == (1, here)
    print("all there", flush=True)
"""


def test_a_node_goes_and_takes_nothing_along(head: Record, node: Record, program: StartProgram, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    running = program(HAS_MUCH_THERE, {**to(head), "GATE": str(gate)})
    running.says("ready")
    said = rayd("drain", node.node_id[:10], "--no-wait", "--address", head.address)
    assert f"The node {node.node_id} takes no more work." in said
    running.hear("draining")
    running.says("went on")
    until(lambda: row(head, node)["waits_for"] == {"tasks": 1}, saying=lambda: row(head, node))
    shown = rayd("status", "--address", head.address)
    assert "draining, waits for 1 task" in shown
    gate.touch()
    said = rayd("drain", node.address, "--address", head.address)
    assert "It has ended." in said
    assert all_gone([node.pid])
    assert "rayd stopped: it was drained" in log_of(node)
    running.hear("gone")
    running.succeed()


def test_a_node_has_the_time_it_was_given(head: Record, node: Record, program: StartProgram) -> None:
    running = program(
        """
        import time
        import ray

        ray.init()
        print("ready", flush=True)
        time.sleep(1_000)
        """,
        to(node),
    )
    running.says("ready")
    said = rayd("drain", node.address, "--timeout", "1.5", "--address", head.address)
    assert "It waits for: 1 program" in said
    assert "It has ended." in said
    assert "its time to drain was over" in log_of(node)


@pytest.mark.parametrize(("name", "why"), [("nobody", "No node is called 'nobody'"), ("", "No node is called ''")])
def test_who_is_not_there_cannot_be_drained(head: Record, name: str, why: str) -> None:
    assert why in rayd("drain", name, "--address", head.address, expect=1)


def test_the_head_cannot_be_drained(head: Record) -> None:
    assert "the head, with which the cluster ends" in rayd("drain", head.address, "--address", head.address, expect=1)


def test_a_drained_node_stays_so_when_the_head_is_killed(ray_tmpdir: Path, program: StartProgram) -> None:
    from e2e.test_head_death import Heads

    heads = Heads()
    try:
        far = start("--address", heads.now.address, "--num-cpus", "1", "--resources", json.dumps({"far": 1}))
        running = program("import ray\nray.init()\nprint('ready', flush=True)\ninput()", to(far))
        running.says("ready")
        rayd("drain", far.address, "--no-wait", "--address", heads.now.address)
        until(lambda: row(heads.now, far)["waits_for"] == {"programs": 1})
        heads.kill()
        heads.begin()
        until(lambda: [r["draining"] for r in status(heads.now)["nodes"] if r["node_id"] == far.node_id] == [True])
        os.kill(running.pid, signal.SIGKILL)
        assert all_gone([far.pid])
        assert "it was drained" in log_of(far)
    finally:
        rayd("stop", "--force")
