"""Rows about clusters: two nodes on this machine, each with its own daemon and store, and a program without either.

What is meant for the other node asks for the resource "far", which only that node has.
"""

from __future__ import annotations

import importlib.util
import logging
import mmap
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from .measure import Bench, head, node_at
from .row import Result, Row, check, row

CPUS_EACH = 2
GB = 1e9
#: Tasks that are outstanding at once.
BATCH = 1000
#: Eight-byte numbers of one object that crosses nodes, 100 MB, and how many objects a sample has.
ITEMS = 12_500_000
#: Bundles of one CPU in the group that is created and removed.
BUNDLES = 2
#: Groups that are there at a time.
GROUPS = 100
#: Bytes of one system call of the TCP stream: with more at a time it is slower.
STEP = 1 << 20
#: How long nodes and ports may take to come up.
UP_S = 60.0
REMOTE_ITEMS = 12_500_000


def far(ray: Any, function: Any, **options: Any) -> Any:
    """A remote function that only the other node can run."""
    return ray.remote(num_cpus=1, resources={"far": 1}, **options)(function)


@contextmanager
def two_nodes(bench: Bench) -> Iterator[Any]:
    """A head and a second node, with this process connected to the head; yields the cluster."""
    cluster = head(bench.host, num_cpus=CPUS_EACH)
    try:
        _add_far_node(cluster, bench.host)
        bench.ray.init(address=cluster.address, logging_level=logging.ERROR)
        cluster.wait_for_nodes()
        _warm(bench.ray)
        yield cluster
    finally:
        bench.ray.shutdown()
        cluster.shutdown()


def _add_far_node(cluster: Any, host: str) -> None:
    cluster.add_node(num_cpus=CPUS_EACH, resources={"far": CPUS_EACH}, **node_at(host))


def _warm(ray: Any) -> None:
    """Have the workers of the other node started."""

    def hold() -> int:
        time.sleep(0.3)
        return os.getpid()

    found: set[int] = set()
    end = time.monotonic() + UP_S
    while len(found) < CPUS_EACH:
        check(holds=time.monotonic() < end, what=f"only {len(found)} workers of the other node came up")
        found |= set(ray.get([far(ray, hold).remote() for _ in range(CPUS_EACH)]))


@row("two nodes: tasks sync", "tasks/s", cpus=None, limit_s=240.0)
def far_tasks_sync(bench: Bench) -> Result:
    """Run a task on the other node and get its result, one after the other."""
    with two_nodes(bench):
        small = far(bench.ray, lambda: b"ok")

        def work() -> None:
            check(holds=bench.ray.get(small.remote()) == b"ok", what="the task did not return b'ok'")

        return Result(bench.rate(work))


@row("two nodes: tasks async", "tasks/s", cpus=None, limit_s=240.0)
def far_tasks_async(bench: Bench) -> Result:
    """Submit 1000 tasks for the other node, then get all results."""
    with two_nodes(bench):
        small = far(bench.ray, lambda: b"ok")
        count = bench.size(BATCH)

        def work() -> None:
            values = bench.ray.get([small.remote() for _ in range(count)])
            check(holds=values == [b"ok"] * count, what="not every task returned b'ok'")

        return Result(bench.rate(work, count))


@row("two nodes: get of 100 MB from the other", "GB/s", cpus=None, limit_s=240.0)
def far_get(bench: Bench) -> Result:
    """Get arrays of 100 MB that a task on the other node has made; each once.

    Beside it the rate of a TCP stream between two processes of this machine, measured between the samples
    (``tcp_gb_s``), and the median of the shares of it (``share_of_tcp``).
    """
    ray, items = bench.ray, bench.size(ITEMS)

    def ones(count: int) -> Any:
        import numpy as np

        return np.ones(count)

    with two_nodes(bench), tcp_stream(8 * items) as receive:
        make = far(ray, ones)
        rates: list[float] = []
        streams: list[float] = []
        end = time.perf_counter() + 2 * bench.min_seconds
        warm = 3
        while len(rates) < warm + 2 or time.perf_counter() < end:
            ref = make.remote(items)
            ray.wait([ref], fetch_local=False, timeout=UP_S)
            start = time.perf_counter()
            value = ray.get(ref)
            rates.append(8 * items / GB / (time.perf_counter() - start))
            check(holds=len(value) == items and value[0] == value[-1] == 1.0, what="the array is another one")
            del value, ref
            streams.append(8 * items / GB / receive())
        shares = [rate / stream for rate, stream in zip(rates, streams, strict=True)][warm:]
        extras = {"tcp_gb_s": statistics.median(streams[warm:]), "share_of_tcp": statistics.median(shares)}
        return Result(rates[warm:], extras)


_SENDER = """
import mmap, socket, sys
sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
data = memoryview(mmap.mmap(-1, int(sys.argv[2])))
data[:] = b"x" * len(data)
while sock.recv(1):
    for at in range(0, len(data), 1 << 20):
        sock.sendall(data[at : at + (1 << 20)])
"""


@contextmanager
def tcp_stream(size: int) -> Iterator[Callable[[], float]]:
    """A loopback connection to another process; each call takes ``size`` bytes from it and gives the seconds.

    Both ends use the same memory again and again, as stores do: memory that is touched for the first time, or the first
    time by a process, would be what is measured.
    """
    target = memoryview(mmap.mmap(-1, size))
    target[:] = b"y" * size
    with socket.create_server(("127.0.0.1", 0)) as server:
        command = [sys.executable, "-c", _SENDER, str(server.getsockname()[1]), str(size)]
        with subprocess.Popen(command) as sender:
            connection, _ = server.accept()

            def receive() -> float:
                start = time.perf_counter()
                connection.send(b"1")
                done = 0
                while done < size:
                    done += connection.recv_into(target[done : done + STEP])
                return time.perf_counter() - start

            with connection:
                yield receive
            check(holds=sender.wait() == 0, what="the sender of the TCP stream failed")


