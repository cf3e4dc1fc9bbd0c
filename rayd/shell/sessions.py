"""Session folders: where a daemon's logs and sockets lie, how others find it, and what is cleaned up after it.

A session is one life of one daemon. Layout below the folder of all sessions (``base``, normally /tmp/ray)::

    session_<time>_<pid>/logs/rayd.log   the daemon's stderr; its presence also marks the folder as one of ours
    session_<time>_<pid>/sockets/        Unix sockets (a short folder in /tmp when the path would be too long for one)
    session_<time>_<pid>/daemon.json     the daemon's Record: there from the moment it is ready until it has stopped
    session_latest                       link to the newest session
    rayd_current                         link to the session that ``address="auto"`` means; never an embedded one

A session in another folder (``--temp-dir``) is linked into ``base``, so that there is one place to look. What says
that a daemon lives is its pid together with its start time, never the mere existence of a file; records of other
users are ignored, since to connect is to trust.
"""

import fcntl
import json
import os
import signal
import time
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Final, NamedTuple

from rayd.config import Environment
from rayd.shell import procfs
from rayd.shell.dial import Target

# The kernel keeps 108 bytes for the path of a Unix socket, one of them for the terminating zero.
SOCKET_PATH_BYTES_MAX: Final = 106
# Names of sockets are short; this much is reserved for them when the folder is chosen.
_SOCKET_NAME_BYTES: Final = 20
# Logs of this many ended sessions are kept.
KEPT_SESSIONS: Final = 10
# A younger folder without a record may belong to a daemon that is just starting.
_STARTING_S: Final = 60.0
_RECORD: Final = "daemon.json"
_LATEST: Final = "session_latest"
_CURRENT: Final = "rayd_current"
# The last but one argument of every daemon's process ends like this, the last one is its session's folder.
ENTRY_SUFFIX: Final = "/rayd/shell/entry.py"
_NETWORK: Final = "ray://"
_HERE: Final = ("localhost", "127.0.0.1")
DAEMON_LOG: Final = "rayd.log"
DAEMON_SOCKET: Final = "rayd.sock"


class SessionError(OSError):
    """The session's folder cannot be made; the text says why and what to do."""


class AddressError(ValueError):
    """An address that means no cluster, whatever is running."""


class NoDaemonError(ConnectionError):
    """No live daemon answers to the address; the text says how to start one."""


class Record(NamedTuple):
    """What a running daemon tells about itself.

    Attributes:
        pid: its process, also the number of the POSIX session of everything it started.
        pid_start_time: in clock ticks since boot; with ``pid`` it names exactly one process.
        pid_namespace: in which ``pid`` means something; containers may share the folder of sessions.
        address: "host:port", the name of its cluster.
        socket: path of the Unix socket on which it serves.
        node_id: hex.
        version: of rayd.
        embedded: whether a driver owns it.
        python: version of its interpreter, "3.11.7".
        session_dir: its session's folder.
    """

    pid: int
    pid_start_time: int
    pid_namespace: str
    address: str
    socket: str
    node_id: str
    version: str
    embedded: bool
    python: str
    session_dir: str

    def alive(self) -> bool:
        """Whether the daemon still runs."""
        return procfs.alive(self.pid, self.pid_start_time)


class Session(NamedTuple):
    """The folder of one session."""

    path: str

    @property
    def name(self) -> str:
        """Name of the folder."""
        return os.path.basename(self.path)

    def log(self, name: str) -> str:
        """Path of a log file."""
        return f"{self.path}/logs/{name}"

    def socket(self, name: str) -> str:
        """Path of a Unix socket, short enough for the kernel.

        Args:
            name: file name of at most 20 bytes.
        """
        return f"{self.sockets_dir}/{name}"

    @property
    def sockets_dir(self) -> str:
        """Folder of the sockets; outside the session's folder if that is too deep for socket paths."""
        inside = f"{self.path}/sockets"
        if len(os.fsencode(inside)) + 1 + _SOCKET_NAME_BYTES <= SOCKET_PATH_BYTES_MAX:
            return inside
        return f"/tmp/rayd-{os.getuid()}-{zlib.crc32(os.fsencode(self.path)):08x}"


