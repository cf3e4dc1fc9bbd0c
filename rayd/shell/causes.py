"""Why a worker died, exactly: from its wait status, the kernel's count of out-of-memory kills, and its peak memory."""

import os
import signal
from dataclasses import dataclass
from typing import Any


def kernel_oom_kills() -> int:
    """How many processes the kernel has killed for lack of memory: in our control group if it can be read, else on the
    machine.
    """
    for path, key in ((_own_cgroup() + "/memory.events", "oom_kill"), ("/proc/vmstat", "oom_kill")):
        try:
            with open(path) as lines:
                for line in lines:
                    name, _, value = line.partition(" ")
                    if name == key:
                        return int(value)
        except OSError:
            continue
    return 0


def _own_cgroup() -> str:
    try:
        with open("/proc/self/cgroup") as lines:
            for line in lines:
                if line.startswith("0::"):
                    return "/sys/fs/cgroup" + line[3:].strip()
    except OSError:
        pass
    return "/sys/fs/cgroup"


def _memory_limit() -> tuple[int, str]:
    try:
        with open(_own_cgroup() + "/memory.max") as file:
            text = file.read().strip()
        if text != "max":
            return int(text), "the limit of its control group"
    except OSError:
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), "the memory of this machine"


@dataclass(slots=True)
class CauseFinder:
    """Tells causes of death apart.

    Attributes:
        oom_kills: the kernel's count when last looked at.
    """

    oom_kills: int

    def cause(self, status: int, peak_kib: int, kills_before: int = -1) -> dict[str, Any]:
        """Exact cause of one death.

        Args:
            status: as waitpid gives it.
            peak_kib: largest resident size of the process, in KiB.
            kills_before: ``kernel_oom_kills`` when the process was started; those explain nothing.
        """
        if os.WIFEXITED(status):
            code = os.WEXITSTATUS(status)
            return {"kind": "exit", "exit_code": code, "text": f"its process exited with code {code}"}
        number = os.WTERMSIG(status)
        try:
            name = signal.Signals(number).name
        except ValueError:
            name = f"signal {number}"
        if number == signal.SIGKILL:
            kills = kernel_oom_kills()
            if kills > max(self.oom_kills, kills_before):
                self.oom_kills = kills
                limit, what = _memory_limit()
                text = (
                    f"the kernel killed it for lack of memory: it had used up to {peak_kib / 1048576:.2f} GiB,"
                    f" {what} is {limit / 2**30:.2f} GiB; let it use less, run fewer at once, or give it memory"
                )
                return {
                    "kind": "oom",
                    "signal": name,
                    "peak_bytes": peak_kib * 1024,
                    "limit_bytes": limit,
                    "text": text,
                }
        return {"kind": "signal", "signal": name, "text": f"it was ended by {name}", "peak_bytes": peak_kib * 1024}

    def cause_of_server(self, pid: int, status: int) -> dict[str, Any]:
        """Exact cause of the deaths of all workers when their fork server has died.

        Args:
            pid: of the fork server.
            status: its own, as waitpid gives it.
        """
        cause = self.cause(status, 0)
        how = cause["text"].removeprefix("it ").removeprefix("its process ")
        return {**cause, "kind": "fork_server", "text": f"the fork server (pid {pid}) {how} and took it along"}
