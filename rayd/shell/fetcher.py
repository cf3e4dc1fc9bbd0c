"""Bring the bytes of objects from other nodes' stores straight into this one's.

Control messages between daemons go over connections of jobs; bytes have connections of their own (HELLO of kind
"bulk"), so that gigabytes keep nobody waiting. The receiving end blocks in threads, which write what arrives where it
belongs without the interpreter's lock. A large object comes in parts, from all nodes that were named to have it: each
thread asks for the next part that is missing as soon as one has come, so who is slow sends less, and what a connection
that fails was to bring comes over another one. One node alone sends over two connections, since one is limited by the
core that feeds it.
"""

import asyncio
import contextlib
import queue
import random
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from rayd.core.chunks import Chunks, Parting, listed
from rayd.core.effect import Fetch
from rayd.core.event import Arrived, Fetched, SourceFailed
from rayd.errors import NODE_DIED, Fault, fault
from rayd.shell.pipe import Pipe, StoppedError
from rayd.store.segment import Segment
from rayd.wire.frame import ProtocolError

PARTING: Final = Parting()
THREADS_MAX: Final = 8
# Connections of a transfer to a node that is its only source; to one of several it has one.
ALONE: Final = 2
# Parts that are asked for at a time over a connection to an only source: the next one is on its way while one is
# written. Of several sources each is asked for one: what is asked for late is less often what others get already.
WINDOW: Final = 2
# A question is for as many parts as come in this time, in seconds, at least one: it is not worth asking more often.
QUESTION_S: Final = 0.04
# And for no more than one of so many parts of what is missing, so that all connections end at about the same time.
SHARE: Final = 2
# Connections to one node that are kept for the next object.
KEPT_MAX: Final = 2
# A source that brings nothing for so long, while another one has nothing left to do, is given up, in seconds.
STALLED_S: Final = 5.0


class Source:
    """A node from which a transfer comes.

    Attributes:
        number: of the node.
        address: host:port of its daemon.
        jobs: threads that bring something from there, or soon will.
        failed: it gives nothing any more.
    """

    __slots__ = ("address", "failed", "jobs", "number")

    def __init__(self, number: int, address: str) -> None:
        self.number = number
        self.address = address
        self.jobs = 0
        self.failed = False


class Transfer:
    """One object on its way.

    Attributes:
        asked: what is wanted; its source is the first one only.
        chunks: what of it is here, and what is not.
        sources: from where it comes, by number of the node.
        pipes: connections that bring it, each with its source.
        jobs: threads that work for it, or soon will.
        stopped: it is to be given up.
        reported: the parts that the core has been told of; None if it does not want to know.
        telling: it is about to be told.
        watched: whether all of its sources bring something is looked at soon.
    """

    __slots__ = ("asked", "chunks", "jobs", "pipes", "reported", "sources", "stopped", "telling", "watched")

    def __init__(self, asked: Fetch) -> None:
        self.asked = asked
        self.chunks = Chunks(PARTING.count(asked.size), random.randrange)
        self.sources: dict[int, Source] = {}
        self.pipes: dict[Pipe, Source] = {}
        self.jobs = 0
        self.stopped = False
        self.reported: int | None = None
        self.telling = False
        self.watched = False

    def is_stopped(self) -> bool:
        """Whether it is to be given up."""
        return self.stopped

    @property
    def over(self) -> bool:
        """There is nothing left to bring."""
        return self.stopped or self.chunks.complete


