"""The core of one machine: one door in, one door out.

``Node.step(now, event)`` is the only way anything changes. The event's consequences are appended to the ``Effects`` the
caller owns. The parts (``Dispatcher``, ``Actors``, ``Streams``, ``ObjectTable``, ``Pool``) share ``NodeState`` and
never see a socket, a clock or a process.
"""

from collections.abc import Callable
from typing import Any, Final

from rayd.core import rights
from rayd.core.actor import Actors
from rayd.core.actor_record import Actor
from rayd.core.check import check
from rayd.core.detached import Detached
from rayd.core.directory import Directory
from rayd.core.dispatch import Dispatcher
from rayd.core.door import (
    ONLY_TOOLS,
    ONLY_WORKERS,
    check_environment,
    check_introduction,
)
from rayd.core.draining import Draining
from rayd.core.effect import Audit, CloseConnection, Effects, RetireWorker
from rayd.core.event import (
    Arrived,
    Connected,
    Disconnected,
    Event,
    Fetched,
    Join,
    Linked,
    Received,
    Recover,
    Sent,
    SourceFailed,
    TakenBack,
    Tick,
    WorkerExited,
    WorkerStarted,
    Written,
)
from rayd.core.group import Groups
from rayd.core.grouping import Grouping
from rayd.core.handling import ObjectMessages
from rayd.core.jobs import Jobs
from rayd.core.keyvalue import KeyValue
from rayd.core.member import Member
from rayd.core.naming import AT_THE_HEAD, Naming
from rayd.core.neighbours import Neighbours
from rayd.core.objects import Entry
from rayd.core.placement import Placement
from rayd.core.queries import Queries
from rayd.core.recovery import recover
from rayd.core.serving import WorkerMessages
from rayd.core.state import Conn, NodeState
from rayd.core.streams import Streams
from rayd.core.task import Task
from rayd.core.worker import IDLE_NS_MAX, WorkerState
from rayd.errors import BAD_REQUEST, Fault, fault
from rayd.ids import ACTOR_ID_BYTES, ACTOR_OBJECT_SUFFIX, TASK_ID_BYTES
from rayd.store.arena import Arena
from rayd.wire import messages as m
from rayd.wire.frame import ProtocolError

SLOW_CHECK_NS: Final = 5_000_000
GENERATOR_SUFFIX: Final = b"\x00\x00\x00\x00"


