"""A head is killed and another begins in its place: what was acknowledged is there, and its nodes have gone on."""

import json
import os
import resource
import signal
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

from e2e.support import LIMIT_S, Program, all_gone, free_port, log_of, rayd, status, stopping, until
from e2e.test_cluster import start, start_and_show, to
from rayd.shell import procfs
from rayd.shell.control import Control, ControlError
from rayd.shell.sessions import Record

StartProgram: TypeAlias = Callable[..., Program]


class Heads:
    """One head after the other at the same address.

    Args:
        arguments: of all of them.
    """

    def __init__(self, *arguments: str) -> None:
        self.port = free_port()
        self.arguments = arguments
        self.said = ""
        self.now = self.begin()

    def begin(self, *arguments: str) -> Record:
        """Start one; what the command has shown is in ``said``."""
        usual = ("--head", "--port", self.port, "--num-cpus", "1")
        self.now, self.said = start_and_show(*usual, *self.arguments, *arguments)
        return self.now

    def kill(self) -> None:
        """End it without notice."""
        os.kill(self.now.pid, signal.SIGKILL)
        assert procfs.wait_gone(self.now.pid, self.now.pid_start_time, LIMIT_S)


@pytest.fixture
def heads(ray_tmpdir: Path) -> Iterator[Heads]:
    """The first head runs."""
    found = Heads()
    with stopping(found.now):
        yield found


@pytest.fixture
def node(heads: Heads) -> Record:
    """Another node, with two CPUs and the resource "far"."""
    return start("--address", heads.now.address, "--num-cpus", "2", "--resources", json.dumps({"far": 3}))


GOES_ON = """
    import ray
    from ray.util.placement_group import placement_group
    from ray.util import get_placement_group

    ray.init(namespace="ns")

    @ray.remote(resources={"far": 1})
    class Counter:
        def __init__(self):
            self.count = 0

        def add(self):
            self.count += 1
            return self.count

    @ray.remote
    def square(x):
        return x * x

    counter = Counter.options(name="counter").remote()
    assert ray.get([counter.add.remote() for _ in range(3)]) == [1, 2, 3]
    group = placement_group([{"far": 1}], name="group")
    assert group.wait(20)
    large = ray.put(bytes(1_000_000))
    print("ready", flush=True)

    input()  # the head has been killed, and there is no other
    assert ray.get([square.remote(n) for n in range(50)], timeout=20) == [n * n for n in range(50)]
    assert ray.get(counter.add.remote(), timeout=20) == 4
    assert len(ray.get(large)) == 1_000_000
    print("went on", flush=True)

    found = ray.get_actor("counter")  # only a head can tell: this waits for one
    assert ray.get(found.add.remote(), timeout=20) == 5
    assert get_placement_group("group").id == group.id
    in_group = Counter.options(placement_group=group, num_cpus=0, name="second").remote()
    assert ray.get(in_group.add.remote(), timeout=20) == 1
    try:
        Counter.options(name="counter").remote()
    except ValueError as error:
        print("refused:", error, flush=True)
    print("done", flush=True)
"""


def test_nodes_go_on_without_a_head_and_come_back_to_the_next(
    heads: Heads, node: Record, program: StartProgram
) -> None:
    running = program(GOES_ON, to(node))
    running.says("ready")
    with Control(heads.now.socket) as control:
        control.rpc("kv_put", namespace="n", key=b"k", value=b"v")
    heads.kill()
    running.hear("killed")
    running.says("went on")
    assert "The head of the cluster at" in until(lambda: running.stderr)
    heads.begin()
    assert "goes on where a head was killed: 1 node(s) expected back, 1 named actor(s)" in heads.said
    running.says("refused: The name 'counter' is taken")
    running.succeed()
    assert "is back after" in running.stderr
    with Control(heads.now.socket) as control:
        assert control.rpc("kv_get", namespace="n", key=b"k") == b"v"
    assert [row["alive"] for row in status(heads.now)["nodes"]] == [True, True]


