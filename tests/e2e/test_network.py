"""Programs that reach a cluster over the network: what they can do, and who is not let in."""

import _pickle
import contextlib
import os
import signal
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from rayd.shell import sessions, tls
from rayd.shell.control import Control, ControlError
from rayd.shell.dial import Target
from rayd.shell.porter import KNOCKING_MAX, STRANGERS_MAX
from rayd.shell.sessions import Record
from rayd.wire import frame
from rayd.wire import messages as m
from rayd.wire.secret import READ, SUBMIT, key_of, parse

from .conftest import StartProgram
from .support import log_of, own_address, rayd, start_cluster, status, stopping, until, workers

# Uses everything that works differently without shared memory.
USES_ALL = """
    import asyncio
    import sys

    import numpy as np
    import ray

    ray.init(address=sys.argv[1] if len(sys.argv) > 1 else None)

    @ray.remote
    def total(array, *more):
        print("adding up", len(array))
        return float(array.sum())

    @ray.remote
    def ones(n):
        return np.ones(n)

    @ray.remote
    class Keeper:
        def __init__(self):
            self.kept = []
        def keep(self, refs):
            self.kept += refs
        def total(self):
            return sum(float(ray.get(ref).sum()) for ref in self.kept)

    @ray.remote
    def letters():
        for letter in "abc":
            yield letter * 200_000

    @ray.remote
    def fails():
        raise ValueError("on purpose")

    array = np.arange(3_000_000, dtype=np.float64)
    stored = ray.put(array)
    assert ray.get(total.remote(stored)) == array.sum()
    assert ray.get([total.remote(array) for _ in range(3)]) == [array.sum()] * 3
    back = ray.get(stored)
    assert (back == array).all() and not back.flags.writeable
    assert ray.get(ones.remote(2_000_000)).sum() == 2_000_000
    assert ray.get(ray.put(b"x" * 9_000_000)) == b"x" * 9_000_000
    keeper = Keeper.remote()
    ray.get(keeper.keep.remote([stored]))
    del stored, back
    assert ray.get(keeper.total.remote()) == array.sum()
    assert [ray.get(ref)[0] for ref in letters.remote()] == ["a", "b", "c"]
    try:
        ray.get(fails.remote())
    except ValueError as error:
        assert "on purpose" in str(error)
    ready, waiting = ray.wait([total.remote(array) for _ in range(4)], num_returns=2)
    assert len(ready) == 2

    async def all_at_once():
        return await asyncio.gather(*[ones.remote(200_000) for _ in range(4)])

    assert sum(len(part) for part in asyncio.run(all_at_once())) == 800_000
    print("used all", flush=True)
"""

# Has a large object and a task that does not end.
BUSY = """
    import numpy as np, ray, time
    ray.init()
    kept = ray.put(np.ones(1_000_000))

    @ray.remote
    def rests():
        time.sleep(3600)

    ref = rests.remote()
    print("busy", flush=True)
    ray.get(ref)
"""


@pytest.fixture(params=["within the machine", "through TLS"])
def served(request: pytest.FixtureRequest, ray_tmpdir: Path) -> Iterator[Record]:
    """A daemon of two CPUs, on loopback or not."""
    host = "127.0.0.1" if request.param == "within the machine" else own_address()
    if host is None:
        pytest.skip("this machine has no address but loopback")
    with stopping(start_cluster("--node-ip-address", host)) as record:
        yield record


def target(record: Record) -> Target:
    host, _, port = record.address.rpartition(":")
    return Target("", host, int(port))


def environment(record: Record, token: Path | None = None) -> dict[str, str]:
    """What makes a program come over the network."""
    variables = {"RAY_ADDRESS": f"ray://{record.address}"}
    return variables if token is None else {**variables, "RAYD_TOKEN_FILE": str(token)}


def token_with(folder: Path, text: str) -> Path:
    path = folder / "other_token"
    path.touch(mode=0o600)
    path.write_text(text)
    return path


