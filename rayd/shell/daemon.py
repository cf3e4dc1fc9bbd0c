"""The daemon: sockets, processes and timers around one ``Node`` core.

It holds no policy: what happened becomes an event, ``Node.step`` decides, ``_carry_out`` does it. Everything runs on
one loop in one thread, so an event and its effects are never interleaved with another's.
"""

import asyncio
import ctypes
import gc
import os
import platform
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final

import uvloop

import rayd
from rayd import ids
from rayd.config import Config
from rayd.core.effect import (
    Audit,
    CloseConnection,
    Effect,
    Effects,
    FenceAt,
    Fetch,
    Interrupt,
    Joined,
    KillWorker,
    Recovered,
    Report,
    RetireWorker,
    SendPart,
    StartWorker,
    StopDaemon,
    StopFetch,
    Stored,
    TakeBack,
    Write,
)
from rayd.core.event import (
    Connected,
    Disconnected,
    Event,
    Join,
    Linked,
    Received,
    Sent,
    TakenBack,
    Tick,
    WorkerExited,
    WorkerStarted,
)
from rayd.core.node import Node
from rayd.errors import SHUTDOWN, VERSION, Fault, fault
from rayd.shell import sessions
from rayd.shell.connection import Connection, Speaker
from rayd.shell.door import Door
from rayd.shell.errors import StartError
from rayd.shell.fetcher import Fetcher
from rayd.shell.fork_server import ForkServer
from rayd.shell.link import Link
from rayd.shell.porter import Porter
from rayd.shell.workers import Workers
from rayd.store.arena import Arena
from rayd.store.segment import Segment, Toucher
from rayd.wire.auth import Gate
from rayd.wire.messages import DATA, LOG, REPLY, Message

if TYPE_CHECKING:
    from rayd.shell.journal.keeper import JournalKeeper

_PR_SET_CHILD_SUBREAPER: Final = 36
# Fresh store memory is touched this far ahead of the highest byte ever handed out: first touch is some 30 times slower
# than reuse.
TOUCH_AHEAD_BYTES: Final = 256 * 1024 * 1024
# A driver that does not read its workers' output has this much waiting; beyond it lines are counted and dropped.
LOG_BACKLOG_BYTES_MAX: Final = 16 * 1024 * 1024