def test_another_node_gets_a_number_of_its_own_after_that(heads: Heads, node: Record, program: StartProgram) -> None:
    heads.kill()
    heads.begin()
    start("--address", heads.now.address, "--num-cpus", "1", "--resources", json.dumps({"third": 1}))
    running = program(
        """
        import ray
        ray.init()

        @ray.remote
        def where():
            return ray.get_runtime_context().get_node_id()

        homes = {ray.get(where.options(resources={name: 1}).remote(), timeout=20) for name in ("far", "third")}
        assert len(homes) == 2
        assert len(ray.nodes()) == 3
        """,
        to(heads.now),
    )
    running.succeed()


LEAVES_ACTORS = """
    import os
    import numpy as np
    import ray

    ray.init(namespace="ns")

    @ray.remote
    class Service:
        def __init__(self, value, other=None):
            self.value, self.other = value, other

        def get(self):
            return self.value, os.getpid()

        def ask_other(self):
            return ray.get(self.other.get.remote())[0]

    keep = dict(lifetime="detached", namespace="ns")
    base = Service.options(name="base", max_restarts=-1, **keep).remote(41)
    asking = Service.options(name="asking", max_restarts=3, **keep).remote(ray.put(42), base)
    fragile = Service.options(name="fragile", **keep).remote(43)
    large = Service.options(name="large", max_restarts=-1, **keep).remote(bytes(range(250)) * 4_000)
    array = Service.options(name="array", max_restarts=-1, **keep).remote(ray.put(np.arange(1_000_000)))
    plain = Service.options(name="plain", max_restarts=-1).remote(44)
    print("pids", [ray.get(a.get.remote())[1] for a in (base, asking, fragile, plain)], flush=True)
    ray.get([large.get.remote(), array.get.remote()])
"""

FINDS_ACTORS = """
    import numpy as np
    import ray

    ray.init(namespace="ns")
    assert ray.get(ray.get_actor("base").get.remote(), timeout=20)[0] == 41
    asking = ray.get_actor("asking")
    assert ray.get(asking.get.remote(), timeout=20)[0] == 42
    assert ray.get(asking.ask_other.remote(), timeout=20) == 41
    assert ray.get(ray.get_actor("large").get.remote(), timeout=20)[0] == bytes(range(250)) * 4_000
    assert (ray.get(ray.get_actor("array").get.remote(), timeout=20)[0] == np.arange(1_000_000)).all()
    for name in ("fragile", "plain"):
        try:
            print(name, "is there", ray.get_actor(name))
        except ValueError as error:
            print(f"{name}: {error}", flush=True)
    ray.kill(asking)
    new = ray.remote(type("Other", (), {"hello": lambda self: "hello"}))
    assert ray.get(new.options(name="fragile").remote().hello.remote(), timeout=20) == "hello"
"""


def test_detached_actors_begin_anew_with_the_head(heads: Heads, program: StartProgram) -> None:
    leaving = program(LEAVES_ACTORS, to(heads.now))
    leaving.succeed()
    pids = json.loads(leaving.says("pids"))
    heads.kill()
    heads.begin()
    assert "4 detached actor(s) started again, 1 detached actor(s) ended with the former head" in heads.said
    assert all_gone(pids)
    finding = program(FINDS_ACTORS, to(heads.now))
    finding.succeed()
    assert "its max_restarts allow no other start" in finding.says("fragile:")
    assert "There is no actor named 'plain'" in finding.says("plain:")
    # What ends is ended for the head after this one, too; and what was started again can be once more.
    heads.kill()
    heads.begin()
    assert "3 detached actor(s) started again" in heads.said
    assert "ended" not in heads.said


def test_an_orderly_stop_is_the_end_of_the_cluster(heads: Heads, node: Record, ray_tmpdir: Path) -> None:
    with Control(heads.now.socket) as control:
        control.rpc("kv_put", namespace="", key=b"k", value=b"v")
    os.kill(heads.now.pid, signal.SIGTERM)
    assert all_gone([heads.now.pid, node.pid])
    assert "the head of the cluster" in log_of(node)
    assert "received SIGTERM" in log_of(node)
    assert not list(ray_tmpdir.glob("journal*"))
    heads.begin()
    assert "goes on" not in heads.said
    with Control(heads.now.socket) as control:
        assert control.rpc("kv_get", namespace="", key=b"k") is None


