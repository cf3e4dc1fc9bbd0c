"""Detached actors that run on another node than the one on which they were created."""

from collections.abc import Callable
from typing import TypeAlias

from e2e.support import Program, status, until, workers
from e2e.test_cluster import head, node, to

__all__ = ["head", "node"]

StartProgram: TypeAlias = Callable[..., Program]

LEAVES = """
    import os, time
    import ray

    ray.init(namespace="ns")

    @ray.remote
    def square(x):
        return x * x, ray.get_runtime_context().get_node_id()

    @ray.remote(resources={"far": 1}, lifetime="detached", max_restarts=1)
    class Service:
        def __init__(self):
            self.calls = 0

        def where(self):
            self.calls += 1
            return self.calls, ray.get_runtime_context().get_node_id(), os.getpid()

        def squares(self, resources):
            return ray.get([square.options(num_cpus=0.1, resources=resources).remote(n) for n in range(3)])

    @ray.remote(num_cpus=0, resources={"far": 0.1})
    def rests():
        time.sleep(1_000)

    @ray.remote(num_cpus=0, resources={"far": 0.1})
    class Plain:
        def ready(self):
            return True

    service = Service.options(name="service").remote()
    calls, home, pid = ray.get(service.where.remote(), timeout=20)
    assert calls == 1 and home != ray.get_runtime_context().get_node_id()
    resting, plain = rests.remote(), Plain.remote()
    assert ray.get(plain.ready.remote(), timeout=20)
    print("left", flush=True)
"""

FINDS = """
    import os, signal
    import ray

    ray.init(namespace="ns")
    service = ray.get_actor("service")
    here = ray.get_runtime_context().get_node_id()
    calls, there, pid = ray.get(service.where.remote(), timeout=20)
    assert calls == 2 and there != here
    assert ray.get(service.squares.remote({"far": 0.1}), timeout=20) == [(n * n, there) for n in range(3)]
    assert ray.get(service.squares.remote({"near": 0.1}), timeout=20) == [(n * n, here) for n in range(3)]
    os.kill(pid, signal.SIGKILL)
    while True:
        try:
            assert ray.get(service.where.remote(), timeout=20)[0] == 1
        except ray.exceptions.RayActorError:
            continue
        break
    ray.kill(service)
    print("found", flush=True)
"""


def test_a_detached_actor_goes_where_there_is_room_and_outlives_its_driver(
    ray_tmpdir: object, program: StartProgram
) -> None:
    import json

    from e2e.support import stopping
    from e2e.test_cluster import start

    with stopping(start("--head", "--num-cpus", "1", "--resources", json.dumps({"near": 1}))) as record:
        other = start("--address", record.address, "--num-cpus", "2", "--resources", json.dumps({"far": 2}))
        program(LEAVES, to(record)).succeed()
        until(lambda: len(workers(other)) == 1, saying=lambda: workers(other))
        until(lambda: not workers(record))
        program(FINDS, to(record)).succeed()
        for one in (record, other):
            until(lambda one=one: not workers(one))
            until(lambda one=one: status(one)["store"]["used"] == 0)