def create(temp_dir: str) -> Session:
    """Make the folder of a new session, for this user only.

    Raises:
        SessionError: it cannot be made.
    """
    now = time.time()
    stamp = time.strftime("%Y-%m-%d_%H-%M-%S", time.localtime(now))
    session = Session(f"{temp_dir}/session_{stamp}_{int(now % 1 * 1e6):06d}_{os.getpid()}")
    try:
        os.makedirs(temp_dir, mode=0o700, exist_ok=True)
        for folder in (session.path, f"{session.path}/logs", session.sockets_dir):
            os.mkdir(folder, 0o700)
    except OSError as error:
        remedy = "give a folder that you may write with --temp-dir or the variable RAY_TMPDIR"
        raise SessionError(f"cannot make the session folder {error.filename}: {error.strerror}; {remedy}") from None
    return session


@contextmanager
def in_use(session: Session) -> Iterator[None]:
    """Keep away what clears /tmp of old files: systemd-tmpfiles leaves alone what is in a folder with a lock on it
    (tmpfiles.d(5), "age").
    """
    with ExitStack() as stack:
        for folder in {session.path, session.sockets_dir}:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            stack.callback(os.close, descriptor)
            with suppress(OSError):  # not every file system knows locks
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield


def publish(session: Session, record: Record, base: str) -> None:
    """Let others find a daemon that is ready."""
    temporary = f"{session.path}/{_RECORD}.new"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        json.dump(record._asdict(), file)
    os.replace(temporary, f"{session.path}/{_RECORD}")
    parent = os.path.dirname(session.path)
    _link(session.path, f"{parent}/{_LATEST}")
    if parent != base:
        os.makedirs(base, mode=0o700, exist_ok=True)
        _link(session.path, f"{base}/{session.name}")
        _link(session.path, f"{base}/{_LATEST}")
    if not record.embedded:
        _link(session.path, f"{base}/{_CURRENT}")


def retire(session: Session, base: str) -> None:
    """Take back what ``publish`` made known and remove the sockets; the logs stay."""
    _unlink(f"{session.path}/{_RECORD}")
    _remove(session.sockets_dir)
    if os.path.dirname(session.path) != base and os.path.islink(f"{base}/{session.name}"):
        _unlink(f"{base}/{session.name}")
    if _target(f"{base}/{_CURRENT}") == session.path:
        _unlink(f"{base}/{_CURRENT}")
        others = [record for record in live(base) if not record.embedded]
        if others:
            _link(others[-1].session_dir, f"{base}/{_CURRENT}")


def discard(session: Session) -> None:
    """Remove everything of a session whose daemon never ran."""
    _remove(session.sockets_dir)
    _remove(session.path)


def live(base: str) -> list[Record]:
    """Records of the running daemons, oldest session first."""
    return [record for _, record in _recorded(base) if record is not None and record.alive()]


def daemons(base: str) -> list[tuple[int, str]]:
    """Daemon processes with sessions below ``base``, recorded or not: (pid, session folder)."""
    found = []
    for pid in procfs.own_processes():
        arguments = procfs.command_line(pid)
        if len(arguments) > 2 and arguments[-2].endswith(ENTRY_SUFFIX):
            path = arguments[-1]
            if os.path.dirname(path) == base or _target(f"{base}/{os.path.basename(path)}") == path:
                found.append((pid, path))
    return found


def find(address: str | None = None, base: str | None = None, *, embedded: bool = False) -> Record:
    """The running daemon that an address means.

    Args:
        address: None or "auto" for the cluster started last with ``rayd start``; "host:port" for a certain one.
        base: folder of all sessions (default: the environment's).
        embedded: whether, without an address, a running program's own daemon will do if there is no other.

    Raises:
        AddressError: the address has none of these forms.
        NoDaemonError: no such daemon runs here.
    """
    base = base or Environment.read().temp_dir()
    if address is None or address == "auto":
        return _find_current(base, embedded)
    wanted = normalized(address)
    running = live(base)
    for record in running:
        if record.address == wanted:
            return record
    if running:
        others = ", ".join(f"{record.address} (pid {record.pid})" for record in running)
        raise NoDaemonError(f"no rayd daemon of this machine has the address {wanted}; running: {others}")
    raise NoDaemonError(
        f"no rayd daemon runs on this machine, so none has the address {wanted}; start it here with "
        f"`rayd start --head --port {wanted.rpartition(':')[2]}`"
    )


