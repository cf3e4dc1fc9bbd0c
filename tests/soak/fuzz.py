"""Talk nonsense to a daemon in every way there is, and look whether it stays well.

    python tests/soak/fuzz.py --seconds 600

Strangers, drivers, tools and nodes send messages whose tags, fields and bytes are wrong in ways drawn from a seed. The
exit code is 1 when the daemon dies, stops answering, grows, or writes the traceback of a defect into its log, or when
another cannot go on with its journal after it was killed.
"""

import argparse
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rayd.shell import procfs, sessions
from rayd.shell.control import Control
from rayd.shell.dial import Target, UnreachableError, dial
from rayd.shell.sessions import Record
from rayd.wire import messages as m
from rayd.wire.frame import encode

FRAMES_MAX = 40
# Of the memory that is not the store's, which is touched ahead of its use.
GROWTH_BYTES_MAX = 100 << 20
LOOK_EVERY = 100
KINDS = ("driver", "cli", "logs", "node", "bulk", "worker", "nobody")
METHODS = (
    "ping status nodes get_actor list_named_actors actor_info cluster_resources available_resources exit_actor"
    " is_actor_call group_create group_remove group_find group_table group_notice groups_end kv_put kv_get kv_del"
    " kv_list progress timeline name_take name_drop nonsense"
).split()
KEYS = (
    "name namespace job group_id bundles strategy detached actor_id oid key value prefix node_id info title params"
    " number facts totals job_info function kind resources num_returns max_retries env_vars placement_group bundle"
    " selectors node soft spread actor_name concurrency placement timeout_s"
).split()


