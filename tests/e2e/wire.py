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
from collections import Counter
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
# A host that has not sent for a while may send as much at once as it could have in this time, in seconds.
BURST_S: Final = 0.004
# What would wait longer than this for its way into a host is lost.
QUEUE_S: Final = 0.2


class Wire:
    """Carries packets until its stdin ends.

    Args:
        devices: descriptor of each host's TUN device, by the host's address in four bytes.
        seed: decides which packets are lost.
    """

    def __init__(self, devices: dict[bytes, int], seed: int = 1) -> None:
        self._devices = devices
        self._random = random.Random(seed)
        self._poller = select.epoll()
        self._quality: dict[tuple[bytes, bytes], Quality] = {}
        self._late: list[tuple[float, int, int, bytes]] = []  # due, turn, device and packet
        self._carried = self._lost = 0
        self._by_way: Counter[tuple[bytes, bytes]] = Counter()
        self._rate_out = self._rate_in = 0.0  # bytes per second out of each host, and into it; 0 for any
        self._sent_until = dict.fromkeys(devices.values(), 0.0)  # when what has gone out of each host is through
        self._taken_until = dict.fromkeys(devices.values(), 0.0)  # the same for what has gone in
        self._resting: list[tuple[float, int]] = []  # until when, device

    def serve(self) -> None:
        """Carry and obey."""
        poller = self._poller
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
            self._wake()

    def _patience(self) -> float | None:
        due = [queue[0][0] for queue in (self._late, self._resting) if queue]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _obey(self, line: str) -> bool:
        if not line:
            return False
        order: dict[str, Any] = json.loads(line)
        self._rate_out = order.pop("rate_out", self._rate_out)
        self._rate_in = order.pop("rate_in", self._rate_in)
        ways = [(socket.inet_aton(source), socket.inet_aton(destination)) for source, destination in order.pop("ways")]
        for way in ways:
            self._quality[way] = replace(self._quality.get(way, GOOD), **order)
        counted = {"carried": self._carried, "lost": self._lost, "there": sum(self._by_way[way] for way in ways)}
        print(json.dumps(counted), flush=True)
        return True

    def _take_from(self, device: int) -> None:
        for _ in range(TURN):
            try:
                packet = os.read(device, PACKET_BYTES_MAX)
            except BlockingIOError:
                return
            if packet[0] >> 4 == IPV4 and packet[DESTINATION] in self._devices:
                self._carry(packet)
            if self._rate_out and self._has_sent(device, len(packet)):
                return

    def _has_sent(self, device: int, count: int) -> bool:
        """A host has sent so many bytes; whether it has to rest now, as all it may send at a time is under way."""
        now = time.monotonic()
        until = max(self._sent_until[device], now - BURST_S) + count / self._rate_out
        self._sent_until[device] = until
        if until <= now:
            return False
        self._poller.unregister(device)
        heapq.heappush(self._resting, (until, device))
        return True

    def _wake(self) -> None:
        while self._resting and self._resting[0][0] <= time.monotonic():
            self._poller.register(heapq.heappop(self._resting)[1], select.EPOLLIN)

    def _carry(self, packet: bytes) -> None:
        device = self._devices[packet[DESTINATION]]
        quality = self._quality.get((packet[SOURCE], packet[DESTINATION]), GOOD)
        if quality.cut or (quality.loss and self._random.random() < quality.loss):
            self._lost += 1
            return
        due = time.monotonic() + quality.delay_s
        if self._rate_in:
            takes = len(packet) / self._rate_in
            taken = max(self._taken_until[device], due - BURST_S) + takes
            if taken - due > QUEUE_S:
                self._lost += 1
                return
            self._taken_until[device] = taken
            due = max(due, taken)
        self._carried += len(packet)
        self._by_way[packet[SOURCE], packet[DESTINATION]] += len(packet)
        if due > time.monotonic():
            heapq.heappush(self._late, (due, self._carried, device, packet))
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
