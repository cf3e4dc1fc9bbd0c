"""CREATE of actors with names, and the questions that only the head can answer.

A name is known to the whole cluster, so another node asks the head for it before the actor exists, and the head
remembers where it lives. Everything else about the actor is the business of its own node.
"""

from collections.abc import Callable
from typing import Any, Final

from rayd.core.actor import Actors
from rayd.core.actor_record import Actor, ActorState, handle_info
from rayd.core.cluster import Cluster
from rayd.core.directory import Directory
from rayd.core.journal import NAME
from rayd.core.member import Member
from rayd.core.state import Conn, NodeState
from rayd.errors import ACTOR_DIED, fault
from rayd.ids import actor_object_id, home_of_actor
from rayd.wire.messages import REPLY, RPC

# Asked of this node and answered by the head, with the asker's job and namespace.
AT_THE_HEAD: Final = frozenset(
    {
        "drain",
        "get_actor",
        "group_create",
        "group_find",
        "group_remove",
        "group_table",
        "kv_del",
        "kv_get",
        "kv_list",
        "kv_put",
        "list_named_actors",
    }
)
# Those of them whose answer depends on who asks.
_OF_A_JOB: Final = frozenset({"get_actor", "group_create", "group_find", "list_named_actors"})


class Naming:
    """Names of actors, whoever has them.

    Args:
        state: the node's tables.
        actors: of this node.
        directory: names, in the head those of the whole cluster.
        cluster: the other nodes.
    """

    def __init__(self, state: NodeState, actors: Actors, directory: Directory, cluster: Cluster) -> None:
        self.state = state
        self.actors = actors
        self.directory = directory
        self.cluster = cluster
        self._asked: dict[int, tuple[str, dict[str, Any], Callable[[bool, Any], None]]] = {}
        self._next = 1
        self.on_create: Callable[[Actor], None] = lambda actor: None

    def create(self, conn: Conn, message: Any) -> None:
        """CREATE."""
        req = message[1]
        spec = conn.specs[message[3]]
        name = str(spec.options.get("actor_name") or "")
        namespace = str(spec.options.get("namespace") or self.state.jobs[conn.job].namespace)
        if name and not self.cluster.is_head:
            info = {"actor_id": message[2], "meta": spec.options.get("meta", b""), "name": name}
            asked = {"namespace": namespace, "name": name, "info": info, "title": spec.name}
            # It can be called from now on: the head tells others of it as soon as this node.
            actor = self.actors.create(conn, message, spec, self.state.jobs[conn.job].namespace, waits=True)
            self.ask("name_take", asked, lambda ok, value: self._granted(conn, req, actor, ok, value))
            return
        taken = self.directory.find(namespace, name) if name else None
        if taken is None:
            self._create(conn, message, name)
        elif spec.options.get("get_if_exists"):
            self._reply_exists(conn, req, taken)
        else:
            holder = self.directory.title(taken)
            self._reply(conn, req, False, self.directory.taken(namespace, name, holder))

    def _create(self, conn: Conn, message: Any, name: str) -> None:
        actor = self.actors.create(conn, message, conn.specs[message[3]], self.state.jobs[conn.job].namespace)
        if name and actor.fault is None:
            self.directory.register(actor)
        written = self.state.journal.count
        self.on_create(actor)
        if message[1]:
            self.state.journal.after(written, lambda why: self._reply(conn, message[1], why is None, why))

    def _granted(self, conn: Conn, req: int, actor: Actor, ok: bool, value: Any) -> None:
        """The head has answered whether a name is free."""
        exists = not ok and actor.spec.options.get("get_if_exists") and value.get("holder")
        if not ok:
            actor.name = ""  # it has not got it
        lives = actor.state is not ActorState.DEAD  # else it has ended meanwhile, and the head knows, or soon will
        if lives and not ok:
            text = f"The actor {actor.title()} was not created: {value['message']}"
            self.actors.die(actor, fault(ACTOR_DIED, text, actor_id=actor.aid.hex(), intended=True))
        elif lives and conn.conn not in self.state.conns:
            self.actors.end(actor, "its program ended before it had its name", "its program has ended")
        elif lives:
            self.directory.register(actor)
            self.on_create(actor)
            actor.unnamed = False
            if actor.creation.missing == 0:
                self.actors.place_soon(actor)
        if conn.conn in self.state.conns:
            self._reply(conn, req, ok or bool(exists), value["holder"] if exists else value)

    def _reply_exists(self, conn: Conn, req: int, aid: bytes) -> None:
        """Answer a CREATE with get_if_exists by the actor that is there, which the caller holds from now on."""
        actor = self.actors.by_id.get(aid)
        if actor is not None:
            self.state.objects.hold(conn.conn, [actor_object_id(aid)])
            actor.closing = False
        self._reply(conn, req, True, handle_info(actor) if actor is not None else self.directory.info(aid))

    def _reply(self, conn: Conn, req: int, ok: bool, value: Any) -> None:
        self.state.effects.sends[conn.conn].append((REPLY, req, ok, value))

    def actor_died(self, actor: Actor) -> None:
        """Its name is free."""
        self.directory.release(actor)
        if actor.name and not self.cluster.is_head:
            self.ask("name_drop", {"actor_id": actor.aid})

    def node_died(self, member: Member) -> None:
        """The names of a node's actors are free."""
        for aid in self.directory.far():
            if home_of_actor(aid) == member.number:
                self._forget(aid)

    # ---- asking the head ---------------------------------------------------------------------------------------------

    def forward(self, conn: Conn, req: int, method: str, params: dict[str, Any]) -> None:
        """Let the head answer a client of this node."""
        job = self.state.jobs.get(conn.job)
        own = {"namespace": job.namespace, "job": conn.job} if job is not None and method in _OF_A_JOB else {}
        given = {key: value for key, value in params.items() if value not in (None, "")}
        self.ask(method, {**own, **given}, lambda ok, value: self._pass_on(conn, req, ok, value))

    def _pass_on(self, conn: Conn, req: int, ok: bool, value: Any) -> None:
        if ok and isinstance(value, dict) and value.get("warning"):
            self.state.warn(conn.job, value["warning"])
        if conn.conn in self.state.conns:
            self._reply(conn, req, ok, value)

    def ask(self, method: str, params: dict[str, Any], then: Callable[[bool, Any], None] | None = None) -> None:
        """Ask the head something; it is asked again when it has gone and come back before it has answered.

        Args:
            method, params: as of an RPC.
            then: called with the answer (ok, value).
        """
        req, self._next = self._next, self._next + 1
        self._asked[req] = method, params, then or _ignore
        if self.cluster.absence is None:
            self._send(req, method, params)

    def _send(self, req: int, method: str, params: dict[str, Any]) -> None:
        self.state.effects.sends[self.cluster.head_conn].append((RPC, req, method, params))

    def ask_again(self) -> None:
        """The head is back: what it has not answered is asked once more, in order. And it hears whose names are still
        had: it may have begun anew with some that it could not strike from its journal.
        """
        actors = self.actors.by_id.values()
        had = [actor.aid for actor in actors if actor.name and not actor.home and actor.state is not ActorState.DEAD]
        self._send(0, "names_had", {"actor_ids": had})  # nobody waits for the answer
        for req, (method, params, _) in self._asked.items():
            self._send(req, method, {**params, "again": True})

    def answered(self, req: int, ok: bool, value: Any) -> None:
        """REPLY of the head."""
        asked = self._asked.pop(req, None)
        if asked is not None:
            asked[2](ok, value)

    def drop(self, params: dict[str, Any]) -> tuple[bool, Any]:
        """In the head: another node's actor has died."""
        self._forget(params["actor_id"])
        return True, None

    def had(self, conn: Conn, params: dict[str, Any]) -> tuple[bool, Any]:
        """In the head: these are all the actors with names that a node has."""
        member, had = self.cluster.member_of(conn.conn), dict.fromkeys(params["actor_ids"])
        for aid in self.directory.far():
            if member is not None and home_of_actor(aid) == member.number and aid not in had:
                self._forget(aid)
        return True, None

    def _forget(self, aid: bytes) -> None:
        self.directory.drop(aid)
        self.state.journal.put(NAME, aid, None)

    def restore(self, rows: list[tuple[bytes, Any]]) -> None:
        """This head has begun anew: these actors of other nodes have names."""
        for aid, (namespace, name, info, title) in rows:
            if home_of_actor(aid) in self.cluster.members:
                self.directory.register_far(namespace, name, info, title)
            else:
                self.state.journal.put(NAME, aid, None)

    def take(self, params: dict[str, Any]) -> tuple[bool, Any]:
        """In the head: another node asks for a name."""
        namespace, name = str(params["namespace"]), str(params["name"])
        info, title = dict(params["info"]), str(params["title"])
        aid = bytes(info["actor_id"])
        taken = self.directory.find(namespace, name)
        if taken is None:
            self.directory.register_far(namespace, name, info, title)
            self.state.journal.put(NAME, aid, [namespace, name, info, title], lambda: self.directory.drop(aid))
        if taken in (None, aid):  # the latter if it is asked again
            return True, None
        actor = self.actors.by_id.get(taken)
        holder = handle_info(actor) if actor is not None else self.directory.info(taken)
        return False, {**self.directory.taken(namespace, name, self.directory.title(taken)), "holder": holder}


def _ignore(ok: bool, value: Any) -> None:
    """Nobody waits for this answer."""
