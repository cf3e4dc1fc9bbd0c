"""Several hosts on one machine: network namespaces between which a process of ours carries the packets.

Each host has a folder for sessions of its own, as a machine has, and shares the token's file, as machines of a cluster
do. Processes are those of one machine, so a test sends them signals directly. Packets pass through ``wire.py``, so a
test can cut, slow or spoil the way between any two hosts.
"""

import contextlib
import fcntl
import itertools
import json
import os
import select
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from rayd.shell import procfs, sessions
from rayd.shell.sessions import Record

from .support import LIMIT_S, Program, until

# Of <linux/if_tun.h>: IP packets without a header before them.
TUNSETIFF: Final = 0x400454CA
IFF_TUN: Final = 0x0001
IFF_NO_PI: Final = 0x1000
REQUEST: Final = "16sH22x"
TUN: Final = "/dev/net/tun"

PORT: Final = 6379
BYTES_MAX_OF_A_PACKET: Final = 1500
_numbers: Final = itertools.count()


class NotHereError(RuntimeError):
    """This system does not have what a test needs; the text says what that is."""


class CommandError(RuntimeError):
    """A command failed; the text is what it has written."""


class Host:
    """A network namespace, with programs and at most one daemon at a time.

    Args:
        address: its own.
        folder: for everything that its programs write.
        token: path of the token's file.
    """

    def __init__(self, address: str, folder: Path, token: Path) -> None:
        self.address = address
        self.name = f"rayd-{os.getpid()}-{next(_numbers)}"
        self.folder = folder
        self.environment = {"RAY_TMPDIR": str(folder), "RAYD_TOKEN_FILE": str(token)}
        self._programs: list[Program] = []
        folder.mkdir()
        _run("ip", "netns", "add", self.name)

    @property
    def prefix(self) -> list[str]:
        """What lets a command run on this host."""
        return ["ip", "netns", "exec", self.name]

    def plug_in(self, packet_bytes: int) -> int:
        """Give it a network device; the descriptor of that one's other end, with which the device goes.

        Args:
            packet_bytes: size of the largest packet.
        """
        end = os.open(TUN, os.O_RDWR | os.O_CLOEXEC)
        made = fcntl.ioctl(end, TUNSETIFF, struct.pack(REQUEST, b"rayd%d", IFF_TUN | IFF_NO_PI))
        device = struct.unpack(REQUEST, made)[0].rstrip(b"\0").decode()
        _run("ip", "link", "set", device, "netns", self.name, "name", "eth0")
        inside = ["ip", "-n", self.name]
        _run(*inside, "link", "set", "lo", "up")
        _run(*inside, "address", "add", f"{self.address}/24", "dev", "eth0")
        _run(*inside, "link", "set", "eth0", "mtu", str(packet_bytes), "txqueuelen", "5000", "up")
        return end

    def rayd(self, *arguments: str) -> str:
        """The output of a command that succeeds."""
        environment = {**os.environ, **self.environment}
        return _run(*self.prefix, sys.executable, "-m", "rayd", *arguments, env=environment)

    def start(self, *arguments: str) -> Record:
        """Start a daemon; its record."""
        self.rayd("start", "--node-ip-address", self.address, *arguments)
        (record,) = self.records()
        return record

    def records(self) -> list[Record]:
        """Of the daemons that run."""
        return sessions.live(str(self.folder / "ray"))

    def head(self, *arguments: str) -> Record:
        """Start a head with one CPU."""
        return self.start("--head", "--port", str(PORT), "--num-cpus", "1", *arguments)

    def node(self, head: "Host", *arguments: str) -> Record:
        """Start a node with two CPUs and the resource "far"."""
        joining = ("--address", f"{head.address}:{PORT}", "--port", "0")
        return self.start(*joining, "--num-cpus", "2", "--resources", json.dumps({"far": 4}), *arguments)

    def program(self, source: str, address: str) -> Program:
        """Start a program that finds its cluster at an address."""
        environment = {**self.environment, "RAY_ADDRESS": address}
        self._programs.append(Program(self.folder, source, environment, prefix=self.prefix))
        return self._programs[-1]

    def close_programs(self) -> None:
        """End the programs that it runs."""
        while self._programs:
            self._programs.pop().close()

    def pids(self) -> list[int]:
        """Its processes."""
        return [int(pid) for pid in _run("ip", "netns", "pids", self.name).split()]

    def close(self) -> None:
        """End and remove everything."""
        self.close_programs()
        for pid in self.pids():
            procfs.kill(pid, signal.SIGKILL)
        until(lambda: not self.pids())
        _run("ip", "netns", "delete", self.name)


