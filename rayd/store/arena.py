"""Which bytes of one long range are taken: an allocator of offsets, pure.

The first write to a page of shared memory costs some thirty times what a later write costs, so bytes that were handed
out once are worth more than fresh ones. The range is kept as two parts: the *touched* prefix below `high_water`, where
freed blocks become gaps, and the *fresh* rest, which is only a number. A request takes the smallest touched gap that
holds it (the lowest of equals); only when there is none does the prefix grow, from the last gap of the prefix if that
gap borders on the fresh part. Gaps that meet are joined at once and never reach past `high_water`.

Blocks of `BIG` bytes and more start on a page and fill whole pages, so that populating or copying one touches no page
of a neighbour.

A block may be *lent* to somebody who reads it: freed meanwhile, it is not handed out again before it has come back.

Rejected: a buddy system (wastes up to half of a large array) and size classes with slabs (touched memory of one class
is no use to another).
"""

from bisect import bisect_left, insort
from typing import Final

PAGE: Final = 4096
BIG: Final = 1 << 20  # from here on a block is made of whole pages

# A gap of the right size may still be too short once its start is moved up to a page. Only so many gaps are looked at
# one by one; after them the search jumps to gaps so large that the start cannot matter, which keeps the cost
# logarithmic.
_NEAR_MISSES_MAX: Final = 16


class UnknownBlockError(KeyError):
    """`free` was called with an offset at which no allocated block starts: never handed out, or freed before."""

    def __init__(self, offset: int) -> None:
        super().__init__(offset)
        self.offset = offset

    def __str__(self) -> str:
        return f"no allocated block starts at offset {self.offset}: it was never handed out or is already free"


