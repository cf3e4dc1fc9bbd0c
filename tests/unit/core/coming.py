"""Objects on their way from store to store, part by part, as plain values."""

from collections import Counter
from random import Random
from typing import Final

from rayd.core.chunks import Chunks, Parting, listed
from rayd.core.effect import Fetch
from rayd.core.event import Arrived, Fetched, SourceFailed
from rayd.errors import NODE_DIED, Fault, fault
from world import World

# Small enough for a play to see objects of several parts.
PARTING: Final = Parting(whole_below=1500, grain=1000, most=2000)


class Coming:
    """One transfer.

    Args:
        world: whose it is.
        asked: what.
        rng: decides what comes when from where.

    Attributes:
        over: it has ended.
        addresses: of its sources, by number.
        brought: how many parts each source has brought, by address.
    """

    def __init__(self, world: World, asked: Fetch, rng: Random) -> None:
        self.world = world
        self.number = asked.number
        self.asked = asked
        self.over = False
        self.brought: Counter[str] = Counter()
        self.addresses: dict[int, str] = {}
        self._chunks = Chunks(PARTING.count(asked.size), rng.randrange)
        self._reports = False
        self.offer(asked)

    def offer(self, asked: Fetch) -> None:
        """It comes from one more node, or that one has more."""
        self.addresses[asked.source] = asked.address
        self._chunks.offer(asked.source, asked.parts)

    def report(self) -> None:
        """The core wants to know what has come."""
        self._reports = True
        if self._chunks.here:
            self.world.step(Arrived(self.number, listed(self._chunks.here)))

    def stop(self) -> None:
        """Nobody wants it any more."""
        self.over = True
        self.world.step(Fetched(self.number))

    def go_on(self, worlds: dict[str, World], rng: Random) -> bool:
        """A part comes, or a source fails; False if all sources have to wait for others."""
        for source in rng.sample(list(self.addresses), len(self.addresses)):
            if self.over:
                return False
            there = worlds.get(self.addresses[source])
            if there is None:
                self._fail(source, fault(NODE_DIED, "nothing answers there"))
                return True
            parts = self._chunks.claim(source, rng.choice([1, 1, 3]))
            if parts:
                self._bring(source, there, parts)
                return True
        return False

    def _fail(self, source: int, why: Fault) -> None:
        del self.addresses[source]
        self._chunks.leave(source)
        self.world.step(SourceFailed(self.number, source, why))

    def _bring(self, source: int, there: World, parts: int) -> None:
        at, size = PARTING.span(self.asked.size, parts)
        answer = there.read(self.asked.oid, at, size)
        if not isinstance(answer, bytes):
            self._chunks.give_up(parts)
            self._fail(source, answer)
            return
        self.brought[self.addresses[source]] += parts.bit_count()
        start = self.asked.offset + at
        self.world.memory[start : start + size] = answer
        self._chunks.arrived(parts)
        if self._chunks.complete:
            self.over = True
            self.world.step(Fetched(self.number))
        elif self._reports:
            self.world.step(Arrived(self.number, listed(parts)))
