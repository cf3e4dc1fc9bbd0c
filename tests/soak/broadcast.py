"""How long an object takes to many nodes, and from many, when their links are what limits it.

    python -m tests.soak.broadcast --mb 64 --rate 25 --nodes 2 4 8 --holders 1 3

Hosts are network namespaces, with one process that carries the packets between them, so many bytes per second out of
each host and into it (see ``tests/e2e/hosts.py``). First one node's object goes to all others, then an object that some
nodes have goes to one that has not, and which can take as much as they can send. The floors are what the links allow at
best.
"""

import argparse
import os
import shutil
import signal
import statistics
import tempfile
from pathlib import Path

from tests.e2e.hosts import Network, network
from tests.e2e.support import until

PACKET_BYTES = 9000
LIMIT_S = 300.0
MB = 1e6

PROGRAM = """
    import sys, time
    import numpy as np
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ray.init()
    here = ray.get_runtime_context().get_node_id()

    @ray.remote(num_cpus=0.1)
    class Keeper:
        def keep(self, array):
            self.kept = array
            return int(array[0]) + int(array[-1]) + len(array)
        def drop(self):
            self.kept = None

    others = [row["NodeID"] for row in ray.nodes() if row["NodeID"] != here]
    places = [NodeAffinitySchedulingStrategy(node, soft=False) for node in others]
    keepers = [Keeper.options(scheduling_strategy=place).remote() for place in places]
    ray.get([keeper.keep.remote(np.zeros(10)) for keeper in keepers])

    print("ready", flush=True)
    for line in sys.stdin:
        size, holders = map(int, line.split())
        array = np.random.default_rng(size).integers(0, 255, size, np.uint8)
        ref = ray.put(array)
        right = int(array[0]) + int(array[-1]) + len(array)
        first, rest = keepers[: holders - 1], keepers[holders - 1 :]
        seconds = 0.0
        for some in (first, rest if holders == 1 else rest[:1]):
            start = time.perf_counter()
            assert ray.get([keeper.keep.remote(ref) for keeper in some]) == [right] * len(some)
            seconds = time.perf_counter() - start
        ray.get([keeper.drop.remote() for keeper in keepers])
        del ref
        print("took", seconds, flush=True)
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=float, default=64, help="size of the object")
    parser.add_argument("--rate", type=float, default=25, help="MB per second out of a host, and into it")
    parser.add_argument("--nodes", type=int, nargs="*", default=[2, 4, 8], help="how many get it from one")
    parser.add_argument("--holders", type=int, nargs="*", default=[1, 3], help="how many have it that one gets")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    for count in arguments.nodes:
        report(f"from 1 node to {count}", arguments, count + 1, 1)
    for holders in arguments.holders:
        report(f"from {holders} nodes to 1", arguments, holders + 1, holders)


def report(what: str, arguments: argparse.Namespace, hosts: int, holders: int) -> None:
    """One cluster and its rounds."""
    folder = Path(tempfile.mkdtemp(prefix="b", dir="/tmp"))
    try:
        with network(folder, hosts, PACKET_BYTES) as made:
            seconds = rounds(made, arguments, holders)
            sent = sum(made.bytes_sent(made.hosts[0], host) for host in made.hosts[1:])
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    floor = arguments.mb / arguments.rate / holders
    each = " ".join(f"{taken:.2f}" for taken in seconds)
    share = sent / arguments.mb / MB / (arguments.rounds + 1)
    took = f"{statistics.median(seconds):.2f} s (a link's floor: {floor:.2f} s; {each})"
    print(f"{what}: {took}, sent by the first: {share:.2f} objects", flush=True)


def rounds(made: Network, arguments: argparse.Namespace, holders: int) -> list[float]:
    """Seconds of each round but the first, in which connections are made."""
    at_head, *others = made.hosts
    head = at_head.head()
    for host in others:
        host.node(at_head)
    program = at_head.program(PROGRAM, head.address)
    program.says("ready", within_s=LIMIT_S)
    made.limit(arguments.rate * MB, arguments.rate * MB * holders)
    seconds: list[float] = []
    for turn in range(arguments.rounds + 1):
        program.hear(f"{int(arguments.mb * MB)} {holders}")
        until(lambda turn=turn: program.stdout.count("took") > turn, within_s=LIMIT_S, saying=lambda: program.stderr)
        seconds.append(float(program.says("took")))
    made.limit(0, 0)
    os.kill(head.pid, signal.SIGTERM)
    return seconds[1:]


if __name__ == "__main__":
    main()
