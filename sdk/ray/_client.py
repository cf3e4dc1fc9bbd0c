"""One process's view of the cluster's objects: references, values, requests.

Everything here works the same in a driver and in a worker. Submission is in ``_submit``; the connection itself in
``_link``.
"""

import collections
import itertools
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from ray import exceptions
from ray._collector import at_an_end
from ray._link import Link
from ray._refs import ASKED, COMPLETE, UNASKED, ObjectRef
from ray._serialize import Serialized, deserialize, serialize
from ray._store import FarStore, SharedStore, Store
from rayd.ids import FIRST_RETURN, nonce
from rayd.wire import messages as m
from rayd.wire.frame import encode

if TYPE_CHECKING:
    from ray._awaiting import Awaiting
    from rayd.shell.dial import Stream

_new: Final = object.__new__
# Errors that nobody looked at wait here to be printed; a flood of them keeps only the latest.
_FORGOTTEN_MAX: Final = 1000


class _Hold(weakref.ref):  # type: ignore[type-arg]
    """The weak table's entry for one reference."""

    __slots__ = ("oid",)
    oid: bytes


class Client:
    """Objects and requests of one session of one process.

    Args:
        sock: connected to the daemon, HELLO not sent yet.
        kind: "driver" or "worker".
        info: what this process says of itself.
        remote: it runs on another machine than the daemon.

    Raises:
        ConnectionError: the daemon refuses; the text says why.
    """

    def __init__(self, sock: "Stream", kind: str, info: dict[str, Any], *, remote: bool = False) -> None:
        sock.sendall(encode((m.HELLO, m.PROTOCOL_VERSION, kind, info)))
        self.refs: dict[bytes, _Hold] = {}
        self._awaiting: Awaiting | None = None
        self._making = threading.Lock()
        self.link = Link(sock, self._on_message, self._after_batch)
        self.info: dict[str, Any] = {}
        self._refusal = ""
        self._replies: dict[int, tuple[bool, Any] | None] = {}
        self._requests = itertools.count(1)
        self._failures = 0
        self.streams: weakref.WeakValueDictionary[bytes, Any] = weakref.WeakValueDictionary()
        self.on_stop_task: Callable[[bytes], None] = _ignore
        self.on_credit: Callable[[bytes, int], None] = _ignore
        self.should_stop: Callable[[], bool] | None = None
        self.before_block: Callable[[], None] | None = None
        self.after_block: Callable[[], None] | None = None
        self.link.wait_until(lambda: bool(self.info or self._refusal))
        if self._refusal:
            self.link.close()
            raise ConnectionError(self._refusal)
        log = f"{self.info['session_dir']}/logs/rayd.log"
        self.link.farewell = f"the daemon (pid {self.info['pid']}) died; the end of its log is in {log}"
        self.address: str = self.info["address"]
        self.job: bytes = self.info["job"]
        self._tail: bytes = nonce(self.info["number"]) + self.job
        self._put_tail: bytes = self._tail + FIRST_RETURN
        self._count: itertools.count[int] = itertools.count(1)
        self.store: Store = FarStore(self) if remote else SharedStore(self)
        self.kept: list[ObjectRef[Any]] = []
        self._unread: dict[bytes, tuple[int, Any]] = {}
        self.forgotten: collections.deque[tuple[int, Any]] = collections.deque(maxlen=_FORGOTTEN_MAX)
        # Ids of tasks whose awaiting was cancelled: when the reference dies, too, nobody can want the task any more.
        self.orphans: dict[bytes, None] = {}
        self.exports: Any = None
        self.repeats: Any = None
        self.default_retries: int = 3
        self.job_env: dict[str, str] = {}
        # The placement group to which what is submitted from here belongs, unless it says otherwise.
        self.captured: bytes | None = None

    # ---- ids and references ------------------------------------------------------------------------------------------

    def new_task_id(self) -> bytes:
        """A task id that no other process will draw."""
        return next(self._count).to_bytes(8, "little") + self._tail

    def intern(self, oid: bytes) -> ObjectRef[Any]:
        """The one reference of this process with that id. The caller sees to it that the daemon knows of the hold."""
        hold = self.refs.get(oid)
        if hold is not None:
            known: ObjectRef[Any] | None = hold()
            if known is not None:
                return known
        return self._fresh(oid)

    def _fresh(self, oid: bytes) -> ObjectRef[Any]:
        ref: ObjectRef[Any] = _new(ObjectRef)
        ref._id = oid
        ref._kind = UNASKED
        ref._data = None
        ref._waiters = None
        ref._client = self
        hold = _Hold(ref, self._dead)
        hold.oid = oid
        self.refs[oid] = hold
        return ref

    def receive(self, oid: bytes) -> ObjectRef[Any]:
        """A reference that came inside a value: the daemon must learn that this process holds it now."""
        hold = self.refs.get(oid)
        if hold is not None:
            known: ObjectRef[Any] | None = hold()
            if known is not None:
                return known
        self.link.post_hold(oid)
        return self._fresh(oid)

    @at_an_end
    def _dead(self, hold: _Hold) -> None:
        oid = hold.oid
        if self.refs.get(oid) is hold:
            del self.refs[oid]
            if self._unread or self.orphans:
                self._last_rites(oid)
            self.link.note_release(oid)

    def _last_rites(self, oid: bytes) -> None:
        """A reference has died that somebody should hear of: an error never looked at, or a task whose awaiting was
        cancelled.
        """
        unread = self._unread.pop(oid, None)
        if unread is not None:
            self.forgotten.append(unread)
        if self.orphans.pop(oid, False) is None:
            self.link.post_quietly((m.CANCEL, oid, False, True))

    # ---- messages of the daemon --------------------------------------------------------------------------------------

    def _on_message(self, message: list[Any]) -> None:
        tag = message[0]
        if tag == m.VALUE:
            _, oid, kind, data = message
            hold = self.refs.get(oid)
            ref = hold() if hold is not None else None
            if ref is not None and ref._kind < 0:
                self.fill(ref, kind, data)
        elif tag == m.REPLY:
            if message[1] in self._replies:
                self._replies[message[1]] = (message[2], message[3])
        elif tag == m.DATA:
            if message[1] in self._replies:
                self._replies[message[1]] = (True, message[2])
        elif tag == m.READY:
            self._on_ready(message[1])
        elif tag == m.STREAM_ITEM:
            self._on_item(message[1], message[2], message[3], message[4])
        elif tag == m.STREAM_END:
            stream = self.streams.get(message[1])
            if stream is not None:
                stream._on_end(message[2])
        elif tag == m.STOP_TASK:
            self.on_stop_task(message[1])
        elif tag == m.CREDIT:
            self.on_credit(message[1], message[2])
        elif tag == m.WELCOME:
            self.info = message[1]
        elif tag == m.REFUSED and not self.info:
            self._refusal = message[1]["message"]
        elif tag == m.REFUSED:
            self.link.farewell = message[1]["message"].removesuffix(".")

    def fill(self, ref: ObjectRef[Any], kind: int, data: Any) -> None:
        """The value of a reference is known."""
        ref._data = data
        ref._kind = kind
        if kind >= m.ERROR:
            self._failures += 1
            self._unread[ref._id] = (kind, data)
        if ref._waiters is not None:
            self.awaiting.filled(ref)

    def _on_item(self, tid: bytes, index: int, kind: int, data: Any) -> None:
        ref = self.intern(tid + (index + 1).to_bytes(4, "little"))  # the daemon already counts our hold
        if kind >= 0:
            self.fill(ref, kind, data)
        stream = self.streams.get(tid)
        if stream is not None:
            stream._on_item(ref)

    def _after_batch(self) -> None:
        """Run what asyncio loops have to learn, one hop per loop."""
        if self._awaiting is not None:
            self._awaiting.hand_over()
        if self.link.broken and not self._refusal:
            self._refusal = self.link.broken
            self._fail_everything()

    def _fail_everything(self) -> None:
        fault = {"code": "shutdown", "message": self.link._lost_text()}
        for ref in list(self.awaiting.watched):
            if ref._kind < 0:
                self.fill(ref, m.FAULT, fault)
        for stream in list(self.streams.values()):
            stream._on_end(-1)
        self.awaiting.hand_over()

    def is_actor_call(self, oid: bytes) -> bool:
        """Whether the object is the result of an actor call made here and not finished."""
        return bool(self.rpc("is_actor_call", oid=oid))

    def env_vars(self, runtime_env: Any) -> dict[str, str]:
        """Environment variables of a task's workers: the job's, overridden by the task's."""
        own = dict(runtime_env or {}).get("env_vars") or {}
        return {**self.job_env, **own}

    @property
    def awaiting(self) -> "Awaiting":
        """Futures of references; loaded when the first one is wanted."""
        if self._awaiting is None:
            from ray._awaiting import Awaiting

            with self._making:  # two of them would each know only half of who waits
                if self._awaiting is None:
                    self._awaiting = Awaiting(self)
        return self._awaiting

    # ---- requests ----------------------------------------------------------------------------------------------------

    def request(self, message: Callable[[int], Any], timeout: float | None = None) -> Any:
        """Send a message that asks for a REPLY and wait for it.

        Raises:
            exceptions of ``ray.exceptions``: what the daemon answers.
        """
        return self.end_request(self.begin_request(message), timeout)

    def begin_request(self, message: Callable[[int], Any]) -> int:
        """Send a message that asks for an answer; returns the number by which ``end_request`` takes it."""
        req = next(self._requests)
        self._replies[req] = None
        try:
            # What died here before the request must be gone before the daemon answers it: the answer may bring it to
            # life again.
            self.link.post_releases()
            self.link.post_quietly(message(req))
            self.link.flush()
        except BaseException:
            self.drop_request(req)
            raise
        return req

    def end_request(self, req: int, timeout: float | None = None) -> Any:
        """Wait for the answer to a request; raises as ``request`` does."""
        try:
            replies = self._replies
            deadline = None if timeout is None else time.monotonic() + timeout
            if not self.link.wait_until(lambda: replies[req] is not None, deadline):
                raise exceptions.GetTimeoutError(f"the daemon did not answer within {timeout} s")
            answer = replies[req]
        finally:
            self.drop_request(req)
        assert answer is not None
        ok, value = answer
        if not ok:
            raise exceptions.from_fault(value)
        return value

    def drop_request(self, req: int) -> None:
        """Nobody wants the answer any more."""
        self._replies.pop(req, None)

    def rpc(self, method: str, timeout: float | None = None, **params: Any) -> Any:
        """Call one of the daemon's methods."""
        return self.request(lambda req: (m.RPC, req, method, params), timeout)

    def tell(self, method: str, **params: Any) -> None:
        """``rpc`` whose answer is not waited for, nor its error raised."""
        self.link.post((m.RPC, 0, method, params))

    # ---- values ------------------------------------------------------------------------------------------------------

    def check_own(self, refs: Iterable[ObjectRef[Any]]) -> None:
        """Raise ValueError for references of another session."""
        for ref in refs:
            if ref._client is not self:
                raise foreign(ref)

    def put(self, value: Any) -> ObjectRef[Any]:
        """Store a value."""
        return self.put_serialized(serialize(value, "the value given to ray.put()"))

    def put_error(self, data: bytes) -> ObjectRef[Any]:
        """A reference whose value is an error; ``data`` is the pickled exception."""
        ref = self._fresh(next(self._count).to_bytes(8, "little") + self._put_tail)
        ref._data, ref._kind = data, m.ERROR
        self.link.post((m.PUT_ERROR, ref._id, data))
        return ref

    def put_when(self, group: bytes, value: Any) -> ObjectRef[Any]:
        """A reference whose small value is there once a placement group is."""
        ref = self._fresh(next(self._count).to_bytes(8, "little") + self._put_tail)
        self.link.post((m.PUT_WHEN, ref._id, group, serialize(value, "the handle of a placement group").to_bytes()))
        return ref

    def put_serialized(self, value: Serialized) -> ObjectRef[Any]:
        """Store a value that is already serialized."""
        oid = next(self._count).to_bytes(8, "little") + self._put_tail
        if value.contained:
            self.check_own(value.contained)
        contained = [ref._id for ref in value.contained]
        if value.size <= m.INLINE_BYTES_MAX:
            data = value.to_bytes()
            ref = self._fresh(oid)
            ref._data = data
            ref._kind = m.INLINE
            self.link.post((m.PUT, oid, data, contained))
            return ref
        ref = self._fresh(oid)
        offset = self.store.write(oid, value)
        ref._data = [offset, value.size]
        ref._kind = m.STORED
        self.link.post((m.SEAL, oid, contained))
        return ref

    def value_of(self, ref: ObjectRef[Any]) -> Any:
        """The value of a filled reference; raises what the task raised."""
        kind = ref._kind
        if kind == m.INLINE:
            return deserialize(ref._data)
        if kind == m.STORED:
            return self.store.load(ref)
        error = self.error_of(ref)
        assert error is not None
        raise error

    def error_of(self, ref: ObjectRef[Any]) -> BaseException | None:
        """The exception a filled reference stands for, None if it has a value."""
        if ref._kind < m.ERROR:
            return None
        self._unread.pop(ref._id, None)
        return load_error(ref._kind, ref._data)

    # ---- get and wait ------------------------------------------------------------------------------------------------

    def ask(self, refs: Iterable[ObjectRef[Any]]) -> None:
        """Ask for the values of those not asked for yet; goes out with the next flush."""
        wanted = [ref for ref in refs if ref._kind < ASKED]
        if wanted:
            # Asked first and noted then: Ctrl-C in between makes us ask twice, the other way round never.
            self.link.post_quietly((m.WANT, [ref._id for ref in wanted]))
            for ref in wanted:
                ref._kind = max(ref._kind, ASKED)

    def _probe(self, refs: Iterable[ObjectRef[Any]]) -> None:
        """Ask whether they are complete, wherever that may be."""
        unknown = [ref._id for ref in refs if ref._kind == UNASKED]
        if unknown:
            self.link.post_quietly((m.PROBE, unknown))

    def _on_ready(self, oids: list[bytes]) -> None:
        for oid in oids:
            hold = self.refs.get(oid)
            ref = hold() if hold is not None else None
            if ref is not None and ref._kind == UNASKED:
                ref._kind = COMPLETE

    def get(self, refs: Sequence[ObjectRef[Any]], timeout: float | None) -> list[Any]:
        """Values in order; raises the first error as soon as any of them failed.

        Raises:
            GetTimeoutError: not all were there in time.
        """
        missing = [ref for ref in refs if ref._kind < 0]
        if missing:
            self.ask(missing)
            self._await_all(missing, timeout)
        return [deserialize(ref._data) if ref._kind == m.INLINE else self.value_of(ref) for ref in refs]

    def _await_all(self, missing: list[ObjectRef[Any]], timeout: float | None) -> None:
        position = 0
        count = len(missing)
        failures = self._failures - 1  # look once in any case: some may have failed before

        def done() -> bool:
            nonlocal position, failures
            if self._failures != failures:
                failures = self._failures
                for ref in missing:
                    if ref._kind >= m.ERROR:
                        return True
            while position < count and missing[position]._kind >= 0:
                position += 1
            return position == count

        if not self.block_until(done, timeout):
            unready = sum(ref._kind < 0 for ref in missing)
            raise exceptions.GetTimeoutError(
                f"{unready} of {len(missing)} awaited objects were not ready within {timeout} s. Give more time, or"
                " use ray.wait() to take"
                " those that are."
            )
        for ref in missing:
            if ref._kind >= m.ERROR:
                error = self.error_of(ref)
                assert error is not None
                raise error

    def block_until(self, done: Callable[[], bool], timeout: float | None) -> bool:
        """Flush and read until ``done()``; in a worker the daemon is told, so that it can lend our CPU out."""
        link = self.link
        deadline = None if timeout is None else time.monotonic() + timeout
        before, after = self.before_block, self.after_block
        if before is None or after is None or done():
            link.flush()
            return link.wait_until(done, deadline)
        before()
        link.flush()
        try:
            return link.wait_until(lambda: self._stopping() or done(), deadline) and done()
        finally:
            after()

    def _stopping(self) -> bool:
        """In a worker: raise what ``ray.cancel`` means for the task that waits here."""
        if self.should_stop is not None and self.should_stop():
            raise KeyboardInterrupt
        return False

    def wait(
        self, refs: list[ObjectRef[Any]], num_returns: int, timeout: float | None, fetch: bool = True
    ) -> tuple[list[ObjectRef[Any]], list[ObjectRef[Any]]]:
        """Split into at most ``num_returns`` ready ones and the rest, each in input order."""
        ready = _first_ready(refs, num_returns, fetch=fetch)
        if len(ready) < num_returns:
            self.ask(refs) if fetch else self._probe(refs)

            def done() -> bool:
                nonlocal ready
                ready = _first_ready(refs, num_returns, fetch=fetch)
                return len(ready) >= num_returns

            self.block_until(done, timeout)
        if len(ready) == 1:
            index = ready[0]
            return [refs[index]], refs[:index] + refs[index + 1 :]
        chosen = set(ready)
        return [refs[index] for index in ready], [ref for index, ref in enumerate(refs) if index not in chosen]

    def close(self) -> None:
        """End the session's connection."""
        self.link.close()
        self._after_batch()
        self.store.close()


def _first_ready(refs: list[ObjectRef[Any]], limit: int, *, fetch: bool) -> list[int]:
    ready = []
    for index, ref in enumerate(refs):
        if ref._kind >= 0 or (ref._kind == COMPLETE and not fetch):
            ready.append(index)
            if len(ready) == limit:
                break
    return ready


def load_error(kind: int, data: Any) -> BaseException:
    """The exception of an ERROR or FAULT payload."""
    if kind == m.ERROR:
        error: BaseException = deserialize(data)
        return error.as_instanceof_cause() if isinstance(error, exceptions.RayTaskError) else error
    cause = deserialize(data["error"]) if data.get("error") else None
    return exceptions.from_fault(data, cause)


def foreign(ref: ObjectRef[Any]) -> ValueError:
    """The error for a reference that is used outside its session."""
    return ValueError(
        f"{ref!r} belongs to a session that has ended, or to none; objects end with their session. Create it again"
        " after ray.init()."
    )


def _ignore(*_: Any) -> None:
    return
