"""The end of a driver, however it comes: what it owned goes at once, what others own stays."""

import os
import signal
from pathlib import Path

import pytest

from rayd.shell import procfs

from .conftest import StartProgram
from .support import PROMISED_S, Record, all_gone, only_daemon, process_titles, status, until, workers

BUSY = """
    import sys, time
    import numpy as np
    import ray

    ray.init(num_cpus=2)

    @ray.remote
    def turn():
        while True:
            pass

    @ray.remote
    def sleep(_):
        time.sleep(1000)

    @ray.remote(num_cpus=0)
    class Actor:
        def wait(self):
            time.sleep(1000)

        def ready(self):
            return True

    array = ray.put(np.zeros(1_000_000))
    actor = Actor.remote()
    ray.get(actor.ready.remote())
    refs = [turn.remote(), sleep.remote(array), actor.wait.remote()]
    refs += [sleep.remote(refs[0]) for _ in range(100)]
    {before}
    print("ready", flush=True)
    ray.get(refs)
"""


def _running(record: Record) -> set[str]:
    return set(process_titles(record).values())


def test_an_embedded_cluster_is_gone_when_its_idle_driver_was_killed(program: StartProgram, ray_tmpdir: Path) -> None:
    driver = program("import ray, sys\nray.init(num_cpus=1)\nprint('ready')\nsys.stdin.read()")
    driver.says("ready")
    record = only_daemon(ray_tmpdir)
    everything = procfs.members(record.pid)
    driver.signal(signal.SIGKILL)
    assert all_gone(everything, within_s=PROMISED_S)
    assert os.listdir(record.session_dir) == ["logs"]


def test_an_embedded_cluster_is_gone_when_its_driver_was_killed_in_the_midst_of_work(
    program: StartProgram, ray_tmpdir: Path
) -> None:
    driver = program(BUSY.format(before=""))
    driver.says("ready")
    record = only_daemon(ray_tmpdir)
    until(
        lambda: _running(record) >= {"ray::turn()", "ray::sleep()", "ray::Actor.wait"}, saying=lambda: _running(record)
    )
    everything = procfs.members(record.pid)
    driver.signal(signal.SIGKILL)
    assert all_gone(everything, within_s=PROMISED_S)
    assert os.listdir(record.session_dir) == ["logs"]


def test_a_child_that_keeps_the_sockets_of_a_killed_driver_keeps_nothing_else(
    program: StartProgram, ray_tmpdir: Path
) -> None:
    # A forked child lets go of what it knows, so it gets copies of everything.
    fork = """import contextlib, os
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            os.dup(int(fd))
    if os.fork() == 0:
        time.sleep(1000)"""
    driver = program(BUSY.format(before=fork))
    driver.says("ready")
    record = only_daemon(ray_tmpdir)
    everything = procfs.members(record.pid)
    driver.signal(signal.SIGKILL)
    assert all_gone(everything, within_s=PROMISED_S)


def test_what_the_tasks_of_a_killed_driver_had_started_goes_with_them(program: StartProgram, ray_tmpdir: Path) -> None:
    driver = program("""
        import subprocess, time
        import ray

        ray.init(num_cpus=1)

        @ray.remote
        def parent():
            print("child", subprocess.Popen(["sleep", "1000"]).pid)
            time.sleep(1000)

        ray.get(parent.remote())
    """)
    child = int(until(lambda: [line for line in driver.stdout.split("\n")[:-1] if "child" in line])[0].split()[-1])
    record = only_daemon(ray_tmpdir)
    driver.signal(signal.SIGKILL)
    assert all_gone([record.pid, child], within_s=PROMISED_S)


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        ("sys.exit(5)", 5),
        ("raise RuntimeError('the end')", 1),
        ("os._exit(7)", 7),
        ("os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
        ("ctypes.string_at(0)", -signal.SIGSEGV),
        ("threading.Thread(target=lambda: ray.get(wait.remote()), daemon=True).start()", 0),
    ],
)
def test_a_cluster_ends_with_its_driver_whatever_ends_that(
    program: StartProgram, ray_tmpdir: Path, ending: str, code: int
) -> None:
    driver = program(f"""
        import ctypes, os, signal, sys, threading, time
        import ray

        ray.init(num_cpus=1)

        @ray.remote
        def wait():
            time.sleep(1000)

        running = wait.remote()
        print("ready", flush=True)
        sys.stdin.readline()
        {ending}
    """)
    driver.says("ready")
    record = only_daemon(ray_tmpdir)
    everything = procfs.members(record.pid)
    driver.hear("go")
    assert driver.end() == code
    assert all_gone(everything, within_s=PROMISED_S)
    assert os.listdir(record.session_dir) == ["logs"]


JOINED = """
    import sys, time
    import numpy as np
    import ray

    ray.init(address="auto", namespace="here")

    @ray.remote(num_cpus=0)
    class Keeper:
        def __init__(self):
            self.value = 0

        def keep(self, value):
            self.value = value

        def kept(self):
            return self.value
"""


