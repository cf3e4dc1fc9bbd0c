"""How soon a head that was killed serves again when thousands of actors have names in its journal.

    python tests/soak/restart.py --names 10000 --nodes 100

The nodes are simulated: connections over the real port that join, have names registered for actors of theirs, and call
again when the head has been killed. Then every name is asked for. The exit code is 1 when one is missing.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rayd.shell import procfs, sessions
from rayd.shell.control import Control
from rayd.shell.dial import Stream, Target, dial
from rayd.shell.sessions import Record
from rayd.wire import messages as m
from rayd.wire.frame import Framer, encode, encode_many

ROUNDS = 5
UP_S = 60.0


class SimulatedNode:
    """A member of the cluster that has actors, and nothing that runs.

    Args:
        index: tells it from the others.
    """

    def __init__(self, index: int) -> None:
        self.facts = {"node_id": index.to_bytes(28, "big"), "address": f"127.0.0.1:{index + 1}"}
        self.number: int | None = None
        self._stream: Stream

    def join(self, address: str) -> None:
        """Join, or come back."""
        host, _, port = address.rpartition(":")
        self._stream = dial(Target("", host, int(port)))
        self._stream.settimeout(UP_S)
        self._framer = Framer()
        back = {} if self.number is None else {"number": self.number}
        info = {"facts": self.facts, "totals": {"CPU": 1.0}, **back}
        self._stream.sendall(encode((m.HELLO, m.PROTOCOL_VERSION, "node", info)))
        (welcome,) = self._wait_for(m.WELCOME, 1)
        assert self.number in (None, welcome[1]["number"]), "it has come back as another node"
        self.number = welcome[1]["number"]

    def name(self, names: list[str]) -> None:
        """Have actors of this node registered."""
        asked = []
        for req, name in enumerate(names):
            aid = self.number.to_bytes(2, "big") + req.to_bytes(10, "big") + bytes(4)  # type: ignore[union-attr]
            info = {"actor_id": aid, "meta": bytes(200), "name": name}
            params = {"namespace": "restart", "name": name, "info": info, "title": f"Actor {name!r}"}
            asked.append((m.RPC, req, "name_take", params))
        self._stream.sendall(encode_many(asked))
        assert all(message[2] for message in self._wait_for(m.REPLY, len(names))), "a name was refused"

    def _wait_for(self, tag: int, count: int) -> list[Any]:
        found: list[Any] = []
        while len(found) < count:
            data = self._stream.recv(1 << 16)
            assert data, "the head has closed the connection"
            found += [message for message in self._framer.feed(data) if message[0] == tag]
        return found

    def close(self) -> None:
        self._stream.close()


def start_head(port: int) -> Record:
    """Start one; it serves when this returns."""
    command = [sys.executable, "-m", "rayd", "start", "--head", "--port", str(port), "--num-cpus", "1"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=UP_S)
    return sessions.find("auto")


def kill(head: Record) -> None:
    """Kill a head, and wait until it is gone."""
    os.kill(head.pid, signal.SIGKILL)
    assert procfs.wait_gone(head.pid, head.pid_start_time, UP_S)


def run(names: int, count: int, port: int) -> None:
    """Register, kill, start, look; several times."""
    nodes = [SimulatedNode(index) for index in range(count)]
    each = [[f"actor {number}" for number in range(index, names, count)] for index in range(count)]
    head = start_head(port)
    began = time.perf_counter()
    for node, mine in zip(nodes, each, strict=True):
        node.join(head.address)
        node.name(mine)
    print(f"{names} names of {count} nodes acknowledged: {names / (time.perf_counter() - began):.0f}/s", flush=True)
    seconds = []
    for _ in range(ROUNDS):
        kill(head)
        began = time.perf_counter()
        head = start_head(port)
        with Control(head.socket) as control:
            control.rpc("get_actor", namespace="restart", name=f"actor {names - 1}")
            seconds.append(time.perf_counter() - began)
        for node in nodes:
            node.close()
            node.join(head.address)
    with Control(head.socket) as control:
        known = {row["name"] for row in control.rpc("list_named_actors", namespace="restart")}
        assert known == {f"actor {number}" for number in range(names)}, "names are missing"
        assert sum(row["alive"] for row in control.rpc("nodes")) == count + 1
    for node in nodes:
        node.close()
    print(
        f"from the command's start to the first answer: median {statistics.median(seconds):.3f} s of {ROUNDS}, at most"
        f" {max(seconds):.3f} s; every name and node is there",
        flush=True,
    )


def main() -> None:
    """Parse the arguments and run in a folder of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", type=int, default=10_000)
    parser.add_argument("--nodes", type=int, default=100)
    parser.add_argument("--port", type=int, default=7399)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp") as folder:
        os.environ.update(RAY_TMPDIR=folder, RAYD_TOKEN_FILE=str(Path(folder) / "token"))
        try:
            run(arguments.names, arguments.nodes, arguments.port)
        finally:
            subprocess.run([sys.executable, "-m", "rayd", "stop", "--force"], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
