"""`priority=` and `ray.init(weight=)`: who is served first when several want the same."""

from collections.abc import Callable
from typing import Any, TypeAlias

import pytest

import ray
from e2e.support import Program, rayd, start_cluster, stopping
from ray.remote_function import RemoteFunction

StartProgram: TypeAlias = Callable[..., Program]

ORDER = """
    import os, sys, time
    import ray

    ray.init()

    @ray.remote
    def hold(path):
        while not os.path.exists(path):
            time.sleep(0.005)

    @ray.remote
    def note(path, name):
        with open(path, "a") as file:
            file.write(name)

    gate, notes = sys.argv[0] + ".gate", sys.argv[0] + ".notes"
    held = hold.remote(gate)
    refs = [note.options(priority=level).remote(notes, name) for level, name in ((-1, "l"), (0, "u"), (10, "h")) * 4]
    ray.get(note.options(num_cpus=0).remote(notes + "0", "all are there"))
    open(gate, "w").close()
    ray.get([held, *refs])
    print("order", open(notes).read(), flush=True)
    for path in (gate, notes, notes + "0"):
        os.unlink(path)
"""


def test_the_higher_priority_runs_first(ray_tmpdir: object, program: StartProgram) -> None:
    with stopping(start_cluster(cpus=1)):
        running = program(ORDER)
        running.succeed()
        assert running.says("order") == "hhhhuuuullll"


WIDE = """
    import time
    import ray
    from ray.util import placement_group

    ray.init()

    @ray.remote
    def small():
        time.sleep(0.05)

    @ray.remote(num_cpus=2)
    def wide():
        return "wide"

    @ray.remote(num_cpus=2)
    class Wide:
        def name(self):
            return "actor"

    def until(ref, stream=[]):
        while not ray.wait([ref], timeout=0)[0]:
            while len(stream) < 8:
                stream.append(small.remote())
            done, _ = ray.wait([ref, *stream])  # what runs for ever lets no small task through
            stream[:] = [small for small in stream if small not in done]
        return ref

    until(small.remote())
    print("began", ray.get(until(wide.remote())), flush=True)
    actor = Wide.remote()
    print("began", ray.get(until(actor.name.remote())), flush=True)
    ray.kill(actor)
    group = placement_group([{"CPU": 1}, {"CPU": 1}])
    until(group.ready())
    print("began group", flush=True)
"""


@pytest.mark.parametrize("far", [False, True])
def test_what_needs_a_whole_node_is_not_kept_waiting_by_small_tasks(
    ray_tmpdir: object, program: StartProgram, far: bool
) -> None:
    with stopping(start_cluster(cpus=1 if far else 2)) as head:
        if far:
            rayd("start", "--address", head.address, "--num-cpus", "2")
        running = program(WIDE)
        running.succeed()
        assert running.stdout.split() == ["began", "wide", "began", "actor", "began", "group"]


SHARES = """
    import sys, time
    import ray

    ray.init(namespace="shares", weight={weight})

    @ray.remote
    def work():
        time.sleep(0.025)

    ray.get(work.remote())
    print("ready", flush=True)
    input()
    done, pending = 0, [work.remote() for _ in range(4)]
    while done < {count}:
        (ready,), pending = ray.wait(pending)
        pending.append(work.remote())
        done += 1
        print(done, flush=True)
"""


def test_programs_share_by_weight(ray_tmpdir: object, program: StartProgram) -> None:
    with stopping(start_cluster(cpus=1)):
        light = program(SHARES.format(weight=1, count=1_000))
        heavy = program(SHARES.format(weight=3.0, count=60))
        for running in (light, heavy):
            running.says("ready")
        light.hear("go")
        heavy.hear("go")
        heavy.succeed()
        counts = [int(word) for word in light.stdout.split() if word.isdecimal()]
        assert 10 <= max(counts) <= 30


@ray.remote
def nothing() -> None: ...


@pytest.mark.parametrize(
    ("value", "error"), [(1.5, TypeError), ("high", TypeError), (True, TypeError), (101, ValueError)]
)
def test_what_is_no_priority_is_refused(value: Any, error: type[Exception]) -> None:
    task: RemoteFunction[[], None] = nothing
    with pytest.raises(error, match="priority"):
        task.options(priority=value)


@pytest.mark.parametrize(("value", "error"), [("2", TypeError), (True, TypeError), (0, ValueError), (-1.0, ValueError)])
def test_what_is_no_weight_is_refused(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="weight"):
        ray.init(weight=value)
