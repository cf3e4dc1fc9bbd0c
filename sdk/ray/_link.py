"""The connection of a process to its daemon, without a thread of its own unless one is needed.

Sending: messages are posted to a queue. A thread that is about to wait flushes it itself; otherwise a small flusher
thread, asleep until something is posted, does so within a millisecond, so that a loop of submissions costs one write
per batch.

Receiving: one thread at a time is the *leader* and reads; a thread that blocks in ``get`` becomes leader if nobody is,
reads until its own condition holds, and wakes those that waited meanwhile (*followers*) so that one of them takes over.
Only when something is awaited asynchronously does a reader thread start, and it then leads for good.

Interruption: Python runs signal handlers between any two bytecodes of the main thread, and a handler may raise
(Ctrl-C). Received bytes are therefore moved from ``recv`` into ``_inbox`` by one C call, and the stretches that must
not be torn apart count themselves in ``critical`` when the main thread is in them; the session's SIGINT handler waits
for their end. Between two statements without a call no handler runs. If something else tears one apart, the link is
broken for good and says so: it never goes on with half a message.

The race of leading, in steps: (1) F fails to get the lease, L still reads; (2) L releases the lease and wakes the
followers it sees; (3) F enlists and would sleep for ever. Hence F tries the lease once more after it has enlisted.
"""

import collections
import contextlib
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgpack

from ray.exceptions import RaySystemError
from rayd.wire.frame import TEXT_ERRORS
from rayd.wire.messages import HOLD, RELEASE

if TYPE_CHECKING:
    from rayd.shell.dial import Stream

_RECV_BYTES: Final = 65536
# A submitting thread flushes by itself when this much is waiting: early enough to feed the workers, late enough to be
# one write.
_BATCH: Final = 64
_FLUSH_S: Final = 0.001
# How long a thread that cannot send waits for the one that reads to learn why.
_FAREWELL_S: Final = 1.0
# The flusher goes back to sleep after this many turns without work.
_IDLE_TURNS: Final = 50
# A thread that waits looks again and again for so long before it sleeps, if what it waits for usually comes sooner.
_SPIN_S: Final = 0.0002
_LONG_WAIT_S: Final = 0.001


