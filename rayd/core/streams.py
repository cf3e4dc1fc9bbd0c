"""Streaming tasks: results that become objects one by one while the task runs.

The submitter is the consumer and holds each item from the moment it exists. Items are sent as soon as the consumer has
asked for the stream; what it has not been sent is let go when it drops the generator.
"""

from typing import Any

from rayd.core.effect import Effects
from rayd.core.objects import ObjectTable
from rayd.core.task import Task
from rayd.ids import return_id
from rayd.wire.messages import CREDIT, ERROR, FAULT, INLINE, STORED, STREAM_END, STREAM_ITEM

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
    """

    __slots__ = ("closed", "conn", "consumed", "ended", "produced", "sent", "task", "wanted")

    def __init__(self, task: Task, conn: int) -> None:
        self.task = task
        self.conn = conn
        self.produced = 0
        self.consumed = 0
        self.sent = 0
        self.wanted = False
        self.closed = False
        self.ended = False


class Streams:
    """All streams of a node, by task id.

    Args:
        effects: the core's way out.
    """

    def __init__(self, effects: Effects) -> None:
        self._effects = effects
        self.objects: ObjectTable
        self.by_task: dict[bytes, Stream] = {}

    def open(self, task: Task, conn: int) -> None:
        self.objects.expect(return_id(task.tid, GENERATOR_INDEX), task, conn)
        self.by_task[task.tid] = Stream(task, conn)

    def item(self, tid: bytes, index: int, kind: int, data: Any, contained: list[bytes], worker_conn: int) -> None:
        """YIELD: item ``index`` (from 0) exists. A repeated one, from a retried attempt, is dropped."""
        stream = self.by_task.get(tid)
        oid = return_id(tid, index + 1)
        if stream is None or stream.closed or index != stream.produced:
            if kind == STORED:
                self.objects.drop_stored(data)
            if stream is not None and (stream.closed or stream.consumed):
                # Another attempt has to learn what the consumer took of the one before.
                taken = CONSUMER_GONE if stream.closed else stream.consumed
                self._effects.sends[worker_conn].append((CREDIT, tid, taken))
            return
        if kind == STORED:
            data = self.objects._adopt(data)
        self.objects.add(oid, kind, data, contained, stream.conn)
        stream.produced += 1
        if stream.wanted:
            self._send(stream)

    def _send(self, stream: Stream) -> None:
        sends = self._effects.sends[stream.conn]
        tid = stream.task.tid
        while stream.sent < stream.produced:
            kind, data = self.objects.payload(return_id(tid, stream.sent + 1))
            sends.append((STREAM_ITEM, tid, stream.sent, kind, data))
            stream.sent += 1
        if stream.ended:
            sends.append((STREAM_END, tid, stream.produced))

    def want(self, tid: bytes, conn: int) -> None:
        """STREAM_WANT of the consumer."""
        stream = self.by_task.get(tid)
        if stream is not None and stream.conn == conn:
            stream.wanted = True
            self._send(stream)

    def end(self, task: Task, kind: int, data: Any) -> None:
        """The task is over; an error becomes the last item."""
        stream = self.by_task.get(task.tid)
        if stream is None:
            return
        if kind in (ERROR, FAULT) and not stream.closed:
            self.objects.add(return_id(task.tid, stream.produced + 1), kind, data, [], stream.conn)
            stream.produced += 1
        stream.ended = True
        if stream.wanted and not stream.closed:
            self._send(stream)
        self.objects.fill(return_id(task.tid, GENERATOR_INDEX), INLINE, NONE_PICKLED, None)
        if stream.closed:  # perhaps only now, by whoever waited for its end
            self.by_task.pop(task.tid, None)

    def close(self, stream: Stream, worker_conn: int) -> None:
        """The consumer has dropped the generator; the producer (at ``worker_conn``, 0 if none) may stop."""
        tid = stream.task.tid
        stream.closed = True
        if worker_conn and not stream.ended:
            self._effects.sends[worker_conn].append((CREDIT, tid, CONSUMER_GONE))
        unsent = [return_id(tid, index + 1) for index in range(stream.sent, stream.produced)]
        self.objects.release(stream.conn, unsent)
        if stream.ended:
            del self.by_task[tid]

    def of_connection(self, conn: int) -> list[bytes]:
        """Streams that a connection consumes."""
        return [tid for tid, stream in self.by_task.items() if stream.conn == conn]
