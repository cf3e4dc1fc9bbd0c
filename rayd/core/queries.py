"""Everything that is asked rarely: names, resources, status, timeline, key-value. One method each, ``(conn, params) ->
(ok, value)``.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from rayd.core.actor import Actors
from rayd.core.actor_record import Actor, ActorState, handle_info
from rayd.core.dispatch import Dispatcher
from rayd.core.effect import StopDaemon
from rayd.core.state import Conn, NodeState
from rayd.core.worker import WorkerState
from rayd.errors import BAD_REQUEST, NOT_FOUND, fault

if TYPE_CHECKING:
    from rayd.core.cluster import Cluster
    from rayd.core.directory import Directory
    from rayd.core.group import Groups

Answer: TypeAlias = tuple[bool, Any]


class Queries:
    """The RPC methods of a daemon.

    Args:
        facts: what the shell knows of this machine; part of WELCOME and of ``nodes``.
    """

    def __init__(
        self,
        state: NodeState,
        tasks: Dispatcher,
        actors: Actors,
        directory: "Directory",
        groups: "Groups",
        cluster: "Cluster",
        facts: dict[str, Any],
    ) -> None:
        self.state = state
        self.tasks = tasks
        self.actors = actors
        self.directory = directory
        self.groups = groups
        self.cluster = cluster
        self.facts = facts
        self.waits_for: Callable[[], dict[str, int]] = dict
        self.methods: dict[str, Callable[[Conn, dict[str, Any]], Answer]] = {
            "actor_info": self.actor_info,
            "available_resources": self.available_resources,
            "cluster_resources": self.cluster_resources,
            "drain": self.drain,
            "exit_actor": self.exit_actor,
            "get_actor": self.get_actor,
            "group_create": self.group_create,
            "group_find": self.group_find,
            "group_notice": self.group_notice,
            "group_remove": self.group_remove,
            "group_table": self.group_table,
            "groups_end": self.groups_end,
            "is_actor_call": self.is_actor_call,
            "list_named_actors": self.list_named_actors,
            "nodes": self.nodes,
            "ping": self.ping,
            "progress": self.progress,
            "status": self.status,
            "stop": self.stop,
            "timeline": self.timeline,
        }

    def ping(self, conn: Conn, params: dict[str, Any]) -> Answer:
        """An answer that follows everything this connection has sent before."""
        return True, None

    # ---- actors ------------------------------------------------------------------------------------------------------

    def get_actor(self, conn: Conn, params: dict[str, Any]) -> Answer:
        """Handle information of a named actor. params: name, namespace (None: the caller's)."""
        job = self.state.jobs.get(conn.job)
        namespace = params.get("namespace") or (job.namespace if job else "")
        aid = self.directory.find(namespace, params["name"])
        if aid is None:
            near = self.directory.names(namespace)
            known = ", ".join(repr(row["name"]) for row in near) or "none"
            text = self.directory.epitaph(namespace, params["name"]) or (
                f"There is no actor named {params['name']!r} in namespace {namespace!r} (named actors there: {known})."
                " Create it first, or pass the namespace it lives in."
            )
            return False, fault(NOT_FOUND, text)
        actor = self.actors.by_id.get(aid)
        return True, handle_info(actor) if actor is not None else self.directory.info(aid)

    def list_named_actors(self, conn: Conn, params: dict[str, Any]) -> Answer:
        """Names; params: all_namespaces."""
        job = self.state.jobs.get(conn.job)
        own = str(params.get("namespace") or (job.namespace if job else ""))
        return True, self.directory.names(None if params.get("all_namespaces") else own)

    def actor_info(self, conn: Conn, params: dict[str, Any]) -> Answer:
        """State of one actor; params: actor_id."""
        actor = self.actors.by_id.get(params["actor_id"])
        if actor is None:
            return False, fault(NOT_FOUND, f"Actor {params['actor_id'].hex()} is not known here.")
        return True, _actor_row(actor)

    def exit_actor(self, conn: Conn, params: dict[str, Any]) -> Answer:
        """The calling actor is about to end of its own will."""
        worker = self.state.pool.workers.get(conn.worker)
        if worker is None or worker.actor is None:
            return False, fault(BAD_REQUEST, "exit_actor is only for actors.")
        self.actors.exiting(worker)
        return True, None

    def is_actor_call(self, conn: Conn, params: dict[str, Any]) -> Answer:
        """Whether an object will be filled by an actor's method."""
        entry = self.state.objects.entries.get(params["oid"])
        return True, entry is not None and entry.task is not None and entry.task.actor is not None

    # ---- placement groups --------------------------------------------------------------------------------------------

    def group_create(self, conn: Conn, params: dict[str, Any]) -> Answer:
        """Reserve bundles. params: as ``Groups.create``."""
        job, space = self._asker(conn, params)
        why, warning = self.groups.create(job, space, params)
        if why is not None:
            return False, why
        if conn.kind != "node":
            self.state.warn(job, warning) if warning else None
            return True, None
        return True, {"warning": warning}

    def _asker(self, conn: Conn, params: dict[str, Any]) -> tuple[bytes, str]:
        """Job and namespace of who asks, perhaps by another node."""
        if conn.kind == "node":
            return bytes(params["job"]), str(params["namespace"])
        return conn.job, self.state.jobs[conn.job].namespace

    def group_notice(self, conn: Conn, params: dict[str, Any]) -> Answer:
        """What a node has to know of a group; params: group_id."""
        return True, self.groups.notice(bytes(params["group_id"]))

    def groups_end(self, conn: Conn, params: dict[str, Any]) -> Answer:
        """A driver on another node has gone; params: job."""
        self.groups.end_job(bytes(params["job"]))
        return True, None

    def group_remove(self, conn: Conn, params: dict[str, Any]) -> Answer:
        """Give a group's bundles back; params: group_id."""
        self.groups.remove(bytes(params["group_id"]))
        return True, None

    def group_find(self, conn: Conn, params: dict[str, Any]) -> Answer:
        """A named group of the caller's namespace; params: name."""
        _, space = self._asker(conn, params)
        group = self.groups.find(space, str(params["name"]))
        if group is None:
            text = f"There is no placement group named {params['name']!r} in namespace {space!r}. Create it first."
            return False, fault(NOT_FOUND, text)
        return True, self.groups.row(group)

    def group_table(self, conn: Conn, params: dict[str, Any]) -> Answer:
        """Rows of all groups, or of one; params: group_id (optional)."""
        wanted = params.get("group_id")
        groups = self.groups.by_id.values() if wanted is None else filter(None, [self.groups.by_id.get(bytes(wanted))])
        return True, [self.groups.row(group) for group in groups]

    # ---- resources ---------------------------------------------------------------------------------------------------

    def cluster_resources(self, conn: Conn, params: dict[str, Any]) -> Answer:
        return True, _sum(member.totals.totals() for member in self.cluster.living())

    def available_resources(self, conn: Conn, params: dict[str, Any]) -> Answer:
        return True, _sum([self.state.ledger.available(), *(other.free.available() for other in self.cluster.others())])

    def nodes(self, conn: Conn, params: dict[str, Any]) -> Answer:
        """One row a node."""
        return True, [
            {**member.facts, "alive": member.alive, "total": member.totals.totals() if member.alive else {}}
            for member in self.cluster.members.values()
        ]

    def load(self) -> dict[str, Any]:
        """Figures of this node for people."""
        arena = self.state.objects.arena
        return {
            "workers": len(self.state.pool.workers),
            "actors": sum(a.state is ActorState.ALIVE and a.host is None for a in self.actors.by_id.values()),
            "objects": len(self.state.objects.entries),
            "store_used": arena.used,
            "store_capacity": arena.capacity,
            "demands": self._demands(),
            "waits_for": self.waits_for() if self.cluster.me.draining else {},
        }

    def drain(self, conn: Conn, params: dict[str, Any]) -> Answer:
        """Let a node end when it has done what it has. params: node (id or its beginning, address, name), seconds.

        Returns the node's id.
        """
        text, seconds = str(params["node"]), float(params.get("seconds") or 0)
        found = [member for member in self.cluster.living() if member.is_called(text)]
        if len(found) != 1:
            names = ", ".join(f"{member.node_id.hex()[:12]} ({member.address})" for member in self.cluster.living())
            many = "Several nodes are" if found else "No node is"
            return False, fault(
                NOT_FOUND, f"{many} called {text!r}. Give the beginning of an id or an address: {names}."
            )
        (member,) = found
        if member is self.cluster.me:
            text = "This is the head, with which the cluster ends; it cannot be drained. Stop it with `rayd stop`."
            return False, fault(BAD_REQUEST, text)
        self.cluster.drain(member, seconds)
        return True, member.node_id

    def status(self, conn: Conn, params: dict[str, Any]) -> Answer:
        """What ``rayd status`` shows."""
        me = self.cluster.me
        me.load, me.free = self.load(), self.state.ledger
        rows = sorted(self.cluster.members.values(), key=lambda member: member.number)
        nodes = [
            {
                "node_id": member.node_id.hex(),
                "alive": member.alive,
                "address": member.address,
                "hostname": member.facts.get("hostname", ""),
                "total": member.totals.totals(),
                "available": member.free.available(),
                "workers": member.load.get("workers", 0),
                "actors": member.load.get("actors", 0),
                "is_head": member.number == 0,
                "draining": member.draining,
                "silent": member.silent,
                "waits_for": member.load.get("waits_for") or {},
            }
            for member in rows
        ]
        loads = [member.load for member in rows if member.alive]
        store = {
            "used": sum(load.get("store_used", 0) for load in loads),
            "capacity": sum(load.get("store_capacity", 0) for load in loads),
            "objects": sum(load.get("objects", 0) for load in loads),
        }
        demands = [demand for load in loads for demand in load.get("demands", ())]
        return True, {"nodes": nodes, "demands": demands, "store": store}

    def _demands(self) -> list[dict[str, Any]]:
        rows = [
            (spec.name, spec.demand.to_floats(), sum(not task.done for task in spec.queue), spec, spec.demand)
            for spec in self.tasks.waiting.values()
        ]
        rows += [
            (actor.spec.name, actor.spec.placement.to_floats(), 1, actor.spec, actor.spec.placement)
            for actor in self.actors.placing.values()
        ]
        demands = []
        for name, amounts, count, spec, demand in rows:
            infeasible = bool(self.state.why_never(spec, demand, name))
            demands.append(
                {
                    "name": name,
                    "resources": amounts,
                    "count": count,
                    "what": "pending tasks/actors",
                    "infeasible": infeasible,
                }
            )
        return demands

    # ---- what runs ---------------------------------------------------------------------------------------------------

    def timeline(self, conn: Conn, params: dict[str, Any]) -> Answer:
        """Finished runs, oldest first: [name, kind, pid, start_us, end_us, task id hex, ok]."""
        rows = []
        for name, pid, end_ns, run_us, tid, ok in self.state.runs:
            end_us = end_ns // 1000
            rows.append([name, "task", pid, end_us - run_us, end_us, tid.hex(), ok])
        return True, rows

    def progress(self, conn: Conn, params: dict[str, Any]) -> Answer:
        """Tasks by name: running, pending, finished."""
        table: dict[str, dict[str, int]] = {}

        def row(name: str) -> dict[str, int]:
            return table.setdefault(name, {"running": 0, "pending": 0, "finished": 0})

        for name, count in self.state.finished.items():
            row(name)["finished"] = count
        for spec in self.tasks.waiting.values():
            row(spec.name)["pending"] += len(spec.queue)
        for worker in self.state.pool.workers.values():
            for index, task in enumerate(worker.inflight.values()):
                running = index == 0 or worker.state is WorkerState.ACTOR
                row(task.spec.name)["running" if running else "pending"] += 1
        return True, table

    def stop(self, conn: Conn, params: dict[str, Any]) -> Answer:
        """Shut the daemon down."""
        self.state.effects.others.append(StopDaemon(str(params.get("reason", "asked to stop"))))
        return True, None


def _sum(tables: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """All amounts of several nodes together."""
    total: dict[str, float] = {}
    for table in tables:
        for name, amount in table.items():
            total[name] = total.get(name, 0.0) + amount
    return total


def _actor_row(actor: Actor) -> dict[str, Any]:
    runner = actor.worker or actor.host
    return {
        "actor_id": actor.aid,
        "state": actor.state.name,
        "name": actor.name,
        "class_name": actor.spec.name,
        "pid": runner.pid if runner else 0,
        "restarts": actor.restarts,
    }
