"""Nonsense on the daemon's socket: it is refused in words, the daemon lives, and nothing of it stays."""

import contextlib
import os
import random
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest

import ray
from rayd.shell import sessions
from rayd.wire import frame
from rayd.wire import messages as m

from .support import Record, log_of, only_daemon, start_cluster, status, stopping, until, workers

PYTHON = ".".join(map(str, sys.version_info[:3]))
GROWTH_MAX = 64 * 2**20


@pytest.fixture(scope="module")
def victim(_module_sessions: Path) -> Iterator[Record]:
    """One daemon for all of it, which must be as good as new after every test."""
    with stopping(start_cluster()) as record:
        yield record


@pytest.fixture(autouse=True)
def _unharmed(victim: Record) -> Iterator[None]:
    rested(victim)
    before = memory(victim)
    yield
    rested(victim)
    assert memory(victim) - before < GROWTH_MAX
    assert victim.alive()


def rested(record: Record) -> None:
    """Wait until nothing is left of former clients."""

    def rests() -> bool:
        now = status(record)
        return (
            now["demands"] == []
            and now["store"]["used"] == now["store"]["objects"] == now["nodes"][0]["workers"] == 0
            and now["nodes"][0]["available"] == now["nodes"][0]["total"]
            and not workers(record)
        )

    until(rests, saying=lambda: status(record))


def memory(record: Record) -> int:
    """Resident bytes of the daemon without the store, whose pages it touches ahead of their use."""
    with open(f"/proc/{record.pid}/statm") as file:
        _, resident, shared, *_ = map(int, file.read().split())
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")


class Stranger:
    """A client that sends what it likes."""

    def __init__(self, record: Record) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(20)
        self.socket.connect(record.socket)
        self._framer = frame.Framer()
        self._messages: Iterator[Any] = iter(())

    def hello(self, kind: str = "driver", version: int = m.PROTOCOL_VERSION, **info: Any) -> Any:
        """Introduce itself; the answer."""
        self.send((m.HELLO, version, kind, {"pid": os.getpid(), "python": PYTHON, **info}))
        return self.next()

    def send(self, *messages: Any) -> None:
        self.send_bytes(b"".join(msgpack.packb(message, use_bin_type=True) for message in messages))

    def send_bytes(self, data: bytes) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may have heard enough
            self.socket.sendall(data)

    def next(self) -> Any:
        """The next message, None at the end."""
        while True:
            message = next(self._messages, None)
            if message is not None:
                return message
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self._messages = self._framer.feed(data)

    def refusal(self) -> str:
        """Read to the end; why the daemon closed the connection."""
        last = None
        while (message := self.next()) is not None:
            last = message
        assert last is not None, "closed without a word"
        assert last[0] == m.REFUSED, last
        return str(last[1]["message"])

    def answers(self) -> bool:
        """Whether it is still served."""
        self.send((m.RPC, 999_999, "ping", {}))
        while (message := self.next()) is not None:
            if message[0] == m.REPLY and message[1] == 999_999:
                return True
        return False

    def __enter__(self) -> "Stranger":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