class Node:
    """One machine's core.

    Args:
        node_id: 28 bytes.
        resources: total amounts by name.
        arena: allocator of the object store.
        effects: the way out; the caller drains it after every step.
        facts: what the shell knows of this machine, for ``ray.nodes`` and ``rayd status``.
    """

    def __init__(
        self, node_id: bytes, resources: dict[str, float], arena: Arena, effects: Effects, facts: dict[str, Any]
    ) -> None:
        self.state = NodeState(node_id, resources, arena, effects)
        self.streams = Streams(effects, self._credit)
        self.streams.objects = self.state.objects
        self.tasks = Dispatcher(self.state, self.streams)
        self.directory = Directory()
        self.actors = Actors(self.state, self.tasks, self._on_actor_death)
        self.jobs = Jobs(self.state, self.tasks, self.actors)
        self.tasks.actor_ready = self.actors.ready
        self.state.bind(self.tasks.ready, self._unheld)
        self.neighbours = Neighbours(self.state, self.tasks, self.actors, self.jobs, facts)
        self.claiming = self.neighbours.claiming
        self.naming = Naming(self.state, self.actors, self.directory, self.neighbours.cluster)
        self.placement = Placement(self.state, self.neighbours.cluster, self.tasks, self.actors)
        self.bundles = self.placement.bundles
        self.groups = Groups(self.state, self.neighbours.cluster, self.bundles)
        self.detached = Detached(self.state, self.actors, self.directory, self.placement)
        self.naming.on_create = self.detached.keep
        self.key_value = KeyValue(self.state.journal)
        self.grouping = Grouping(self.state, self.neighbours.cluster, self.groups, self.placement, self.naming)
        self.draining = Draining(self.state, self.neighbours, self.actors, self.bundles)
        self.neighbours.on_change = self._on_node_change
        self.neighbours.on_answer = self.naming.answered
        self.neighbours.on_head_back = self.naming.ask_again
        self.queries = Queries(
            self.state, self.tasks, self.actors, self.directory, self.groups, self.neighbours.cluster, facts
        )
        self.queries.methods.update(self.key_value.methods())
        self.queries.methods["name_take"] = lambda conn, params: self.naming.take(params)
        self.queries.methods["names_had"] = self.naming.had
        self.queries.methods["name_drop"] = lambda conn, params: self.naming.drop(params)
        self.neighbours.cluster.load = self.queries.load
        self.queries.waits_for = self.draining.waits_for

        self._timed = (self.tasks.starts, self.tasks.limits, self.neighbours.hosting)
        self._handlers = self._by_kind()

    def _by_kind(self) -> dict[str, dict[int, Callable[[Conn, Any], None]]]:
        """What each kind of client may say, and who deals with it."""
        handlers: dict[int, Callable[[Conn, Any], None]] = {
            m.EXPORT: self._on_export,
            m.SPEC: self._on_spec,
            m.SUBMIT: self.tasks.submit,
            m.CREATE: self.naming.create,
            m.CALL: self.actors.call,
            **ObjectMessages(self.state, self.neighbours).handlers(),
            m.CANCEL: self._on_cancel,
            m.KILL: self._on_kill,
            m.STREAM_WANT: lambda conn, message: self.streams.want(message[1], conn.conn),
            m.STREAM_ACK: lambda conn, message: self.streams.acknowledge(message[1], message[2]),
            m.RPC: self._on_rpc,
            **WorkerMessages(self.state, self.tasks, self.actors, self.streams).handlers(),
            m.PUT_WHEN: lambda conn, message: self.bundles.put_when(conn.conn, *message[1:]),
        }
        tools = {tag: handler for tag, handler in handlers.items() if tag in ONLY_TOOLS}
        of_driver = {tag: handler for tag, handler in handlers.items() if tag not in ONLY_WORKERS}
        return {
            "worker": handlers,
            "driver": of_driver,
            "node": {
                **self.neighbours.handlers(of_driver),
                **self.grouping.handlers(),
                m.DRAIN: self.draining.begin,
            },
            "bulk": {m.READ: self.neighbours.lending.read},
            "cli": tools,
            "logs": tools,
        }

    # ---- the door ----------------------------------------------------------------------------------------------------

    def step(self, now: int, event: Event) -> None:
        """Apply one event.

        Args:
            now: monotonic time in nanoseconds, never before that of an earlier step.
            event: what happened.

        Raises:
            ProtocolError: a client broke the protocol; the shell closes its connection. Messages before the bad one
                have been applied.
        """
        state = self.state
        state.now = now
        try:
            if type(event) is Received:
                self._on_received(event)
            else:
                self._on_event(event)
        finally:
            if state.dirty:
                self._dispatch()
                if state.claims.claim is not None and state.claims.end_pass():
                    self._dispatch()

    def _dispatch(self) -> None:
        """Something has been queued, or has become free."""
        state = self.state
        state.dirty = False
        if state.claims.claim is not None:
            state.claims.begin_pass()
        if self.bundles.leaving:
            self.bundles.release()
        if self.bundles.waiting:
            self.bundles.dispatch()
        if self.groups.pending:
            self.groups.dispatch()
        if state.placing:
            self.actors.places.dispatch(self.tasks.leases)
        if state.placing or self.claiming.asked:
            self.claiming.review()
        self.tasks.leases.dispatch()

    def next_deadline(self) -> int | None:
        """When to send ``Tick`` at the latest, in ns; None while nothing depends on time."""
        beat = self.neighbours.cluster.deadline()
        own = self._own_deadline()
        return own if beat is None else beat if own is None else min(own, beat)

    def _own_deadline(self) -> int | None:
        if self.tasks.crowded:
            return self.state.now + SLOW_CHECK_NS
        found = self.state.claims.deadline() if self.state.claims.claim is not None else None
        for part in self._timed:
            due = part.deadline()
            if due is not None and (found is None or due < found):
                found = due
        if found is not None:
            return found
        if sum(map(len, self.state.pool.idle.values())) > self.state.pool.size:
            return self.state.now + IDLE_NS_MAX
        return None

    def _on_received(self, event: Received) -> None:
        conn = self.state.conns.get(event.conn)
        if conn is None or (conn.worker and self.jobs.is_over(conn)):
            return
        handlers = self._handlers[conn.kind]
        for message in event.messages:
            handler = handlers.get(message[0])
            if handler is None:
                raise ProtocolError(f"{m.NAMES[message[0]]} is not for a {conn.kind} to say")
            try:
                handler(conn, message)
            except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
                raise ProtocolError(f"{m.NAMES[message[0]]} cannot be applied: {error!r}") from error

    def _on_event(self, event: Event) -> None:
        match event:
            case Connected():
                self._on_connected(event)
            case Linked():
                self.neighbours.linked(event)
                if "groups" in event.welcome:  # of the head
                    self.grouping.learn(event.welcome["groups"])
            case Arrived() | SourceFailed() | Fetched() | Sent():
                self.neighbours.transferred(event)
            case Recover():
                recover(self, event.rows)
            case Written():
                self.state.journal.written(event.number, event.why)
            case Join():
                self.neighbours.join(event.address)
            case Disconnected():
                self._on_disconnected(event)
            case WorkerStarted():
                worker = self.state.pool.workers.get(event.worker)
                if worker is not None:
                    worker.pid = event.pid
            case WorkerExited():
                self._on_worker_exited(event)
            case TakenBack():
                worker = self.state.pool.workers.get(event.worker)
                if worker is not None:
                    self.tasks.taken_back(worker, event.tids)
            case Tick():
                self._on_tick()
            case _:
                raise TypeError(f"unknown event {event!r}")

    def _on_tick(self) -> None:
        self.neighbours.cluster.beat()
        if self.tasks.crowded:
            self.tasks.slow_check()
        self.tasks.limits.check()
        if self.tasks.starts.resume():
            self.state.dirty = True
        if self.neighbours.hosting.resume() or self.state.claims.is_due():
            self.state.dirty = True
        for worker in self.state.pool.surplus(self.state.now):
            self.state.pool.drop_idle(worker)
            worker.state = WorkerState.DEAD
            worker.fate = "retired"
            self.state.effects.others.append(RetireWorker(worker.wid))

    # ---- connections -------------------------------------------------------------------------------------------------

    def _on_connected(self, event: Connected) -> None:
        check_introduction(event.info)
        state = self.state
        if event.kind == "worker":
            worker = state.pool.workers.get(event.worker)
            if worker is None or worker.state is not WorkerState.STARTING or worker.fate is not None:
                state.effects.others.append(CloseConnection(event.conn))
                return
            state.pool.started(worker)
            self.tasks.starts.succeeded(worker)
            conn = Conn(event.conn, event.kind, event.info, worker.key[0], worker.wid)
            worker.conn = event.conn
            state.pool.put_idle(worker, state.now)
            state.dirty = True
        else:
            job = b""
            if event.kind == "driver":
                job = self.jobs.begin(event.conn, event.info)
            elif event.kind in ("logs", "node"):
                job = bytes(event.info.get("job", b""))
            conn = Conn(event.conn, event.kind, event.info, job, 0, event.scope)
        state.conns[event.conn] = conn
        if event.kind == "driver":
            state.audit(f"job {job.hex()} was begun", conn)
        if event.kind == "node":
            known = state.journal.count
            self.neighbours.connected(conn)
            if not conn.job:
                state.journal.after(known, lambda why: self._let_in(conn, why))
                return
        state.effects.sends[event.conn].append((m.WELCOME, self._welcome(conn)))
        if event.kind == "logs" and conn.job in state.jobs:
            state.jobs[conn.job].logs.append(event.conn)
            while unsaid := state.jobs[conn.job].unsaid:
                level, text = unsaid.popleft()
                state.warn(conn.job, text, level)

    def _let_in(self, conn: Conn, why: Fault | None) -> None:
        """A node joins: it is in the journal, or cannot be."""
        sends = self.state.effects.sends[conn.conn]
        if conn.conn not in self.state.conns:
            return
        if why is not None:
            sends.append((m.REFUSED, why))
            self.state.effects.others.append(CloseConnection(conn.conn))
            return
        cluster = self.neighbours.cluster
        more = {**cluster.admit(conn), "groups": self.groups.notices()}
        sends.append((m.WELCOME, {**self._welcome(conn), **more}))
        cluster.tell_to_drain(cluster.members[more["number"]])

    def _welcome(self, conn: Conn) -> dict[str, Any]:
        job = self.state.jobs.get(conn.job)
        return {
            **self.queries.facts,
            "number": self.state.number,
            "job": conn.job,
            "namespace": job.namespace if job else "",
            "job_info": job.info if job and conn.worker else {},
        }

    def _on_disconnected(self, event: Disconnected) -> None:
        state = self.state
        conn = state.conns.pop(event.conn, None)
        if conn is None:
            return
        for tid in self.streams.of_connection(conn.conn):
            self.streams.close(tid)
        if conn.kind == "driver":
            state.effects.others.append(Audit(f"job {conn.job.hex()} has ended"))
            self.jobs.end(conn.job)
            self.grouping.end_job(conn.job)
        elif conn.kind == "node":
            self.neighbours.disconnected(conn, event.why, event.how)
        elif conn.kind == "bulk":
            self.neighbours.lending.lost(conn.conn)
        job = state.jobs.get(conn.job)
        if job is not None and conn.conn in job.logs:
            job.logs.remove(conn.conn)
        if conn.kind in ("driver", "worker", "node"):
            state.objects.forget_connection(conn.conn)

    def _on_node_change(self, member: Member) -> None:
        if not member.alive:
            self.naming.node_died(member)
            if self.neighbours.cluster.is_head:
                self.groups.node_died(member)
        self.placement.node_changed(member)

    def _on_actor_death(self, actor: Actor) -> None:
        self.detached.over(actor)
        self.naming.actor_died(actor)
        self.jobs.actor_died(actor)

    def _on_worker_exited(self, event: WorkerExited) -> None:
        state = self.state
        worker = state.pool.workers.get(event.worker)
        if worker is None:
            return
        starting = worker.state is WorkerState.STARTING
        state.pool.remove(worker)
        why = self.tasks.starts.failed(worker, event.cause, event.stderr) if starting else None
        if why is not None:
            self.tasks.start_failed(worker.key, why)
            self.actors.places.start_failed(worker.key, why)
        if worker.actor is not None:
            self.actors.worker_lost(worker, event.cause, event.stderr, event.unread)
        else:
            self.tasks.worker_lost(worker, event.cause, event.stderr, event.unread)
        state.dirty = True

    def _unheld(self, oid: bytes, entry: Entry) -> bool:
        """Nobody refers to an object any more. Returns True to keep its entry all the same."""
        if self.neighbours.lineage.records:
            self.neighbours.lineage.freed(oid)
        if self.neighbours.sharing.shares:
            self.neighbours.sharing.freed(oid)
        if oid in self.neighbours.foreign.source:
            self.neighbours.foreign.let_go(oid)
            return False
        if oid.endswith(ACTOR_OBJECT_SUFFIX):
            aid = oid[:ACTOR_ID_BYTES]
            if self.neighbours.far_calls.is_far(aid):  # even if it runs here: its handles count at its home
                return False
            self.actors.unheld(aid)
            actor = self.actors.by_id.get(aid)
            if actor is not None and actor.fault is None:
                return True
            self.actors.forget_dead(aid)
            return entry.holds > 0 or oid not in self.state.objects.entries
        if oid.endswith(GENERATOR_SUFFIX):
            self.streams.close(oid[:TASK_ID_BYTES])
        if entry.kind >= m.ERROR and not entry.read:
            self.state.report_unread(oid, entry.kind, entry.data)
        return False

    def _credit(self, task: Task, consumed: int) -> None:
        """Tell who runs a streaming task how much of it has been taken."""
        worker = self.state.pool.workers.get(task.worker)
        channel = self.neighbours.offload.out.get(task.tid)
        if channel is not None:
            self.state.effects.sends[channel.conn].append((m.STREAM_ACK, task.tid, consumed))
        elif worker is not None:
            self.state.effects.sends[worker.conn].append((m.CREDIT, task.tid, consumed))

    # ---- messages ----------------------------------------------------------------------------------------------------

    def _reply(self, conn: Conn, req: int, ok: bool, value: Any) -> None:
        self.state.effects.sends[conn.conn].append((m.REPLY, req, ok, value))

    def _on_export(self, conn: Conn, message: Any) -> None:
        self.state.jobs[conn.job].exports[message[1]] = message[2]

    def _on_spec(self, conn: Conn, message: Any) -> None:
        check_environment(message[2].get("env_vars") or {})
        spec = self.state.spec_for(conn.job, message[2])
        self.placement.bind(spec)
        conn.specs[message[1]] = spec

    def _on_cancel(self, conn: Conn, message: Any) -> None:
        _, oid, force, recursive = message
        entry = self.state.objects.entries.get(oid)
        if entry is None or entry.task is None or oid.endswith(ACTOR_OBJECT_SUFFIX):
            return
        self._cancel(entry.task, force, recursive)

    def _cancel(self, task: Task, force: bool, recursive: bool) -> None:
        children = self.state.children.pop(task.tid, {}) if recursive else {}
        for child in children.values():
            if not child.done:
                self._cancel(child, force, True)
        if self.neighbours.offload.cancel(task, force, recursive):
            task.stopped = True
        elif task.actor is not None:
            self.actors.cancel(task, force)
        else:
            self.tasks.cancel(task, force)

    def _on_kill(self, conn: Conn, message: Any) -> None:
        aid = message[1]
        actor = self.actors.by_id.get(aid)
        if conn.kind != "node":
            self.state.audit(f"actor {aid.hex()} was killed", conn)
        here = actor is not None and actor.home in (0, conn.conn)
        if not here and self.neighbours.far_calls.is_far(aid):
            self.neighbours.far_calls.kill(conn.job, aid, message[2])
        else:
            self.actors.kill(aid, message[2])

    def _on_rpc(self, conn: Conn, message: Any) -> None:
        _, req, method, params = message
        handler = self.queries.methods.get(method)
        if handler is None or (method in rights.OF_NODES and conn.kind != "node"):
            known = ", ".join(sorted(self.queries.methods.keys() - rights.OF_NODES))
            self._reply(conn, req, False, fault(BAD_REQUEST, f"This daemon has no method {method!r}. It has: {known}."))
            return
        why = rights.refusal(conn.scope, method)  # here, since the head only sees that this node asks
        if why is None and method in rights.RULING and conn.kind != "node":
            self.state.audit(f"{method} was ordered", conn)
        if why is None and method in AT_THE_HEAD and not self.neighbours.cluster.is_head:
            self.naming.forward(conn, req, method, params)
            return
        written = self.state.journal.count
        try:
            ok, value = handler(conn, params) if why is None else (False, why)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            if conn.kind != "node":
                raise
            # Nonsense of another node's client, which is not to cost that node its connection.
            ok, value = False, fault(BAD_REQUEST, f"{method!r} cannot be answered: {error!r:.200}")
        self.state.journal.after(
            written, lambda unwritten: self._reply(conn, req, ok and unwritten is None, unwritten or value)
        )

    def check(self) -> None:
        """Every invariant of every part; raises AssertionError naming the broken one."""
        check(self)
