"""Plays the commands of a scenario on one node core and tells in words what the core asks for.

Commands, one a line after ``$``; what stands in brackets may be left out::

    node [cpus=2] [store=1000000]          first of all, if the usual node (one CPU) will not do
    ann connects                           a driver
    w1 w2 come up                          workers that were asked for; they are called w1, w2, ... in that order
    ann submits f as a [needs=b,c] [retries=1] [cpus=2] [returns=0]
    ann creates Counter as c [restarts=1] [name=adder] [lifetime=detached] [needs=b]
    ann calls c as x [needs=b] [retries=1]
    ann asks for a                         she wants its value as soon as it is there
    ann drops a                            her last reference goes
    ann stores 600000 as big               bytes of shared memory
    ann cancels a [force]
    ann kills c [restart]
    ann leaves
    w1 reads                               the next datagram of its mailbox
    w1 finishes a [us=1]                   with a value; it took so many microseconds
    w1 fails a
    w1 waits / w1 goes on                  in ray.get
    w1 dies [SIGKILL]
    12 ms pass
    status                                 what the node has and does
"""

from collections.abc import Iterable
from typing import Any

from rayd.core.effect import CloseConnection, Interrupt, KillWorker, RetireWorker, StartWorker, TakeBack
from rayd.wire import messages as m
from world import CRASH, SIGKILL, Peer, RefusedError, WorkerPeer, World, actor_object, creation, returned


