"""Which parts of a large object are here, which are on their way, and which one a source is asked for next.

A large object travels in parts, each from whoever is free to send one: a slow source sends fewer of them, and one that
fails costs nothing but the parts that it was asked for. Of the parts that a source has, those come first that no other
source of this node has, and otherwise any: nodes that get an object at the same time then have different parts of it
soon, and can give them to each other. An only source is asked for parts in a row, from some place on.

Sets of parts are integers, one bit for each.
"""

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

MIB: Final = 1 << 20
# A part is about this share of an object, so that what one node sends on while it receives the rest is late by little.
PARTS: Final = 64


class Parting(NamedTuple):
    """How objects are divided, in bytes; the same on all nodes.

    Attributes:
        whole_below: what is smaller is one part: to ask for several costs more than they gain.
        grain: parts have a multiple of this; each costs a message and half a dozen steps of two daemons.
        most: no part is larger.
    """

    whole_below: int = 8 * MIB
    grain: int = 1 * MIB
    most: int = 16 * MIB

    def part_bytes(self, size: int) -> int:
        """How large the parts of an object of ``size`` bytes are, all but the last."""
        if size < self.whole_below:
            return max(size, 1)
        return min(max(-(-size // (PARTS * self.grain)), 1) * self.grain, self.most)

    def count(self, size: int) -> int:
        """How many parts an object of ``size`` bytes has, at least one."""
        return max(1, -(-size // self.part_bytes(size)))

    def span(self, size: int, parts: int) -> tuple[int, int]:
        """Where parts of an object of ``size`` bytes that follow each other begin, and how many bytes they have."""
        each = self.part_bytes(size)
        at = ((parts & -parts).bit_length() - 1) * each
        return at, min(parts.bit_length() * each, size) - at

    def within(self, size: int, at: int, count: int) -> int:
        """The parts of an object of ``size`` bytes that are exactly these bytes; none if they are not whole parts."""
        if not 0 <= at <= at + count <= size:
            return 0
        each = self.part_bytes(size)
        parts = ((1 << max(1, -(-count // each))) - 1) << at // each
        return parts if self.span(size, parts) == (at, count) else 0


def bits(parts: Iterable[int]) -> int:
    """Parts as a set."""
    found = 0
    for part in parts:
        found |= 1 << part
    return found


def listed(parts: int) -> list[int]:
    """The parts of a set, in order."""
    found = []
    while parts:
        found.append((parts & -parts).bit_length() - 1)
        parts &= parts - 1
    return found


class Chunks:
    """The parts of one object on their way here.

    Args:
        count: of the parts.
        pick: a number below the given one; decides which of several parts that are as good as each other comes first.

    Attributes:
        missing: the parts that are neither here nor asked for.
        here: those that have come.
        has: what each source has, by whatever names the source.
    """

    __slots__ = ("_all", "_first", "_pick", "has", "here", "missing")

    def __init__(self, count: int, pick: Callable[[int], int]) -> None:
        self._all = (1 << count) - 1
        self._pick = pick
        self._first = pick(count)
        self.missing = self._all
        self.here = 0
        self.has: dict[int, int] = {}

    @property
    def complete(self) -> bool:
        """Everything is here."""
        return self.here == self._all

    def offer(self, source: int, parts: Iterable[int]) -> None:
        """A source has these parts besides those that it had before; all of them if none are named."""
        self.has[source] = self.has.get(source, 0) | (bits(parts) or self._all)

    def leave(self, source: int) -> None:
        """A source gives nothing any more."""
        self.has.pop(source, None)

    def useful(self, source: int) -> int:
        """The parts that a source can be asked for."""
        return self.missing & self.has.get(source, 0)

    def claim(self, source: int, most: int = 1) -> int:
        """The parts that a source is asked for next, which follow each other; none if it has nothing that is missing.

        Args:
            most: how many they are at most.
        """
        useful = self.useful(source)
        if not useful:
            return 0
        elsewhere = 0
        for other, parts in self.has.items():
            if other != source and parts != self._all:
                elsewhere |= parts
        useful = useful & ~elsewhere or useful
        part = claimed = self._in_turn(useful) if len(self.has) == 1 else self._any_of(useful)
        while claimed.bit_count() < most and (part := part << 1) & useful:
            claimed |= part
        self.missing &= ~claimed
        return claimed

    def _in_turn(self, parts: int) -> int:
        """The next one, from another place on each node on."""
        later = parts >> self._first << self._first
        return (later or parts) & -(later or parts)

    def _any_of(self, parts: int) -> int:
        for _ in range(self._pick(parts.bit_count())):
            parts &= parts - 1
        return parts & -parts

    def arrived(self, parts: int) -> None:
        """What was claimed is here."""
        self.here |= parts

    def give_up(self, parts: int) -> None:
        """What was claimed does not come from there."""
        self.missing |= parts