class Daemon:
    """One running daemon.

    Args:
        config: complete configuration; its session folder exists.
        loop: the event loop it lives on.
    """

    def __init__(self, config: Config, loop: asyncio.AbstractEventLoop) -> None:
        self.config = config
        self.loop = loop
        self.session = sessions.Session(config.session_dir)
        self.node_id = ids.fresh_unique_id()
        self.effects = Effects()
        self.segment = Segment.create(config.object_store_memory)
        self.toucher = Toucher(self.segment)
        self.fetcher = Fetcher(loop, self.segment, self.feed)
        self.arena = Arena(config.object_store_memory)
        self.facts = _facts(config, self.node_id, self.segment, self.session)
        self.node = Node(self.node_id, _resources(config), self.arena, self.effects, self.facts)
        self.workers = Workers(
            loop,
            f"{self.session.path}/logs",
            on_session=self._serve_worker,
            on_forked=lambda wid, pid: self.feed(WorkerStarted(wid, pid)),
            on_exited=lambda wid, cause, err, unread: self.feed(WorkerExited(wid, cause, err, unread)),
            on_lines=self._forward_lines,
        )
        self.stopped: asyncio.Future[str] = loop.create_future()
        self._connections: dict[int, Speaker] = {}
        self.joined: asyncio.Future[int] = loop.create_future()
        self._pidfds: dict[int, int] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._next_conn = 1
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0
        self._dropped: dict[int, int] = {}
        self._touched = 0
        self._journal: JournalKeeper | None = None
        self._recovered: dict[str, int] = {}

    # ---- events in, effects out --------------------------------------------------------------------------------------

    def feed(self, event: Event) -> None:
        """Let the core decide on one event and carry out what it decides."""
        if self.stopped.done():
            return
        try:
            self.node.step(time.monotonic_ns(), event)
        finally:
            self._carry_out()

    def _carry_out(self) -> None:
        effects = self.effects
        while effects.dials or effects.writes or effects.sends or effects.mail or effects.others:
            self._send_out()
            others, effects.others = effects.others, []
            for effect in others:
                # What an earlier effect has led to goes out first: a mailbox that is drained must have got all its mail
                # before, or the wrong tasks would count as taken back.
                self._send_out()
                self._do(effect)
        high_water = self.arena.high_water
        if high_water != self._touched:
            self._touched = high_water
            self.toucher.want(min(high_water + TOUCH_AHEAD_BYTES, self.arena.capacity))
        self._arm()

    def _dial(self) -> None:
        dials, self.effects.dials = self.effects.dials, []
        for conn, address, info in dials:
            link = self._connections[conn] = Link(self, conn, info, unencrypted=self.config.unencrypted)
            self._spawn(link.connect(self.loop, address), f"connect to {address}")

    def _write_parts(self) -> None:
        writes, self.effects.writes = self.effects.writes, []
        for offset, data in writes:
            self.segment.copy_in(offset, [data])

    def _send_out(self) -> None:
        effects = self.effects
        if effects.dials:
            self._dial()
        if effects.writes:
            self._write_parts()
        if effects.sends:
            sends = list(effects.sends.items())
            effects.sends.clear()
            for number, messages in sends:
                connection = self._connections.get(number)
                if connection is not None and messages:
                    connection.send(messages)
        if effects.mail:
            mail = list(effects.mail.items())
            effects.mail.clear()
            for wid, bodies in mail:
                process = self.workers.by_id.get(wid)
                if process is not None:
                    process.mailbox.send(bodies, self.node.state.pool.workers[wid].actor is not None)

    def _do(self, effect: Effect) -> None:
        match effect:
            case StartWorker():
                job = self.node.state.jobs.get(effect.job)
                info = job.info if job is not None else {}
                self.workers.start(effect.worker, info, effect.env, {"omp_threads": 1})
            case KillWorker():
                self.workers.kill(effect.worker)
            case RetireWorker():
                process = self.workers.by_id.get(effect.worker)
                if process is not None:
                    process.mailbox.retire()
            case TakeBack():
                process = self.workers.by_id.get(effect.worker)
                if process is not None:
                    self.node.step(time.monotonic_ns(), TakenBack(effect.worker, process.mailbox.take_back()))
            case Interrupt():
                # The loop writes what was sent at the end of a turn; STOP_TASK should be there before the signal is.
                self.loop.call_soon(self.loop.call_soon, self.workers.interrupt, effect.worker)
            case Write():
                assert self._journal is not None
                if isinstance(effect.value, Stored):  # they may be freed before they are written
                    effect = effect._replace(value=bytes(self.segment.view(*effect.value)))
                self._journal.put(effect)
            case Audit():
                now = time.strftime("%Y-%m-%d %H:%M:%S")
                print(f"{now} audit: {effect.text}", file=sys.stderr, flush=True)
            case Recovered():
                self._recovered = effect.figures
                print(f"going on with a cluster whose head was killed: {effect.figures}", file=sys.stderr, flush=True)
            case FenceAt():
                self.workers.fence_at(effect.due)
            case Joined():
                self.joined.set_result(effect.number)
            case SendPart():
                connection = self._connections.get(effect.conn)
                if isinstance(connection, Connection) and connection.kind == "bulk":
                    connection.stream(
                        (REPLY, effect.req, True, effect.size), self.segment.view(effect.offset, effect.size)
                    )
                elif connection is not None:
                    part = bytes(self.segment.view(effect.offset, effect.size))  # it may be freed before it is sent
                    connection.send([(DATA, effect.req, part)])
            case Fetch():
                self.fetcher.fetch(effect)
            case Report():
                self.fetcher.report(effect.number)
            case StopFetch():
                self.fetcher.stop(effect.number)
            case CloseConnection():
                connection = self._connections.get(effect.conn)
                if connection is not None:
                    (connection.close if effect.flush else connection.abort)()
            case StopDaemon():
                self.stop(effect.reason)

    def _arm(self) -> None:
        """See to it that the core gets its Tick in time."""
        deadline = self.node.next_deadline()
        if deadline is None or (self._timer is not None and deadline >= self._due):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._due = deadline
        # In whole milliseconds, rounded up: the loop rounds to the nearest one and would wake the core too early, again
        # and again until it is time.
        left_ms = -((time.monotonic_ns() - deadline) // 1_000_000)
        self._timer = self.loop.call_later(max(0, left_ms) / 1e3, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.feed(Tick())

    def stop(self, reason: str) -> None:
        """Begin to end; ``run`` does the rest."""
        if not self.stopped.done():
            self.stopped.set_result(reason)

    # ---- connections (Hub) -------------------------------------------------------------------------------------------

    def accept(self) -> Connection:
        """Protocol factory of the listening Unix socket."""
        return self._new_connection(0)

    def accept_stranger(self, gate: Gate, porter: Porter) -> Connection:
        """Protocol factory of the TCP port."""
        return self._new_connection(0, gate, porter)

    def _new_connection(self, worker: int, gate: Gate | None = None, porter: Porter | None = None) -> Connection:
        connection = Connection(self, self._next_conn, worker=worker, gate=gate, porter=porter)
        self._next_conn += 1
        return connection

    def _serve_worker(self, wid: int, sock: socket.socket) -> None:
        connection = self._new_connection(wid)
        self._spawn(self.loop.connect_accepted_socket(lambda: connection, sock), f"serve worker {wid}")

    def _spawn(self, work: Coroutine[Any, Any, Any], name: str) -> None:
        task = self.loop.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def introduced(self, connection: Connection, kind: str, info: dict[str, Any]) -> Fault | None:
        """A HELLO has been read."""
        theirs = info.get("python")
        ours = platform.python_version()
        if kind in ("driver", "worker") and str(theirs).split(".")[:2] != ours.split(".")[:2]:
            return fault(
                VERSION,
                f"This program runs Python {theirs}, the daemon at {self.facts['address']} runs Python {ours};"
                " functions cannot"
                f" travel between minor versions. Run the program with Python {'.'.join(ours.split('.')[:2])}, or"
                " start a"
                f" daemon with Python {theirs}: `rayd stop`, then `rayd start --head` in that environment.",
            )
        self._connections[connection.number] = connection
        info["peer"] = "" if connection.peer_pid else connection.peer
        if kind == "driver":
            self._watch(connection)
        self.feed(Connected(connection.number, kind, info, connection.worker, connection.scope))
        return None

    def _watch(self, connection: Connection) -> None:
        """Notice the driver's death even when a child of it keeps the socket open."""
        try:
            fd = os.pidfd_open(connection.peer_pid)
        except (OSError, AttributeError):
            return
        self._pidfds[connection.number] = fd
        self.loop.add_reader(fd, connection.abort)

    def linked(self, connection: Speaker, welcome: dict[str, Any]) -> None:
        """A connection that this daemon makes stands."""
        self.feed(Linked(connection.number, welcome))

    def received(self, connection: Speaker, messages: list[Message]) -> None:
        """Messages of an introduced client."""
        self.feed(Received(connection.number, messages))

    def sent(self, connection: Connection) -> None:
        """Bytes of the store are not needed any more by a connection; perhaps while effects are being carried out."""
        self.loop.call_soon(self.feed, Sent(connection.number))

    def closed(self, connection: Speaker) -> None:
        """A client has gone."""
        fd = self._pidfds.pop(connection.number, None)
        if fd is not None:
            self.loop.remove_reader(fd)
            os.close(fd)
        if self._connections.pop(connection.number, None) is not None:
            self.feed(Disconnected(connection.number, connection.why, connection.how))
        self._dropped.pop(connection.number, None)
        if connection.worker:
            self.workers.session_closed(connection.worker)
        elif connection.kind == "driver" and connection.peer_pid == self.config.embedded_pid:
            self.stop("the driver that owns this daemon has disconnected")

    # ---- output of workers -------------------------------------------------------------------------------------------

    def _forward_lines(self, wid: int, pid: int, name: str, is_err: bool, lines: list[str]) -> None:
        worker = self.node.state.pool.workers.get(wid)
        job = self.node.state.jobs.get(worker.key[0]) if worker is not None else None
        for number in job.logs if job is not None else ():
            connection = self._connections.get(number)
            if connection is None:
                continue
            if connection.pending_bytes() > LOG_BACKLOG_BYTES_MAX:
                self._dropped[number] = self._dropped.get(number, 0) + len(lines)
                continue
            dropped = self._dropped.pop(number, 0)
            if dropped:
                note = f"{dropped} lines of worker output were dropped here; they are in {self.session.path}/logs"
                connection.send([(LOG, {"name": "rayd", "pid": os.getpid()}, True, [note])])
            connection.send([(LOG, {"name": name, "pid": pid}, is_err, lines)])

    # ---- life --------------------------------------------------------------------------------------------------------

    async def serve(self, announce: Callable[[dict[str, Any]], None], door: Door | None) -> str:
        """Serve until stopped; returns the reason."""
        if self.config.journal:
            from rayd.shell.journal.keeper import JournalKeeper  # a program's own daemon has no use for SQLite

            self._journal = JournalKeeper(self.config.journal, self.loop, self.feed, self.stop)
            self._journal.recover()
        path = self.session.socket(sessions.DAEMON_SOCKET)
        server = await self.loop.create_unix_server(self.accept, path, backlog=1024)
        os.chmod(path, 0o600)
        if door is not None:
            door.open(self.loop, self.accept_stranger)
        for number in (signal.SIGTERM, signal.SIGINT):
            self.loop.add_signal_handler(number, self.stop, f"received {number.name}")
        # Not the loop's own method: uvloop keeps SIGCHLD for itself, although it only uses it for what it starts.
        signal.signal(signal.SIGCHLD, lambda *_: self.loop.call_soon_threadsafe(self.workers.reap_orphans))
        owner = self._watch_owner()
        reason = "it failed"
        try:
            if self.config.join:
                self.feed(Join(self.config.join))
                waited: list[asyncio.Future[Any]] = [self.joined, self.stopped]
                await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
                if self.stopped.done():
                    raise StartError(f"{self.stopped.result()} (asked for was the cluster at {self.config.join})")
            announce({"node_id": self.node_id.hex(), "recovered": self._recovered})
            reason = await self.stopped
            return reason
        finally:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # the loop is about to close
            server.close()
            if door is not None:
                door.close()
            self.workers.stop()
            self.fetcher.close()
            why = fault(SHUTDOWN, f"the daemon at {self.facts['address']} was stopped: {reason}")
            for connection in list(self._connections.values()):
                connection.refuse(why)
            if owner is not None:
                self.loop.remove_reader(owner)
                os.close(owner)
            if self._timer is not None:
                self._timer.cancel()
            self.toucher.close()
            self.segment.close()
            if self._journal is not None:
                self._journal.close(forget=self.stopped.done() and not self.config.journal_kept)

    def _watch_owner(self) -> int | None:
        """End with the driver that owns this daemon, however it ends."""
        pid = self.config.embedded_pid
        if pid is None:
            return None
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            self.stop("the driver that owns this daemon has ended")
            return None
        except (OSError, AttributeError):
            return None
        self.loop.add_reader(fd, self.stop, "the driver that owns this daemon has ended")
        return fd


def _facts(config: Config, node_id: bytes, segment: Segment, session: sessions.Session) -> dict[str, Any]:
    return {
        "node_id": node_id,
        "address": f"{config.host}:{config.port}",
        "host": config.host,
        "port": config.port,
        "hostname": socket.gethostname(),
        "node_name": config.node_name,
        "labels": dict(config.labels),
        "session_dir": session.path,
        "session_name": session.name,
        "temp_dir": config.temp_dir,
        "socket": session.socket(sessions.DAEMON_SOCKET),
        "pid": os.getpid(),
        "store_path": segment.path,
        "store_capacity": config.object_store_memory,
        "version": rayd.__version__,
        "python": platform.python_version(),
        "gpus": int(config.num_gpus),
    }


def _resources(config: Config) -> dict[str, float]:
    named = {
        "CPU": config.num_cpus,
        "GPU": config.num_gpus,
        "memory": float(config.memory),
        "object_store_memory": float(config.object_store_memory),
        f"node:{config.host}": 1.0,
        **({} if config.join else {"node:__internal_head__": 1.0}),
        **config.resources,
    }
    return {name: amount for name, amount in named.items() if amount}


def run(config: Config, announce: Callable[[dict[str, Any]], None], fork_server: ForkServer, door: Door | None) -> int:
    """Run a daemon in this process until it is stopped.

    Args:
        config: complete, with the name of an existing session folder.
        announce: called once with ``{"node_id": hex, "recovered": counts}`` when clients can connect.
        fork_server: just started by ``rayd.shell.fork_server``.
        door: by which clients on other machines come in; None to have none.

    Returns:
        The process's exit code.
    """
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    # The tables hold millions of long-lived objects without cycles; the default thresholds would walk them again and
    # again.
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:

        async def main() -> str:
            daemon = Daemon(config, asyncio.get_running_loop())
            daemon.workers.adopt_fork_server(fork_server)
            return await daemon.serve(announce, door)

        reason = runner.run(main())
    print(f"rayd stopped: {reason}", file=sys.stderr, flush=True)
    return 0
