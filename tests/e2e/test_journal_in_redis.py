"""The journal of a head in a real Redis server."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest
import redis

from e2e.support import Program, all_gone, free_port, log_of, rayd, stopping, until
from e2e.test_cluster import start_and_show, to
from e2e.test_head_death import FINDS_ACTORS, LEAVES_ACTORS, Heads
from rayd.shell.control import Control, ControlError

StartProgram: TypeAlias = Callable[..., Program]

SERVER = shutil.which("redis-server")
pytestmark = pytest.mark.skipif(SERVER is None, reason="there is no redis-server; Debian's package is redis-server")


class Server:
    """A Redis server of this test.

    Args:
        folder: where it keeps its data.
        settings: further ones.
    """

    def __init__(self, folder: Path, *settings: str) -> None:
        assert SERVER is not None
        self.url = f"redis://127.0.0.1:{(port := free_port())}/0"
        data = ["--dir", str(folder), "--port", port, "--bind", "127.0.0.1", "--save", ""]
        self.process = subprocess.Popen([SERVER, *data, *settings], stdout=subprocess.DEVNULL)
        self.client = redis.Redis.from_url(self.url)
        until(self._answers)

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.ConnectionError:
            return False

    def close(self) -> None:
        """End it."""
        self.client.close()
        self.process.kill()
        self.process.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """One that has everything on disk before it answers."""
    found = Server(tmp_path, "--appendonly", "yes", "--appendfsync", "always")
    yield found
    found.close()


@pytest.fixture
def heads(server: Server, ray_tmpdir: Path) -> Iterator[Heads]:
    """The first head runs, with its journal there."""
    found = Heads("--journal", server.url)
    with stopping(found.now):
        yield found


def test_a_head_goes_on_from_redis(heads: Heads, server: Server, program: StartProgram) -> None:
    program(LEAVES_ACTORS, to(heads.now)).succeed()
    with Control(heads.now.socket) as control:
        control.rpc("kv_put", namespace="a:b", key=b"k:\0", value=b"v")
        control.rpc("kv_put", namespace="a:b", key=b"gone", value=b"v")
        control.rpc("kv_del", namespace="a:b", key=b"gone")
    heads.kill()
    heads.begin()
    assert "4 detached actor(s) started again" in heads.said
    program(FINDS_ACTORS, to(heads.now)).succeed()
    with Control(heads.now.socket) as control:
        assert control.rpc("kv_get", namespace="a:b", key=b"k:\0") == b"v"
        assert control.rpc("kv_list", namespace="a:b") == [b"k:\0"]


def test_a_head_whose_journal_another_has_taken_over_ends(heads: Heads, server: Server) -> None:
    former = heads.now
    other, _ = start_and_show("--head", "--port", "0", "--num-cpus", "1", "--journal", server.url)
    with Control(former.socket) as control, pytest.raises(ControlError):
        control.rpc("kv_put", namespace="", key=b"k", value=b"v")
    assert all_gone([former.pid])
    assert "another head has taken it over" in log_of(former)
    with Control(other.socket) as control:
        assert control.rpc("kv_get", namespace="", key=b"k") is None
        control.rpc("kv_put", namespace="", key=b"k", value=b"v")


def test_a_server_that_stops_is_reported_and_loses_nothing(heads: Heads, server: Server) -> None:
    with Control(heads.now.socket) as control:
        control.rpc("kv_put", namespace="", key=b"k", value=b"v")
        server.client.config_set("maxmemory", "100kb")
        with pytest.raises(ControlError, match=r"The head cannot write its journal redis://127\.0\.0\.1"):
            control.rpc("kv_put", namespace="", key=b"large", value=bytes(3_000_000))
        server.client.config_set("maxmemory", "0")
        assert control.rpc("kv_get", namespace="", key=b"k") == b"v"
        control.rpc("kv_put", namespace="", key=b"after", value=b"v")


def test_a_server_that_answers_too_early_is_refused(tmp_path: Path, ray_tmpdir: Path) -> None:
    server = Server(tmp_path)
    shown = rayd("start", "--head", "--port", "0", "--journal", server.url, expect=1)
    assert "answers before its data are on disk" in shown
    assert "--appendfsync always" in shown
    server.close()


def test_what_is_no_server_is_named_without_its_password(ray_tmpdir: Path) -> None:
    url = f"redis://user:hidden@127.0.0.1:{free_port()}"
    shown = rayd("start", "--head", "--port", "0", "--journal", url, expect=1)
    assert "the journal redis://127.0.0.1" in shown
    assert "refused" in shown
    assert "hidden" not in shown
