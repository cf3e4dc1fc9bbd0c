"""What a machine offers, read from control files that the tests lay out."""

import os
from pathlib import Path

import pytest

from rayd import machine

GIB = 1024**3


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    folder = tmp_path / "proc"
    (folder / "self").mkdir(parents=True)
    (folder / "meminfo").write_text(f"MemTotal: {16 * 2**20} kB\nMemAvailable: {8 * 2**20} kB\n")
    (folder / "self/cgroup").write_text("0::/pod/app\n")
    return folder


@pytest.fixture
def cgroup(tmp_path: Path) -> Path:
    folder = tmp_path / "cgroup"
    (folder / "pod/app").mkdir(parents=True)
    return folder


def test_without_limits_the_kernels_figure_counts(proc: Path, cgroup: Path) -> None:
    assert machine.available_memory(str(cgroup), str(proc)) == 8 * GIB


def test_a_memory_limit_of_a_group_above_counts_too(proc: Path, cgroup: Path) -> None:
    (cgroup / "pod/memory.max").write_text(f"{2 * GIB}\n")
    (cgroup / "pod/memory.current").write_text(f"{GIB}\n")
    (cgroup / "pod/app/memory.max").write_text("max\n")
    (cgroup / "pod/app/memory.current").write_text("0\n")
    assert machine.available_memory(str(cgroup), str(proc)) == GIB


def test_page_cache_that_can_go_does_not_count_as_used(proc: Path, cgroup: Path) -> None:
    (cgroup / "pod/memory.max").write_text(f"{2 * GIB}\n")
    (cgroup / "pod/memory.current").write_text(f"{2 * GIB}\n")
    (cgroup / "pod/memory.stat").write_text(f"anon 5\ninactive_file {GIB}\n")
    assert machine.available_memory(str(cgroup), str(proc)) == GIB


def test_limits_of_the_first_version_of_groups_count(proc: Path, cgroup: Path) -> None:
    (proc / "self/cgroup").write_text("4:memory:/pod\n1:cpu,cpuacct:/pod\n")
    (cgroup / "memory/pod").mkdir(parents=True)
    (cgroup / "memory/pod/memory.limit_in_bytes").write_text(f"{3 * GIB}\n")
    (cgroup / "memory/pod/memory.usage_in_bytes").write_text(f"{GIB}\n")
    (cgroup / "cpu").mkdir()
    (cgroup / "cpu/cpu.cfs_quota_us").write_text("50000\n")
    (cgroup / "cpu/cpu.cfs_period_us").write_text("100000\n")
    assert machine.available_memory(str(cgroup), str(proc)) == 2 * GIB
    assert machine.usable_cpus(str(cgroup), str(proc)) == 1


def test_memory_that_is_used_up_is_zero_and_never_negative(proc: Path, cgroup: Path) -> None:
    (cgroup / "pod/memory.max").write_text(f"{GIB}\n")
    (cgroup / "pod/memory.current").write_text(f"{2 * GIB}\n")
    assert machine.available_memory(str(cgroup), str(proc)) == 0


def test_usable_cpus_are_those_of_the_affinity_mask(proc: Path, cgroup: Path) -> None:
    assert machine.usable_cpus(str(cgroup), str(proc)) == len(os.sched_getaffinity(0))


def test_a_cpu_quota_counts_in_whole_cpus(proc: Path, cgroup: Path) -> None:
    (cgroup / "pod/cpu.max").write_text("90000 100000\n")
    (cgroup / "pod/app/cpu.max").write_text("max 100000\n")
    assert machine.usable_cpus(str(cgroup), str(proc)) == 1


@pytest.mark.parametrize(
    ("visible", "expected"), [(None, 3), ("", 0), ("-1", 0), ("0,2", 2), ("0,1,2,3,4", 3), ("GPU-aa,GPU-bb", 2)]
)
def test_gpus_are_the_built_in_ones_that_are_visible(proc: Path, visible: str | None, expected: int) -> None:
    for name in "abc":
        (proc / "driver/nvidia/gpus" / name).mkdir(parents=True)
    assert machine.gpu_count(visible, str(proc)) == expected


def test_a_machine_without_gpus_has_none(proc: Path) -> None:
    assert machine.gpu_count(None, str(proc)) == 0
