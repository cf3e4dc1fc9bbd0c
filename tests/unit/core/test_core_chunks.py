"""Which part of a large object is asked of whom."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayd.core.chunks import MIB, Chunks, Parting, bits, listed


@pytest.mark.parametrize(
    ("size", "part_mib", "count"),
    [(8 * MIB, 1, 8), (64 * MIB, 1, 64), (64 * MIB + 1, 2, 33), (100_000_000, 2, 48), (1 << 40, 16, 1 << 16)],
)
def test_a_large_object_has_some_dozens_of_parts(size: int, part_mib: int, count: int) -> None:
    assert Parting().part_bytes(size) == part_mib * MIB
    assert Parting().count(size) == count


@pytest.mark.parametrize("size", [0, 1, 5 * MIB, 8 * MIB - 1])
def test_a_smaller_one_is_one_part(size: int) -> None:
    assert Parting().count(size) == 1
    assert Parting().span(size, 1) == (0, size)


@given(st.integers(0, 500 * MIB))
def test_the_parts_are_the_whole(size: int) -> None:
    at = 0
    for part in range(Parting().count(size)):
        start, count = Parting().span(size, 1 << part)
        assert start == at
        assert Parting().within(size, start, count) == 1 << part
        assert Parting().within(size, start, count + 1) != 1 << part
        at += count
    assert at == size


@given(st.sets(st.integers(0, 200)))
def test_a_set_of_parts_is_a_number(parts: set[int]) -> None:
    assert listed(bits(parts)) == sorted(parts)


@given(st.integers(0, 1 << 30), st.integers(1, 40), st.lists(st.sets(st.integers(0, 39)), max_size=4))
def test_everything_comes_once_from_who_has_it(seed: int, count: int, partly: list[set[int]]) -> None:
    rng = Random(seed)
    chunks = Chunks(count, rng.randrange)
    has = {0: set(range(count)), **{number: {n for n in parts if n < count} for number, parts in enumerate(partly, 1)}}
    for source, parts in has.items():
        if parts:
            chunks.offer(source, parts if source else ())
    came: list[int] = []
    while not chunks.complete:
        source = rng.choice(list(has))
        parts = chunks.claim(source, rng.randrange(1, 4))
        if not parts:
            assert not has[source] - set(came), "it has something that is missing"
            continue
        assert set(listed(parts)) <= has[source]
        assert max(listed(parts)) - min(listed(parts)) == len(listed(parts)) - 1 <= 2, "they follow each other"
        if rng.random() < 0.2:
            chunks.give_up(parts)
        else:
            chunks.arrived(parts)
            came += listed(parts)
    assert sorted(came) == list(range(count))


def test_what_nobody_else_has_comes_first() -> None:
    chunks = Chunks(10, Random(0).randrange)
    chunks.offer(1, ())
    chunks.offer(2, [0, 1, 2, 3, 4, 5, 6])
    assert sorted(listed(chunks.claim(1))[0] for _ in range(3)) == [7, 8, 9]
    assert listed(chunks.claim(1))[0] in range(7)


def test_an_only_source_is_asked_for_parts_in_a_row() -> None:
    chunks = Chunks(10, lambda below: 4)
    chunks.offer(1, ())
    assert [listed(chunks.claim(1, 3)) for _ in range(5)] == [[4, 5, 6], [7, 8, 9], [0, 1, 2], [3], []]


def test_who_has_failed_is_asked_for_nothing() -> None:
    chunks = Chunks(3, Random(0).randrange)
    chunks.offer(1, ())
    parts = chunks.claim(1)
    chunks.leave(1)
    chunks.give_up(parts)
    assert not chunks.claim(1)
    chunks.offer(2, listed(parts))
    assert chunks.claim(2) == parts
    assert not chunks.useful(2)
