"""How a head goes on where a former one was killed: its journal's rows become the tables of its parts."""

from typing import TYPE_CHECKING, Any

from rayd.core import journal as j
from rayd.core.cluster import HEAD
from rayd.core.effect import Recovered

if TYPE_CHECKING:
    from rayd.core.node import Node


def recover(node: "Node", rows: list[tuple[str, bytes, Any]]) -> None:
    """Keep a journal from now on, and take over what is in it.

    Nodes come first, since everything else lies on one, then groups, in which actors may run.
    """
    state = node.state
    state.journal.on = True
    by_kind: dict[str, list[tuple[bytes, Any]]] = {}
    for kind, key, value in rows:
        by_kind.setdefault(kind, []).append((key, value))
    counters = dict(by_kind.get(j.COUNTER, ()))
    node.neighbours.cluster.restore(by_kind.get(j.NODE, []), counters.get(j.NODE.encode(), HEAD))
    node.jobs.restore(by_kind.get(j.JOB, []), counters.get(j.JOB.encode(), 0))
    node.key_value.restore(by_kind.get(j.KEY, []))
    node.naming.restore(by_kind.get(j.NAME, []))
    node.groups.restore(by_kind.get(j.GROUP, []))
    actors = node.detached.restore(*(by_kind.get(kind, []) for kind in (j.EXPORT, j.OBJECT, j.ACTOR)))
    ended = node.jobs.end_restored()
    if rows:
        figures = {
            "nodes": len(by_kind.get(j.NODE, ())),
            "actors": actors,
            "actors_ended": len(by_kind.get(j.ACTOR, ())) - actors,
            "names": len(by_kind.get(j.NAME, ())),
            "groups": len(by_kind.get(j.GROUP, ())),
            "keys": len(by_kind.get(j.KEY, ())),
            "jobs_ended": ended,
        }
        state.effects.others.append(Recovered(figures))
