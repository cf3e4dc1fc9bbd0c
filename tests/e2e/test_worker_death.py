"""Workers that die: the exact cause, in words and as attributes, and nobody else is hurt."""

import contextlib
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayTaskError, WorkerCrashedError

from .support import Record, all_gone, exact, status, until, workers

pytestmark = pytest.mark.usefixtures("session")


@ray.remote
def echo(value):
    return value


@ray.remote(num_cpus=0)
class Victim:
    def pid(self):
        return os.getpid()

    def run(self, function):
        return function()

    def wait(self, path):
        path.with_suffix(".began").touch()
        while not path.exists():
            pass


@ray.remote(max_retries=0)
def run(function):
    return function()


def _exit_3() -> None:
    sys.stderr.write("first\nlast words of 3\n")
    os._exit(3)


def _exit_0() -> None:
    os._exit(0)


def _segfault() -> None:
    ctypes.string_at(0)


def _abort() -> None:
    os.abort()


def _kill_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _terminate_itself() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    signal.pause()


def _sys_exit() -> None:
    sys.exit(4)


def _sys_exit_text() -> None:
    sys.exit("no more")


def _sys_exit_plain() -> None:
    sys.exit()


def _exit_in_thread() -> None:
    thread = threading.Thread(target=os._exit, args=(9,))
    thread.start()
    thread.join()


def _close_everything() -> None:
    os.closerange(0, 1000)
    os._exit(8)


DEATHS = [
    (_exit_3, 3, None, "exited with code 3"),
    (_exit_0, 0, None, "exited with code 0"),
    (_exit_in_thread, 9, None, "exited with code 9"),
    (_close_everything, 8, None, "exited with code 8"),
    (_sys_exit, 4, None, "exited with code 4"),
    (_sys_exit_text, 1, None, "exited with code 1"),
    (_sys_exit_plain, 0, None, "exited with code 0"),
    (_segfault, None, "SIGSEGV", "ended by SIGSEGV"),
    (_abort, None, "SIGABRT", "ended by SIGABRT"),
    (_kill_itself, None, "SIGKILL", "ended by SIGKILL"),
    (_terminate_itself, None, "SIGTERM", "ended by SIGTERM"),
]
deaths = pytest.mark.parametrize(("die", "code", "name", "words"), DEATHS, ids=[row[0].__name__ for row in DEATHS])


@deaths
def test_a_task_that_takes_its_worker_along_says_how(
    die: Callable[[], None], code: int | None, name: str | None, words: str
) -> None:
    ref = run.options(name="culprit").remote(die)
    others = [echo.remote(i) for i in range(50)]
    with pytest.raises(WorkerCrashedError) as caught:
        ray.get(ref)
    error = caught.value
    text = exact(error)
    assert words in text
    assert f"The worker (pid {error.pid}) running culprit died: " in text
    assert (error.exit_code, error.signal_name, error.task) == (code, name, "culprit")
    assert ray.get(others) == list(range(50))


@deaths
def test_an_actor_that_takes_its_process_along_says_how(
    die: Callable[[], None], code: int | None, name: str | None, words: str
) -> None:
    actor = Victim.remote()
    pid = ray.get(actor.pid.remote())
    refs = [actor.run.remote(die), actor.pid.remote()]
    for ref in (*refs, actor.pid.remote()):
        with pytest.raises(ActorDiedError) as caught:
            ray.get(ref)
        error = caught.value
        text = exact(error)
        assert words in text
        assert text.startswith(f"The actor Victim ({error.actor_id}) died: ")
        assert (error.exit_code, error.signal_name, error.pid) == (code, name, pid)
        assert not error.actor_init_failed


def test_the_last_lines_of_stderr_are_told_and_kept(session: Record) -> None:
    with pytest.raises(WorkerCrashedError) as caught:
        ray.get(run.remote(_exit_3))
    assert caught.value.stderr_lines[-2:] == ["first", "last words of 3"]
    assert "Its last lines on stderr:\n" in str(caught.value)
    assert "\n  last words of 3" in str(caught.value)


