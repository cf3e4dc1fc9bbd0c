"""Detached actors that come back with a head that has begun anew.

What starts such an actor is in the journal: its class, options and arguments, large ones too, as long as they lie in
the head's own store. It is started again if its ``max_restarts`` allow one more start, since its process has died with
the head.
"""

from collections import Counter
from typing import Any, Final

from rayd.core.actor import Actors
from rayd.core.actor_record import Actor, ActorState
from rayd.core.directory import Directory
from rayd.core.effect import Stored
from rayd.core.journal import ACTOR, EXPORT, OBJECT
from rayd.core.objects import AWAY, PENDING, Entry
from rayd.core.placement import Placement
from rayd.core.state import NodeState
from rayd.core.task import Task
from rayd.errors import ACTOR_DIED, fault
from rayd.ids import JOB_ID_BYTES, actor_object_id
from rayd.wire.messages import ERROR, INLINE, STORED

# Larger arguments are not kept: the journal is written as a whole row at a time.
KEPT_BYTES_MAX: Final = 64 << 20


class Detached:
    """The detached actors of a head.

    Args:
        state: the head's tables.
        actors: of this node.
        directory: where their names are.
        placement: says where they may run.
    """

    def __init__(self, state: NodeState, actors: Actors, directory: Directory, placement: Placement) -> None:
        self.state = state
        self.actors = actors
        self.directory = directory
        self.placement = placement
        self._known: dict[bytes, None] = {}  # to the journal, or about to be
        self._large: dict[bytes, list[bytes]] = {}  # arguments in the journal, by actor
        self._users: Counter[bytes] = Counter()  # how many actors have them
        actors.on_alive = self.keep

    def keep(self, actor: Actor) -> None:
        """It was created, or lives now, perhaps again: what would start it once more is remembered."""
        journal = self.state.journal
        if not journal.on or not actor.detached or actor.state is ActorState.DEAD:
            return
        spec, creation = actor.spec, actor.creation
        job = self.state.jobs[spec.job]
        if spec.function in job.exports and spec.function not in job.kept:
            job.kept[spec.function] = None
            journal.put(EXPORT, spec.job + spec.function, job.exports[spec.function])
        arguments, why_not = self._arguments(actor)
        row = {
            "job": spec.job,
            "options": spec.options,
            "namespace": actor.namespace,
            "args": creation.args,
            "args_oid": creation.args_oid,
            "deps": arguments,
            "why_not": why_not,
            "contained": [oid for oid in creation.pins or () if oid not in (creation.deps or ())],
            "restarts": actor.restarts,
            "restarts_left": actor.restarts_left,
        }
        # Only one that is new can be refused: that another one has been started again is owed to the journal.
        journal.put(ACTOR, actor.aid, row, None if actor.aid in self._known else lambda: self._refuse(actor))
        self._known[actor.aid] = None

    def _arguments(self, actor: Actor) -> tuple[list[list[Any]], str]:
        """What is to be known of its arguments, and why that is not enough, if it is not: [id, kind, value or size]."""
        creation, objects = actor.creation, self.state.objects
        rows: list[list[Any]] = []
        large: dict[bytes, Stored] = {}
        for oid in creation.arguments():
            kind, data = objects.payload(oid)
            if kind in (INLINE, ERROR):
                rows.append([oid, kind, data])
            elif kind == STORED:
                rows.append([oid, kind, data[1]])
                large[oid] = Stored(*data)
            elif kind == AWAY:
                return [], "an argument of its constructor was in the object store of another node"
            else:
                return [], "an argument of its constructor was not there yet"
        if sum(place.size for place in large.values()) > KEPT_BYTES_MAX:
            return [], f"the arguments of its constructor are larger than the {KEPT_BYTES_MAX >> 20} MiB that are kept"
        if actor.aid not in self._large and actor.restarts_left:
            self._keep_large(actor.aid, large)
        return rows, ""

    def _keep_large(self, aid: bytes, large: dict[bytes, Stored]) -> None:
        if large:
            self._large[aid] = list(large)
        for oid, place in large.items():
            self._users[oid] += 1
            if self._users[oid] == 1:
                self.state.journal.put(OBJECT, oid, place)

    def _refuse(self, actor: Actor) -> None:
        if actor.state is not ActorState.DEAD:
            why = "the head could not write it into its journal"
            self.actors.end(actor, why, why)

    def over(self, actor: Actor) -> None:
        """It has died."""
        if actor.detached:
            self._known.pop(actor.aid, None)
            self.state.journal.put(ACTOR, actor.aid, None)
            self._forget_large(actor.aid)

    def _forget_large(self, aid: bytes) -> None:
        for oid in self._large.pop(aid, ()):
            self._users[oid] -= 1
            if not self._users[oid]:
                del self._users[oid]
                self.state.journal.put(OBJECT, oid, None)

    def restore(
        self, exports: list[tuple[bytes, Any]], objects: list[tuple[bytes, Any]], rows: list[tuple[bytes, Any]]
    ) -> int:
        """This head has begun anew: there were these functions, large arguments and actors; how many of the actors are
        started again.
        """
        large = dict(objects)
        self._users.update(dict.fromkeys(large, 0))
        for key, blob in exports:
            job = self.state.jobs.get(key[:JOB_ID_BYTES])
            if job is not None:
                job.exports[key[JOB_ID_BYTES:]] = blob
                job.kept[key[JOB_ID_BYTES:]] = None
        restored = []
        for aid, row in rows:
            why = self._whyever_not(row, large)
            if why is None:
                restored.append((self._add(aid, row), row["contained"]))
                continue
            self._bury(aid, row, why)
            for oid, _, _ in row["deps"]:
                self.state.objects.drop_if_unheld(oid)
        self._known.update((actor.aid, None) for actor, _ in restored)
        for actor, contained in restored:  # which may be the handles of others
            actor.creation.pins = [*(actor.creation.pins or ()), *self.state.objects.pin(contained)]
            self.keep(actor)
            self.actors.place_soon(actor)
        for oid in [oid for oid, users in self._users.items() if not users]:
            del self._users[oid]
            self.state.journal.put(OBJECT, oid, None)
        return len(restored)

    def _whyever_not(self, row: dict[str, Any], large: dict[bytes, bytes]) -> str | None:
        if row["job"] not in self.state.jobs:
            return "its job is not known any more"
        if row["restarts_left"] == 0:
            return "its max_restarts allow no other start"
        if row["why_not"]:
            return str(row["why_not"])
        for oid, kind, _ in row["deps"]:
            if kind == STORED and not self._have_again(oid, large[oid]):
                return "there is no room in the object store for an argument of its constructor"
        return None

    def _have_again(self, oid: bytes, data: bytes) -> bool:
        """Put a large argument into the store, if it is not there yet; whether there is room for it."""
        objects = self.state.objects
        if oid in objects.entries:
            return True
        offset = objects.arena.allocate(len(data))
        if offset is None:
            return False
        self.state.effects.writes.append((offset, data))
        objects.entries[oid] = Entry(STORED, [offset, len(data)], None)
        return True

    def _bury(self, aid: bytes, row: dict[str, Any], why: str) -> None:
        options = row["options"]
        name = str(options.get("actor_name") or "")
        who = f"{options.get('name', 'actor')}{f' {name!r}' if name else ''} ({aid.hex()})"
        text = f"The actor {who} died with the head of the cluster, which was killed, and was not started again: {why}."
        self.actors.buried[aid] = fault(ACTOR_DIED, text, actor_id=aid.hex())
        if name:
            self.directory.bury(row["namespace"], name, text)
        self.state.journal.put(ACTOR, aid, None)

    def _add(self, aid: bytes, row: dict[str, Any]) -> Actor:
        objects = self.state.objects
        spec = self.state.spec_for(row["job"], row["options"])
        self.placement.bind(spec)
        oids = [oid for oid, _, _ in row["deps"]]
        args_oid = row["args_oid"]
        deps = [oid for oid in oids if oid != args_oid]
        actor = self.actors.add(aid, Task(b"\xff" * 8 + aid, spec, row["args"], args_oid, deps, 0), row["namespace"])
        for oid, kind, data in row["deps"]:
            objects.entries.setdefault(oid, Entry(kind, data, None))
            if kind == STORED:
                self._users[oid] += 1
                self._large.setdefault(aid, []).append(oid)
        actor.creation.pins = objects.pin(oids)
        objects.entries[actor_object_id(aid)] = Entry(PENDING, None, actor.creation)
        objects.pin([actor_object_id(aid)])
        actor.restarts = row["restarts"] + 1
        actor.restarts_left = row["restarts_left"] - (row["restarts_left"] > 0)
        actor.state = ActorState.RESTARTING
        if actor.name:
            self.directory.register(actor)
        return actor