def secret_of(ray_tmpdir: Path) -> bytes:
    return parse((ray_tmpdir / "token").read_text().strip()).value


# ---- what works ------------------------------------------------------------------------------------------------------


def test_a_program_without_shared_memory_does_all_that_others_do(served: Record, program: StartProgram) -> None:
    running = program(USES_ALL, environment(served))
    shown = running.succeed()
    assert "used all" in shown
    assert "(total pid=" in shown, "lines of workers come over the network, too"
    until(lambda: status(served)["store"]["objects"] == 0 and not workers(served))


def test_a_far_program_that_is_killed_leaves_nothing_in_the_cluster(served: Record, program: StartProgram) -> None:
    running = program(BUSY, environment(served))
    running.says("busy")
    until(lambda: workers(served))
    running.signal(signal.SIGKILL)
    until(lambda: status(served)["store"]["objects"] == 0 and not workers(served))


def test_status_comes_over_the_network(served: Record) -> None:
    with Control(target(served)) as control:
        assert control.rpc("status")["nodes"][0]["total"]["CPU"] == 2


# ---- who is not let in -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (key_of(bytes(32)).token(), "does not know the secret"),
        (key_of(bytes(32), SUBMIT).token(), "does not know the secret"),
        ("", "no token of rayd"),
    ],
    ids=["another cluster's", "another cluster's, scoped", "none"],
)
def test_a_program_with_a_wrong_token_is_told_so(
    served: Record, program: StartProgram, tmp_path: Path, text: str, why: str
) -> None:
    running = program("import ray; ray.init()", environment(served, token_with(tmp_path, text)))
    assert running.end() == 1
    assert "ConnectionError" in running.stderr
    assert why in running.stderr
    with Control(served.socket) as control:
        assert control.rpc("ping") is None


def test_a_program_without_a_token_is_told_where_to_get_one(
    served: Record, program: StartProgram, tmp_path: Path
) -> None:
    running = program("import ray; ray.init()", environment(served, tmp_path / "nothing"))
    assert running.end() == 1
    assert "copy the file ~/.rayd/token" in running.stderr


def test_an_expired_token_is_refused_and_the_log_says_so(
    served: Record, program: StartProgram, tmp_path: Path, ray_tmpdir: Path
) -> None:
    token = key_of(secret_of(ray_tmpdir), SUBMIT, int(time.time()) - 1).token()
    running = program("import ray; ray.init()", environment(served, token_with(tmp_path, token)))
    assert running.end() == 1
    assert "has expired" in running.stderr
    until(lambda: "has expired" in log_of(served))


