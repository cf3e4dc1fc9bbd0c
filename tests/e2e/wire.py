"""A network in one process: it carries IP packets between the TUN devices of several hosts, as well as it is told to.

Run as a program with one argument ``address=descriptor`` for each host. Each line of its stdin is an order, answered by
a line on its stdout once it is carried out; the end of stdin is its own. See ``hosts.Network`` for the other side.
"""

import contextlib
import heapq
import json
import os
import random
import select
import socket
import sys
import time
from dataclasses import dataclass, replace
from typing import Any, Final

PACKET_BYTES_MAX: Final = 65536
# Packets that one host may send before the others get their turn.
TURN: Final = 64
STDIN: Final = 0
IPV4: Final = 4
SOURCE: Final = slice(12, 16)
DESTINATION: Final = slice(16, 20)


@dataclass(frozen=True, slots=True)
class Quality:
    """How packets fare on the way from one host to another.

    Attributes:
        cut: none arrives.
        delay_s: how long each takes.
        loss: the share of them that does not arrive.
    """

    cut: bool = False
    delay_s: float = 0.0
    loss: float = 0.0


GOOD: Final = Quality()


class Wire:
    """Carries packets until its stdin ends.

    Args:
        devices: descriptor of each host's TUN device, by the host's address in four bytes.
        seed: decides which packets are lost.
    """

    def __init__(self, devices: dict[bytes, int], seed: int = 1) -> None:
        self._devices = devices
        self._random = random.Random(seed)
        self._quality: dict[tuple[bytes, bytes], Quality] = {}
        self._late: list[tuple[float, int, int, bytes]] = []  # due, turn, device and packet
        self._carried = self._lost = 0

    def serve(self) -> None:
        """Carry and obey."""
        poller = select.epoll()
        poller.register(STDIN, select.EPOLLIN)
        for device in self._devices.values():
            os.set_blocking(device, False)
            poller.register(device, select.EPOLLIN)
        while True:
            for ready, _ in poller.poll(self._patience()):
                if ready != STDIN:
                    self._take_from(ready)
                elif not self._obey(sys.stdin.readline()):
                    return
            self._deliver_late()

    def _patience(self) -> float | None:
        return max(0.0, self._late[0][0] - time.monotonic()) if self._late else None

    def _obey(self, line: str) -> bool:
        if not line:
            return False
        order: dict[str, Any] = json.loads(line)
        for source, destination in order.pop("ways"):
            way = socket.inet_aton(source), socket.inet_aton(destination)
            self._quality[way] = replace(self._quality.get(way, GOOD), **order)
        print(json.dumps({"carried": self._carried, "lost": self._lost}), flush=True)
        return True

    def _take_from(self, device: int) -> None:
        for _ in range(TURN):
            try:
                packet = os.read(device, PACKET_BYTES_MAX)
            except BlockingIOError:
                return
            if packet[0] >> 4 == IPV4 and packet[DESTINATION] in self._devices:
                self._carry(packet)

    def _carry(self, packet: bytes) -> None:
        device = self._devices[packet[DESTINATION]]
        quality = self._quality.get((packet[SOURCE], packet[DESTINATION]), GOOD)
        if quality.cut or (quality.loss and self._random.random() < quality.loss):
            self._lost += 1
            return
        self._carried += len(packet)
        if quality.delay_s:
            heapq.heappush(self._late, (time.monotonic() + quality.delay_s, self._carried, device, packet))
        else:
            _write(device, packet)

    def _deliver_late(self) -> None:
        while self._late and self._late[0][0] <= time.monotonic():
            _, _, device, packet = heapq.heappop(self._late)
            _write(device, packet)


def _write(device: int, packet: bytes) -> None:
    """A host whose device takes nothing loses the packet, as with any network."""
    with contextlib.suppress(OSError):
        os.write(device, packet)


def main() -> None:
    devices = {}
    for argument in sys.argv[1:]:
        address, _, descriptor = argument.partition("=")
        devices[socket.inet_aton(address)] = int(descriptor)
    Wire(devices).serve()


if __name__ == "__main__":
    main()
