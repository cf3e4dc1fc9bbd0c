"""Clusters of several daemons: what crosses nodes, and what happens when one of them dies."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rayd.shell import procfs, sessions
from rayd.shell.sessions import Record
from rayd.wire.secret import SUBMIT, key_of, parse

from .conftest import StartProgram
from .support import Program, all_gone, log_of, own_address, rayd, status, stopping, until, workers

# Resource "far" is what the other node has and the head has not.
USES_BOTH = """
    import os
    import time

    import numpy as np
    import ray

    ray.init()
    assert len(ray.nodes()) == 2 and ray.cluster_resources()["CPU"] == 3
    far = ray.remote(resources={"far": 0.5})
    here = ray.get_runtime_context().get_node_id()

    @far
    def where():
        return ray.get_runtime_context().get_node_id()

    @far
    def ones(n):
        return np.ones(n)

    @far
    def total(array):
        print("adding up", len(array))
        return float(array.sum())

    @ray.remote
    def total_here(array):
        return float(array.sum())

    assert ray.get(where.remote()) != here
    stored = ones.remote(1_000_000)
    assert ray.get(total.remote(stored)) == 1_000_000, "from the other node's store to its own task"
    assert ray.get(total_here.options(num_cpus=1).remote(stored)) == 1_000_000
    assert ray.get(stored).sum() == 1_000_000
    array = np.arange(2_000_000, dtype=np.float64)
    assert ray.get(total.remote(array)) == array.sum()
    kept = ray.put(array)
    assert ray.get([total.remote(kept) for _ in range(4)]) == [array.sum()] * 4

    @far
    def nested(n):
        return [ray.put(np.ones(n)), total_here.remote(np.ones(n))]

    inner = ray.get(nested.remote(300_000))
    assert ray.get(inner[0]).sum() == ray.get(inner[1]) == 300_000

    @ray.remote(num_cpus=0)
    class Counter:
        def __init__(self):
            self.seen = []
        def add(self, value):
            self.seen.append(value)
            return len(self.seen)
        def all(self):
            return self.seen

    @far
    def count(counter, n):
        return ray.get([counter.add.remote(i) for i in range(n)])

    counter = Counter.options(name="counter").remote()
    assert ray.get(count.remote(counter, 50)) == list(range(1, 51)), "calls of a far caller keep their order"
    assert ray.get(counter.all.remote()) == list(range(50))

    @far
    def by_name():
        return ray.get(ray.get_actor("counter").add.remote("far"))

    assert ray.get(by_name.remote()) == 51

    @far
    def makes_a_name():
        actor = Counter.options(name="far counter", lifetime="detached").remote()
        return ray.get(actor.add.remote(1))

    assert ray.get(makes_a_name.remote()) == 1
    assert ray.get(ray.get_actor("far counter").add.remote(2)) == 2
    ray.kill(ray.get_actor("far counter"))

    @far
    def fails():
        raise ZeroDivisionError("far away")

    try:
        ray.get(fails.remote())
        raise SystemExit("no error came")
    except ZeroDivisionError as error:
        assert "far away" in str(error)

    @far
    def rests():
        while True:
            time.sleep(0.01)

    resting = rests.remote()
    ray.wait([resting], timeout=0.3)
    ray.cancel(resting)
    try:
        ray.get(resting)
        raise SystemExit("no cancellation came")
    except ray.exceptions.TaskCancelledError:
        pass

    @ray.remote
    def node_of():
        time.sleep(0.05)
        return ray.get_runtime_context().get_node_id()

    nodes = ray.get([node_of.remote() for _ in range(40)])
    assert len(set(nodes)) == 2, "what is too much for one node goes to the other"
    print("used both", flush=True)
