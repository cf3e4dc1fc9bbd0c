"""Streaming tasks: results that become objects one by one while the task runs.

The submitter is the consumer and holds each item from the moment it exists. Items are sent as soon as the consumer has
asked for the stream; what it has not been sent is let go when it drops the generator. If the task was submitted on
another node, that node is the consumer here, and has a stream of its own for the one there: it gets each item at once.
"""

from collections.abc import Callable
from typing import Any

from rayd.core.effect import Effects
from rayd.core.object_faults import lost
from rayd.core.objects import AWAY, ObjectTable
from rayd.core.task import Task
from rayd.ids import return_id
from rayd.wire.messages import ERROR, FAR_ITEM, FAULT, INLINE, STORED, STREAM_END, STREAM_ITEM

# Index 0 of a streaming task is the generator itself: ready when the stream has ended.
GENERATOR_INDEX = 0
# Sent as CREDIT to a task whose consumer has dropped the generator.
CONSUMER_GONE = -1
# The value of a generator's own reference, None, as the SDK reads it. The daemon makes no other value.
NONE_PICKLED = b"\x80\x05N."


class Stream:
    """One stream.

    Attributes:
        task: the task that yields.
        conn: the consumer.
        produced: items that exist.
        consumed: items that the consumer has taken, as far as it has said.
        sent: items the consumer has been told of.
        wanted: the consumer has asked.
        closed: the consumer has dropped it.
        ended: no more items will come.
        failure: [kind, data] of the error with which the task has ended.
    """

    __slots__ = ("closed", "conn", "consumed", "ended", "failure", "produced", "sent", "task", "wanted")

    def __init__(self, task: Task, conn: int) -> None:
        self.task = task
        self.conn = conn
        self.produced = 0
        self.consumed = 0
        self.sent = 0
        self.wanted = False
        self.closed = False
        self.ended = False
        self.failure: list[Any] | None = None


class Streams:
    """All streams of a node, by task id.

    Args:
        effects: the core's way out.
        credit: tells whoever runs a task how many of its items have been taken.
    """

    def __init__(self, effects: Effects, credit: Callable[[Task, int], None]) -> None:
        self._effects = effects
        self._credit = credit
        self.objects: ObjectTable
        self.by_task: dict[bytes, Stream] = {}

    def open(self, task: Task, conn: int) -> None:
        self.objects.expect(return_id(task.tid, GENERATOR_INDEX), task, conn)
        stream = self.by_task[task.tid] = Stream(task, conn)
        stream.wanted = conn in self.objects.nodes

    def expects(self, tid: bytes, index: int) -> bool:
        """Whether item ``index`` (from 0) is the next one. A repeated one, from a retried attempt, is not; that attempt
        then learns what the consumer took of the one before.
        """
        stream = self.by_task.get(tid)
        if stream is None or stream.ended:
            return False
        if stream.closed or (index != stream.produced and stream.consumed):
            self._credit(stream.task, CONSUMER_GONE if stream.closed else stream.consumed)
        return not stream.closed and index == stream.produced

    def item(self, tid: bytes, kind: int, data: Any, contained: list[bytes]) -> bool:
        """The next item exists: YIELD of a worker here, or of one elsewhere (then perhaps AWAY); whether it is new."""
        stream = self.by_task[tid]
        oid = return_id(tid, stream.produced + 1)
        new = oid not in self.objects.entries or stream.conn not in self.objects.nodes
        stream.produced += 1
        if new:
            self.objects.add(oid, kind, data, contained, stream.conn)
        elif kind == STORED:
            self.objects.arena.free(data[0])
        if stream.wanted and new:
            self._send(stream)
        elif stream.wanted:
            self._repeat(stream, oid)
        return new

    def _repeat(self, stream: Stream, oid: bytes) -> None:
        """An attempt before this one has made an item elsewhere, and this node knows it from the consumer, a node that
        has it: that only hears how far this attempt is.
        """
        self._effects.sends[stream.conn].append((FAR_ITEM, stream.task.tid, stream.sent, FAULT, lost(oid), []))
        stream.sent += 1

    def _send(self, stream: Stream) -> None:
        tid = stream.task.tid
        far = stream.conn in self.objects.nodes
        while stream.sent < stream.produced:
            self._send_item(stream, return_id(tid, stream.sent + 1), far)
            stream.sent += 1
        if stream.ended and not far:
            self._effects.sends[stream.conn].append((STREAM_END, tid, stream.produced))

    def _send_item(self, stream: Stream, oid: bytes, far: bool) -> None:
        sends, tid, index = self._effects.sends[stream.conn], stream.task.tid, stream.sent
        kind, data = self.objects.payload(oid)
        entry = self.objects.entries.get(oid)
        contained = list(entry.contained or ()) if entry is not None else []
        if not far:  # of what is not here the consumer gets the reference only
            sends.append((STREAM_ITEM, tid, index, kind, data if kind >= INLINE else b""))
        elif kind in (STORED, AWAY):
            sends.append((FAR_ITEM, tid, index, STORED, data[-1:], contained))
        else:
            sends.append((FAR_ITEM, tid, index, kind, data, contained))
            if not contained:
                self.objects.release(stream.conn, [oid])

    def want(self, tid: bytes, conn: int) -> None:
        """STREAM_WANT of the consumer."""
        stream = self.by_task.get(tid)
        if stream is not None and stream.conn == conn:
            stream.wanted = True
            self._send(stream)

    def acknowledge(self, tid: bytes, consumed: int) -> None:
        """STREAM_ACK of the consumer."""
        stream = self.by_task.get(tid)
        if stream is None or stream.ended:
            return
        if consumed < 0:
            self.close(tid)
            return
        stream.consumed = consumed
        self._credit(stream.task, consumed)

    def end(self, task: Task, kind: int, data: Any) -> None:
        """The task is over; an error becomes the last item."""
        stream = self.by_task.get(task.tid)
        if stream is None:
            return
        if kind in (ERROR, FAULT):
            stream.failure = [kind, data]
            if not stream.closed and stream.conn not in self.objects.nodes:  # a node hears of it with the task's end
                self.objects.add(return_id(task.tid, stream.produced + 1), kind, data, [], stream.conn)
                stream.produced += 1
        stream.ended = True
        if stream.wanted and not stream.closed:
            self._send(stream)
        self.objects.fill(return_id(task.tid, GENERATOR_INDEX), INLINE, NONE_PICKLED, None)
        if stream.closed:  # perhaps only now, by whoever waited for its end
            self.by_task.pop(task.tid, None)

    def failure(self, tid: bytes) -> list[Any] | None:
        """[kind, data] of the error with which a task has ended, if it has."""
        stream = self.by_task.get(tid)
        return stream.failure if stream is not None else None

    def forget(self, tid: bytes) -> None:
        """The task is given back to the node from which it came."""
        self.by_task.pop(tid, None)

    def close(self, tid: bytes) -> None:
        """The consumer has dropped the generator; the producer stops at its next item."""
        stream = self.by_task.get(tid)
        if stream is None or stream.closed:
            return
        stream.closed = True
        if not stream.ended:
            self._credit(stream.task, CONSUMER_GONE)
        unsent = [return_id(tid, index + 1) for index in range(stream.sent, stream.produced)]
        self.objects.release(stream.conn, unsent)
        if stream.ended:
            del self.by_task[tid]

    def of_connection(self, conn: int) -> list[bytes]:
        """Streams that a connection consumes."""
        return [tid for tid, stream in self.by_task.items() if stream.conn == conn]