def test_a_death_is_told_also_when_the_folder_of_logs_has_been_cleared_away(session: Record) -> None:
    def die() -> None:
        os.write(2, b"an unfinished line")
        os._exit(3)

    logs = Path(session.session_dir, "logs")
    away = logs.rename(logs.with_name("away"))
    try:
        with pytest.raises(WorkerCrashedError, match="an unfinished line"):
            ray.get(run.remote(die), timeout=20)
    finally:
        away.rename(logs)


def test_the_last_lines_are_those_of_the_task_and_of_nobody_before_it() -> None:
    @ray.remote(num_cpus=2)
    def chatty() -> int:
        print("a line of an earlier task", file=sys.stderr)
        return os.getpid()

    @ray.remote(num_cpus=2, max_retries=0)
    def silent() -> None:
        os._exit(1)

    pids = set(ray.get([chatty.remote() for _ in range(20)]))
    with pytest.raises(WorkerCrashedError) as caught:
        ray.get(silent.remote())
    assert caught.value.pid in pids
    assert caught.value.stderr_lines == []


def test_garbage_and_endless_lines_before_death_make_no_endless_text() -> None:
    def garbage() -> None:
        for descriptor in (1, 2):
            os.write(descriptor, bytes(range(256)) * 20)
            for _ in range(64):
                os.write(descriptor, b"x" * 50_000)
        os.write(2, b"\nthe very end\n")
        os._exit(6)

    with pytest.raises(WorkerCrashedError) as caught:
        ray.get(run.remote(garbage))
    text = exact(caught.value)
    assert "exited with code 6" in text
    assert caught.value.stderr_lines[-1] == "the very end"
    assert len(text) < 20_000
    assert text.isprintable() or all(char.isprintable() or char in "\n\t" for char in text)


def test_a_worker_killed_from_outside_in_the_midst_of_a_task(session: Record, tmp_path: Path) -> None:
    def wait() -> None:
        (tmp_path / "pid").write_text(str(os.getpid()))
        while True:
            pass

    ref = run.remote(wait)
    pid = int(until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text()))
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(WorkerCrashedError) as caught:
        ray.get(ref)
    assert f"The worker (pid {pid}) running run died: it was ended by SIGKILL." in exact(caught.value)


def test_idle_workers_that_are_killed_are_replaced(session: Record) -> None:
    for _ in range(3):
        ray.get([echo.remote(i) for i in range(10)])
        victims = workers(session)
        assert victims
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        assert ray.get([echo.remote(i) for i in range(10)]) == list(range(10))
        assert all_gone(victims)


@pytest.mark.parametrize("retries", [0, 2])
def test_tasks_that_had_finished_are_not_blamed_for_the_one_that_died(retries: int) -> None:
    """Results are sent in batches; those of finished tasks must not go down with the next one's worker."""

    @ray.remote(max_retries=retries)
    def maybe_die(number: int) -> int:
        if number == 700:
            os._exit(1)
        return number

    ray.get([maybe_die.remote(0) for _ in range(200)])  # short, so that many are sent at a time
    failed = []
    for number, ref in enumerate([maybe_die.remote(number) for number in range(1000)]):
        try:
            assert ray.get(ref) == number
        except WorkerCrashedError:
            failed.append(number)
    assert failed == [700]


def test_a_result_does_not_wait_for_the_next_task_on_its_worker(tmp_path: Path) -> None:
    """Results are sent in batches; a long task must not hold back what is already there."""

    @ray.remote(num_cpus=2)
    def wait_at(number: int) -> int:
        if number == 250:
            until((tmp_path / "go").exists)
        return number

    ray.get([wait_at.remote(0) for _ in range(200)])
    refs = [wait_at.remote(number) for number in range(500)]
    assert ray.get(refs[:250]) == list(range(250))
    (tmp_path / "go").touch()
    assert ray.get(refs) == list(range(500))


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_retries_happen_and_are_bounded(tmp_path: Path, retries: int) -> None:
    @ray.remote(max_retries=retries)
    def die() -> None:
        with (tmp_path / "tries").open("ab") as file:
            file.write(b".")
        os._exit(1)

    with pytest.raises(WorkerCrashedError):
        ray.get(die.remote())
    assert (tmp_path / "tries").stat().st_size == retries + 1


