"""Shared memory: what one process writes another reads, and nothing is left behind."""

import gc
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rayd.store import segment as segment_module
from rayd.store.segment import CHUNK, STEP, UNLOCKED_FROM, Segment, SegmentError, Toucher

CAPACITY = 24 << 20
ROOT = Path(segment_module.__file__).parents[2]


@pytest.fixture
def segment() -> Iterator[Segment]:
    with Segment.create(CAPACITY) as made:
        yield made


@pytest.fixture
def file_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Segment]:
    """As on a system without memfd."""
    monkeypatch.delattr(os, "memfd_create")
    with Segment.create(CAPACITY, tmp_path) as made:
        yield made


def touched_bytes(segment: Segment) -> int:
    return os.stat(segment.path).st_blocks * 512


def open_files() -> set[str]:
    return {os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()}


def run_python(program: str, *arguments: str) -> str:
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=60).stdout


READ_AND_ANSWER = """
import sys
from rayd.store.segment import Segment
with Segment.attach(sys.argv[1], int(sys.argv[2])) as segment:
    print(bytes(segment.view(100, 5)).decode())
    segment.copy_in(200, [b"answer"])
"""


def test_another_process_reads_and_writes_the_same_bytes(segment: Segment) -> None:
    segment.copy_in(100, [b"hello"])
    assert run_python(READ_AND_ANSWER, segment.path, str(CAPACITY)) == "hello\n"
    assert segment.view(200, 6) == b"answer"


def test_without_memfd_another_process_opens_a_file(file_segment: Segment) -> None:
    file_segment.copy_in(100, [b"hello"])
    assert run_python(READ_AND_ANSWER, file_segment.path, str(CAPACITY)) == "hello\n"
    assert file_segment.view(200, 6) == b"answer"


def test_the_file_that_stands_in_for_memfd_is_private_and_goes_at_close(file_segment: Segment) -> None:
    file = Path(file_segment.path)
    assert file.stat().st_mode & 0o077 == 0
    file_segment.close()
    assert not file.exists()


def test_closing_an_attached_file_leaves_it_to_its_maker(file_segment: Segment) -> None:
    Segment.attach(file_segment.path, CAPACITY).close()
    assert Path(file_segment.path).exists()


def test_a_folder_too_small_for_the_file_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create")
    with pytest.raises(SegmentError, match=f"{tmp_path} has only .* use a smaller object store"):
        Segment.create(1 << 60, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_lost_its_bytes_raises_instead_of_killing_the_process(file_segment: Segment) -> None:
    os.truncate(file_segment.path, 0)
    with pytest.raises(SegmentError, match="use a smaller object store"):
        file_segment.copy_in(0, [b"x"])


def test_new_memory_costs_nothing_until_it_is_used(segment: Segment) -> None:
    assert touched_bytes(segment) == 0


def test_a_view_shows_later_writes_and_cannot_write(segment: Segment) -> None:
    view = segment.view(64, 3)
    segment.copy_in(64, [b"abc"])
    assert view == b"abc"
    assert view.readonly
    array = np.frombuffer(view, np.uint8)
    with pytest.raises(ValueError, match="WRITEABLE"):
        array.flags.writeable = True


def test_a_writable_view_writes(segment: Segment) -> None:
    segment.view(0, 2, writable=True)[:] = b"hi"
    assert segment.view(0, 2) == b"hi"


def test_a_view_outlives_the_segment_and_the_memory_ends_with_it() -> None:
    before = open_files()
    segment = Segment.create(CAPACITY)
    segment.copy_in(0, [b"still here"])
    view = segment.view(0, 10)
    segment.close()
    segment.close()
    assert bytes(view) == b"still here"
    del view
    gc.collect()
    assert open_files() <= before


@pytest.mark.parametrize(
    "buffer",
    [
        b"",
        b"bytes",
        bytearray(b"bytearray"),
        memoryview(np.arange(5, dtype=np.float64)),
        memoryview(np.arange(12, dtype=np.int32).reshape(3, 4)),
        memoryview(np.empty((0, 4))),
        memoryview(np.arange(1 << 20, dtype=np.uint16)),
    ],
    ids=["empty", "bytes", "bytearray", "floats", "matrix", "empty matrix", "large"],
)
def test_buffers_of_any_kind_arrive_unchanged(segment: Segment, buffer: bytes | bytearray | memoryview) -> None:
    plain = bytes(buffer)
    assert segment.copy_in(128, [buffer]) == 128 + len(plain)
    assert segment.view(128, len(plain)) == plain
    assert segment.compare(128, buffer)


def test_buffers_follow_one_another(segment: Segment) -> None:
    assert segment.copy_in(10, [b"ab", b"", b"cde"]) == 15
    assert segment.view(10, 5) == b"abcde"


def test_buffers_go_to_the_starts_they_are_given(segment: Segment) -> None:
    large = np.full(UNLOCKED_FROM, 7, np.uint8)
    assert segment.copy_in(64, [b"head", memoryview(large)], starts=[0, 64]) == 128 + len(large)
    assert segment.view(64, 64) == b"head" + bytes(60)
    assert segment.compare(128, memoryview(large))


def test_nothing_to_copy_is_no_error(segment: Segment) -> None:
    assert segment.copy_in(5, []) == 5


def test_one_different_byte_is_found(segment: Segment) -> None:
    data = bytearray(os.urandom(3 << 20))
    segment.copy_in(64, [data])
    assert segment.compare(64, data)
    data[-1] ^= 1
    assert not segment.compare(64, data)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(max_size=200), max_size=8), st.integers(0, 4096))
