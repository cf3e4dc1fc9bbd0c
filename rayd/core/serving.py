"""What workers say of the tasks that they run, as it comes from the wire."""

from collections.abc import Callable
from typing import Any

from rayd.core.actor import Actors
from rayd.core.dispatch import Dispatcher
from rayd.core.door import check_done, check_done_many, check_values
from rayd.core.object_faults import lost
from rayd.core.state import Conn, NodeState
from rayd.core.streams import Streams
from rayd.core.task import STREAMING
from rayd.errors import NOT_FOUND, fault
from rayd.wire import messages as m


class WorkerMessages:
    """Messages of workers.

    Args:
        state: the node's tables.
        tasks, actors, streams: what workers serve.
    """

    def __init__(self, state: NodeState, tasks: Dispatcher, actors: Actors, streams: Streams) -> None:
        self.state = state
        self.tasks = tasks
        self.actors = actors
        self.streams = streams

    def handlers(self) -> dict[int, Callable[[Conn, Any], None]]:
        """By tag."""
        return {
            m.BLOCKED: self._on_blocked,
            m.RESUMED: self._on_resumed,
            m.DONE: self._on_done,
            m.DONE_MANY: self._on_done_many,
            m.YIELD: self._on_yield,
            m.FETCH: self._on_fetch,
            m.BODY: self._on_body,
        }

    def _reply(self, conn: Conn, req: int, ok: bool, value: Any) -> None:
        self.state.effects.sends[conn.conn].append((m.REPLY, req, ok, value))

    def _on_blocked(self, conn: Conn, message: Any) -> None:
        worker = self.state.pool.workers.get(conn.worker)
        if worker is not None:
            self.tasks.blocked(worker)

    def _on_resumed(self, conn: Conn, message: Any) -> None:
        worker = self.state.pool.workers.get(conn.worker)
        if worker is not None:
            self.tasks.resumed(worker)

    def _on_done(self, conn: Conn, message: Any) -> None:
        _, tid, kind, data, contained, run_us = message
        worker = self.state.pool.workers.get(conn.worker)
        task = worker.inflight.get(tid) if worker is not None else None
        if worker is None or task is None:
            return
        if kind or contained or task.spec.num_returns != 1:  # all but the ordinary case
            check_done(self.state.objects, conn.conn, task, kind, data, contained)
        del worker.inflight[tid]
        if self.state.bodies:  # cancelled, and not asked for
            self.state.bodies.pop(tid, None)
        if worker.actor is None:
            self.tasks.done(worker, task, kind, data, contained, run_us)
        else:
            self.actors.done(worker, task, kind, data, contained, run_us)

    def _on_done_many(self, conn: Conn, message: Any) -> None:
        _, tid, results, run_us = message
        worker = self.state.pool.workers.get(conn.worker)
        task = worker.inflight.get(tid) if worker is not None else None
        if worker is None or task is None:
            return
        check_done_many(self.state.objects, conn.conn, task, results)
        del worker.inflight[tid]
        if self.state.bodies:  # cancelled, and not asked for
            self.state.bodies.pop(tid, None)
        self.tasks.finish_many(task, results, run_us)
        if worker.actor is None:
            task.spec.observe(run_us)
            worker.progress_at = self.state.now
            self.state.record(worker, task, run_us, True)
            self.tasks.advance(worker, task.spec)
        else:
            self.state.record(worker, task, run_us, True)
            self.actors.answered(worker)

    def _on_yield(self, conn: Conn, message: Any) -> None:
        _, tid, index, kind, data, contained = message
        check_values(self.state.objects, conn.conn, ((kind, data, contained),))
        worker = self.state.pool.workers.get(conn.worker)
        if worker is None or tid not in worker.inflight:  # another attempt has taken over
            return
        if self.streams.expects(tid, index):
            self.streams.item(tid, kind, self.state.objects.adopt(data) if kind == m.STORED else data, contained)
        elif kind == m.STORED:
            self.state.objects.drop_stored(data)

    def _on_fetch(self, conn: Conn, message: Any) -> None:
        _, req, cid = message
        spec = self.state.specs[cid]  # one that was mailed is known as long as its workers are listened to
        job = self.state.jobs.get(spec.job)
        blob = job.exports.get(spec.function) if job is not None else None
        if blob is None and spec.function:
            text = f"The function of {spec.name} was never exported by its driver."
            self._reply(conn, req, False, fault(NOT_FOUND, text))
            return
        self._reply(conn, req, True, {**spec.options, "blob": blob or b"", "streaming": spec.num_returns == STREAMING})

    def _on_body(self, conn: Conn, message: Any) -> None:
        _, req, tid = message
        body = self.state.bodies.pop(tid, None)
        if body is None:
            self._reply(conn, req, False, lost(tid))
        else:
            self._reply(conn, req, True, body)