class Fetcher:
    """The receiving end of all transfers to a node.

    Args:
        loop: of the daemon.
        segment: the store.
        feed: called on the loop with what the core is to know.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        segment: Segment,
        feed: Callable[[Arrived | SourceFailed | Fetched], None],
    ) -> None:
        self._loop = loop
        self._segment = segment
        self._feed = feed
        self._transfers: dict[int, Transfer] = {}
        self._jobs: queue.SimpleQueue[tuple[Transfer, Source] | None] = queue.SimpleQueue()
        self._open_jobs = 0
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()  # over all that threads and the loop both change
        self._kept: dict[str, list[Pipe]] = {}
        self._busy: dict[Pipe, None] = {}
        self._closed = False

    def fetch(self, asked: Fetch) -> None:
        """Begin a transfer, or let one that is under way come from one more node."""
        transfer = self._transfers.get(asked.number)
        if transfer is None:
            transfer = self._transfers[asked.number] = Transfer(asked)
            if asked.size >= PARTING.whole_below:
                self._segment.populate(asked.offset, asked.size)
        with self._lock:
            if asked.source not in transfer.sources:
                transfer.sources[asked.source] = Source(asked.source, asked.address)
            transfer.chunks.offer(asked.source, asked.parts)
        self._go_on(transfer)

    def report(self, number: int) -> None:
        """Tell which parts of a transfer have come, now and whenever there are more."""
        transfer = self._transfers.get(number)
        if transfer is not None:
            with self._lock:
                transfer.reported = 0
                self._has_news(transfer)

    def stop(self, number: int) -> None:
        """Give a transfer up; ``Fetched`` tells when nothing is written any more."""
        transfer = self._transfers.get(number)
        if transfer is not None:
            with self._lock:
                transfer.stopped = True
                for pipe in transfer.pipes:  # its thread may wait for a host that is cut off
                    pipe.cut("nobody wants the object any more")
            self._loop.call_soon(self._settle, transfer)

    def close(self) -> None:
        """End everything; nothing is told any more."""
        with self._lock:
            self._closed = True
            pipes = [*self._busy, *(pipe for kept in self._kept.values() for pipe in kept)]
        for pipe in pipes:
            pipe.close()
        for _ in self._threads:
            self._jobs.put(None)

    # ---- on the loop -------------------------------------------------------------------------------------------------

    def _go_on(self, transfer: Transfer) -> None:
        """Have as many threads work for it as find something to do."""
        pipes = ALONE if len(transfer.sources) == 1 else 1
        for source in transfer.sources.values():
            while source.jobs < min(pipes, transfer.chunks.useful(source.number).bit_count()):
                source.jobs += 1
                transfer.jobs += 1
                self._open_jobs += 1
                self._jobs.put((transfer, source))
        while len(self._threads) < min(THREADS_MAX, self._open_jobs):
            thread = threading.Thread(target=self._work, name=f"fetch {len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _job_done(self, transfer: Transfer, source: Source, why: Fault | None) -> None:
        source.jobs -= 1
        transfer.jobs -= 1
        self._open_jobs -= 1
        if why is not None and not source.failed:
            source.failed = True
            with self._lock:
                transfer.chunks.leave(source.number)
                del transfer.sources[source.number]
            if not transfer.over and not self._closed:
                self._feed(SourceFailed(transfer.asked.number, source.number, why))
        self._settle(transfer)

    def _settle(self, transfer: Transfer) -> None:
        """What there is to do now that something has changed."""
        number = transfer.asked.number
        if not transfer.over:
            self._go_on(transfer)
            self._watch(transfer)
        elif not transfer.jobs and number in self._transfers:
            del self._transfers[number]
            if not self._closed:
                self._feed(Fetched(number))

    def _watch(self, transfer: Transfer) -> None:
        """As long as a source has nothing to do, see to it that the others do something."""
        if not transfer.watched and transfer.jobs and any(not source.jobs for source in transfer.sources.values()):
            transfer.watched = True
            self._loop.call_later(STALLED_S, self._look, transfer)

    def _look(self, transfer: Transfer) -> None:
        transfer.watched = False
        if transfer.over:
            return
        idle = [source for source in transfer.sources.values() if not source.jobs]
        with self._lock:  # so that none is put away meanwhile and brings something else
            for pipe, source in transfer.pipes.items():
                if time.monotonic() - pipe.moved_at > STALLED_S and any(other is not source for other in idle):
                    pipe.cut(f"it has sent nothing for {STALLED_S:g} s, and another node can send it")
        self._watch(transfer)

    def _tell(self, transfer: Transfer) -> None:
        with self._lock:
            transfer.telling = False
            news = transfer.chunks.here & ~(transfer.reported or 0)
            transfer.reported = transfer.chunks.here
        if news and not transfer.over and not self._closed:
            self._feed(Arrived(transfer.asked.number, listed(news)))

    # ---- in threads --------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            transfer, source = job
            where = f"the node at {source.address}"
            oid = transfer.asked.oid.hex()
            why: Fault | None
            try:
                why = self._bring(transfer, source)
            except StoppedError:
                why = None
            except (OSError, ProtocolError) as error:
                why = fault(NODE_DIED, f"Its bytes cannot be brought from {where}: {error}.", object_id=oid)
            except BaseException as error:  # noqa: BLE001 - whatever happens, the transfer has an end
                text = f"Its bytes could not be brought from {where}, a defect of rayd: {error!r}."
                why = fault(NODE_DIED, text, object_id=oid)
                sys.excepthook(type(error), error, error.__traceback__)
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._job_done, transfer, source, why)

    def _bring(self, transfer: Transfer, source: Source) -> Fault | None:
        """Parts from one source, as long as it has some that are missing; the reason if it has not what was said."""
        while not transfer.over and not source.failed and transfer.chunks.useful(source.number):
            parts: deque[int] = deque()
            pipe: Pipe | None = None
            try:
                pipe = self._take(transfer, source)
                return self._receive(transfer, source, pipe, parts)
            except BaseException as error:
                if pipe is not None and pipe.doubtful and isinstance(error, OSError) and not self._closed:
                    continue  # a fresh one will tell
                raise
            finally:
                with self._lock:
                    for claimed in parts:
                        transfer.chunks.give_up(claimed)
                if pipe is not None:
                    self._put_away(transfer, source, pipe)
        return None

    def _receive(self, transfer: Transfer, source: Source, pipe: Pipe, parts: deque[int]) -> Fault | None:
        """Claim parts, which are in ``parts`` until they have come; a reason as above."""
        asked = transfer.asked
        each = PARTING.part_bytes(asked.size)
        views: deque[memoryview] = deque()
        try:
            while True:
                window = WINDOW if len(transfer.sources) == 1 else 1
                left = transfer.chunks.missing.bit_count() // SHARE
                most = min(int(pipe.rate * QUESTION_S / each), left) or 1
                while len(parts) < window and (claimed := self._claim(transfer, source, most)):
                    parts.append(claimed)
                if not parts:
                    return None
                while len(views) < len(parts):
                    at, count = PARTING.span(asked.size, parts[len(views)])
                    views.append(self._segment.view(asked.offset + at, count, writable=True))
                    pipe.ask(asked.oid, at, views[-1])
                why = pipe.receive(transfer.is_stopped)
                if why is not None:
                    return why
                views.popleft().release()
                with self._lock:
                    transfer.chunks.arrived(parts.popleft())
                    self._has_news(transfer)
        finally:
            for view in views:
                view.release()

    def _claim(self, transfer: Transfer, source: Source, most: int) -> int:
        with self._lock:
            return 0 if transfer.stopped or source.failed else transfer.chunks.claim(source.number, most)

    def _has_news(self, transfer: Transfer) -> None:
        """The core will be told of what has come, if it wants to know; under the lock."""
        if transfer.reported is not None and not transfer.telling:
            transfer.telling = True
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._tell, transfer)

    def _take(self, transfer: Transfer, source: Source) -> Pipe:
        with self._lock:
            kept = self._kept.get(source.address)
            pipe = kept.pop() if kept else None
        if pipe is not None:
            pipe.doubtful = True
            pipe.moved_at = time.monotonic()
        else:
            pipe = Pipe(source.address)
        with self._lock:
            self._busy[pipe] = None
            transfer.pipes[pipe] = source
            if self._closed:
                pipe.close()
        return pipe

    def _put_away(self, transfer: Transfer, source: Source, pipe: Pipe) -> None:
        """Keep a connection that can be used again, and close another one."""
        with self._lock:
            del self._busy[pipe]
            del transfer.pipes[pipe]
            kept = self._kept.setdefault(source.address, [])
            if len(kept) < KEPT_MAX and pipe.clean:
                kept.append(pipe)
                return
        pipe.close()
