"""Virtual time: what is to happen, by when."""

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any, TypeAlias

Alarm: TypeAlias = list[Any]


class Clock:
    """The one heap of events of a simulation.

    Attributes:
        now: virtual time in ns.
        events: how many have happened.
    """

    def __init__(self) -> None:
        self.now = 0
        self.events = 0
        self._heap: list[Alarm] = []
        self._count = 0

    def at(self, when: int, act: Callable[..., object], *args: Any) -> Alarm:
        """Have something done at a time, in ns; what is due at the same time happens in the order of asking."""
        self._count += 1
        alarm: Alarm = [max(when, self.now), self._count, act, args]
        heappush(self._heap, alarm)
        return alarm

    def after(self, ns: int, act: Callable[..., object], *args: Any) -> Alarm:
        """Have something done in so many ns."""
        return self.at(self.now + ns, act, *args)

    @staticmethod
    def cancel(alarm: Alarm) -> None:
        """Have it not done."""
        alarm[2] = None

    def step(self) -> bool:
        """Let the next thing happen; False when there is none."""
        while self._heap:
            when, _, act, args = heappop(self._heap)
            if act is None:
                continue
            self.now = when
            self.events += 1
            act(*args)
            return True
        return False

    def next_at(self) -> int | None:
        """When the next thing happens, in ns."""
        while self._heap and self._heap[0][2] is None:
            heappop(self._heap)
        return self._heap[0][0] if self._heap else None
