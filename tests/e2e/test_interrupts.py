"""Ctrl-C in a driver: it always gets through, and the session is as good as before."""

import os
import random
import signal
import threading
from pathlib import Path

import pytest

from rayd.shell import procfs

from .conftest import StartProgram
from .support import Program, all_gone, only_daemon, status, until

WAITS = """
    import asyncio, sys, time
    import ray

    ray.init(num_cpus=2)

    @ray.remote
    def forever():
        time.sleep(1000)

    @ray.remote
    def one(x=1):
        return x

    @ray.remote
    def stream():
        yield 1
        time.sleep(1000)

    ref = forever.remote()

    async def wait():
        await ref

    def next_item():
        for item in stream.options(num_cpus=0).remote():
            pass

    ray.get(one.remote())
    print("ready", flush=True)
    try:
        {call}
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    assert ray.get([one.remote(i) for i in range(100)]) == list(range(100))
    print("usable", flush=True)
    sys.stdin.readline()
"""


@pytest.mark.parametrize(
    "call",
    [
        "ray.get(ref)",
        "ray.get(ref, timeout=1000)",
        "ray.wait([ref])",
        "next_item()",
        "asyncio.run(wait())",
        "ref.future().result()",
    ],
)
def test_ctrl_c_ends_what_waits_and_the_session_goes_on(program: StartProgram, call: str) -> None:
    driver = program(WAITS.format(call=call))
    driver.says("ready")
    _let_it_wait(driver)
    os.killpg(driver.pid, signal.SIGINT)  # as a terminal does
    driver.says("interrupted")
    driver.says("usable")
    driver.hear("")
    driver.succeed()


def test_ctrl_c_that_nobody_catches_ends_the_driver_and_its_cluster(program: StartProgram, ray_tmpdir: Path) -> None:
    driver = program(WAITS.format(call="ray.get(ref)").replace("except KeyboardInterrupt", "except ZeroDivisionError"))
    driver.says("ready")
    everything = procfs.members(only_daemon(ray_tmpdir).pid)
    _let_it_wait(driver)
    os.killpg(driver.pid, signal.SIGINT)
    assert driver.end() == -signal.SIGINT
    assert "KeyboardInterrupt" in driver.stderr
    assert "\n  File" in driver.stderr
    assert "ignored" not in driver.stderr
    assert all_gone(everything)


HAMMERED = """
    import signal, sys
    import ray

    armed = False

    def interrupt(*_):
        global armed
        if armed:
            armed = False
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    ray.init(num_cpus=2)

    @ray.remote
    def one(x):
        return x

    @ray.remote
    class Actor:
        def one(self, x):
            return x

    actor = Actor.remote()
    large = bytes(200_000)
    ray.get([one.remote(0), actor.one.remote(0)])
    print("ready", flush=True)
    caught = rounds = 0
    while rounds < {rounds} or caught < {caught}:  # in the end nothing interrupts, however slow the machine
        try:
            armed = caught < {caught}
            refs = [one.remote(i) for i in range(500)] + [actor.one.remote(i) for i in range(500)]
            assert ray.get(refs) == [*range(500), *range(500)]
            assert ray.get(ray.put(rounds)) == rounds
            assert ray.get(ray.put(large)) == large
            refs = [one.remote(i) for i in range(500)]
            assert not ray.wait(refs, num_returns=500)[1]
            armed = False
            rounds += 1
        except KeyboardInterrupt:
            caught += 1
    print("done", caught, rounds, flush=True)
    sys.stdin.readline()
    refs = [one.remote(i) for i in range(5000)]
    assert ray.get(refs) == list(range(5000))
    refs = None
    print("usable", flush=True)
    sys.stdin.readline()
"""


def test_a_hail_of_ctrl_c_during_many_tasks_breaks_nothing(program: StartProgram, ray_tmpdir: Path) -> None:
    driver = program(HAMMERED.format(rounds=30, caught=100))
    driver.says("ready")
    stop = threading.Event()
    chance = random.Random(1)

    def hail() -> None:
        while not stop.wait(chance.uniform(0.0005, 0.05)):
            driver.signal(signal.SIGINT)

    thread = threading.Thread(target=hail)
    thread.start()
    try:
        driver.says("done", within_s=50)
    finally:
        stop.set()
        thread.join()
    driver.hear("")
    driver.says("usable")
    record = only_daemon(ray_tmpdir)
    until(lambda: status(record)["store"]["objects"] <= 5, saying=lambda: status(record))
    driver.hear("")
    driver.succeed()
    assert driver.stderr == ""


def _let_it_wait(driver: Program) -> None:
    """Until the driver's main thread sleeps."""

    def sleeps() -> bool:
        entry = procfs.stat(driver.pid)
        return entry is not None and entry.state == "S"

    for _ in range(3):
        until(sleeps)