class Arena:
    """Allocates blocks out of `capacity` bytes. Offsets and sizes are in bytes.

    Arguments: `capacity` (an unaligned rest at its end stays unused); `alignment` of every block, a power of two,
    default 64 (a cache line, and what vector instructions and Arrow buffers ask for). Raises ValueError if the
    alignment is no power of two or the capacity holds no block.
    """

    __slots__ = (
        "_align",
        "_blocks",
        "_capacity",
        "_doomed",
        "_ends",
        "_gaps",
        "_high_water",
        "_lent",
        "_starts",
        "_used",
    )

    def __init__(self, capacity: int, alignment: int = 64) -> None:
        if alignment < 1 or alignment & (alignment - 1):
            raise ValueError(f"alignment is {alignment}: give a power of two")
        if capacity < alignment:
            raise ValueError(f"capacity is {capacity}: give at least one block of {alignment} bytes")
        self._align = alignment
        self._capacity = capacity - capacity % alignment
        self._blocks: dict[int, int] = {}  # start -> size of every allocated block
        # Every gap lies below _high_water and stands in all three; no two gaps touch.
        self._gaps: list[tuple[int, int]] = []  # (size, start), sorted: the first that is long enough is the best fit
        self._starts: dict[int, int] = {}  # start -> size
        self._ends: dict[int, int] = {}  # end -> start
        self._used = 0
        self._high_water = 0
        self._lent: dict[int, int] = {}  # start -> by how many a block is read
        self._doomed: dict[int, None] = {}  # those of them that nobody else needs

    @property
    def capacity(self) -> int:
        """All bytes that blocks can lie in."""
        return self._capacity

    @property
    def used(self) -> int:
        """Bytes in allocated blocks, with what rounding added."""
        return self._used

    @property
    def free_bytes(self) -> int:
        """Bytes in no block; they need not be in one piece (see `largest_gap`)."""
        return self._capacity - self._used

    @property
    def largest_gap(self) -> int:
        """The longest run of bytes in no block, touched or fresh."""
        longest = self._gaps[-1][0] if self._gaps else 0
        return max(longest, self._capacity - self._fresh_start())

    @property
    def high_water(self) -> int:
        """The end of the highest block there ever was: bytes below it are touched, bytes above it are fresh."""
        return self._high_water

    def __len__(self) -> int:
        """The number of allocated blocks."""
        return len(self._blocks)

    def __repr__(self) -> str:
        return (
            f"<Arena {self._used}/{self._capacity} bytes in {len(self._blocks)} blocks, {len(self._gaps)} gaps, "
            f"high water {self._high_water}>"
        )

    def rounded(self, size: int) -> int:
        """The bytes that a block for `size` bytes takes."""
        return self._fitted(size)[0]

    def allocate(self, size: int) -> int | None:
        """Take a block of at least `size` bytes; one without bytes has an offset of its own all the same.

        Returns its offset, or None when no gap holds it. Raises ValueError for a negative size.
        """
        if size < 0:
            raise ValueError(f"cannot allocate {size} bytes: a size cannot be negative")
        size, unit = self._fitted(size)
        offset = self._take_touched(size, unit)
        if offset is None:
            offset = self._take_fresh(size, unit)
            if offset is None:
                return None
        self._blocks[offset] = size
        self._used += size
        return offset

    @property
    def doomed(self) -> list[int]:
        """Sizes of the blocks that are freed and still lent, as they were rounded."""
        return [self._blocks[offset] for offset in self._doomed]

    def lend(self, offset: int) -> None:
        """Somebody reads the block that starts at `offset`, until `take_back`.

        Raises UnknownBlockError if there is none.
        """
        if offset not in self._blocks or offset in self._doomed:
            raise UnknownBlockError(offset)
        self._lent[offset] = self._lent.get(offset, 0) + 1

    def take_back(self, offset: int) -> None:
        """The reverse of `lend`, once for each."""
        self._lent[offset] -= 1
        if not self._lent[offset]:
            del self._lent[offset]
            if offset in self._doomed:
                del self._doomed[offset]
                self.free(offset)

    def free(self, offset: int) -> None:
        """Give back the block that starts at `offset`, now or when nobody reads it any more.

        Raises UnknownBlockError if there is none.
        """
        if offset in self._lent and offset not in self._doomed:
            self._doomed[offset] = None
            return
        if offset in self._doomed or offset not in self._blocks:
            raise UnknownBlockError(offset)
        size = self._blocks.pop(offset)
        self._used -= size
        start, end = offset, offset + size
        before = self._ends.get(start)
        if before is not None:
            self._remove_gap(before)
            start = before
        after = self._starts.get(end)
        if after is not None:
            self._remove_gap(end)
            end += after
        self._add_gap(start, end)

    def check(self) -> None:
        """Raise AssertionError naming the first broken invariant; costs O(n log n), for tests and the simulator."""
        by_start = sorted((start, size) for size, start in self._gaps)
        _require(self._gaps == sorted(self._gaps), "gaps are sorted by size and start")
        _require(by_start == sorted(self._starts.items()), "the index by start holds every gap")
        ends = sorted((start + size, start) for start, size in by_start)
        _require(ends == sorted(self._ends.items()), "the index by end holds every gap")
        _require(self._used == sum(self._blocks.values()), "used is the sum of the blocks")
        _require(self._high_water <= self._capacity, "the prefix lies inside the range")
        position, was_gap = 0, False
        pieces = sorted([(s, n, False) for s, n in self._blocks.items()] + [(s, n, True) for s, n in by_start])
        for start, size, is_gap in pieces:
            _require(start == position, f"blocks and gaps tile the touched prefix (at {position})")
            _require(size > 0 and size % self._align == 0, f"sizes are multiples of the alignment (at {start})")
            _require(not (was_gap and is_gap), f"gaps that meet are joined (at {start})")
            if not is_gap and size >= BIG:
                _require(start % PAGE == 0 and size % PAGE == 0, f"big blocks are made of whole pages (at {start})")
            position, was_gap = start + size, is_gap
        _require(position == self._high_water, "blocks and gaps end at the high-water mark")
        _require(self._lent.keys() <= self._blocks.keys(), "what is lent is a block")
        _require(self._doomed.keys() <= self._lent.keys(), "what is freed and a block is lent")

    def _fitted(self, size: int) -> tuple[int, int]:
        """The bytes that a block for `size` bytes takes, and of what its start is a multiple."""
        size = -(-size // self._align) * self._align or self._align
        if size < BIG:
            return size, self._align
        unit = max(PAGE, self._align)
        return -(-size // unit) * unit, unit

    def _take_touched(self, size: int, unit: int) -> int | None:
        gaps = self._gaps
        index = bisect_left(gaps, (size, 0))
        if unit > self._align:
            index = self._first_holding(index, size, unit)
        if index >= len(gaps):
            return None
        length, start = gaps.pop(index)
        del self._starts[start], self._ends[start + length]
        offset = -(-start // unit) * unit
        if offset > start:
            self._add_gap(start, offset)
        if offset + size < start + length:
            self._add_gap(offset + size, start + length)
        return offset

    def _first_holding(self, index: int, size: int, unit: int) -> int:
        """Index of the best gap from `index` on that holds `size` bytes at a multiple of `unit`, else len(gaps)."""
        gaps = self._gaps
        for near in range(index, min(index + _NEAR_MISSES_MAX, len(gaps))):
            length, start = gaps[near]
            if -start % unit + size <= length:
                return near
        return bisect_left(gaps, (size + unit - self._align, 0), min(index + _NEAR_MISSES_MAX, len(gaps)))

    def _take_fresh(self, size: int, unit: int) -> int | None:
        start = self._fresh_start()
        offset = -(-start // unit) * unit
        if offset + size > self._capacity:
            return None
        if start < self._high_water:
            self._remove_gap(start)
        if offset > start:
            self._add_gap(start, offset)
        end = offset + size
        if end < self._high_water:  # the last gap alone holds it, but lay beyond the near misses that were looked at
            self._add_gap(end, self._high_water)
        else:
            self._high_water = end
        return offset

    def _fresh_start(self) -> int:
        """Where a block that reaches into fresh bytes starts: at the gap that borders on them, if there is one."""
        return self._ends.get(self._high_water, self._high_water)

    def _add_gap(self, start: int, end: int) -> None:
        insort(self._gaps, (end - start, start))
        self._starts[start] = end - start
        self._ends[end] = start

    def _remove_gap(self, start: int) -> None:
        size = self._starts.pop(start)
        del self._ends[start + size]
        del self._gaps[bisect_left(self._gaps, (size, start))]


def _require(holds: object, invariant: str) -> None:
    if not holds:
        raise AssertionError(f"arena invariant broken: {invariant}")
