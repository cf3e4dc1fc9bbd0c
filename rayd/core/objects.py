"""The object table of one node: values, who holds them, who waits for them.

Rules
* An entry exists while something holds it: a connection (a process that has a reference), an enclosing object, or a
  task that takes it as argument. ``holds`` counts all three; ``holders`` names the connections among them.
* A pending entry has the task that will fill it. An entry filled once never changes.
* An entry that nobody holds is freed at once, together with its hold on what it contains.
* Connections are numbers; 0 is never one.
"""

from collections import deque
from collections.abc import Callable, Container, Iterable
from typing import Any, Final

from rayd.core.effect import Effects, SendPart
from rayd.core.object_faults import lost, store_full
from rayd.core.task import Task
from rayd.errors import Fault
from rayd.store.arena import Arena
from rayd.wire.frame import ProtocolError
from rayd.wire.messages import ERROR, FAR_VALUE, FAULT, INLINE, PART_BYTES_MAX, READY, REPLY, STORED, VALUE

PENDING: Final = -1
ALLOCATED: Final = -2  # bytes reserved in the arena, still being written by the one holder
AWAY: Final = -3  # complete and large, and the bytes are on another node; data is [size]


class Entry:
    """One object.

    Attributes:
        kind: PENDING, ALLOCATED, AWAY or a payload kind of the wire.
        data: payload of that kind; [offset, size] for STORED and ALLOCATED.
        holds: number of holds of any sort.
        holders: None, one connection id, or a set of several.
        waiters: connections that get a VALUE when the entry is filled.
        dependents: tasks that cannot start before it is filled.
        contained: ids held by this object.
        task: the task that will fill it; None once filled, and for what another node will tell of.
        read: somebody has been given the value.
    """

    __slots__ = ("contained", "data", "dependents", "holders", "holds", "kind", "read", "task", "waiters")

    def __init__(self, kind: int, data: Any, task: Task | None) -> None:
        self.kind = kind
        self.data = data
        self.holds = 0
        self.holders: int | set[int] | None = None
        self.waiters: list[int] | None = None
        self.dependents: list[Task] | None = None
        self.contained: list[bytes] | None = None
        self.task = task
        self.read = False

    def named(self) -> tuple[int, ...]:
        """The connections that hold it."""
        holders = self.holders or ()
        return (holders,) if isinstance(holders, int) else tuple(holders)