class Network:
    """Hosts 10.0.0.1, 10.0.0.2 and so on, and the wire between them.

    Args:
        folder: an empty one, for everything that they write.
        count: of the hosts.
        packet_bytes: size of the largest packet; with fewer and larger ones the wire has less to do.

    Raises:
        NotHereError: the system does not let us make any.
    """

    def __init__(self, folder: Path, count: int, packet_bytes: int = BYTES_MAX_OF_A_PACKET) -> None:
        self.hosts: list[Host] = []
        ends: list[int] = []
        try:
            for number in range(1, count + 1):
                self.hosts.append(Host(f"10.0.0.{number}", folder / f"h{number}", folder / "token"))
                ends.append(self.hosts[-1].plug_in(packet_bytes))
        except (OSError, CommandError) as error:
            self._remove_hosts()
            raise NotHereError(f"no hosts can be made: {error}") from error
        else:
            places = [f"{host.address}={end}" for host, end in zip(self.hosts, ends, strict=True)]
            command = [sys.executable, str(Path(__file__).with_name("wire.py")), *places]
            self._wire = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=ends, text=True
            )
        finally:
            for end in ends:
                os.close(end)

    def between(self, one: Host, other: Host, **quality: Any) -> dict[str, int]:
        """Change the way there and back: ``cut``, ``delay_s`` or ``loss``; what the wire has counted."""
        return self._order([(one, other), (other, one)], quality)

    def one_way(self, source: Host, destination: Host, **quality: Any) -> dict[str, int]:
        """The same for the packets in one direction."""
        return self._order([(source, destination)], quality)

    def everywhere(self, **quality: Any) -> dict[str, int]:
        """The same between all hosts."""
        return self._order(list(itertools.permutations(self.hosts, 2)), quality)

    def limit(self, rate_out: float, rate_in: float) -> None:
        """So many bytes per second go out of each host, and into it, from now on; 0 for any."""
        self._order([], {"rate_out": rate_out, "rate_in": rate_in})

    def bytes_sent(self, source: Host, destination: Host) -> int:
        """How much has gone through from one host to another until now."""
        return self._order([(source, destination)], {})["there"]

    def bytes_carried(self) -> int:
        """How much has gone through until now."""
        return self._order([], {})["carried"]

    def _order(self, ways: Sequence[tuple[Host, Host]], quality: dict[str, Any]) -> dict[str, int]:
        assert self._wire.stdin is not None
        assert self._wire.stdout is not None
        order = {"ways": [(source.address, destination.address) for source, destination in ways], **quality}
        print(json.dumps(order), file=self._wire.stdin, flush=True)
        readable, _, _ = select.select([self._wire.stdout], [], [], LIMIT_S)
        assert readable, "the wire does not answer"
        counted: dict[str, int] = json.loads(self._wire.stdout.readline())
        return counted

    def close(self) -> None:
        """End and remove everything."""
        try:
            self._wire.communicate(timeout=LIMIT_S)  # before the devices vanish under it
        finally:
            self._remove_hosts()

    def _remove_hosts(self) -> None:
        with contextlib.ExitStack() as each:  # all of them, even if one resists
            for host in self.hosts:
                each.callback(host.close)


@contextlib.contextmanager
def network(folder: Path, count: int, packet_bytes: int = BYTES_MAX_OF_A_PACKET) -> Iterator[Network]:
    """Hosts for as long as they are needed."""
    made = Network(folder, count, packet_bytes)
    try:
        yield made
    finally:
        made.close()


def _run(*command: str, env: dict[str, str] | None = None) -> str:
    """The output of a command.

    Raises:
        CommandError: it failed.
    """
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=env)
    if done.returncode:
        raise CommandError(f"{' '.join(command)}: {(done.stdout + done.stderr).strip()}")
    return done.stdout