def target(address: str, base: str | None = None, *, embedded: bool = False) -> Target:
    """How to reach the daemon that an address means, on this machine or another.

    Args:
        address: as for ``find``; "ray://host:port" is the same by way of the network, wherever it is.
        base, embedded: as for ``find``.

    Raises:
        AddressError: the address has none of these forms.
        NoDaemonError: it names this machine, and no such daemon runs here.
    """
    if address.startswith(_NETWORK):
        host, _, port = normalized(address.removeprefix(_NETWORK)).rpartition(":")
        return Target("", host, int(port))
    try:
        return Target(find(address, base, embedded=embedded).socket)
    except NoDaemonError:
        host, _, port = address.rpartition(":")
        if address == "auto" or host in _HERE:
            raise
        return Target("", host, int(port))


def clean(base: str) -> list[str]:
    """Remove what daemons left that ended without a chance to clean up, and the logs of all but the newest ended
    sessions.

    Returns:
        Folders of the sessions that were cleaned up after.
    """
    cleaned = []
    ended = []
    for session, record in list(_recorded(base)):
        if record is None:
            ended.append(session)
        elif not record.alive():
            for pid in leftovers(record):
                procfs.kill(pid, signal.SIGKILL)
            retire(session, base)
            ended.append(session)
            cleaned.append(session.path)
    for session in ended[:-KEPT_SESSIONS]:
        if time.time() - _changed_at(session.path) > _STARTING_S:
            discard(session)
    return cleaned


def leftovers(record: Record) -> list[int]:
    """Processes that a dead daemon started and that still run.

    The daemon's pid may have been used again since, even for another session's leader; so a process must also say by
    its arguments that it belongs to us.
    """
    now = procfs.stat(record.pid)
    if now is not None and now.start_time != record.pid_start_time:
        return []
    return [pid for pid in procfs.members(record.pid) if "ray" in " ".join(procfs.command_line(pid))]


def _find_current(base: str, embedded: bool) -> Record:
    current = _read(f"{base}/{_CURRENT}")
    if current is not None and current.pid_namespace == procfs.pid_namespace() and current.alive():
        return current
    running = sorted(live(base), key=lambda record: not record.embedded)
    if running and (embedded or not running[-1].embedded):
        return running[-1]
    how = "start one with `rayd start --head`, or call ray.init() without an address for a cluster of its own"
    if current is not None:
        raise NoDaemonError(f"the rayd daemon at {current.address} (pid {current.pid}) has died; {how}")
    raise NoDaemonError(f"no rayd daemon is running for this user; {how}")


def normalized(address: str) -> str:
    """The address of a daemon in its one form.

    Raises:
        AddressError: it is no host:port.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not host or "/" in host or not port.isdecimal():
        raise AddressError(
            f'address {address!r} means no cluster; give "auto", "local" or the host:port that `rayd start` printed'
        )
    return f"{'127.0.0.1' if host == 'localhost' else host}:{int(port)}"


def _recorded(base: str) -> Iterator[tuple[Session, Record | None]]:
    """Our sessions below ``base``, oldest first, each with its record if there is one."""
    try:
        names = sorted(os.listdir(base))
    except OSError:
        return
    for name in names:
        if not name.startswith("session_") or name == _LATEST:
            continue
        path = f"{base}/{name}"
        if os.path.islink(path):
            path = _target(path) or path
            if not os.path.exists(path):
                _unlink(f"{base}/{name}")  # a session elsewhere that was removed by hand
        record = _read(path)
        if record is not None and record.pid_namespace != procfs.pid_namespace():
            continue  # only its own container can tell whether it lives
        if record is not None or os.path.exists(f"{path}/logs/{DAEMON_LOG}"):
            yield Session(path), record


def _read(session_dir: str) -> Record | None:
    """The record in a session's folder, None if there is none of ours."""
    try:
        with open(f"{session_dir}/{_RECORD}", encoding="utf-8") as file:
            if os.fstat(file.fileno()).st_uid != os.getuid():
                return None
            data = json.load(file)
        return Record(**{name: data[name] for name in Record._fields})
    except (OSError, ValueError, LookupError, TypeError):
        return None  # not there, or not ours to understand


def _changed_at(path: str) -> float:
    """When a folder was last changed, in seconds since the epoch; now, if another process removed it meanwhile."""
    try:
        return os.stat(path).st_mtime
    except FileNotFoundError:
        return time.time()


def _remove(folder: str) -> None:
    import shutil  # 2 ms of every start, and only the end needs it

    shutil.rmtree(folder, ignore_errors=True)


def _target(link: str) -> str | None:
    try:
        return os.readlink(link)
    except OSError:
        return None


def _link(target: str, path: str) -> None:
    temporary = f"{path}.{os.getpid()}"
    _unlink(temporary)
    os.symlink(target, temporary)
    os.replace(temporary, path)


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