def test_a_token_to_submit_runs_programs_and_does_not_stop_the_cluster(
    served: Record, program: StartProgram, tmp_path: Path, ray_tmpdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = token_with(tmp_path, key_of(secret_of(ray_tmpdir), SUBMIT, int(time.time()) + 600).token())
    assert "used all" in program(USES_ALL, environment(served, path)).succeed()
    monkeypatch.setenv("RAYD_TOKEN_FILE", str(path))
    with Control(target(served)) as control, pytest.raises(ControlError, match="'admin'"):
        control.rpc("stop")
    assert served.alive()


def test_a_token_to_look_does_nothing_else(
    served: Record, program: StartProgram, tmp_path: Path, ray_tmpdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = token_with(tmp_path, key_of(secret_of(ray_tmpdir), READ).token())
    running = program("import ray; ray.init()", environment(served, path))
    assert running.end() == 1
    assert "'read'" in running.stderr
    monkeypatch.setenv("RAYD_TOKEN_FILE", str(path))
    with Control(target(served)) as control:
        assert control.rpc("status")["nodes"]
        for method in ("kv_put", "stop", "group_create", "get_actor"):
            with pytest.raises(ControlError, match=r"more than looking|'admin'"):
                control.rpc(method, key=b"", value=b"")


def test_a_new_secret_makes_old_tokens_void_without_a_restart(
    served: Record, program: StartProgram, tmp_path: Path, ray_tmpdir: Path
) -> None:
    old = token_with(tmp_path, (ray_tmpdir / "token").read_text())
    inside = program(
        """
        import ray, sys
        ray.init()
        print("in", flush=True)
        sys.stdin.readline()
        assert ray.get(ray.put(5)) == 5
        """,
        environment(served, old),
    )
    inside.says("in")
    shown = rayd("token", "--rotate")
    assert shown.strip() == (ray_tmpdir / "token").read_text().strip()
    outside = program("import ray; ray.init()", environment(served, old))
    assert outside.end() == 1
    assert "does not know the secret" in outside.stderr
    assert "used all" in program(USES_ALL, environment(served)).succeed()
    inside.hear("go on")
    inside.succeed()


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"\x00" * 100,
        os.urandom(4096),
        frame.encode((m.HELLO, m.PROTOCOL_VERSION, "driver", {"pid": 1, "python": "3.11.7"})),
        frame.encode((m.RPC, 1, "stop", {})),
        frame.encode((m.PROOF, bytes(32))),
        frame.encode((m.AUTH, m.PROTOCOL_VERSION, "join", 0, bytes(32))) * 2,
        frame.encode((m.AUTH, m.PROTOCOL_VERSION + 1, "join", 0, bytes(32))),
        b"\xdb\xff\xff\xff\xff" + b"x" * 100_000,
    ],
    ids=["http", "zeros", "noise", "hello", "stop", "proof", "twice", "version", "huge"],
)
def test_what_strangers_say_gets_a_refusal_and_nothing_else(served: Record, said: bytes) -> None:
    where = target(served)
    with socket.create_connection((where.host, where.port), 10) as plain:
        stream: socket.socket = plain
        if not where.host.startswith("127."):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            stream = context.wrap_socket(plain)
        stream.settimeout(10)
        with contextlib.suppress(OSError):
            stream.sendall(said)
        heard = b""
        with contextlib.suppress(OSError):
            while data := stream.recv(65536):
                heard += data
        stream.close()
    tags = [message[0] for message in frame.Framer().feed(heard)]
    assert m.WELCOME not in tags
    assert m.REPLY not in tags
    assert tags[-1:] == [m.REFUSED] or not tags  # noise may have looked like a very long message: then it just ends
    with Control(served.socket) as control:
        assert control.rpc("ping") is None
    until(lambda: "refused " in log_of(served))


def test_strangers_can_neither_keep_others_out_nor_make_the_daemon_grow(served: Record, program: StartProgram) -> None:
    where = target(served)
    crowd = []

    def files() -> int:
        return len(list(Path(f"/proc/{served.pid}/fd").iterdir()))

    before = files()
    try:
        for _ in range(700):
            crowd.append(socket.create_connection((where.host, where.port), 10))  # noqa: PERF401 - all closed below
        until(lambda: "others came meanwhile" in log_of(served))
        until(lambda: files() <= before + STRANGERS_MAX + KNOCKING_MAX)
        assert "used all" in program(USES_ALL, environment(served)).succeed()
    finally:
        for sock in crowd:
            sock.close()


def test_what_is_not_encrypted_gets_no_answer_where_tls_is_spoken(ray_tmpdir: Path, program: StartProgram) -> None:
    host = own_address()
    if host is None:
        pytest.skip("this machine has no address but loopback")
    with stopping(start_cluster("--node-ip-address", host)) as record:
        with socket.create_connection((host, target(record).port), 10) as stream:
            stream.settimeout(10)
            stream.sendall(frame.encode((m.AUTH, m.PROTOCOL_VERSION, "join", 0, bytes(32))))
            with contextlib.suppress(OSError):
                assert m.CHALLENGE not in stream.recv(4096)[1:2]
        until(lambda: "it does not speak TLS" in log_of(record))
        running = program("import ray; ray.init()", {**environment(record), "RAYD_INSECURE_UNENCRYPTED_NETWORK": "1"})
        assert running.end() == 1
        assert "ConnectionError" in running.stderr


