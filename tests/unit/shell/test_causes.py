"""Why a process ended, told from real deaths."""

import os
import signal
from collections.abc import Callable

import pytest

from rayd.shell.causes import CauseFinder, kernel_oom_kills


def death(last_act: Callable[[], object]) -> tuple[int, int]:
    """Wait status and peak memory (KiB) of a child that does this."""
    pid = os.fork()
    if not pid:
        try:
            last_act()
        finally:
            os._exit(99)
    _, status, usage = os.wait4(pid, 0)
    return status, usage.ru_maxrss


def finder() -> CauseFinder:
    return CauseFinder(kernel_oom_kills())


def kill_self(number: int) -> None:
    signal.signal(number, signal.SIG_DFL) if number != signal.SIGKILL else None
    os.kill(os.getpid(), number)
    signal.pause()


@pytest.mark.parametrize("code", [0, 1, 3, 255])
def test_an_exit_is_told_by_its_code(code: int) -> None:
    cause = finder().cause(*death(lambda: os._exit(code)))
    assert (cause["kind"], cause["exit_code"]) == ("exit", code)
    assert cause["text"] == f"its process exited with code {code}"


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGTERM", "SIGABRT", "SIGBUS", "SIGFPE", "SIGKILL", "SIGUSR1"])
def test_a_signal_is_told_by_its_name(name: str) -> None:
    cause = finder().cause(*death(lambda: kill_self(signal.Signals[name])))
    assert (cause["kind"], cause["signal"]) == ("signal", name)
    assert cause["text"] == f"it was ended by {name}"
    assert cause["peak_bytes"] > 1_000_000


def test_a_signal_without_a_name_is_told_by_its_number() -> None:
    number = signal.SIGRTMIN + 3
    cause = finder().cause(*death(lambda: kill_self(number)))
    assert cause["signal"] == f"signal {int(number)}"


def test_a_kill_by_the_kernel_for_lack_of_memory_is_told_with_figures() -> None:
    causes = CauseFinder(kernel_oom_kills() - 1)  # as if the kernel had counted one more since
    status, peak = death(lambda: kill_self(signal.SIGKILL))
    cause = causes.cause(status, peak)
    assert (cause["kind"], cause["signal"], cause["peak_bytes"]) == ("oom", "SIGKILL", peak * 1024)
    assert cause["limit_bytes"] > 0
    assert f"used up to {peak / 1048576:.2f} GiB" in cause["text"]
    assert "let it use less, run fewer at once, or give it memory" in cause["text"]


def test_one_kill_for_lack_of_memory_explains_one_death() -> None:
    causes = CauseFinder(kernel_oom_kills() - 1)
    kinds = [causes.cause(*death(lambda: kill_self(signal.SIGKILL)))["kind"] for _ in range(2)]
    assert kinds == ["oom", "signal"]


def test_a_kill_that_came_before_the_worker_was_started_does_not_explain_its_death() -> None:
    causes = CauseFinder(kernel_oom_kills() - 1)
    status, peak = death(lambda: kill_self(signal.SIGKILL))
    assert causes.cause(status, peak, kills_before=kernel_oom_kills())["kind"] == "signal"
    assert causes.cause(status, peak, kills_before=kernel_oom_kills() - 1)["kind"] == "oom"


def test_other_deaths_are_not_blamed_on_memory() -> None:
    causes = CauseFinder(kernel_oom_kills() - 1)
    assert causes.cause(*death(lambda: kill_self(signal.SIGSEGV)))["kind"] == "signal"
    assert causes.cause(*death(lambda: os._exit(137)))["kind"] == "exit"


def test_workers_that_die_with_their_fork_server_say_how_it_died() -> None:
    status, _ = death(lambda: kill_self(signal.SIGKILL))
    cause = finder().cause_of_server(77, status)
    assert cause["kind"] == "fork_server"
    assert cause["text"] == "the fork server (pid 77) was ended by SIGKILL and took it along"
    status, _ = death(lambda: os._exit(1))
    assert finder().cause_of_server(77, status)["text"].startswith("the fork server (pid 77) exited with code 1")


def test_the_count_of_the_kernel_never_goes_back() -> None:
    first = kernel_oom_kills()
    assert 0 <= first <= kernel_oom_kills()