def test_a_journal_that_was_named_stays(heads: Heads, ray_tmpdir: Path, program: StartProgram) -> None:
    rayd("stop")
    where = str(ray_tmpdir / "kept" / "journal")
    heads.begin("--journal", where)
    program(LEAVES_ACTORS, to(heads.now)).succeed()
    rayd("stop")
    heads.begin("--journal", where)
    assert "4 detached actor(s) started again" in heads.said
    program(FINDS_ACTORS, to(heads.now)).succeed()


def test_a_journal_has_one_head(heads: Heads, ray_tmpdir: Path) -> None:
    (where,) = ray_tmpdir.glob("journal-*.sqlite")
    shown = rayd("start", "--head", "--port", "0", "--journal", str(where), expect=1)
    assert "in use by another head" in shown
    assert "--journal" in shown


def test_a_damaged_journal_is_refused_and_left_alone(heads: Heads, ray_tmpdir: Path) -> None:
    rayd("stop")
    where = ray_tmpdir / "damaged"
    where.write_bytes(b"this is no journal, but somebody may need it" * 100)
    shown = rayd("start", "--head", "--port", heads.port, "--journal", str(where), expect=1)
    assert f"the journal {where} cannot be used: file is not a database" in shown
    assert where.read_bytes().startswith(b"this is no journal")


def test_what_cannot_be_written_is_refused_and_nothing_else_is_lost(heads: Heads) -> None:
    """The disk is full: files of the head cannot grow any more."""
    _, hard = resource.prlimit(heads.now.pid, resource.RLIMIT_FSIZE)
    with Control(heads.now.socket) as control:
        control.rpc("kv_put", namespace="", key=b"early", value=b"1")
        (journal,) = Path(os.environ["RAY_TMPDIR"]).glob("journal-*-wal")
        resource.prlimit(heads.now.pid, resource.RLIMIT_FSIZE, (journal.stat().st_size, hard))
        with pytest.raises(ControlError, match=r"The head cannot write its journal .* Nothing was changed"):
            control.rpc("kv_put", namespace="", key=b"late", value=bytes(200_000))
        assert control.rpc("kv_get", namespace="", key=b"late") is None
        assert control.rpc("kv_get", namespace="", key=b"early") == b"1"
        assert status(heads.now)["nodes"][0]["alive"]
        resource.prlimit(heads.now.pid, resource.RLIMIT_FSIZE, (hard, hard))
        control.rpc("kv_put", namespace="", key=b"after", value=b"2")
    heads.kill()
    heads.begin()
    with Control(heads.now.socket) as control:
        assert sorted(control.rpc("kv_list", namespace="")) == [b"after", b"early"]


def test_a_torn_tail_is_cut(heads: Heads, ray_tmpdir: Path) -> None:
    with Control(heads.now.socket) as control:
        for number in range(5):
            control.rpc("kv_put", namespace="", key=b"%d" % number, value=bytes(3_000))
    heads.kill()
    (journal,) = ray_tmpdir.glob("journal-*-wal")
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-2_000])
    heads.begin()
    with Control(heads.now.socket) as control:
        assert sorted(control.rpc("kv_list", namespace="")) == [b"0", b"1", b"2", b"3"]


def test_a_node_waits_no_longer_for_a_head_that_refuses_it(heads: Heads, node: Record, ray_tmpdir: Path) -> None:
    heads.kill()
    (journal,) = ray_tmpdir.glob("journal-*.sqlite")
    with sqlite3.connect(journal) as rows:
        rows.execute("DELETE FROM journal WHERE kind = 'node'")
    rows.close()
    heads.begin()
    assert all_gone([node.pid])
    assert "the head has taken this node for dead" in log_of(node)