class ObjectTable:
    """All objects of a node.

    Args:
        arena: where STORED values live.
        effects: the core's way out.
        on_ready: called with a task whose last missing argument has been filled.
        on_unheld: called with the id of an entry that lost its last hold before it is freed; returns True to keep it.
        on_lost_error: called with id, kind and data of an error that came when nobody held its object any more.
    """

    def __init__(
        self,
        arena: Arena,
        effects: Effects,
        on_ready: Callable[[Task], None],
        on_unheld: Callable[[bytes, Entry], bool],
        on_lost_error: Callable[[bytes, int, Any], None],
    ) -> None:
        self.entries: dict[bytes, Entry] = {}
        self.arena = arena
        self._effects = effects
        self._on_ready = on_ready
        self._on_unheld = on_unheld
        self._on_lost_error = on_lost_error
        self._unpinned: deque[bytes] = deque()
        self._unpinning = False
        self._filled: deque[Task] = deque()
        self._telling = False
        self._probes: dict[bytes, list[int]] = {}  # connections that want to know when an object is complete
        # Bound by whoever knows of other nodes: which connections are theirs, and what to do for what is not here.
        self.nodes: Container[int] = ()
        self.on_wanted: Callable[[bytes, Entry], None] = _nobody
        self.for_node: Callable[[bytes, Entry], tuple[Any, ...]] = _nothing
        self.on_adopted: Callable[[bytes], None] = _drop
        self.is_far: Callable[[bytes], bool] = lambda aid: False

    # ---- birth -------------------------------------------------------------------------------------------------------

    def expect(self, oid: bytes, task: Task, conn: int) -> None:
        """A pending entry that ``task`` will fill, held by the submitter."""
        if oid in self.entries:
            self._adopt_task(oid, task, conn)
            return
        entry = self.entries[oid] = Entry(PENDING, None, task)
        entry.holds = 1
        entry.holders = conn

    def _adopt_task(self, oid: bytes, task: Task, conn: int) -> None:
        """The task of which another node was to tell the result, or could not any more, is given to this one."""
        entry = self.entries[oid]
        if conn not in self.nodes or entry.kind not in (PENDING, FAULT) or entry.task is not None:
            raise ProtocolError(f"the object {oid.hex()} exists already")
        entry.kind = PENDING
        entry.data = None
        entry.task = task
        self.hold(conn, [oid])
        self.on_adopted(oid)

    def add(self, oid: bytes, kind: int, data: Any, contained: list[bytes], conn: int) -> None:
        """A value that is complete from the start, or (PENDING) that no task brings; held by ``conn``."""
        if oid in self.entries:
            return
        entry = Entry(kind, data, None)
        entry.holds = 1
        entry.holders = conn
        if contained:
            entry.contained = self._hold_all(contained)
        self.entries[oid] = entry  # only now: what would hold itself would never be freed

    def allocate(self, req: int, oid: bytes, size: int, conn: int, describe: Callable[[int], str]) -> None:
        """Reserve bytes and answer the request with their offset, or with the reason why not."""
        if size < 0 or oid in self.entries:
            raise ProtocolError(f"{size} bytes cannot be allocated for the object {oid.hex()}")
        offset = self.arena.allocate(size)
        if offset is None:
            self._effects.sends[conn].append((REPLY, req, False, self.full(size, describe)))
            return
        entry = self.entries[oid] = Entry(ALLOCATED, [offset, size], None)
        entry.holds = 1
        entry.holders = conn
        self._effects.sends[conn].append((REPLY, req, True, offset))

    def seal(self, conn: int, oid: bytes, contained: list[bytes]) -> None:
        """The allocated bytes are complete, says who allocated them."""
        entry = self.entries.get(oid)
        if entry is None or not self.owns_scratch(conn, oid):
            return
        entry.kind = STORED
        if contained:
            entry.contained = self._hold_all(other for other in contained if other != oid)
        self._announce(oid, entry)
        self._tell_probes(oid)

    def write(self, conn: int, oid: bytes, at: int, data: bytes) -> None:
        """A part of the allocated bytes, from who allocated them and does not share the memory."""
        if not self.owns_scratch(conn, oid):
            raise ProtocolError(f"{oid.hex()} names no bytes that this client has allocated and not sealed")
        offset, size = self.entries[oid].data
        if not 0 <= at <= at + len(data) <= size:
            raise ProtocolError(f"bytes {at} to {at + len(data)} lie outside the {size} bytes of {oid.hex()}")
        self._effects.writes.append((offset + at, data))

    def read(self, conn: int, req: int, oid: bytes, at: int, size: int) -> None:
        """Send a part of a stored object, or say that there is none."""
        entry = self.entries.get(oid)
        if entry is None or entry.kind != STORED:
            why = entry.data if entry is not None and entry.kind == FAULT else lost(oid)
            if entry is not None and entry.kind in (AWAY, PENDING):  # who asks, a node, has to ask for the whole first
                why["elsewhere"] = True
            self._effects.sends[conn].append((REPLY, req, False, why))
            return
        if not 0 <= at <= at + size <= entry.data[1] or not 0 <= size <= PART_BYTES_MAX:
            raise ProtocolError(f"{size} bytes at {at} are no part of the {entry.data[1]} bytes of {oid.hex()}")
        self._effects.others.append(SendPart(conn, req, entry.data[0] + at, size))

    def fill(self, oid: bytes, kind: int, data: Any, contained: list[bytes] | None) -> None:
        """The result of a pending entry has arrived. Late twins and results nobody holds are dropped."""
        entry = self.entries.get(oid)
        if entry is None or entry.kind != PENDING:
            if kind == STORED:
                self.drop_stored(data)
            elif entry is None and kind >= ERROR:
                self._on_lost_error(oid, kind, data)
            return
        if kind == STORED:
            data = self.adopt(data)
        entry.kind = kind
        entry.data = data
        entry.task = None
        if contained:  # what held itself would never be freed
            entry.contained = self._hold_all(other for other in contained if other != oid)
        if entry.waiters is not None or entry.dependents is not None:
            self._announce(oid, entry)
        if self._probes:
            self._tell_probes(oid)

    def fill_at(self, oid: bytes, offset: int, size: int) -> None:
        """The bytes of a pending entry have come from another node."""
        entry = self.entries[oid]
        entry.kind = STORED
        entry.data = [offset, size]
        self._announce(oid, entry)

    def fill_away(self, oid: bytes, data: list[int]) -> None:
        """A pending entry is complete on another node; ``data`` is [size]."""
        entry = self.entries[oid]
        entry.kind = AWAY
        entry.data = data
        entry.task = None
        if self._probes:
            self._tell_probes(oid)
        dependents, entry.dependents = entry.dependents or [], None
        stay = [task for task in dependents if task.stays]
        for task in dependents:
            if not task.stays:
                task.missing -= 1
                if task.missing == 0:
                    self._filled.append(task)
        if stay:
            entry.dependents = stay
        if stay or entry.waiters:
            self.on_wanted(oid, entry)
        if not self._telling:
            self._tell_ready()

    def adopt(self, data: Any) -> list[int]:
        """Take over bytes that a worker allocated under a scratch id: ``data`` is that id; the entry's hold moves with
        it.
        """
        scratch = self.entries.pop(data)
        place: list[int] = scratch.data
        return place

    def owns_scratch(self, conn: int, data: Any) -> bool:
        """Whether ``data`` names bytes that this very connection allocated for a result."""
        entry = self.entries.get(data) if type(data) is bytes else None
        return entry is not None and entry.kind == ALLOCATED and entry.holders == conn

    def drop_stored(self, data: Any) -> None:
        """Free bytes that a worker allocated for a result which nobody wants any more."""
        scratch = self.entries.pop(data, None)
        if scratch is not None:
            self.arena.free(scratch.data[0])

    def _announce(self, oid: bytes, entry: Entry) -> None:
        if entry.waiters is not None:
            entry.read = True
            message = (VALUE, oid, entry.kind, entry.data)
            sends = self._effects.sends
            for conn in entry.waiters:
                sends[conn].append(message if conn not in self.nodes else self.for_node(oid, entry))
            entry.waiters = None
        if entry.dependents is not None:
            dependents, entry.dependents = entry.dependents, None
            for task in dependents:
                task.missing -= 1
                if task.missing == 0:
                    self._filled.append(task)
            if not self._telling:
                self._tell_ready()

    def _tell_ready(self) -> None:
        """A task whose argument is an error ends at once, which fills the next one's: a loop, as in ``unpin``."""
        self._telling = True
        try:
            while self._filled:
                self._on_ready(self._filled.popleft())
        finally:
            self._telling = False

    # ---- holds -------------------------------------------------------------------------------------------------------

    def hold(self, conn: int, oids: Iterable[bytes]) -> None:
        """A process has learned of these objects. Unknown ids are already lost; a later WANT says so."""
        for oid in oids:
            entry = self.entries.get(oid)
            if entry is None:
                continue
            holders = entry.holders
            if holders is None:
                entry.holders = conn
            elif isinstance(holders, int):
                if holders == conn:
                    continue
                entry.holders = {holders, conn}
            elif conn in holders:
                continue
            else:
                holders.add(conn)
            entry.holds += 1

    def release(self, conn: int, oids: Iterable[bytes]) -> None:
        """A process has dropped its last reference to these objects."""
        entries = self.entries
        for oid in oids:
            entry = entries.get(oid)
            if entry is None:
                continue
            holders = entry.holders
            if holders == conn:
                entry.holders = None
            elif type(holders) is set and conn in holders:
                holders.discard(conn)
            else:
                continue
            entry.holds -= 1
            if entry.holds == 0:
                self._unheld(oid, entry)

    def pin(self, oids: Iterable[bytes]) -> list[bytes]:
        """A task or object holds these; returns those that exist, which are the ones to ``unpin``."""
        return self._hold_all(oids)

    def unpin(self, oids: Iterable[bytes]) -> None:
        """The reverse of ``pin``. What is freed lets go of its contents: a loop, as chains may be of any length."""
        unpinned = self._unpinned
        unpinned.extend(oids)
        if self._unpinning:
            return
        self._unpinning = True
        try:
            while unpinned:
                oid = unpinned.popleft()
                entry = self.entries.get(oid)
                if entry is None:
                    continue
                entry.holds -= 1
                if entry.holds == 0:
                    self._unheld(oid, entry)
        finally:
            self._unpinning = False

    def _hold_all(self, oids: Iterable[bytes]) -> list[bytes]:
        held = []
        for oid in oids:
            entry = self.entries.get(oid)
            if entry is not None:
                entry.holds += 1
                held.append(oid)
        return held

    def _unheld(self, oid: bytes, entry: Entry) -> None:
        if self._on_unheld(oid, entry):
            return
        self.free(oid, entry)

    def drop_if_unheld(self, oid: bytes) -> None:
        """Free an entry that was kept although nobody held it, when the reason has gone."""
        entry = self.entries.get(oid)
        if entry is not None and entry.holds == 0:
            self._unheld(oid, entry)

    def free(self, oid: bytes, entry: Entry) -> None:
        """Forget an object and its hold on what it contains."""
        del self.entries[oid]
        self._tell_probes(oid)
        if entry.kind == STORED or entry.kind == ALLOCATED:
            self.arena.free(entry.data[0])
        if entry.waiters is not None:
            for conn in entry.waiters:
                far = conn in self.nodes
                self._effects.sends[conn].append(_lost_message(oid, far))
        if entry.contained:
            self.unpin(entry.contained)

    def forget_connection(self, conn: int) -> None:
        """Drop every hold and wait of a connection that is gone. Linear in the number of objects, but rare."""
        held = [
            oid
            for oid, entry in self.entries.items()
            if entry.holders == conn or (type(entry.holders) is set and conn in entry.holders)
        ]
        for entry in self.entries.values():
            if entry.waiters is not None and conn in entry.waiters:
                entry.waiters = [waiter for waiter in entry.waiters if waiter != conn] or None
        for oid, conns in list(self._probes.items()):
            if conn in conns:
                conns.remove(conn)
                if not conns:
                    del self._probes[oid]
        self.release(conn, held)

    # ---- use ---------------------------------------------------------------------------------------------------------

    def want(self, conn: int, oids: Iterable[bytes]) -> None:
        """Send VALUE for each now or when it is filled."""
        sends = self._effects.sends[conn]
        far = conn in self.nodes
        for oid in oids:
            entry = self.entries.get(oid)
            if entry is None:
                sends.append(_lost_message(oid, far))
                continue
            if entry.kind >= INLINE:
                entry.read = True
                sends.append(self.for_node(oid, entry) if far else (VALUE, oid, entry.kind, entry.data))
                continue
            entry.waiters = entry.waiters or []
            entry.waiters.append(conn)
            if entry.task is None:
                self.on_wanted(oid, entry)

    def probe(self, conn: int, oids: Iterable[bytes]) -> None:
        """Send READY for each now or when it is complete, wherever that is. Of what is lost, a WANT will tell."""
        ready = []
        for oid in oids:
            entry = self.entries.get(oid)
            if entry is None or entry.kind >= INLINE or entry.kind == AWAY:
                ready.append(oid)
                continue
            conns = self._probes.setdefault(oid, [])
            if conn not in conns:
                conns.append(conn)
            if entry.task is None:
                self.on_wanted(oid, entry)
        if ready:
            self._effects.sends[conn].append((READY, ready))

    def is_probed(self, oid: bytes) -> bool:
        """Whether somebody wants to know when an object is complete."""
        return oid in self._probes

    def _tell_probes(self, oid: bytes) -> None:
        for conn in self._probes.pop(oid, ()):
            self._effects.sends[conn].append((READY, [oid]))

    def subscribe(self, task: Task, oids: Iterable[bytes]) -> int:
        """Count the arguments that ``task`` misses, these among them, and have it told when they are ready. What is
        complete on another node is ready for a task that may still go there.
        """
        task.missing += 1  # one may fail at once, and yet the task is not ready before the caller knows
        wanted = []
        for oid in oids:
            entry = self.entries.get(oid)
            if entry is not None and entry.kind < INLINE and (entry.kind != AWAY or task.stays):
                task.missing += 1
                dependents = entry.dependents = entry.dependents or []
                dependents.append(task)
                wanted.append((oid, entry))
        for oid, entry in wanted:
            if entry.kind < INLINE and entry.task is None:
                self.on_wanted(oid, entry)
        task.missing -= 1
        return task.missing

    def away(self, oids: Iterable[bytes]) -> list[bytes]:
        """Those that are complete and not here."""
        return [oid for oid in oids if oid in self.entries and self.entries[oid].kind == AWAY]

    def payload(self, oid: bytes) -> tuple[int, Any]:
        """Kind and data of a filled object; a fault when it no longer exists."""
        entry = self.entries.get(oid)
        if entry is None:
            return FAULT, lost(oid)
        entry.read = True
        return entry.kind, entry.data

    def full(self, size: int, describe: Callable[[int], str]) -> Fault:
        """The fault of a request for bytes that are not there; ``describe`` names a connection in words."""
        stored = [entry for entry in self.entries.values() if entry.kind == STORED or entry.kind == ALLOCATED]
        largest = sorted(stored, key=lambda entry: -entry.data[1])[:5]
        return store_full(self.arena, size, [[_holder_text(entry, describe), entry.data[1]] for entry in largest])

    def check(self) -> None:
        """Invariants of the table; raises AssertionError naming the broken one."""
        for oid, entry in self.entries.items():
            conns = len(entry.holders) if type(entry.holders) is set else int(entry.holders is not None)
            assert entry.holds >= conns, f"{oid.hex()} has {entry.holds} holds but {conns} holders"
            assert entry.kind == PENDING or entry.task is None, f"{oid.hex()} is filled but has a task"
            assert entry.kind < INLINE or not entry.waiters, f"{oid.hex()} is filled but has waiters"
        for oid in self._probes:
            assert oid in self.entries, f"{oid.hex()} is gone, and who waits for it was not told"
            assert self.entries[oid].kind in (PENDING, ALLOCATED), f"{oid.hex()} is complete, and that was not told"


def _nobody(oid: bytes, entry: Entry) -> None:
    """A node that knows of no others."""


def _drop(oid: bytes) -> None:
    """See ``_nobody``."""


def _nothing(oid: bytes, entry: Entry) -> tuple[Any, ...]:
    raise AssertionError("there is no other node to tell")


def _lost_message(oid: bytes, far: bool) -> tuple[Any, ...]:
    return (FAR_VALUE, oid, FAULT, lost(oid), []) if far else (VALUE, oid, FAULT, lost(oid))


def _holder_text(entry: Entry, describe: Callable[[int], str]) -> str:
    holders = entry.holders
    if not holders:
        return "held by another object or a pending task"
    first = holders if type(holders) is int else min(holders)  # type: ignore[arg-type]
    return f"held by {describe(first)}"