def test_a_killed_driver_loses_its_actors_and_objects_and_others_lose_nothing(
    cluster: Record, program: StartProgram
) -> None:
    other = program(
        JOINED
        + """
    mine = Keeper.options(name="other").remote()
    ray.get(mine.keep.remote(41))
    array = ray.put(np.arange(500_000))
    print("ready", flush=True)
    sys.stdin.readline()
    print("kept", ray.get(mine.kept.remote()), int(ray.get(array).sum()), flush=True)
    sys.stdin.readline()
    """
    )
    other.says("ready")
    before = status(cluster)
    driver = program(
        JOINED
        + """
    @ray.remote
    def slow(*args):
        time.sleep(1000)

    @ray.remote
    def parent():
        return ray.get([slow.remote(i) for i in range(20)])

    mine = Keeper.options(name="mine").remote()
    ray.get(mine.keep.remote(ray.put(np.zeros(1_000_000))))
    array = ray.put(np.zeros(1_000_000))
    running = [parent.remote(), slow.remote(array), slow.remote(), slow.remote()]
    waiting = [slow.remote(ref, array) for ref in running]
    ray.wait(waiting, timeout=0)
    ray.get(mine.kept.remote())
    print("ready", flush=True)
    sys.stdin.readline()
    """
    )
    driver.says("ready")
    until(lambda: sum(title == "ray::slow()" for title in process_titles(cluster).values()) >= 2)
    driver.signal(signal.SIGKILL)

    def clean() -> bool:
        now = status(cluster)
        return now["demands"] == [] and now["store"] == before["store"] and now["nodes"] == before["nodes"]

    until(clean, within_s=PROMISED_S, saying=lambda: (before, status(cluster)))
    other.hear("go")
    assert other.says("kept") == f"41 {sum(range(500_000))}"


def test_a_detached_actor_outlives_its_driver_and_the_next_one_finds_it(cluster: Record, program: StartProgram) -> None:
    driver = program(
        JOINED
        + """
    @ray.remote
    def add(x):
        return x + 1

    @ray.remote(num_cpus=0)
    class Busy:
        def __init__(self):
            self.array = ray.put(np.arange(1_000_000))
            self.value = 1

        def work(self):
            self.value = ray.get(add.remote(self.value))
            return self.value, int(ray.get(self.array)[-1])

    stays = Busy.options(name="stays", lifetime="detached").remote()
    goes = Keeper.options(name="goes").remote()
    ray.get([stays.work.remote(), goes.kept.remote()])
    print("ready", flush=True)
    sys.stdin.readline()
    """
    )
    driver.says("ready")
    driver.signal(signal.SIGKILL)
    driver.end()
    until(lambda: status(cluster)["nodes"][0]["actors"] == 1, within_s=PROMISED_S)
    following = program("""
        import ray

        ray.init(address="auto", namespace="here")
        stays = ray.get_actor("stays")
        print("stays", *ray.get(stays.work.remote()))
        try:
            ray.get_actor("goes")
        except ValueError as error:
            print("goes", error)
        ray.kill(stays)
    """)
    following.succeed()
    assert following.says("stays") == "3 999999"
    assert "no actor named 'goes'" in following.says("goes")
    until(lambda: not workers(cluster), saying=lambda: process_titles(cluster))
    assert status(cluster)["store"]["objects"] == 0


def test_a_second_driver_may_use_an_embedded_cluster_and_leave_it_running(
    program: StartProgram, ray_tmpdir: Path
) -> None:
    first = program("""
        import sys
        import ray

        context = ray.init(num_cpus=2)
        echo = ray.remote(lambda x: x)
        print("address", context.address_info["address"], flush=True)
        sys.stdin.readline()
        print("result", ray.get(echo.remote(1)), flush=True)
    """)
    address = first.says("address")
    second = f"""
        import ray

        ray.init(address="{address}")
        echo = ray.remote(lambda x: x)
        print("result", ray.get(echo.remote(2)), flush=True)
    """
    for ending in ("", "import os; os._exit(0)", "ray.shutdown()"):
        guest = program(second + f"\n        {ending}")
        guest.succeed()
        assert guest.says("result") == "2"
    assert only_daemon(ray_tmpdir).address == address
    first.hear("go")
    assert first.says("result") == "1"
    first.succeed()


def test_drivers_that_come_and_go_leave_no_workers(cluster: Record, program: StartProgram) -> None:
    guests = """
        import ray

        for _ in range(10):
            ray.init(address="auto", log_to_driver=False)
            ray.shutdown()
    """
    running = [program(guests) for _ in range(3)]
    for guest in running:
        guest.succeed()
    until(lambda: not workers(cluster), saying=lambda: process_titles(cluster))
    assert status(cluster)["nodes"][0]["workers"] == 0