class Stage:
    """One scenario in progress."""

    def __init__(self) -> None:
        self.world = World()
        self.people: dict[str, Peer] = {}
        self.names: dict[bytes, str] = {}
        self.ids: dict[str, bytes] = {}
        self.keys: dict[tuple[str, str, str], int] = {}
        self._told = 0

    def play(self, command: str) -> list[str]:
        """Carry out one command; returns what the core asked for because of it."""
        words = [word for word in command.split() if "=" not in word]
        options = dict(word.split("=", 1) for word in command.split() if "=" in word)
        answer = self._act(words, options)
        self.world.take()
        lines = [*answer, *self._effects()]
        for peer in self.world.peers.values():
            peer.take()
        return lines

    # ---- commands ----------------------------------------------------------------------------------------------------

    def _act(self, words: list[str], options: dict[str, str]) -> Iterable[str]:
        match words:
            case ["node"]:
                store = int(options.get("store", 1 << 20))
                self.world = World(cpus=float(options.get("cpus", 1)), store_bytes=store)
            case [*names, "come", "up"]:
                started = self.world.workers(len(names))
                assert [f"w{worker.wid}" for worker in started] == names, f"asked for: {self.world.starting}"
                self.people.update(zip(names, started, strict=True))
            case [who, "connects"]:
                self.people[who] = self.world.driver()
            case [number, "ms", "pass"]:
                self.world.wait_ms(float(number))
            case ["status"]:
                return self._status()
            case [who, *rest]:
                peer = self.people[who]
                if isinstance(peer, WorkerPeer) and self._act_as_worker(peer, rest, options):
                    return []
                return self._act_as_client(who, peer, rest, options)
        return []

    def _act_as_worker(self, worker: WorkerPeer, words: list[str], options: dict[str, str]) -> bool:
        match words:
            case ["reads"]:
                worker.read()
            case ["finishes", what]:
                tid = self.ids[what]
                worker.done(tid, what.encode(), run_us=int(options.get("us", 50_000)))
            case ["fails", what]:
                worker.fail(self.ids[what], b"error of " + what.encode())
            case ["waits"]:
                worker.blocked()
            case ["goes", "on"]:
                worker.resumed()
            case ["dies", *signal]:
                worker.die(SIGKILL if signal else CRASH)
            case _:
                return False
        return True

    def _act_as_client(self, who: str, peer: Peer, words: list[str], options: dict[str, str]) -> Iterable[str]:
        needs = [self._object(name) for name in options.pop("needs", "").split(",") if name]
        match words:
            case ["submits", function, "as", task]:
                self._name(task, peer.submit(self._function(who, function, options), deps=needs))
            case ["creates", cls, "as", actor]:
                aid = peer.create(self._class(who, cls, options), deps=needs)
                self.ids[actor] = aid
                self.names |= {aid: actor, actor_object(aid): actor, creation(aid): f"{actor}'s constructor"}
                self.ids[f"{actor}.__init__"] = creation(aid)
            case ["calls", actor, "as", call]:
                self._name(call, peer.call(self.ids[actor], self._method(who, options), deps=needs))
            case ["asks", "for", what]:
                peer.want(self._object(what))
            case ["drops", what]:
                peer.release(self._object(what))
            case ["stores", size, "as", what]:
                try:
                    self._name(what, peer.store(int(size))[:24])
                except RefusedError as refused:
                    return [f"to {who}: refused: {refused}"]
            case ["cancels", task, *force]:
                peer.cancel(self.ids[task], force=bool(force))
            case ["kills", actor, *restart]:
                peer.send((m.KILL, self.ids[actor], not restart))
            case ["leaves"]:
                peer.leave()
            case _:
                raise AssertionError(f"no such command: {who} {' '.join(words)}")
        return []

    def _name(self, name: str, tid: bytes) -> None:
        self.ids[name] = tid
        self.names |= {tid: name, returned(tid): name}

    def _object(self, name: str) -> bytes:
        known = self.ids[name]
        return actor_object(known) if len(known) == 16 else returned(known)

    def _function(self, who: str, name: str, options: dict[str, str]) -> int:
        key = (who, name, str(options))
        if key not in self.keys:
            retries, returns = int(options.get("retries", 0)), int(options.get("returns", 1))
            cpus = float(options.get("cpus", 1))
            self.keys[key] = self.people[who].spec(name, cpus=cpus, max_retries=retries, num_returns=returns)
        return self.keys[key]

    def _class(self, who: str, name: str, options: dict[str, str]) -> int:
        return self.people[who].actor_class(
            name,
            max_restarts=int(options.get("restarts", 0)),
            actor_name=options.get("name", ""),
            detached=options.get("lifetime") == "detached",
        )

    def _method(self, who: str, options: dict[str, str]) -> int:
        return self.people[who].method(max_retries=int(options.get("retries", 0)))

    # ---- what the core asks for --------------------------------------------------------------------------------------

    def _effects(self) -> list[str]:
        news = self.world.trace[self._told :]
        self._told = len(self.world.trace)
        lines = []
        for kind, who, what in news:
            if kind == "mail":
                more = ", more follows" if len(what) > 6 and what[6] else ""
                lines.append(f"mail to w{who}: {self.names[what[0]]}{more}")
            else:
                line = self._message(who, what) if kind == "send" else self._effect(what)
                lines += [line] if line else []
        return lines

    def _effect(self, effect: Any) -> str:
        match effect:
            case StartWorker():
                return f"start w{effect.worker}"
            case KillWorker():
                return f"kill w{effect.worker}"
            case RetireWorker():
                return f"retire w{effect.worker}"
            case TakeBack():
                return f"take back what w{effect.worker} has not read"
            case Interrupt():
                return f"interrupt w{effect.worker}"
            case CloseConnection():
                return "close the connection"
        raise AssertionError(f"nothing is said of {effect!r}")

    def _message(self, conn: int, message: Any) -> str:
        who = next((name for name, peer in self.people.items() if peer.conn == conn), f"connection {conn}")
        match list(message):
            case [m.VALUE, oid, m.FAULT, fault]:
                return f"to {who}: {self.names[oid]} failed, {fault['code']}: {self._readable(fault['message'])}"
            case [m.VALUE, oid, m.ERROR, data]:
                return f"to {who}: {self.names[oid]} raised {data.decode()!r}"
            case [m.VALUE, oid, m.STORED, (offset, size)]:
                return f"to {who}: {self.names[oid]} is {size} bytes at {offset}"
            case [m.VALUE, oid, _, data]:
                return f"to {who}: {self.names[oid]} is {data.decode()!r}"
            case [m.STOP_TASK, tid]:
                return f"to {who}: stop {self.names[tid]}"
            case [m.EVENT, level, text]:
                return f"to {who}: {level}: {text}"
            case [m.WELCOME | m.REPLY, *_]:
                return ""
        raise AssertionError(f"nothing is said of {m.NAMES[message[0]]}")

    def _readable(self, text: str) -> str:
        for identity, name in self.names.items():
            text = text.replace(identity.hex(), f"<{name}>")
        return text

    def _status(self) -> list[str]:
        state = self.world.node.state
        free = ", ".join(f"{amount:g} {name}" for name, amount in state.ledger.available().items()) or "nothing"
        debt = "".join(f", owed {amount:g} {name}" for name, amount in state.ledger.debt().items())
        workers = ", ".join(f"w{worker.wid} {worker.state.name.lower()}" for worker in state.pool.workers.values())
        waiting = sum(not task.done for spec in self.world.node.tasks.waiting.values() for task in spec.queue)
        actors = ", ".join(f"{self.names[a.aid]} {a.state.name.lower()}" for a in self.world.node.actors.by_id.values())
        return [
            f"free: {free}{debt}",
            f"workers: {workers or 'none'}",
            f"tasks waiting: {waiting}",
            f"actors: {actors or 'none'}",
            f"objects: {len(state.objects.entries)}, {self.world.arena.used} bytes stored",
        ]
