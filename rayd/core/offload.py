"""Tasks that run on another node than the one to which they were submitted.

The node of the submitter stays their home: it holds the references, retries when the other node dies, and hands out no
more to a node than that can begin soon: the slots it seems to have for the scheduling class, each with the same short
queue that a local worker would get. The other node decides: what it cannot begin it sends back with what it has free
(a *refusal*), and it never hands a task on to a third node.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

from rayd.core.channels import Channel, Channels
from rayd.core.cluster import Cluster
from rayd.core.dispatch import Dispatcher
from rayd.core.foreign import Foreign
from rayd.core.member import Member
from rayd.core.objects import AWAY, PENDING
from rayd.core.resources import Ledger
from rayd.core.rooms import Rooms
from rayd.core.state import NodeState
from rayd.core.streams import GENERATOR_INDEX, NONE_PICKLED
from rayd.core.task import STREAMING, Spec, Task
from rayd.errors import ACTOR_DIED, ACTOR_UNAVAILABLE, CANCELLED, NODE_DIED, Fault, fault
from rayd.ids import return_id
from rayd.wire.frame import ProtocolError
from rayd.wire.messages import CALL, CANCEL, ERROR, FAR_DONE, FAULT, INLINE, REFUSE, RELEASE, STORED, SUBMIT

_ROW: Final = 3
_FITS: Final[dict[int, type]] = {INLINE: bytes, ERROR: bytes, FAULT: dict, STORED: list}


class Offload:
    """What a node has others run, and what it runs for others.

    Args:
        state: the node's tables.
        cluster: the other nodes.
        channels: the ways to them.
        foreign: objects of theirs.
        tasks: the node's own queues.
    """

    def __init__(
        self, state: NodeState, cluster: Cluster, channels: Channels, foreign: Foreign, tasks: Dispatcher
    ) -> None:
        self.state = state
        self.cluster = cluster
        self.channels = channels
        self.foreign = foreign
        self.tasks = tasks
        self.out: dict[bytes, Channel] = {}
        self.on_call_over: Callable[[Task], None] = lambda task: None
        self.on_results: Callable[[Task], None] = lambda task: None
        # Calls of processes here that were sent away and came back: who is to hear of the result, and how they went.
        self._own: dict[bytes, tuple[int, Channel]] = {}
        self._counts: dict[int, dict[int, int]] = {}  # how many tasks of a spec, by its number, a node has from us

    # ---- handing out -------------------------------------------------------------------------------------------------

    def hand_out(self, spec: Spec) -> None:
        """Send queued tasks for which there is no room here to where there seems to be some."""
        if not self.may_leave(spec):
            return
        kept: list[Task] = []
        spare = len(spec.queue) - self._room_here(spec)
        rooms = self._rooms(spec) if spare > 0 else None
        while rooms is not None and spare > 0 and spec.queue:
            number, there = rooms.take_most()
            if not there:
                break
            room = min(there, spare)
            spare -= room
            while room > 0 and spec.queue:
                task = spec.queue.popleft()
                if task.done:
                    continue
                if not self._may_go(task):
                    kept.append(task)
                    continue
                self.send(task, self.channels.to(spec.job, self.cluster.members[number]))
                room -= 1
        spec.queue.extendleft(reversed(kept))

    def send_first(self, spec: Spec, channel: Channel) -> bool:
        """Send the first task of a spec that is queued and may leave; whether there was one."""
        task = self.first(spec)
        if task is not None:
            spec.queue.remove(task)
            self.send(task, channel)
        return task is not None

    def first(self, spec: Spec) -> Task | None:
        """The first task of a spec that is queued and may leave."""
        return next((task for task in spec.queue if not task.done and self._may_go(task)), None)

    def _may_go(self, task: Task) -> bool:
        """Whether a task was submitted here, and by somebody who is still there."""
        return task.conn not in self.channels.by_conn and task.conn in self.state.conns

    def runs_elsewhere(self, spec: Spec) -> bool:
        """Whether some other node has tasks of a spec from us."""
        return spec.cid in self._counts

    def _rooms(self, spec: Spec) -> Rooms:
        """Where there is room for tasks of a spec, up to date."""
        if spec.rooms is None:
            spec.rooms = Rooms(spec, lambda number: self._room_at(spec, number), self.cluster.news)
        spec.rooms.refresh(lambda: self._numbers(spec))
        return spec.rooms

    def _numbers(self, spec: Spec) -> Iterable[int]:
        """Other nodes that a spec accepts, those after this one first, so that not all nodes turn to the same ones."""
        mine = self.state.number
        numbers = [other.number for other in self.cluster.others()] if spec.nodes is None else spec.nodes
        return sorted((number for number in numbers if number != mine), key=lambda number: (number < mine, number))

    def _room_at(self, spec: Spec, number: int) -> int:
        member = self.cluster.members.get(number)
        return 0 if member is None or number == self.state.number else self._room(spec, member)

    @staticmethod
    def _room_here(spec: Spec) -> int:
        """How many tasks of a spec will begin here as soon as there are workers for them."""
        return sum(source.ledger.times(spec.demand) for source in spec.sources) * spec.depth

    @staticmethod
    def _total(spec: Spec, member: Member) -> int:
        """How many tasks of a spec a node could run at a time if it were idle."""
        if not accepts(spec, member.number):
            return 0
        return spec.slots.get(member.number, 0) if spec.group else member.totals.times(spec.demand)

    def may_leave(self, spec: Spec) -> bool:
        """Whether tasks of a spec may run elsewhere: those that ask for nothing stay if they can."""
        return bool(spec.demand) or not accepts(spec, self.state.number)

    def _room(self, spec: Spec, member: Member) -> int:
        """How many more tasks of a spec a node may have from us."""
        if spec.cid in member.refused or not member.takes_work:
            return 0
        counts = self._counts.get(spec.cid)
        held = counts.get(member.number, 0) if counts is not None else 0
        total = self._total(spec, member)
        if not total:
            return 0
        free = total if spec.group else member.free.times(spec.demand)
        slots = min(free + min(held, total), total)
        return slots * (spec.depth + 1) - held

    def place(self, task: Task) -> bool:
        """Send a task that has just become ready to another node if that suits it better; whether it has gone."""
        ended = task.spec.job not in self.state.jobs  # what it waited for ends with the job, and this with it
        if ended or task.conn in self.channels.by_conn or not self.may_leave(task.spec):
            return False
        return self._in_turn(task) if task.spec.spread else self._to_its_arguments(task)

    def _in_turn(self, task: Task) -> bool:
        """One node after the other, of those that have room."""
        spec = task.spec
        rooms = self._rooms(spec)
        rooms.look_further()
        mine = self.state.claims.fitting(spec.cid, spec.sources, spec.demand) is not None
        while rooms.open or mine:
            number = self.cluster.next_in_turn(spec.cid, rooms.open, mine)
            if number == self.state.number:
                return False
            if rooms.look(number) > 0:
                self.send(task, self.channels.to(spec.job, self.cluster.members[number]))
                return True
        return False

    def _to_its_arguments(self, task: Task) -> bool:
        """To the node that holds most bytes of its arguments."""
        weights: dict[int, int] = {}
        for oid in task.arguments():
            entry = self.state.objects.entries.get(oid)
            conn = self.foreign.source.get(oid, 0)
            if entry is not None and entry.kind == AWAY and conn:
                weights[conn] = weights.get(conn, 0) + entry.data[-1]
        if not weights:
            return False
        channel = self.channels.by_conn.get(max(weights, key=lambda conn: weights[conn]))
        if channel is None or not channel.member.alive or self._room(task.spec, channel.member) <= 0:
            return False
        self.send(task, self.channels.to(task.spec.job, channel.member))
        return True

    def send(self, task: Task, channel: Channel) -> None:
        """Let another node run a task, or serve a call."""
        spec = task.spec
        self.channels.announce(channel, spec)
        deps = task.deps or []
        returns = returns_of(task)
        pins = task.pins or []
        contained = [oid for oid in pins if oid not in deps and oid != task.args_oid and oid not in returns]
        # While it is away its results stay known here: should it be sent back, somebody there may wait for them.
        task.pins = pins + self.state.objects.pin(oid for oid in returns if oid not in pins)
        body = (spec.cid, task.args, task.args_oid, deps, contained)
        message = (SUBMIT, task.tid, *body) if task.actor is None else (CALL, task.tid, task.actor, *body)
        self.state.effects.sends[channel.conn].append(message)
        self._count_out(task, channel)

    def _count_out(self, task: Task, channel: Channel) -> None:
        channel.tasks[task.tid] = task
        self.out[task.tid] = channel
        counts = self._counts.setdefault(task.spec.cid, {})
        counts[channel.member.number] = counts.get(channel.member.number, 0) + 1
        if task.spec.rooms is not None:
            task.spec.rooms.stale[channel.member.number] = None

    def back(self, channel: Channel, tid: bytes) -> Task | None:
        """A task is not at the other node any more."""
        task = channel.tasks.pop(tid, None)
        if task is None:
            return None
        del self.out[tid]
        number, counts = channel.member.number, self._counts[task.spec.cid]
        counts[number] -= 1
        if not counts[number]:
            del counts[number]
            if not counts:
                del self._counts[task.spec.cid]
        if task.spec.rooms is not None:
            task.spec.rooms.stale[channel.member.number] = None
        self.state.dirty = True
        return task

    def done(self, conn: int, tid: bytes, rows: list[Any], run_us: int) -> None:
        """FAR_DONE: another node has finished a task of ours."""
        channel = self.channels.by_conn[conn]
        check_rows(rows)
        task = self.back(channel, tid)
        kept = [return_id(tid, index) for index, (kind, _, held) in enumerate(rows, 1) if kind == STORED or held]
        if task is None or task.done:
            if kept:
                self.state.effects.sends[conn].append((RELEASE, kept))
            if task is not None and task.actor is not None:
                self.on_call_over(task)
            return
        spec = task.spec
        spec.observe(run_us)
        spec.waits_since = self.state.now
        self.state.finished[spec.name] = self.state.finished.get(spec.name, 0) + 1
        if len(rows) == 1 and rows[0][0] >= ERROR:
            self.tasks.finish(task, rows[0][0], rows[0][1], None)
        elif spec.num_returns == STREAMING:
            self.tasks.finish(task, INLINE, NONE_PICKLED, None)
        else:
            self._fill_all(conn, task, rows)
            self.on_results(task)
            self.report(task, run_us)
            self.tasks.settle(task)
        if task.actor is not None:
            self.on_call_over(task)

    def _fill_all(self, conn: int, task: Task, rows: list[Any]) -> None:
        spec = task.spec
        if len(rows) != max(spec.num_returns, 0):
            raise ProtocolError(f"FAR_DONE has {len(rows)} results for {spec.num_returns} returns")
        task.done = True
        for index, (kind, data, contained) in enumerate(rows, 1):
            self._fill(conn, return_id(task.tid, index), kind, data, contained)

    def _fill(self, conn: int, oid: bytes, kind: int, data: Any, contained: list[bytes]) -> None:
        objects = self.state.objects
        if oid not in objects.entries or objects.entries[oid].kind != PENDING:
            if kind == STORED or contained:
                self.state.effects.sends[conn].append((RELEASE, [oid]))
            return
        if kind == STORED:
            self.foreign.source[oid] = conn
            objects.fill_away(oid, data)
        elif contained:
            self.foreign.source[oid] = conn
            self.foreign.keep(conn, oid, kind, data, contained)
        else:
            objects.fill(oid, kind, data, None)

    def item(self, conn: int, tid: bytes, index: int, kind: int, data: Any, contained: list[bytes]) -> None:
        """FAR_ITEM: a task of ours has yielded elsewhere."""
        check_rows([[kind, data, contained]])
        oid = return_id(tid, index + 1)
        objects = self.state.objects
        channel = self.out.get(tid)
        kept = kind == STORED or bool(contained)
        if channel is not None and channel.conn == conn and self.tasks.streams.expects(tid, index):
            new = self.foreign.introduce(conn, contained)
            fresh = self.tasks.streams.item(tid, AWAY if kind == STORED else kind, data, contained)
            self.foreign.forget_unheld(new)
            if kind == STORED and fresh and oid in objects.entries:
                self.foreign.source[oid] = conn
                kept = False
        if kept:
            self.state.effects.sends[conn].append((RELEASE, [oid]))

    def refused(self, conn: int, tids: list[bytes], held: list[bytes], free: dict[str, float]) -> None:
        """REFUSE: another node cannot begin these now."""
        channel = self.channels.by_conn[conn]
        self.state.objects.hold(conn, held)
        member = channel.member
        member.free = Ledger(free)
        for tid in reversed(tids):
            task = self.back(channel, tid)
            if task is not None:
                member.refused[task.spec.cid] = None
                self.cluster.assume(member)
                since = task.spec.waits_since
                self.tasks.queue_again(task)
                task.spec.waits_since = since

    def cancel(self, task: Task, force: bool, recursive: bool) -> bool:
        """Cancel a task wherever it is; False when it is not elsewhere."""
        channel = self.out.get(task.tid)
        if channel is None:
            return False
        self.state.effects.sends[channel.conn].append((CANCEL, return_id(task.tid, 1), force, recursive))
        return True

    def lost(self, channel: Channel) -> None:
        """A channel has ended, and with it what ran at its other end for us."""
        for tid in list(channel.tasks):
            task = self.back(channel, tid)
            if task is None or task.done:
                continue
            if not channel.stands and task.actor is None:  # it has not been given to anybody
                self.tasks.queue_again(task)
                continue
            gone = channel.gone()
            if task.actor is not None:
                alive = channel.member.alive
                remedy = "It may live, and may have begun the call: call again" if alive else "Create the actor again"
                text = f"The call {task.spec.name} failed: its actor was on {gone}. {remedy}."
                why = fault(ACTOR_UNAVAILABLE if alive else ACTOR_DIED, text, actor_id=task.actor.hex())
                self.tasks.finish(task, FAULT, why, None)
                continue
            text = f"Task {task.spec.name} failed: it was given to {gone}."
            self.tasks.retry_or_fail(task, fault(NODE_DIED, text, task_id=tid.hex()))

    # ---- for others --------------------------------------------------------------------------------------------------

    def end_those_of(self, conn: int) -> None:
        """The node that gave us tasks over a connection has gone: they end; what those that run yield is dropped."""
        running = [task for worker in self.state.pool.workers.values() for task in worker.inflight.values()]
        queued = [task for spec in self.state.specs.values() for task in spec.queue]
        for task in running + queued:
            if task.conn == conn and not task.done:
                name = f"{task.spec.name} ({task.tid.hex()})"
                text = f"Task {name} was cancelled: the node that submitted it has gone."
                self.tasks.finish(task, FAULT, fault(CANCELLED, text, task_id=task.tid.hex()), None)

    def end_abandoned(self, job: bytes) -> None:
        """The driver of a job has gone: what others run for it, and for nobody who has outlived it, ends."""
        for task in [task for channel in self.channels.by_conn.values() for task in channel.tasks.values()]:
            if task.spec.job == job and task.actor is None and not task.done and self.state.is_abandoned(task):
                self.cancel(task, force=True, recursive=True)
                self.tasks.end_if_abandoned(task)

    def come_back(self, conn: int, tid: bytes) -> Task | None:
        """Another node lets a call run here; our task if a process here has made the call."""
        channel = self.out.get(tid)
        task = self.back(channel, tid) if channel is not None else None
        if channel is None or task is None:
            return None
        self._own[tid] = conn, channel
        self.state.objects.hold(conn, returns_of(task))
        return task

    def is_own(self, task: Task) -> bool:
        """Whether a task has come back and runs here."""
        return task.tid in self._own

    def go_back(self, task: Task, why: Fault) -> None:
        """What was to run a task that came back does so no more: it waits elsewhere again, if there is still
        somebody.
        """
        conn, channel = self._own.pop(task.tid)
        self.state.objects.release(conn, returns_of(task))
        task.worker = 0
        if channel.conn in self.channels.by_conn:
            self._count_out(task, channel)
        else:
            self.tasks.finish(task, FAULT, why, None)

    def report(self, task: Task, run_us: int) -> None:
        """A task has ended: if it was for another node, that hears of it."""
        conn = task.conn if task.conn in self.channels.by_conn else 0
        if task.tid in self._own:
            conn, _ = self._own.pop(task.tid)
        if conn in self.state.conns:
            self._report_to(conn, task, run_us)

    def _report_to(self, conn: int, task: Task, run_us: int) -> None:
        objects = self.state.objects
        rows: list[list[Any]] = []
        over = []
        if task.spec.num_returns == STREAMING:
            failure = self.tasks.streams.failure(task.tid)
            rows = [[*failure, []]] if failure is not None else []
            over = [return_id(task.tid, GENERATOR_INDEX)]
        for index in range(1, max(task.spec.num_returns, 0) + 1):
            oid = return_id(task.tid, index)
            entry = objects.entries.get(oid)
            if entry is None:  # nobody there wants it any more
                rows.append([INLINE, NONE_PICKLED, []])
                continue
            entry.read = True
            contained = list(entry.contained or ())
            if entry.kind in (STORED, AWAY):
                rows.append([STORED, entry.data[-1:], contained])
                continue
            rows.append([entry.kind, entry.data, contained])
            if not contained:
                over.append(oid)
        if rows and all(row[0] >= ERROR for row in rows):
            rows = rows[:1]
        self.state.effects.sends[conn].append((FAR_DONE, task.tid, rows, run_us))
        objects.release(conn, over)

    def refuse(self, spec: Spec) -> None:
        """Send back what others gave us of a spec when nothing of it runs here and nothing can begin."""
        by_conn: dict[int, list[Task]] = {}
        kept = []
        for task in spec.queue:
            if not task.done and task.conn in self.channels.by_conn:
                by_conn.setdefault(task.conn, []).append(task)
            else:
                kept.append(task)
        if by_conn:
            spec.queue.clear()
            spec.queue.extend(kept)
            self.cluster.tell_again()
        for conn, tasks in by_conn.items():
            held = self.give_back(conn, tasks)
            refusal = (REFUSE, [task.tid for task in tasks], held, self.state.offered())
            self.state.effects.sends[conn].append(refusal)

    def give_back(self, conn: int, tasks: Iterable[Task]) -> list[bytes]:
        """Tasks that another node gave us are its own again; what of their results somebody here refers to."""
        returns: list[bytes] = []
        for task in tasks:
            task.done = True
            self.tasks.settle(task)
            if task.spec.num_returns == STREAMING:
                self.tasks.streams.forget(task.tid)
                returns.append(return_id(task.tid, GENERATOR_INDEX))
            returns += returns_of(task)
        return self.foreign.all_returned(conn, returns)

    def check(self) -> None:
        """Raise AssertionError naming the first broken invariant."""
        for tid, channel in self.out.items():
            assert tid in channel.tasks, f"the task {tid.hex()} is nowhere"
        assert sum(len(channel.tasks) for channel in self.channels.by_conn.values()) == len(self.out)
        there = sum(sum(counts.values()) for counts in self._counts.values())
        assert there == len(self.out), "tasks elsewhere are miscounted"
        for spec in self.state.specs.values():
            rooms = spec.rooms
            for number in self._numbers(spec) if rooms is not None else ():
                idle = number not in self._counts.get(spec.cid, ())  # who has something of it reports soon
                assert rooms is None or not idle or not rooms.overlooks(number), f"{spec.name} overlooks {number}"
        assert not self._own.keys() & self.out.keys(), "a call is both here and elsewhere"


def returns_of(task: Task) -> list[bytes]:
    """Ids of what a task returns, one by one."""
    return [return_id(task.tid, index) for index in range(1, max(task.spec.num_returns, 0) + 1)]


def accepts(spec: Spec, number: int) -> bool:
    """Whether a spec may run on a node."""
    return spec.nodes is None or number in spec.nodes


def check_rows(rows: list[Any]) -> None:
    """Raise ProtocolError unless these can be the results of a task."""
    for row in rows:
        if type(row) is not list or len(row) != _ROW or type(row[2]) is not list:
            raise ProtocolError("a result of FAR_DONE is no [kind, data, contained]")
        kind, data = row[0], row[1]
        if type(data) is not _FITS.get(kind) or (kind == STORED and not _is_size(data)):
            raise ProtocolError(f"a result of FAR_DONE has kind {kind!r:.20} and {type(data).__name__}")


def _is_size(data: Any) -> bool:
    return len(data) == 1 and type(data[0]) is int
