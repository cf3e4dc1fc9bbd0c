"""Detached actors that come back with a head that has begun anew.

What starts such an actor is in the journal: its class, options and arguments. It is started again if its
``max_restarts`` allow one more start, since its process has died with the head. Arguments in the object store are not
in the journal: an actor that took some cannot be started again.
"""

from typing import Any

from rayd.core.actor import Actors
from rayd.core.actor_record import Actor, ActorState
from rayd.core.directory import Directory
from rayd.core.journal import ACTOR, EXPORT
from rayd.core.objects import PENDING, Entry
from rayd.core.placement import Placement
from rayd.core.state import NodeState
from rayd.core.task import Task
from rayd.errors import ACTOR_DIED, fault
from rayd.ids import JOB_ID_BYTES, actor_object_id
from rayd.wire.messages import ERROR, INLINE


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
        arguments = self._arguments(actor)
        row = {
            "job": spec.job,
            "options": spec.options,
            "namespace": actor.namespace,
            "args": creation.args,
            "deps": arguments,
            "contained": [oid for oid in creation.pins or () if oid not in (creation.deps or ())],
            "restarts": actor.restarts,
            "restarts_left": actor.restarts_left,
        }
        journal.put(ACTOR, actor.aid, row, lambda: self._refuse(actor))

    def _arguments(self, actor: Actor) -> list[list[Any]] | None:
        """The values of its arguments; None as long as one is missing or when one is in the store."""
        creation, objects = actor.creation, self.state.objects
        rows = [[oid, *objects.payload(oid)] for oid in creation.deps or ()]
        return None if creation.args_oid or any(kind not in (INLINE, ERROR) for _, kind, _ in rows) else rows

    def _refuse(self, actor: Actor) -> None:
        if actor.state is not ActorState.DEAD:
            why = "the head could not write it into its journal"
            self.actors.end(actor, why, why)

    def over(self, actor: Actor) -> None:
        """It has died."""
        if actor.detached:
            self.state.journal.put(ACTOR, actor.aid, None)

    def restore(self, exports: list[tuple[bytes, Any]], rows: list[tuple[bytes, Any]]) -> int:
        """This head has begun anew: there were these actors; how many of them are started again."""
        for key, blob in exports:
            job = self.state.jobs.get(key[:JOB_ID_BYTES])
            if job is not None:
                job.exports[key[JOB_ID_BYTES:]] = blob
                job.kept[key[JOB_ID_BYTES:]] = None
        restored = []
        for aid, row in rows:
            why = self._whyever_not(row)
            if why is None:
                restored.append((self._add(aid, row), row["contained"]))
            else:
                self._bury(aid, row, why)
        for actor, contained in restored:  # which may be the handles of others
            actor.creation.pins = [*(actor.creation.pins or ()), *self.state.objects.pin(contained)]
            self.keep(actor)
            self.actors.place_soon(actor)
        return len(restored)

    def _whyever_not(self, row: dict[str, Any]) -> str | None:
        if row["job"] not in self.state.jobs:
            return "its job is not known any more"
        if row["restarts_left"] == 0:
            return "its max_restarts allow no other start"
        if row["deps"] is None:
            return "its constructor took an argument from the object store, which ended with the head"
        return None

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
        deps = [oid for oid, _, _ in row["deps"]]
        actor = self.actors.add(aid, Task(b"\xff" * 8 + aid, spec, row["args"], b"", deps, 0), row["namespace"])
        for oid, kind, data in row["deps"]:
            objects.entries.setdefault(oid, Entry(kind, data, None))
        actor.creation.pins = objects.pin(deps)
        objects.entries[actor_object_id(aid)] = Entry(PENDING, None, actor.creation)
        objects.pin([actor_object_id(aid)])
        actor.restarts = row["restarts"] + 1
        actor.restarts_left = row["restarts_left"] - (row["restarts_left"] > 0)
        actor.state = ActorState.RESTARTING
        if actor.name:
            self.directory.register(actor)
        return actor
