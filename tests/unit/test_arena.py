"""The allocator: recycled bytes first, nothing lost, nothing handed out twice."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rayd.store.arena import BIG, PAGE, Arena, UnknownBlockError

KIB = 1 << 10


def take(arena: Arena, size: int) -> int:
    offset = arena.allocate(size)
    assert offset is not None
    arena.check()
    return offset


def test_blocks_of_a_fresh_arena_lie_one_after_the_other() -> None:
    arena = Arena(4 * KIB)
    assert [take(arena, size) for size in (1, 64, 65)] == [0, 64, 128]
    assert (arena.used, arena.free_bytes, arena.high_water, len(arena)) == (256, 4 * KIB - 256, 256, 3)


def test_freed_bytes_are_used_again_before_fresh_ones_are_touched() -> None:
    arena = Arena(64 * KIB)
    first = take(arena, KIB)
    take(arena, KIB)
    arena.free(first)
    assert take(arena, 512) == first
    assert arena.high_water == 2 * KIB


def test_the_smallest_gap_that_holds_a_block_is_taken() -> None:
    arena = Arena(64 * KIB)
    large, _, small, _ = (take(arena, size) for size in (4 * KIB, 64, KIB, 64))
    arena.free(large)
    arena.free(small)
    assert take(arena, 1000) == small


def test_of_gaps_of_one_size_the_lowest_is_taken() -> None:
    arena = Arena(64 * KIB)
    low, _, high, _ = (take(arena, KIB) for _ in range(4))
    arena.free(high)
    arena.free(low)
    assert take(arena, KIB) == low


def test_neighbouring_gaps_become_one_whatever_the_order_they_were_freed_in() -> None:
    arena = Arena(3 * KIB)
    blocks = [take(arena, KIB) for _ in range(3)]
    for index in (0, 2, 1):
        arena.free(blocks[index])
        arena.check()
    assert arena.largest_gap == 3 * KIB
    assert take(arena, 3 * KIB) == 0


def test_a_block_too_long_for_the_last_gap_starts_in_it_and_reaches_into_fresh_bytes() -> None:
    arena = Arena(16 * KIB)
    take(arena, KIB)
    last = take(arena, KIB)
    arena.free(last)
    assert arena.largest_gap == 15 * KIB
    assert take(arena, 4 * KIB) == last
    assert arena.high_water == 5 * KIB


def test_what_fits_no_gap_is_refused_and_changes_nothing() -> None:
    arena = Arena(4 * KIB)
    blocks = [take(arena, KIB) for _ in range(4)]
    arena.free(blocks[0])
    arena.free(blocks[2])
    assert arena.free_bytes == 2 * KIB
    assert arena.largest_gap == KIB
    assert arena.allocate(KIB + 1) is None
    assert arena.allocate(1 << 60) is None
    arena.check()
    assert arena.free_bytes == 2 * KIB


def test_big_blocks_start_on_a_page_and_fill_whole_pages() -> None:
    arena = Arena(8 * BIG)
    take(arena, 64)
    big = take(arena, BIG + 1)
    assert big == PAGE
    assert arena.used == 64 + BIG + PAGE == 64 + arena.rounded(BIG + 1)
    assert take(arena, 100) == 64, "the bytes before the page are not lost"


def test_a_block_that_rounding_makes_big_is_treated_as_one() -> None:
    arena = Arena(8 * BIG)
    take(arena, 64)
    assert take(arena, BIG - 1) == PAGE


def test_a_big_block_is_placed_on_a_page_inside_a_recycled_gap() -> None:
    arena = Arena(8 * BIG)
    small = take(arena, 64)
    filler = [take(arena, BIG - 64) for _ in range(2)]
    take(arena, 64)
    for block in (small, *filler):
        arena.free(block)
    arena.free(take(arena, BIG))
    take(arena, 64)  # the lowest bytes, so that the gap starts beside a page
    before = arena.high_water
    assert take(arena, BIG) == PAGE
    assert arena.high_water == before


def test_a_search_past_many_gaps_just_too_short_still_keeps_the_books() -> None:
    # Gaps that start beside a page hold no block of their own length. The last one holds the block, but more gaps that
    # do not come before it than the search looks at; then the block is placed as if it reached into fresh bytes, though
    # it ends before them.
    arena = Arena(64 * BIG)
    gaps = []
    for _ in range(20):
        take(arena, 64)
        gaps.append([take(arena, BIG // 2) for _ in range(2)])
    take(arena, 64)
    aligner = take(arena, PAGE - arena.high_water % PAGE)
    gaps.append([take(arena, BIG // 2), take(arena, BIG // 2 + 128)])
    for halves in gaps:
        for block in halves:
            arena.free(block)
    before = arena.high_water
    assert take(arena, BIG) == aligner + PAGE - aligner % PAGE
    assert arena.high_water == before
    assert take(arena, 128) == before - 128


def test_a_double_free_is_refused_by_name() -> None:
    arena = Arena(KIB)
    block = take(arena, 64)
    arena.free(block)
    with pytest.raises(UnknownBlockError, match="offset 0"):
        arena.free(block)
    with pytest.raises(KeyError):
        arena.free(1)


def test_blocks_without_bytes_have_offsets_of_their_own() -> None:
    arena = Arena(KIB)
    assert [take(arena, 0), take(arena, 0)] == [0, 64]


def test_a_negative_size_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be negative"):
        Arena(KIB).allocate(-1)


def test_an_unaligned_rest_of_the_capacity_stays_unused() -> None:
    arena = Arena(200)
    assert arena.capacity == 192
    assert take(arena, 192) == 0
    assert arena.allocate(1) is None


@pytest.mark.parametrize(("capacity", "alignment"), [(0, 64), (63, 64), (-64, 64), (96, 48), (64, 0)])
def test_an_arena_that_holds_no_block_is_refused(capacity: int, alignment: int) -> None:
    with pytest.raises(ValueError, match="give a"):
        Arena(capacity, alignment)


def test_the_state_is_told_in_one_line() -> None:
    arena = Arena(KIB)
    take(arena, 1)
    assert repr(arena) == "<Arena 64/1024 bytes in 1 blocks, 0 gaps, high water 64>"


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 3 * BIG), min_size=1, max_size=40))
def test_an_emptied_arena_is_one_gap_again(sizes: list[int]) -> None:
    arena = Arena(32 * BIG)
    blocks = [block for size in sizes if (block := arena.allocate(size)) is not None]
    for block in sorted(blocks, key=lambda block: block % 7919):
        arena.free(block)
    arena.check()
    assert (arena.used, arena.largest_gap, len(arena)) == (0, arena.capacity, 0)


class ArenaAgainstAByteMap(RuleBasedStateMachine):
    """Any sequence of calls, compared with a map that says of each cell whether they are taken."""

    CELL = 1 * KIB
    CAPACITY = 5 * BIG

    def __init__(self) -> None:
        super().__init__()
        self.arena = Arena(self.CAPACITY, self.CELL)
        self.blocks: dict[int, int] = {}  # offset -> cells
        self.taken = bytearray(self.CAPACITY // self.CELL)
        self.top = 0

    def longest_free_run(self, end: int) -> int:
        return max(map(len, self.taken[: end // self.CELL].split(b"\1"))) * self.CELL

    @rule(size=st.one_of(st.integers(1, 4 * PAGE), st.integers(BIG - PAGE, 2 * BIG)))
    def allocate(self, size: int) -> None:
        rounded, top = self.arena.rounded(size), self.top
        recycled, largest = self.longest_free_run(top), self.arena.largest_gap
        offset = self.arena.allocate(size)
        slack = PAGE if rounded >= BIG else 0  # what moving the start to a page may cost
        if offset is None:
            assert largest < rounded + slack
            return
        assert offset % (PAGE if rounded >= BIG else self.CELL) == 0
        first, last = offset // self.CELL, (offset + rounded) // self.CELL
        assert not any(self.taken[first:last]), "bytes were handed out twice"
        self.taken[first:last] = b"\1" * (last - first)
        self.blocks[offset] = last - first
        self.top = max(top, offset + rounded)
        assert self.top == top or recycled < rounded + slack, "fresh bytes were touched though recycled ones would do"

    @precondition(lambda self: self.blocks)
    @rule(data=st.data())
    def free(self, data: st.DataObject) -> None:
        offset = data.draw(st.sampled_from(sorted(self.blocks)))
        cells = self.blocks.pop(offset)
        self.arena.free(offset)
        first = offset // self.CELL
        self.taken[first : first + cells] = bytes(cells)

    @invariant()
    def books_agree(self) -> None:
        self.arena.check()
        assert self.arena.used == sum(self.taken) * self.CELL
        assert self.arena.largest_gap == self.longest_free_run(self.CAPACITY)
        assert self.arena.high_water == self.top


TestArenaAgainstAByteMap = ArenaAgainstAByteMap.TestCase
TestArenaAgainstAByteMap.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