HEADERS = {
    "array of 4 billion": b"\xdd\xff\xff\xff\xff",
    "map of 4 billion": b"\xdf\xff\xff\xff\xff",
    "array of arrays of 4 billion": b"\x92\xdd\x0f\xff\xff\xff\xdd\x0f\xff\xff\xff",
}
GARBAGE = {
    "http": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "zeros": bytes(1000),
    "ones": b"\xff" * 1000,
    "never used": b"\xc1",
    "no array": msgpack.packb({"tag": 1}),
    "empty array": msgpack.packb([]),
    "unknown tag": msgpack.packb([1000]),
    "tag of a daemon": msgpack.packb([m.WELCOME, {}]),
    "text as tag": msgpack.packb(["HELLO"]),
    "list as tag": msgpack.packb([[1]]),
    "too few fields": msgpack.packb([m.HELLO]),
    "too many fields": msgpack.packb([m.HELLO, 1, "driver", {}, 1]),
    "wrong fields": msgpack.packb([m.HELLO, "1", "driver", {}]),
    "map with a map as key": b"\x94\x01\x01\xa6driver\x81\x80\x01",
    "text that is none": b"\x94\x01\x01\xa4\xff\xff\xff\xff\x80",
    "deep": b"\x91" * 60_000,
}


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_refused_with_a_line_in_the_log(victim: Record, data: bytes) -> None:
    for introduced in (False, True):
        before = len(log_of(victim))
        with Stranger(victim) as stranger:
            if introduced:
                assert stranger.hello()[0] == m.WELCOME
            stranger.send_bytes(data)
            assert stranger.refusal().startswith("The daemon closed this connection: ")
        new = log_of(victim)[before:]
        who = f"driver pid {os.getpid()}" if introduced else f"unknown client pid {os.getpid()}"
        assert [line for line in new.splitlines() if "closing connection" in line and who in line], new
        assert "Traceback" not in new


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_lengths_that_cannot_be_are_refused_before_they_cost_memory(victim: Record, header: bytes) -> None:
    for introduced in (False, True):
        with Stranger(victim) as stranger:
            if introduced:
                assert stranger.hello()[0] == m.WELCOME
            before = memory(victim)
            stranger.send_bytes(header + bytes(60_000))
            assert "The daemon closed this connection" in stranger.refusal()
            assert memory(victim) - before < GROWTH_MAX


@pytest.mark.parametrize("head", [b"\xc6", b"\xdb", b"\xc9"], ids=["bytes", "text", "extension"])
def test_a_stranger_may_not_send_more_than_an_introduction(victim: Record, head: bytes) -> None:
    with Stranger(victim) as stranger:
        stranger.send_bytes(b"\x94\x01\x01\xa6driver" + head + b"\xff\xff\xff\xff" + bytes(2**20))
        assert "size limit" in stranger.refusal()


@pytest.mark.parametrize("length", [0, 1, 5, 40])
def test_a_client_that_breaks_off_is_forgotten(victim: Record, length: int) -> None:
    whole = frame.encode((m.HELLO, m.PROTOCOL_VERSION, "driver", {"pid": os.getpid(), "python": PYTHON}))
    clients = [Stranger(victim) for _ in range(50)]
    for client in clients:
        client.send_bytes(whole[:length])
    for client in clients:
        client.socket.close()
    with Stranger(victim) as stranger:
        assert stranger.hello("cli")[0] == m.WELCOME


def test_silent_clients_hinder_nobody(victim: Record) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(Stranger(victim))
        with Stranger(victim) as stranger:
            assert stranger.hello("cli")[0] == m.WELCOME
            assert stranger.answers()


# ---- introductions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["2.7.18", "3.9.1", "3.99.0"])
def test_another_version_of_python_is_refused_naming_both_and_the_remedy(victim: Record, version: str) -> None:
    with Stranger(victim) as stranger:
        stranger.hello(python=version)
        stranger.send((m.RPC, 1, "ping", {}))
    with Stranger(victim) as stranger:
        message = stranger.hello(python=version)
        assert message[0] == m.REFUSED
        text = message[1]["message"]
        assert f"This program runs Python {version}" in text
        assert f"the daemon at {victim.address} runs Python {PYTHON}" in text
        assert f"Run the program with Python {'.'.join(PYTHON.split('.')[:2])}" in text
        assert stranger.next() is None