class Link:
    """One connection.

    Args:
        sock: connected stream socket, owned from now on.
        handle: called with each message, by whichever thread leads.
        after: called after each batch of messages, by the same thread.
    """

    def __init__(self, sock: "Stream", handle: Callable[[list[Any]], None], after: Callable[[], None]) -> None:
        sock.setblocking(True)
        self.sock = sock
        self._handle = handle
        self._after = after
        self._out: collections.deque[Any] = collections.deque()
        self.released: dict[bytes, None] = {}
        self._out_lock = threading.Lock()
        self._packer = msgpack.Packer(use_bin_type=True, autoreset=False, unicode_errors=TEXT_ERRORS)
        self._send_lock = threading.Lock()
        self._lease = threading.Lock()
        self._followers: list[Any] = []
        self._inbox: collections.deque[bytes] = collections.deque()
        self._unpacker = msgpack.Unpacker(
            max_buffer_size=1 << 31, raw=False, strict_map_key=False, unicode_errors=TEXT_ERRORS
        )
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self._armed = False
        self._wake = threading.Lock()
        self._wake.acquire()
        self._flusher: threading.Thread | None = None
        self._reader: threading.Thread | None = None
        self._main = threading.main_thread().ident or 0
        self.critical = 0
        self.interrupted: Callable[[], None] | None = None
        self._usual_wait_s = 0.0 if len(os.sched_getaffinity(0)) > 1 else _LONG_WAIT_S
        self.broken = ""
        self.farewell = "the daemon closed the connection"

    # ---- sending -----------------------------------------------------------------------------------------------------

    def post(self, message: Any) -> None:
        """Send soon."""
        out = self._out
        out.append(message)
        if not self._armed:
            self._arm()
        if len(out) >= _BATCH:
            self.flush()

    def flush_soon(self) -> None:
        """See to it that what was posted quietly goes out within a millisecond or two, whatever follows."""
        if not self._armed:
            self._arm()

    def post_quietly(self, message: Any) -> None:
        """Send with the next flush, which the caller promises to do."""
        self._out.append(message)

    def post_hold(self, oid: bytes) -> None:
        """This process refers to an object from now on. Consecutive holds share a message; a release not sent yet is
        taken back instead.
        """
        if self.released.pop(oid, False) is None:
            return
        out = self._out
        with self._out_lock:
            last = out[-1] if out else None
            if last is not None and last[0] == HOLD:
                last[1].append(oid)
            else:
                out.append((HOLD, [oid]))
        if not self._armed:
            self._arm()

    def post_releases(self) -> None:
        """Queue the releases noted so far, ahead of what is posted next."""
        gone = self._take_releases(self._noted())
        if gone:
            self.post((RELEASE, gone))

    def note_release(self, oid: bytes) -> None:
        """An object has lost its last reference here. Called by the garbage collector at any moment, so it must not
        block.
        """
        self.released[oid] = None
        if not self._armed:
            self._arm()

    def _noted(self) -> list[bytes]:
        while True:
            try:
                return list(self.released)
            except RuntimeError:  # the collector has just noted another
                continue

    def _take_releases(self, noted: list[bytes]) -> list[bytes]:
        """Those of ``noted`` that have not been taken back meanwhile."""
        released = self.released
        return [oid for oid in noted if released.pop(oid, False) is None]

    def _arm(self) -> None:
        if self._flusher is None:
            self._start_flusher()
        with contextlib.suppress(RuntimeError):  # another thread has just done so
            self._wake.release()
        self._armed = True

    def _start_flusher(self) -> None:
        self._flusher = threading.Thread(target=self._flush_often, name="ray-flusher", daemon=True)
        try:
            self._flusher.start()
        except RuntimeError:  # the interpreter is shutting down: what is posted now goes out with the last flush
            self._flusher = None

    def _flush_often(self) -> None:
        while not self.broken:
            self._wake.acquire()
            idle = 0
            while idle < _IDLE_TURNS and not self.broken:
                time.sleep(_FLUSH_S)
                if self.interrupted is not None and not self.critical:
                    self._deliver_interrupt()
                if self._out or self.released:
                    idle = 0
                    try:
                        self.flush()
                    except RaySystemError:
                        return
                else:
                    idle += 1
            self._armed = False
            if self._out or self.released or self.interrupted is not None:
                self._armed = True
                with contextlib.suppress(RuntimeError):
                    self._wake.release()

    def flush(self) -> None:
        """Send everything posted.

        Raises:
            RaySystemError: the connection is lost.
        """
        out = self._out
        if not out and not self.released:
            return
        lost = False
        mine = threading.get_ident() == self._main
        with self._send_lock:
            self.critical += mine
            try:
                # Looked at first: what died before this moment was used only by messages that are in ``out`` now.
                noted = self._noted() if self.released else None
                pack = self._packer.pack
                with self._out_lock:
                    messages = [out.popleft() for _ in range(len(out))]
                for message in messages:
                    pack(message)
                gone = self._take_releases(noted) if noted else None
                if gone:
                    pack((RELEASE, gone))
                data = self._packer.bytes()
                self._packer.reset()
                self.sock.sendall(data)
            except OSError:
                lost = True
            except BaseException as error:
                self.broken = f"sending was interrupted by {type(error).__name__}"
                raise
            finally:
                self.critical -= mine
        if self.interrupted is not None:
            self._pass_interrupt()
        if lost:
            self._hear_farewell()
        if self.broken:
            raise RaySystemError(self._lost_text())

    def _pass_interrupt(self) -> None:
        """A signal came in a critical stretch; now is its time."""
        if not self.critical and threading.current_thread() is threading.main_thread():
            late, self.interrupted = self.interrupted, None
            if late is not None:
                late()

    def _deliver_interrupt(self) -> None:
        """The main thread has left the stretch without coming by ``_pass_interrupt``: let the signal come again."""
        late, self.interrupted = self.interrupted, None
        if late is not None:
            signal.pthread_kill(self._main, signal.SIGINT)

    # ---- receiving ---------------------------------------------------------------------------------------------------

    def wait_until(self, done: Callable[[], bool], deadline: float | None = None) -> bool:
        """Read until ``done()``; False when the deadline (``time.monotonic``) passes first.

        Raises:
            RaySystemError: the connection is lost.
        """
        lease = self._lease
        mine = threading.get_ident() == self._main
        while not done():
            if self.broken:
                raise RaySystemError(self._lost_text())
            remaining = None if deadline is None else deadline - time.monotonic()
            if remaining is not None and remaining <= 0:
                self.poll()
                return done()
            self.critical += mine
            try:
                led = lease.acquire(False)
                if led:
                    self._lead(done, remaining)
            finally:
                self.critical -= mine
            if self.interrupted is not None:
                self._pass_interrupt()
            if not led:
                self._follow(done, remaining)
        return True

    def poll(self) -> bool:
        """Take in what has arrived, without waiting; False when somebody else is reading at the moment."""
        mine = threading.get_ident() == self._main
        self.critical += mine
        try:
            led = self._lease.acquire(False)
            if led:
                try:
                    self._read(0.0)
                finally:
                    self._yield_lease()
        finally:
            self.critical -= mine
        if self.interrupted is not None:
            self._pass_interrupt()
        return led

    def _lead(self, done: Callable[[], bool], remaining: float | None) -> None:
        try:
            if not done():
                self._read(remaining)
        finally:
            self._yield_lease()

    def _yield_lease(self) -> None:
        self._lease.release()
        if self._followers:
            self._wake_followers()
        if self.interrupted is not None:
            self._pass_interrupt()

    def _wake_followers(self) -> None:
        followers, self._followers = self._followers, []
        for sleeper in followers:
            sleeper.release()

    def _follow(self, done: Callable[[], bool], remaining: float | None) -> None:
        sleeper = threading.Lock()
        sleeper.acquire()
        self._followers.append(sleeper)
        if self._lease.acquire(False):
            self._yield_lease()  # wakes us too: we look again from the start
        sleeper.acquire(timeout=-1 if remaining is None else remaining)

    def _read(self, timeout: float | None) -> None:
        """One batch; the caller has the lease and has made this a critical stretch, which waiting here interrupts."""
        inbox = self._inbox
        if not inbox:
            mine = threading.get_ident() == self._main
            self.critical -= mine
            try:
                if self.interrupted is not None:
                    self._pass_interrupt()
                began = time.perf_counter()
                if self._usual_wait_s < _SPIN_S and timeout != 0.0:
                    self._spin(began + _SPIN_S)
                if timeout is not None and not self._poll.poll(timeout * 1000):
                    return
                inbox.extend(map(self.sock.recv, (_RECV_BYTES,)))
                waited = min(time.perf_counter() - began, _LONG_WAIT_S)
                self._usual_wait_s += (waited - self._usual_wait_s) / 8
            except OSError:
                self._break(self.farewell)
                return
            finally:
                self.critical += mine
        try:
            data = inbox.popleft()
            if not data:
                self._break(self.farewell)
                return
            self._unpacker.feed(data)
            for message in self._unpacker:
                self._handle(message)
            self._after()
        except BaseException as error:
            self.broken = self.broken or f"receiving was interrupted by {type(error).__name__}: {error}"
            raise

    def _spin(self, until: float) -> None:
        """Look for messages without going to sleep: being woken costs more than most answers take to come."""
        poll, clock, let_others = self._poll.poll, time.perf_counter, os.sched_yield
        while not poll(0) and clock() < until:
            let_others()

    def start_reader(self) -> None:
        """Have a thread read for good: somebody waits without blocking."""
        if self._reader is None:
            self._reader = threading.Thread(target=self._read_always, name="ray-reader", daemon=True)
            self._reader.start()

    def _read_always(self) -> None:
        with self._lease:
            while not self.broken:
                self._read(None)
                if self._followers:
                    self._wake_followers()
        self._wake_followers()

    # ---- the end -----------------------------------------------------------------------------------------------------

    def _hear_farewell(self) -> None:
        """Nothing can be sent any more; what the daemon has said before it closed the connection tells why."""
        while not self.broken and self._poll.poll(0):
            if not self.poll():
                self._follow(lambda: bool(self.broken), _FAREWELL_S)
                break
        self._break(self.farewell)

    def _break(self, why: str) -> None:
        self.broken = self.broken or why
        self._after()

    def _lost_text(self) -> str:
        return f"This session has ended: {self.broken}. Call ray.shutdown() and ray.init() to start another."

    def close(self) -> None:
        """Flush, then close; waiting threads get RaySystemError."""
        if not self.broken:
            with contextlib.suppress(RaySystemError):
                self.flush()
            self.broken = "ray.shutdown() was called"
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        if self._flusher is not None:
            with contextlib.suppress(RuntimeError):
                self._wake.release()
            if self._flusher is not threading.current_thread():
                self._flusher.join()
        if self._reader is not None and self._reader is not threading.current_thread():
            self._reader.join()
        self._wake_followers()
        self.sock.close()