@row("two nodes: a node joins", "s", better="less", cpus=None, limit_s=240.0)
def node_joins(bench: Bench) -> Result:
    """Seconds from the start of another daemon until the cluster counts its CPUs."""
    ray = bench.ray
    samples: list[float] = []
    with two_nodes(bench) as cluster:
        for number in range(3, 6):
            start = time.perf_counter()
            _add_far_node(cluster, bench.host)
            while ray.cluster_resources()["CPU"] < number * CPUS_EACH:
                check(holds=time.perf_counter() - start < UP_S, what="the node did not join")
                time.sleep(0.005)
            samples.append(time.perf_counter() - start)
    return Result(samples)


@row("two nodes: placement group create/remove", "groups/s", cpus=None, limit_s=240.0)
def groups(bench: Bench) -> Result:
    """Create a group of two bundles on two nodes (STRICT_SPREAD), wait until it is ready, and remove it."""
    from ray.util.placement_group import placement_group, remove_placement_group

    with two_nodes(bench):

        def work() -> None:
            group = placement_group([{"CPU": 1}] * BUNDLES, strategy="STRICT_SPREAD")
            check(holds=group.wait(UP_S), what="the group was not created")
            remove_placement_group(group)

        return Result(bench.rate(work))


@row("placement groups create/remove", "groups/s")
def many_groups(bench: Bench) -> Result:
    """Create 100 groups of one small bundle, wait until each is ready, and remove them; num_cpus=2."""
    from ray.util.placement_group import placement_group, remove_placement_group

    count = bench.size(GROUPS)

    def work() -> None:
        made = [placement_group([{"CPU": 0.001}]) for _ in range(count)]
        check(holds=all(group.wait(UP_S) for group in made), what="not every group was created")
        for group in made:
            remove_placement_group(group)

    return Result(bench.rate(work, count))


# ---- a program without a daemon --------------------------------------------------------------------------------------


@contextmanager
def remote_driver(bench: Bench) -> Iterator[None]:
    """This process as a client of a cluster on this machine of which it uses neither daemon nor store."""
    cluster = head(bench.host, num_cpus=CPUS_EACH)
    server = None
    try:
        address = cluster.address
        if importlib.util.find_spec("rayd") is None:  # upstream's clients talk to a server of their own
            server, address = _client_server(address)
        _connect(bench.ray, f"ray://{address}")
        yield
    finally:
        bench.ray.shutdown()
        if server is not None:
            server.terminate()
            server.wait()
        cluster.shutdown()


def _client_server(address: str) -> tuple[subprocess.Popen[bytes], str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    command = [sys.executable, "-m", "ray.util.client.server", "--host=127.0.0.1", f"--port={port}"]
    server = subprocess.Popen([*command, f"--address={address}"], stderr=subprocess.DEVNULL)
    return server, f"127.0.0.1:{port}"


def _connect(ray: Any, address: str) -> None:
    end = time.monotonic() + UP_S
    while True:
        try:
            ray.init(address, logging_level=logging.ERROR)
        except ConnectionError:
            check(holds=time.monotonic() < end, what=f"{address} did not come up")
        else:
            return


@row("remote driver: get calls", "calls/s", cpus=None, limit_s=240.0)
def remote_get(bench: Bench) -> Result:
    """Get one small stored value again and again over TCP."""
    ray = bench.ray
    with remote_driver(bench):
        ref = ray.put(0)

        def work() -> None:
            check(holds=ray.get(ref) == 0, what="ray.get gave another value than was put")

        return Result(bench.rate(work))


@row("remote driver: put calls", "calls/s", cpus=None, limit_s=240.0)
def remote_put(bench: Bench) -> Result:
    """Put a small integer again and again over TCP, dropping each ref; every hundredth is read by a task."""
    ray = bench.ray
    with remote_driver(bench):
        done = 0
        same = ray.remote(lambda value: value)

        def work() -> None:
            nonlocal done
            ref = ray.put(done)
            if done % 100 == 0:
                check(holds=ray.get(same.remote(ref)) == done, what="a task got another value than was put")
            done += 1

        return Result(bench.rate(work))


@row("remote driver: put GB/s", "GB/s", cpus=None, limit_s=240.0)
def remote_put_large(bench: Bench) -> Result:
    """Put arrays of 100 MB over TCP, each summed by a task."""
    import numpy as np

    ray, items = bench.ray, bench.size(REMOTE_ITEMS)
    array = np.ones(items)
    with remote_driver(bench):
        total = ray.remote(lambda value: float(value.sum()))
        check(holds=ray.get(total.remote(ray.put(array))) == items, what="the sum is another one")
        rates: list[float] = []
        end = time.perf_counter() + 2 * bench.min_seconds
        while len(rates) < 2 or time.perf_counter() < end:
            start = time.perf_counter()
            ref = ray.put(array)
            check(holds=ray.get(total.remote(ref)) == items, what="the sum is another one")
            rates.append(8 * items / GB / (time.perf_counter() - start))
            del ref
        return Result(rates)


ROWS: tuple[Row, ...] = (
    far_tasks_sync,
    far_tasks_async,
    far_get,
    node_joins,
    groups,
    many_groups,
    remote_get,
    remote_put,
    remote_put_large,
)