def test_an_actor_whose_constructor_dies_says_so_and_is_tried_as_often_as_allowed(tmp_path: Path) -> None:
    @ray.remote(max_restarts=2, max_task_retries=-1)
    class Stillborn:
        def __init__(self) -> None:
            with (tmp_path / "tries").open("ab") as file:
                file.write(b".")
            os._exit(7)

        def call(self) -> None:
            return

    actor = Stillborn.remote()
    with pytest.raises(ActorDiedError) as caught:
        ray.get(actor.call.remote())
    assert "exited with code 7" in exact(caught.value)
    assert caught.value.exit_code == 7
    assert (tmp_path / "tries").stat().st_size == 3


def test_a_call_in_the_hands_of_an_actor_that_died_says_so_and_the_others_wait_for_its_restart(tmp_path: Path) -> None:
    actor = Victim.options(max_restarts=1).remote()
    pid = ray.get(actor.pid.remote())
    running = actor.wait.remote(tmp_path / "never")
    until((tmp_path / "never.began").exists)
    waiting = actor.pid.remote()
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(ActorUnavailableError) as caught:
        ray.get(running)
    assert "ended by SIGKILL" in exact(caught.value)
    assert "this call was in its hands" in exact(caught.value)
    assert caught.value.signal_name == "SIGKILL"
    assert ray.get(waiting) not in {pid, 0}


class Unpicklable:
    def __init__(self) -> None:
        self.lock = threading.Lock()


class UnpicklableError(Exception):
    def __init__(self) -> None:
        super().__init__("the text of it")
        self.lock = threading.Lock()


def _raise_unpicklable() -> None:
    raise UnpicklableError


@pytest.mark.parametrize(
    "call",
    [
        lambda: echo.remote({"outer": [Unpicklable()]}),
        lambda: ray.put({"outer": [Unpicklable()]}),
        lambda: ray.get(run.remote(lambda: {"outer": [Unpicklable()]})),
        lambda: ray.get(run.remote(_raise_unpicklable)),
        lambda: ray.get(Victim.remote().run.remote(lambda: {"outer": [Unpicklable()]})),
        lambda: ray.get(Victim.remote().run.remote(_raise_unpicklable)),
    ],
    ids=["argument", "put", "result", "exception", "result of a method", "exception of a method"],
)
def test_what_cannot_be_pickled_is_named(call: Callable[[], Any]) -> None:
    with pytest.raises((TypeError, RayTaskError)) as caught:
        call()
    notes = getattr(caught.value, "__notes__", [])
    assert "lock" in "\n".join([exact(caught.value), *notes])
    assert ray.get(echo.remote(1)) == 1


def test_a_forked_child_that_returns_from_the_task_disturbs_nobody() -> None:
    @ray.remote
    def fork(number: int) -> int:
        child = os.fork()
        if child:
            os.waitpid(child, 0)
        return number

    assert ray.get([fork.remote(i) for i in range(20)]) == list(range(20))
    assert ray.get([echo.remote(i) for i in range(100)]) == list(range(100))


def test_a_forked_child_of_the_driver_that_drops_its_references_disturbs_nobody() -> None:
    array = ray.put(np.arange(1_000_000))
    result = echo.remote(np.arange(300_000))
    small = echo.remote(5)
    ray.wait([result, small], num_returns=2)
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            del array, result, small
            for _ in range(1000):
                ray.ObjectRef(os.urandom(28))
        os._exit(0)
    os.waitpid(child, 0)
    [ray.put(np.zeros(1_000_000)) for _ in range(5)]
    assert ray.get(array).sum() == sum(range(1_000_000))
    assert ray.get(result).sum() == sum(range(300_000))
    assert ray.get(small) == 5


def test_nothing_of_all_this_is_left(session: Record) -> None:
    def clean() -> bool:
        now = status(session)
        return now["store"]["used"] == 0 and now["demands"] == [] and now["nodes"][0]["available"]["CPU"] == 2

    until(clean, saying=lambda: status(session))
