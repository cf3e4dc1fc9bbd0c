"""Actors that another node than their creator's runs, and streams that come from other nodes."""

from pathlib import Path

from rayd.shell.sessions import Record

from .conftest import StartProgram
from .support import until, workers
from .test_cluster import goes_on_without, head, node, to

__all__ = ["head", "node"]  # fixtures

USES_FAR_ACTORS = """
    import os, time
    import numpy as np
    import ray

    ray.init()
    here = ray.get_runtime_context().get_node_id()

    @ray.remote(resources={"far": 0.5}, num_cpus=0)
    class Far:
        def __init__(self, start=None):
            self.seen = [] if start is None else [float(start.sum())]
        def node(self):
            return ray.get_runtime_context().get_node_id()
        def add(self, value):
            self.seen.append(value)
            return len(self.seen)
        def all(self):
            return self.seen
        def ones(self, n):
            return np.ones(n)
        def fail(self):
            raise ZeroDivisionError("far away")
        def items(self, n):
            for i in range(n):
                yield np.full(200_000, i) if i % 2 else i
        def me(self):
            return ray.get_runtime_context().current_actor
        def keep(self, refs):
            self.refs = refs
            return ray.get(refs[0]).sum()

    # a constructor with large arguments, calls with large arguments and results, errors, order
    actor = Far.remote(np.ones(500_000))
    assert ray.get(actor.node.remote()) != here
    assert ray.get(actor.all.remote()) == [500_000]
    assert ray.get([actor.add.remote(i) for i in range(500)]) == list(range(2, 502))
    assert ray.get(actor.all.remote())[1:] == list(range(500))
    assert ray.get(actor.ones.remote(400_000)).sum() == 400_000
    assert ray.get(actor.keep.remote([ray.put(np.ones(300_000))])) == 300_000
    try:
        ray.get(actor.fail.remote())
        raise SystemExit("no error came")
    except ZeroDivisionError as error:
        assert "far away" in str(error)
    assert ray.get(ray.get(actor.me.remote()).add.remote(1)) == 502

    # a task on the actor's own node calls it: by its home and back
    @ray.remote(resources={"far": 0.5}, num_cpus=0)
    def neighbour(handle, n):
        assert ray.get_runtime_context().get_node_id() != here
        sizes = ray.get([handle.add.remote(np.ones(50_000)) for _ in range(n)])
        return sizes, len(ray.get(handle.ones.remote(300_000)))

    sizes, ones = ray.get(neighbour.remote(actor, 20))
    assert sizes == list(range(503, 523)) and ones == 300_000

    # streams from there, of an actor and of a task, with large items and small ones
    values = [ray.get(ref) for ref in actor.items.options(num_returns="streaming").remote(6)]
    assert [int(v if np.isscalar(v) else v[0]) for v in values] == list(range(6)), values

    @ray.remote(resources={"far": 0.5}, num_cpus=0, num_returns="streaming")
    def counts(n):
        for i in range(n):
            yield i
        raise ValueError("enough")

    got = []
    try:
        for ref in counts.remote(5):
            got.append(ray.get(ref))
    except ValueError as error:
        assert "enough" in str(error)
    assert got == list(range(5))

    @ray.remote(resources={"far": 0.5}, num_cpus=0, num_returns="streaming", _generator_backpressure_num_objects=2)
    def endless(path):
        i = 0
        while True:
            with open(path, "a") as file:
                print("one", file=file)
            yield i
            i += 1

    path = __file__ + ".count"
    stream = endless.remote(path)
    assert [ray.get(next(stream)) for _ in range(3)] == [0, 1, 2]
    assert len(open(path).readlines()) <= 5, "it does not run ahead of its consumer"
    del stream

    # the end: by kill, by the last handle, by itself
    ray.kill(actor)
    try:
        ray.get(actor.node.remote())
        raise SystemExit("it lives")
    except ray.exceptions.ActorDiedError as error:
        assert "ray.kill()" in str(error)
    assert ray.get(Far.remote().add.remote(1)) == 1, "the last handle went before the call had ended"

    # as many as there is room for; another one waits
    several = [Far.remote() for _ in range(5)]
    assert len(ray.get([a.node.remote() for a in several[:4]])) == 4
    ready, waiting = ray.wait([a.node.remote() for a in several], num_returns=5, timeout=0.5)
    assert len(waiting) == 1
    del several
    assert ray.get(waiting[0]) != here
    print("used it", flush=True)
"""


def test_a_program_uses_actors_and_streams_of_another_node(head: Record, node: Record, program: StartProgram) -> None:
    running = program(USES_FAR_ACTORS, to(head))
    assert "used it" in running.succeed()
    assert running.stderr == ""
    for record in (head, node):
        until(lambda record=record: not workers(record))


def test_an_actor_is_started_again_on_another_node_when_its_own_dies(
    head: Record, node: Record, program: StartProgram
) -> None:
    running = program(
        """
        import sys, time
        import ray
        ray.init()

        @ray.remote(num_cpus=0.6, max_restarts=1, max_task_retries=1)
        class Somewhere:
            def node(self):
                return ray.get_runtime_context().get_node_id()
            def slow(self, path):
                with open(path, "a") as file:
                    print("begun", file=file)
                time.sleep(1 if "again" in open(path).read() else 3600)
                return self.node()

        first, second = Somewhere.remote(), Somewhere.remote()
        here = ray.get_runtime_context().get_node_id()
        nodes = ray.get([first.node.remote(), second.node.remote()])
        assert nodes[0] == here != nodes[1], nodes
        path = sys.argv[0] + ".runs"
        ref = second.slow.remote(path)
        only = Somewhere.options(max_restarts=0, num_cpus=0, resources={"far": 1}).remote()
        assert ray.get(only.node.remote()) == nodes[1]
        print("ready", flush=True)
        sys.stdin.readline()
        ray.kill(first)  # so that there is room
        assert ray.get(ref) == here
        try:
            ray.get(only.node.remote())
        except ray.exceptions.ActorDiedError as error:
            assert "it ran on node" in str(error), error
            print("told", flush=True)
        """,
        to(head),
    )
    running.says("ready")
    runs = Path(f"{running.path}.runs")
    until(lambda: runs.exists() and "begun" in runs.read_text())
    runs.write_text("again\n")
    assert "told" in goes_on_without(node, head, running)


def test_an_actor_is_started_again_when_its_process_on_another_node_dies(
    head: Record, node: Record, program: StartProgram
) -> None:
    running = program(
        """
        import os
        import ray
        ray.init()

        @ray.remote(resources={"far": 1}, num_cpus=0, max_restarts=1)
        class Fragile:
            def pid(self):
                return os.getpid()
            def die(self):
                os._exit(7)

        actor = Fragile.remote()
        first = ray.get(actor.pid.remote())
        try:
            ray.get(actor.die.remote())
        except ray.exceptions.ActorUnavailableError as error:
            assert "exited with code 7" in str(error) and "max_task_retries" in str(error), error
        assert ray.get(actor.pid.remote()) != first
        try:
            ray.get(actor.die.remote())
        except ray.exceptions.ActorDiedError as error:
            assert "exited with code 7" in str(error), error
            print("told", flush=True)
        """,
        to(head),
    )
    assert "told" in running.succeed()