def test_what_was_copied_in_is_read_back(buffers: list[bytes], offset: int) -> None:
    with Segment.create(1 << 16) as segment:
        end = segment.copy_in(offset, buffers)
        assert bytes(segment.view(offset, end - offset)) == b"".join(buffers)


@pytest.mark.parametrize(("offset", "size"), [(-1, 1), (0, CAPACITY + 1), (CAPACITY, 1), (0, -1)])
def test_bytes_outside_the_segment_are_refused(segment: Segment, offset: int, size: int) -> None:
    with pytest.raises(SegmentError, match="outside"):
        segment.view(offset, size)
    with pytest.raises(SegmentError, match="outside"):
        segment.populate(offset, size)


def test_a_buffer_that_reaches_over_the_end_is_refused_whole(segment: Segment) -> None:
    with pytest.raises(SegmentError, match="outside"):
        segment.copy_in(CAPACITY - 4, [b"abc", b"de"])
    with pytest.raises(SegmentError, match="outside"):
        segment.compare(CAPACITY - 1, b"ab")
    assert segment.view(CAPACITY - 4, 4) == bytes(4)


def test_populating_touches_the_range_and_little_more(segment: Segment) -> None:
    segment.populate(CHUNK + 5, 3 * CHUNK)
    assert touched_bytes(segment) == 4 * CHUNK
    segment.populate(0, 0)
    assert touched_bytes(segment) == 4 * CHUNK


def test_populating_keeps_what_is_there(segment: Segment) -> None:
    segment.copy_in(CHUNK, [b"kept"])
    segment.populate(0, CAPACITY)
    assert segment.view(CHUNK, 4) == b"kept"


def test_populating_fills_the_holes_between_populated_chunks(segment: Segment) -> None:
    for chunk in (1, 3, 4):
        segment.populate(chunk * CHUNK, 1)
    segment.populate(0, 7 * CHUNK)
    assert touched_bytes(segment) == 7 * CHUNK


def test_the_end_of_an_uneven_segment_can_be_populated() -> None:
    with Segment.create(CHUNK + 5000) as segment:
        segment.populate(CHUNK, 5000)
        assert touched_bytes(segment) == 8192


def test_only_the_maker_shares_a_segment(segment: Segment) -> None:
    path = segment.path
    with Segment.attach(path, CAPACITY) as attached, pytest.raises(SegmentError, match="only the process that made"):
        _ = attached.path
    segment.close()
    with pytest.raises(SegmentError, match="only the process that made"):
        _ = segment.path


def test_attaching_to_a_process_that_is_gone_says_so(segment: Segment) -> None:
    path = segment.path
    segment.close()
    with pytest.raises(SegmentError, match="the process that made it has ended"):
        Segment.attach(path, CAPACITY)


def test_a_segment_shorter_than_announced_is_refused(segment: Segment) -> None:
    with pytest.raises(SegmentError, match=f"{CAPACITY} bytes, not {CAPACITY + 1}"):
        Segment.attach(segment.path, CAPACITY + 1)


@pytest.mark.parametrize("capacity", [0, -5, 1 << 63, 1 << 62])
def test_a_capacity_no_system_has_is_refused(capacity: int) -> None:
    before = open_files()
    with pytest.raises(SegmentError):
        Segment.create(capacity)
    assert open_files() <= before


def test_a_closed_segment_says_that_it_is_closed(segment: Segment) -> None:
    segment.close()
    with pytest.raises(SegmentError, match="closed"):
        segment.view(0, 1)
    assert repr(segment) == "<Segment 0 bytes, closed>"


def test_the_toucher_touches_up_to_its_goal_in_whole_steps(segment: Segment) -> None:
    toucher = Toucher(segment)
    toucher.want(STEP + 1)
    assert toucher.wait(STEP + 1, timeout_s=30)
    toucher.close()
    assert toucher.touched == touched_bytes(segment) == 2 * STEP


def test_the_toucher_stops_at_the_end_of_the_segment(segment: Segment) -> None:
    toucher = Toucher(segment)
    assert toucher.wait(10 * CAPACITY, timeout_s=30)
    toucher.close()
    assert toucher.touched == CAPACITY


def test_there_is_no_toucher_thread_before_the_first_goal_and_none_after_close(segment: Segment) -> None:
    def running() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name == "rayd-toucher"]

    toucher = Toucher(segment)
    toucher.want(0)
    assert running() == []
    assert toucher.join()
    toucher.want(1)
    assert running() == ["rayd-toucher"]
    assert not toucher.join(timeout_s=0)
    toucher.close()
    assert running() == []
    toucher.want(CAPACITY)
    assert not toucher.wait(CAPACITY)
    assert running() == []


def test_the_toucher_leaves_the_priority_of_other_threads_alone(segment: Segment) -> None:
    before = os.getpriority(os.PRIO_PROCESS, 0)
    toucher = Toucher(segment)
    assert toucher.wait(1, timeout_s=30)
    assert os.getpriority(os.PRIO_PROCESS, 0) == before
    toucher.close()


def test_a_toucher_without_memory_gives_up_with_the_reason(file_segment: Segment) -> None:
    os.truncate(file_segment.path, 0)
    toucher = Toucher(file_segment)
    assert not toucher.wait(1, timeout_s=30)
    assert toucher.join(timeout_s=30)
    assert "use a smaller object store" in str(toucher.failure)
    toucher.close()