def test_a_driver_with_another_version_of_python_raises_what_the_daemon_says(
    victim: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.python_version", lambda: "3.9.1")
    with pytest.raises(ConnectionError, match=r"This program runs Python 3\.9\.1, the daemon at .* runs Python 3"):
        ray.init(address=victim.address)
    assert not ray.is_initialized()


@pytest.mark.parametrize("version", [0, m.PROTOCOL_VERSION + 1, -1])
def test_another_version_of_the_protocol_is_refused_with_the_remedy(victim: Record, version: int) -> None:
    with Stranger(victim) as stranger:
        message = stranger.hello(version=version)
        assert message[0] == m.REFUSED
        assert f"the client version {version}. Install the same rayd version on both sides." in message[1]["message"]


@pytest.mark.parametrize("kind", ["worker", "daemon", "", "x" * 10_000])
def test_a_kind_of_client_that_cannot_be_is_refused(victim: Record, kind: str) -> None:
    with Stranger(victim) as stranger:
        message = stranger.hello(kind)
        assert message[0] == m.REFUSED
        assert "cannot connect here" in message[1]["message"]
        assert len(message[1]["message"]) < 500


@pytest.mark.parametrize(
    ("kind", "info"),
    [
        ("driver", {"env_vars": "text"}),
        ("driver", {"env_vars": {"A": 1}}),
        ("driver", {"env_vars": {1: "a"}}),
        ("driver", {"env_vars": {"A=B": "x"}}),
        ("driver", {"env_vars": {"A": "x\0y"}}),
        ("driver", {"env_vars": [1, 2]}),
        ("driver", {"sys_path": 7}),
        ("driver", {"sys_path": [1, None]}),
        ("driver", {"cwd": ["x"]}),
        ("driver", {"namespace": [1]}),
        ("driver", {"python": None}),
        ("driver", {"python": [3, 11]}),
        ("driver", {"pid": "x"}),
        ("logs", {"job": 10**12}),
        ("logs", {"job": "text"}),
        ("logs", {"job": [1, 2]}),
        ("logs", {"job": None}),
    ],
)
def test_introductions_with_nonsense_in_them_are_survived(victim: Record, kind: str, info: dict[str, Any]) -> None:
    before = len(log_of(victim))
    with Stranger(victim) as stranger:
        message = stranger.hello(kind, **info)
        assert message is not None, "closed without a word"
        assert message[0] == m.WELCOME or message[1]["message"]
    assert "Traceback" not in log_of(victim)[before:]


# ---- messages that are well formed -----------------------------------------------------------------------------------

TID = bytes(24)
OID = TID + b"\x01\0\0\0"
AID = bytes(16)
SPEC = {"kind": "task", "name": "f", "function": b"f", "resources": {}, "num_returns": 1}


def spec(**changed: Any) -> Any:
    return (m.SPEC, 1, {**SPEC, **changed})


SUBMIT = (m.SUBMIT, TID, 1, b"", b"", [], [])
NONSENSE: dict[str, list[Any]] = {
    "task of an unknown spec": [SUBMIT],
    "spec without a function": [(m.SPEC, 1, {"name": "f"})],
    "spec with a negative resource": [spec(resources={"CPU": -1.0})],
    "spec with an endless resource": [spec(resources={"CPU": float("inf")})],
    "spec with a resource of text": [spec(resources={"CPU": "x"})],
    "spec with resources of text": [spec(resources="CPU")],
    "spec with a number of results of text": [spec(num_returns="x")],
    "spec with an endless number of results": [spec(num_returns=float("inf"))],
    "spec with a billion results": [spec(num_returns=10**9), SUBMIT],
    "spec with negative results": [spec(num_returns=-7), SUBMIT],
    "spec with keys of several types": [(m.SPEC, 1, {**SPEC, 1: 2, b"x": 3})],
    "spec that is deep": [spec(deep=eval("[" * 90 + "]" * 90))],
    "arguments that are no ids": [spec(), (m.SUBMIT, TID, 1, b"", b"", [1, None, {}], [])],
    "arguments that are lists": [spec(), (m.SUBMIT, TID, 1, b"", b"", [[b"x"]], [[b"y"]])],
    "arguments nobody has": [spec(), (m.SUBMIT, TID, 1, b"", b"x", [OID], [OID])],
    "ids of the wrong length": [spec(), (m.SUBMIT, b"short", 1, b"", b"", [b""], [b""])],
    "a task twice": [spec(), SUBMIT, SUBMIT],
    "actor of an unknown spec": [(m.CREATE, 1, AID, 1, b"", b"", [], [])],
    "actor from a task's spec": [spec(), (m.CREATE, 1, AID, 1, b"", b"", [], [])],
    "an actor twice": [spec(), *[(m.CREATE, 1, AID, 1, b"", b"", [], [])] * 2],
    "actor named by a list": [spec(actor_name=["x"]), (m.CREATE, 1, AID, 1, b"", b"", [], [])],
    "call of an unknown actor": [spec(), (m.CALL, TID, AID, 1, b"", b"", [], [])],
    "negative allocation": [(m.ALLOC, 1, OID, -5)],
    "allocation beyond everything": [(m.ALLOC, 1, OID, 2**62)],
    "allocation twice": [(m.ALLOC, 1, OID, 100), (m.ALLOC, 2, OID, 100)],
    "allocation of what is there": [(m.PUT, OID, b"x", []), (m.ALLOC, 1, OID, 100)],
    "value of what is allocated": [(m.ALLOC, 1, OID, 100), (m.PUT, OID, b"x", [])],
    "seal of nothing": [(m.SEAL, OID, [])],
    "seal that contains nonsense": [(m.ALLOC, 1, OID, 100), (m.SEAL, OID, [1, [], {}])],
    "a value that contains itself": [(m.PUT, OID, b"x", [OID])],
    "hold of nonsense": [(m.HOLD, [1, "x", [], {}, None])],
    "release of nonsense": [(m.RELEASE, [1, "x", [], {}, None])],
    "release of what is not held": [(m.RELEASE, [OID] * 1000)],
    "wish for nonsense": [(m.WANT, [1, "x", [], {}, None])],
    "wish for what nobody has": [(m.WANT, [OID] * 1000)],
    "a driver that blocks": [(m.BLOCKED,)],
    "a driver that resumes": [(m.RESUMED,)],
    "result of a driver": [(m.DONE, TID, m.INLINE, b"", [], 0)],
    "results of a driver": [(m.DONE_MANY, TID, [[0, b"", []]], 0)],
    "item of a driver": [(m.YIELD, TID, 0, m.INLINE, b"", [])],
    "stored item of a driver": [(m.YIELD, TID, 0, m.STORED, OID, [])],
    "fetch of an unknown spec": [(m.FETCH, 1, 10**9)],
    "fetch of a negative spec": [(m.FETCH, 1, -1)],
    "body of nothing": [(m.BODY, 1, TID)],
    "cancel of nothing": [(m.CANCEL, OID, True, True)],
    "kill of nothing": [(m.KILL, AID, True)],
    "stream of nothing": [(m.STREAM_WANT, TID), (m.STREAM_ACK, TID, 5)],
    "unknown method": [(m.RPC, 1, "no such", {})],
    "method without its parameters": [(m.RPC, 1, "get_actor", {})],
    "method with a list as name": [(m.RPC, 1, "get_actor", {"name": [1]})],
    "key of a terabyte": [(m.RPC, 1, "kv_put", {"key": 10**12, "value": 10**12})],
    "key that is a map": [(m.RPC, 1, "kv_get", {"key": {}})],
    "actor by a number": [(m.RPC, 1, "actor_info", {"actor_id": 5})],
    "is_actor_call of a list": [(m.RPC, 1, "is_actor_call", {"oid": []})],
    "exit of a driver": [(m.RPC, 1, "exit_actor", {})],
    "messages of a daemon": [(m.VALUE, OID, 0, b"")],
}


@pytest.mark.parametrize("kind", ["driver", "cli", "logs"])
@pytest.mark.parametrize("messages", NONSENSE.values(), ids=NONSENSE)
def test_well_formed_nonsense_is_answered_or_refused(victim: Record, kind: str, messages: list[Any]) -> None:
    before = len(log_of(victim))
    with Stranger(victim) as stranger:
        assert stranger.hello(kind)[0] == m.WELCOME
        stranger.send(*messages)
        if not stranger.answers():
            assert "closing connection" in log_of(victim)[before:]
    assert "Traceback" not in log_of(victim)[before:]


@pytest.mark.parametrize("seed", range(3))
def test_random_messages_of_the_right_form_are_survived(victim: Record, seed: int) -> None:
    chance = random.Random(seed)
    before = len(log_of(victim))
    for _ in range(60):
        with Stranger(victim) as stranger:
            assert stranger.hello()[0] == m.WELCOME
            stranger.send(*(_random_message(chance) for _ in range(chance.randrange(1, 30))))
            stranger.answers()
    assert "Traceback" not in log_of(victim)[before:]


def _random_message(chance: random.Random) -> Any:
    if chance.random() < 0.2:
        return spec(num_returns=chance.choice([0, 1, 2, -1]), resources={"CPU": float(chance.randrange(4))})
    if chance.random() < 0.1:
        return SUBMIT
    tag = chance.choice([tag for tag in m.SCHEMAS if tag != m.RPC])
    fields = chance.choice(sorted(m.SCHEMAS[tag], key=repr))
    return (tag, *(_random_value(chance, field) for field in fields[1:]))


def _random_value(chance: random.Random, kind: type, depth: int = 0) -> Any:
    ids = [TID, OID, AID, bytes(28), b"", os.urandom(28)]
    if kind is bytes:
        return chance.choice(ids)
    if kind is int:
        return chance.choice([0, 1, 1, 2, 3, -1, 100, 2**31, 2**62])
    if kind is bool:
        return chance.random() < 0.5
    if kind is list:
        kinds = [bytes, bytes, bytes, int, list, dict] if depth < 3 else [bytes]
        return [_random_value(chance, chance.choice(kinds), depth + 1) for _ in range(chance.randrange(4))]
    if kind is dict:
        return {chance.choice(["name", "key", "function"]): _random_value(chance, bytes) for _ in range(2)}
    return {str: "x", float: 0.5, type(None): None}[kind]


# ---- other users -----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("opened", [False, True])
def test_another_user_gets_nowhere(victim: Record, opened: bool) -> None:
    """Neither by the permissions of the socket, nor, should these be opened by hand, by the daemon's own look."""
    nobody = 65534
    path = Path(victim.socket)
    folders = [*list(path.parents)[:-2], path]
    modes = {folder: folder.stat().st_mode for folder in folders}
    reader, writer = os.pipe()
    try:
        if opened:
            for folder in folders:
                folder.chmod(0o777)
        child = os.fork()
        if child == 0:
            os.seteuid(nobody)
            try:
                with Stranger(victim) as stranger:
                    answer = stranger.hello("cli")
                    text = answer[1]["message"] if answer[0] == m.REFUSED else "served"
            except OSError as error:
                text = type(error).__name__
            os.write(writer, text.encode())
            os._exit(0)
        os.waitpid(child, 0)
    finally:
        for folder, mode in modes.items():
            folder.chmod(mode)
        os.close(writer)
    with open(reader, "rb") as file:
        text = file.read().decode()
    assert text == (f"This daemon belongs to user id 0, not {nobody}." if opened else "PermissionError")


# ---- what users write ------------------------------------------------------------------------------------------------


def test_text_that_is_no_unicode_does_not_end_the_session(victim: Record) -> None:
    broken = "\ud800x"
    ray.init(address=victim.address, namespace=broken)
    try:

        @ray.remote
        def echo(value: Any) -> Any:
            return value

        class Named:
            def ready(self) -> bool:
                return True

        for call in (
            lambda: ray.get(echo.options(name=broken).remote(1)),
            lambda: ray.get(ray.remote(Named).options(name=broken).remote().ready.remote()),
            lambda: ray.get_actor(broken),
            lambda: ray.get(echo.options(runtime_env={"env_vars": {"A": broken}}).remote(1)),
        ):
            with contextlib.suppress(ValueError):
                call()
        assert ray.get(echo.remote(broken)) == broken
    finally:
        ray.shutdown()


def test_a_record_that_leads_nowhere_is_no_daemon(ray_tmpdir: Path, victim: Record) -> None:
    assert only_daemon(ray_tmpdir).pid == victim.pid
    with pytest.raises(sessions.NoDaemonError, match=r"no rayd daemon of this machine has the address 127\.0\.0\.1:1"):
        sessions.find("127.0.0.1:1")
