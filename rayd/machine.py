"""What this machine can offer: usable CPUs, available memory, GPUs. Read once, when a daemon is configured.

A container sees the whole machine in /proc, so the limits of its control group (version 1 or 2, and those of the
groups above it) are applied to what the kernel reports. All figures come from files; the roots are arguments so that
tests can lay out a machine of their own.
"""

import math
import os
from collections.abc import Iterator

CGROUP_ROOT = "/sys/fs/cgroup"
PROC_ROOT = "/proc"


def usable_cpus(cgroup_root: str = CGROUP_ROOT, proc_root: str = PROC_ROOT) -> int:
    """CPUs this process may run on, at least 1: its affinity mask, or its CPU quota in whole CPUs if that is less."""
    usable = len(os.sched_getaffinity(0))
    for directory in _group_directories("cpu", cgroup_root, proc_root):
        quota, period = _cpu_quota(directory)
        if quota > 0 and period > 0:
            usable = min(usable, math.ceil(quota / period))
    return max(1, usable)


def available_memory(cgroup_root: str = CGROUP_ROOT, proc_root: str = PROC_ROOT) -> int:
    """Bytes that can be used without pushing others out: what the kernel calls available, or less inside a
    memory-limited group.
    """
    available = _meminfo(proc_root)
    for directory in _group_directories("memory", cgroup_root, proc_root):
        limit, used, reclaimable = _memory_account(directory)
        if limit is not None:
            available = min(available, limit - used + reclaimable)
    return max(0, available)


def gpu_count(visible: str | None, proc_root: str = PROC_ROOT) -> int:
    """GPUs that may be used.

    Args:
        visible: the value of CUDA_VISIBLE_DEVICES, None when it is not set; it restricts what the driver reports.
    """
    try:
        present = len(os.listdir(f"{proc_root}/driver/nvidia/gpus"))
    except OSError:
        present = 0
    if visible is None:
        return present
    named = [device for device in visible.split(",") if device.strip() and device.strip() != "-1"]
    return min(present, len(named))


def _meminfo(proc_root: str) -> int:
    for line in _text(f"{proc_root}/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _group_directories(controller: str, cgroup_root: str, proc_root: str) -> Iterator[str]:
    """Directories of this process's control group and of all groups above it, innermost first.

    The path in /proc may not exist below the mount inside a container that has no cgroup namespace; the mount's own
    root is then the container's group, and it is always included.
    """
    for line in _text(f"{proc_root}/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base = cgroup_root
        elif controller in controllers.split(","):
            base = f"{cgroup_root}/{controller}"
        else:
            continue
        while path not in ("/", ""):
            if os.path.isdir(base + path):
                yield base + path
            path = os.path.dirname(path)
        yield base


def _cpu_quota(directory: str) -> tuple[int, int]:
    """(quota, period) in microseconds; a quota of -1 is no limit."""
    fields = _text(f"{directory}/cpu.max").split()
    if len(fields) == 2:
        return (_number(fields[0]) or -1, _number(fields[1]) or -1)
    quota = _number(_text(f"{directory}/cpu.cfs_quota_us"))
    period = _number(_text(f"{directory}/cpu.cfs_period_us"))
    return (quota or -1, period or -1)


def _memory_account(directory: str) -> tuple[int | None, int, int]:
    """(limit, used, reclaimable page cache) in bytes; a limit of None is no limit."""
    limit = _number(_text(f"{directory}/memory.max"))
    used = _number(_text(f"{directory}/memory.current"))
    cache_key = "inactive_file"
    if used is None:
        limit = _number(_text(f"{directory}/memory.limit_in_bytes"))
        used = _number(_text(f"{directory}/memory.usage_in_bytes"))
        cache_key = "total_inactive_file"
    if limit is None or used is None:
        return (None, 0, 0)
    reclaimable = 0
    for line in _text(f"{directory}/memory.stat").splitlines():
        key, _, value = line.partition(" ")
        if key == cache_key:
            reclaimable = _number(value) or 0
    return (limit, used, reclaimable)


def _number(text: str) -> int | None:
    """The integer in a control file; None for "max", for what is missing and for what is no number."""
    try:
        return int(text)
    except ValueError:
        return None


def _text(path: str) -> str:
    """A file's text; empty when it does not exist or may not be read, which control files often do not."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