"""


def start(*arguments: str) -> Record:
    """Start a daemon; its record."""
    return start_and_show("--port", "0", *arguments)[0]


def start_and_show(*arguments: str) -> tuple[Record, str]:
    """Start a daemon; its record, which is the newest, and what the command has shown."""
    before = {record.session_dir for record in sessions.live(base())}
    shown = rayd("start", *arguments)
    (record,) = [record for record in sessions.live(base()) if record.session_dir not in before]
    return record, shown


def base() -> str:
    return str(Path(os.environ["RAY_TMPDIR"]) / "ray")


@pytest.fixture
def head(ray_tmpdir: Path) -> Iterator[Record]:
    """A head with one CPU."""
    with stopping(start("--head", "--num-cpus", "1")) as record:
        yield record


@pytest.fixture
def node(head: Record) -> Record:
    """Another node, with two CPUs and the resource "far"."""
    return start("--address", head.address, "--num-cpus", "2", "--resources", json.dumps({"far": 2}))


def to(record: Record) -> dict[str, str]:
    """What brings a program to a daemon."""
    return {"RAY_ADDRESS": record.address}


def row(head: Record, node: Record) -> dict[str, Any]:
    """What the head says of a node."""
    (found,) = [row for row in status(head)["nodes"] if row["node_id"] == node.node_id]
    return dict(found)


def goes_on_without(node: Record, head: Record, running: Program) -> str:
    """Kill a node, and when the head knows let the program go on to its good end; what it wrote to stdout."""
    os.kill(node.pid, signal.SIGKILL)
    until(lambda: not row(head, node)["alive"])
    running.hear("go on")
    return running.succeed()


# ---- what works ------------------------------------------------------------------------------------------------------


def test_a_program_uses_both_nodes_as_one(head: Record, node: Record, program: StartProgram) -> None:
    running = program(USES_BOTH, to(head))
    assert "used both" in running.succeed()
    assert "(total pid=" in running.stdout, "what workers of the other node print is shown"
    assert running.stderr == ""
    for record in (head, node):
        until(lambda record=record: not workers(record))
        until(lambda record=record: status(record)["store"]["used"] == 0)


def test_status_shows_the_nodes_and_their_end(head: Record, node: Record) -> None:
    shown = rayd("status", "--address", head.address)
    assert node.node_id in shown
    assert "0.0/3.0 CPU" in shown
    assert "0.0/2.0 far" in shown
    os.kill(node.pid, signal.SIGTERM)
    until(lambda: not row(head, node)["alive"])
    assert "0.0/1.0 CPU" in rayd("status", "--address", head.address)


def test_a_node_that_joins_runs_what_has_waited_for_it(head: Record, program: StartProgram) -> None:
    running = program(
        """
        import ray
        ray.init()

        @ray.remote(resources={"far": 1})
        def wanted():
            return "at last"

        print(ray.get(wanted.remote()), flush=True)
        """,
        to(head),
    )
    until(lambda: "can never be scheduled" in running.stderr)
    start("--address", head.address, "--num-cpus", "1", "--resources", '{"far": 1}')
    assert running.says("at last") == ""
    running.succeed()


# ---- what dies -------------------------------------------------------------------------------------------------------


def test_tasks_of_a_node_that_dies_run_again_and_its_objects_are_named(
    head: Record, node: Record, program: StartProgram
) -> None:
    running = program(
        """
        import sys, time
        import numpy as np
        import ray
        ray.init()

        @ray.remote(num_cpus=0.5)
        def slow(path, i):
            with open(path, "a") as file:
                file.write(f"{ray.get_runtime_context().get_node_id()}\\n")
            time.sleep(1)
            return i

        @ray.remote(resources={"far": 1})
        def far_away(n):
            return np.ones(n)

        @ray.remote(resources={"far": 1}, num_cpus=0, max_retries=0)
        def once():
            print("begun", flush=True)
            time.sleep(3600)

        refs = [slow.remote(sys.argv[0] + ".runs", i) for i in range(6)]
        lost = far_away.remote(1_000_000)
        once_only = once.remote()
        ray.wait([lost], fetch_local=False)
        print("ready", flush=True)
        sys.stdin.readline()
        assert ray.get(refs) == list(range(6))
        try:
            ray.get(once_only)
        except ray.exceptions.NodeDiedError as error:
            assert "given to node" in str(error), error
            print("told", flush=True)
        """,
        to(head),
    )
    running.says("ready")
    runs = Path(f"{running.path}.runs")
    until(lambda: runs.exists() and node.node_id in runs.read_text() and "begun" in running.stdout)
    assert "told" in goes_on_without(node, head, running)


def test_results_that_were_only_on_a_node_that_died_are_made_again(
    head: Record, node: Record, program: StartProgram
) -> None:
    running = program(
        """
        import sys
        import numpy as np
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
        ray.init()
        (there,) = [row["NodeID"] for row in ray.nodes() if row["Resources"].get("far")]

        @ray.remote(scheduling_strategy=NodeAffinitySchedulingStrategy(there, soft=True))
        def make(path, n):
            with open(path, "a") as file:
                print("made", file=file)
            return np.arange(n)

        @ray.remote(scheduling_strategy=NodeAffinitySchedulingStrategy(there, soft=True))
        def double(array):
            return array * 2

        path = sys.argv[0] + ".runs"
        first = make.remote(path, 1_000_000)
        second = double.remote(first)
        by_value = double.remote(ray.put(np.arange(500_000)))
        unwanted = make.remote(path, 1_000_000)
        ray.wait([second, by_value, unwanted], num_returns=3, fetch_local=False)
        del first
        print("ready", flush=True)
        sys.stdin.readline()
        assert (ray.get(second) == 2 * np.arange(1_000_000)).all()
        assert len(open(path).readlines()) == 3, "what nobody wanted was not made again"
        try:
            ray.get(by_value)
        except ray.exceptions.ObjectLostError as error:
            assert "put by ray.put()" in str(error), error
            print("told", flush=True)
        """,
        to(head),
    )
    running.says("ready")
    assert "told" in goes_on_without(node, head, running)


def test_what_a_killed_driver_had_on_other_nodes_ends_with_it(
    head: Record, node: Record, program: StartProgram
) -> None:
    running = program(
        """
        import time
        import numpy as np
        import ray
        ray.init()

        @ray.remote(resources={"far": 1}, num_cpus=0)
        def rests(array):
            print("resting", flush=True)
            time.sleep(3600)

        ref = rests.remote(np.ones(1_000_000))
        ray.get(ref)
        """,
        to(head),
    )
    until(lambda: "resting" in running.stdout)
    assert workers(node)
    running.signal(signal.SIGKILL)
    until(lambda: not workers(node) and not workers(head))
    until(lambda: status(head)["store"]["used"] == 0)
    assert row(head, node)["alive"]


def test_a_worker_that_dies_on_another_node_is_reported_with_its_cause(
    head: Record, node: Record, program: StartProgram
) -> None:
    running = program(
        """
        import os
        import ray
        ray.init()

        @ray.remote(resources={"far": 1}, max_retries=0)
        def dies():
            os._exit(7)

        try:
            ray.get(dies.remote())
        except ray.exceptions.WorkerCrashedError as error:
            assert "exited with code 7" in str(error), error
            print("told", flush=True)
        """,
        to(head),
    )
    assert "told" in running.succeed()


def test_a_node_ends_when_its_head_does(head: Record, node: Record) -> None:
    os.kill(head.pid, signal.SIGKILL)
    assert all_gone([node.pid])
    assert f"the head of the cluster at {head.address} has gone" in log_of(node)
    procfs.wait_gone(head.pid, head.pid_start_time, 5)


# ---- who may join ----------------------------------------------------------------------------------------------------


def test_joining_nobody_says_so(ray_tmpdir: Path) -> None:
    shown = rayd("start", "--address", "127.0.0.1:1", "--num-cpus", "1", expect=1)
    assert "could not be joined" in shown
    assert "127.0.0.1:1" in shown
    assert not sessions.live(base())


def test_a_token_for_programs_does_not_let_a_node_join(
    head: Record, ray_tmpdir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = parse((ray_tmpdir / "token").read_text().strip()).value
    other = tmp_path / "other"
    other.touch(mode=0o600)
    other.write_text(key_of(secret, SUBMIT).token())
    monkeypatch.setenv("RAYD_TOKEN_FILE", str(other))
    assert "'submit'" in rayd("start", "--address", head.address, "--num-cpus", "1", expect=1)
    other.write_text(key_of(bytes(32)).token())
    shown = rayd("start", "--address", head.address, "--num-cpus", "1", expect=1)
    assert "could not be joined" in shown
    assert "does not know the secret" in shown
    assert len(status(head)["nodes"]) == 1


# ---- between machines ------------------------------------------------------------------------------------------------


def test_objects_cross_nodes_behind_tls(ray_tmpdir: Path, program: StartProgram) -> None:
    host = own_address()
    if host is None:
        pytest.skip("this machine has no address but loopback")
    with stopping(start("--head", "--num-cpus", "1", "--node-ip-address", host)) as record:
        start("--address", record.address, "--num-cpus", "1", "--node-ip-address", host, "--resources", '{"far": 1}')
        running = program(
            """
            import numpy as np
            import ray
            ray.init()

            @ray.remote(resources={"far": 1})
            def make(n):
                return np.arange(n)

            @ray.remote(resources={"far": 1})
            def total(array):
                return int(array.sum())

            for n in (20_000, 500_000, 3_000_000):
                refs = [make.remote(n) for _ in range(3)]
                for array in ray.get(refs):
                    assert (array == np.arange(n)).all()
                assert ray.get(total.remote(ray.put(np.arange(n)))) == n * (n - 1) // 2
            print("all there", flush=True)
            """,
            to(record),
        )
        assert "all there" in running.succeed()