class Nonsense:
    """Draws values, messages and bytes.

    Args:
        rng: decides.
    """

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.ids = [rng.randbytes(size) for size in (4, 16, 18, 24, 28, 28, 28)] + [b"\0\0\0\1"]

    def value(self, kind: type | None = None, depth: int = 0) -> Any:
        """Something of a type, or of any."""
        rng = self.rng
        kind = kind or rng.choice([bytes, int, str, bool, list, dict, float, type(None)])
        if kind is bytes:
            return rng.choice([b"", rng.choice(self.ids), rng.randbytes(rng.choice([1, 4, 16, 24, 28, 300]))])
        if kind is int:
            return rng.choice([0, 1, -1, 2, 3, 7, 1 << 20, 1 << 40, (1 << 63) - 1, -(1 << 63), rng.randrange(100)])
        if kind is str:
            return rng.choice(["", "CPU", "PACK", "x" * 300, *KEYS, "\0", "\ud7ff"])
        if kind is bool:
            return rng.random() < 0.5
        if kind is float:
            return rng.choice([0.0, 1.0, -1.0, 0.5, 1e300, float("inf"), float("nan")])
        if kind is list:
            return [self.value(depth=depth + 1) for _ in range(rng.randrange(4) if depth < 4 else 0)]
        if kind is dict:
            names = rng.sample(KEYS, rng.randrange(6) if depth < 4 else 0)
            return {name: self.value(depth=depth + 1) for name in names}
        return None

    def message(self) -> list[Any]:
        """A message, right in its form more often than not."""
        rng = self.rng
        tag = rng.choice(list(m.SCHEMAS)) if rng.random() < 0.95 else rng.randrange(-5, 300)
        forms = sorted(m.SCHEMAS.get(tag, {(int,)}), key=str)
        form = list(rng.choice(forms))[1:]
        if rng.random() < 0.1:
            form = form[: rng.randrange(len(form) + 1)] + [int] * rng.randrange(2)
        fields = [self.value(None if rng.random() < 0.1 else kind) for kind in form]
        if tag == m.RPC and len(fields) == 3:
            fields[1] = rng.choice(METHODS)  # whatever it says, it must not ask the daemon to stop
        return [tag, *fields]

    def frame(self) -> bytes:
        """A message as bytes, sometimes damaged."""
        rng = self.rng
        data = bytearray(encode(self.message()))
        if rng.random() < 0.2:
            for _ in range(rng.randrange(1, 5)):
                data[rng.randrange(len(data))] = rng.randrange(256)
        if rng.random() < 0.05:
            data = data[: rng.randrange(len(data) + 1)]
        if rng.random() < 0.02:
            data += rng.choice([b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\x91" * 3000, rng.randbytes(2000)])
        return bytes(data)


def connect(rng: random.Random, record: Record) -> Any:
    """A connection of a stranger, or of somebody whom the daemon believes."""
    host, _, port = record.address.rpartition(":")
    match rng.randrange(4):
        case 0:
            return socket.create_connection((host, int(port)), 10)
        case 1:
            return dial(Target("", host, int(port)))
        case _:
            return dial(Target(record.socket))


def talk(rng: random.Random, nonsense: Nonsense, record: Record) -> None:
    """One connection from its beginning to its end."""
    with contextlib.closing(connect(rng, record)) as stream:
        stream.settimeout(5)
        with contextlib.suppress(OSError):
            if rng.random() < 0.9:
                info = nonsense.value(dict) if rng.random() < 0.5 else {"pid": 1, "python": sys.version.split()[0]}
                version = m.PROTOCOL_VERSION if rng.random() < 0.95 else rng.randrange(100)
                stream.sendall(encode((m.HELLO, version, rng.choice(KINDS), info)))
            for _ in range(rng.randrange(FRAMES_MAX)):
                stream.sendall(nonsense.frame())
            if rng.random() < 0.5:
                stream.settimeout(0.01)
                stream.recv(65536)


def own_bytes(pid: int) -> int:
    """Anonymous memory of a process."""
    rows = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    (size_kib,) = [row.split()[1] for row in rows if row.startswith("Anonymous:")]
    return int(size_kib) << 10


def complaint(record: Record, before: int) -> str:
    """What is wrong with the daemon; "" if nothing is."""
    try:
        with Control(record.socket, timeout_s=20) as control:
            control.rpc("status")
        grown = own_bytes(record.pid) - before
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what we are looking for
        return f"it does not answer any more: {error!r}"
    if grown > GROWTH_BYTES_MAX:
        return f"it has grown by {grown >> 20} MiB"
    if "Traceback" in Path(record.session_dir, "logs", "rayd.log").read_text(errors="replace"):
        return "its log has a traceback"
    return ""


def fuzz(seconds: float, seed: int, record: Record) -> str:
    """Talk for some time; what is wrong with the daemon then, "" if nothing is."""
    rng = random.Random(seed)
    nonsense = Nonsense(rng)
    before = own_bytes(record.pid)
    end, count = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        with contextlib.suppress(UnreachableError):
            talk(rng, nonsense, record)
        count += 1
        if count % LOOK_EVERY == 0 and (wrong := complaint(record, before)):
            return f"after {count} connections: {wrong}"
    grown = (own_bytes(record.pid) - before) >> 20
    print(f"{count} connections; the daemon has grown by {grown} MiB", flush=True)
    return complaint(record, before)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["RAY_TMPDIR"] = folder
        os.environ["RAYD_TOKEN_FILE"] = f"{folder}/token"
        rayd = [sys.executable, "-m", "rayd"]
        start = [*rayd, "start", "--head", "--num-cpus", "1", "--port", "0", "--journal", f"{folder}/journal"]
        subprocess.run(start, check=True, capture_output=True)
        (record,) = sessions.live(f"{folder}/ray")
        try:
            wrong = fuzz(options.seconds, options.seed, record)
            if not wrong:
                os.kill(record.pid, signal.SIGKILL)
                procfs.wait_gone(record.pid, record.pid_start_time, 20)
                subprocess.run(start, check=True, capture_output=True)
                (record,) = sessions.live(f"{folder}/ray")
                wrong = complaint(record, own_bytes(record.pid))
            if wrong:
                print(f"seed {options.seed}: {wrong}")
                print(Path(record.session_dir, "logs", "rayd.log").read_text(errors="replace")[-4000:])
        finally:
            subprocess.run([*rayd, "stop", "--force"], check=False, capture_output=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