def test_who_stands_in_between_is_found_out(ray_tmpdir: Path, program: StartProgram) -> None:
    """A proxy that decrypts with a certificate of its own and passes everything on."""
    host = own_address()
    if host is None:
        pytest.skip("this machine has no address but loopback")
    with stopping(start_cluster("--node-ip-address", host)) as record, in_between(host, target(record)) as port:
        running = program(
            "import ray; ray.init()", {"RAY_ADDRESS": f"ray://{host}:{port}", "RAYD_TOKEN_FILE": f"{ray_tmpdir}/token"}
        )
        assert running.end() == 1
        assert "somebody in between" in running.stderr


@contextlib.contextmanager
def in_between(host: str, real: Target) -> Iterator[int]:
    """Listens like the daemon, and talks to the daemon like a client; yields its port."""
    context, _ = tls.server_context()
    listener = socket.create_server((host, 0))

    def carry() -> None:
        with contextlib.suppress(OSError):
            client, _ = listener.accept()
            with context.wrap_socket(client, server_side=True) as near:
                far = tls.TlsSocket(socket.create_connection((real.host, real.port), 10), 10)
                far.sendall(near.recv(65536))
                near.sendall(far.recv(65536))
                near.recv(65536)
                far.close()

    carrier = threading.Thread(target=carry)
    carrier.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        listener.close()
        carrier.join(20)


# ---- who asks for it -------------------------------------------------------------------------------------------------


def test_a_cluster_of_this_machine_is_not_listened_for_beyond_it(ray_tmpdir: Path) -> None:
    with stopping(start_cluster()) as record:
        listening = [
            connection.laddr.ip
            for connection in psutil.Process(record.pid).net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN
        ]
        assert listening == ["127.0.0.1"]


def test_a_programs_own_cluster_listens_nowhere(own_session: Record) -> None:
    assert not psutil.Process(own_session.pid).net_connections("tcp")


def test_without_encryption_only_by_a_flag_that_says_so(ray_tmpdir: Path, program: StartProgram) -> None:
    host = own_address()
    if host is None:
        pytest.skip("this machine has no address but loopback")
    with stopping(start_cluster("--node-ip-address", host, "--insecure-unencrypted-network")) as record:
        plain = {**environment(record), "RAYD_INSECURE_UNENCRYPTED_NETWORK": "1"}
        assert "used all" in program(USES_ALL, plain).succeed()
        unaware = program("import ray; ray.init()", environment(record))
        assert unaware.end() == 1
        assert "TLS" in unaware.stderr


def test_the_token_is_neither_in_arguments_nor_in_the_environment_of_workers(
    served: Record, program: StartProgram, ray_tmpdir: Path
) -> None:
    running = program(BUSY, environment(served))
    running.says("busy")
    token = (ray_tmpdir / "token").read_text().strip()
    secret = token.rpartition("-")[2].encode()
    for pid in until(lambda: workers(served)):
        for name in ("environ", "cmdline"):
            assert secret not in Path(f"/proc/{pid}/{name}").read_bytes()
    assert secret not in log_of(served).encode()
    assert sessions.find("auto").pid == served.pid


def test_the_daemon_cannot_unpickle_anything(served: Record, program: StartProgram) -> None:
    running = program(
        """
        import ray
        ray.init()

        @ray.remote
        class Actor:
            def echo(self, value):
                return value

        assert ray.get(Actor.remote().echo.remote({"a": [1, 2, 3]})) == {"a": [1, 2, 3]}
        print("worked", flush=True)
        """,
        {"RAY_ADDRESS": f"ray://{served.address}"},
    )
    assert "worked" in running.succeed()
    library = getattr(_pickle, "__file__", None)
    if library is None:
        pytest.skip("this Python has pickle built in: who has imported it cannot be seen from outside")
    assert library not in Path(f"/proc/{served.pid}/maps").read_text(), "the daemon has imported pickle"
