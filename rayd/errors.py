"""Faults: errors that a daemon reports, as plain maps that travel on the wire.

A fault is ``{"code": one of the codes below, "message": text for the user, ...details}``. The message names the exact
cause and the remedy and is written where the cause is known; the SDK only picks the exception class by the code.
"""

from typing import Any, Final, TypeAlias

Fault: TypeAlias = dict[str, Any]

WORKER_CRASHED: Final = "worker_crashed"  # details: cause {kind, exit_code | signal}, pid, task, stderr [lines]
WORKER_START: Final = "worker_start"  # details: cause, stderr [lines]
OUT_OF_MEMORY: Final = "out_of_memory"  # details: as worker_crashed, plus figures in bytes
ACTOR_DIED: Final = (
    "actor_died"  # details: actor_id hex, cause..., init_failed bool, pickled error under "error" if __init__ raised
)
# A further detail of actor_died: intended bool, whether somebody wanted it; then nobody need be told.
ACTOR_UNAVAILABLE: Final = "actor_unavailable"
CANCELLED: Final = "cancelled"  # details: task_id hex
TIMED_OUT: Final = "timed_out"  # details: task_id hex, pid
NODE_DIED: Final = "node_died"  # details: task_id or object_id hex
OBJECT_LOST: Final = "object_lost"
STORE_FULL: Final = "store_full"  # details: asked, capacity, used, holders [[description, bytes]]
UNSCHEDULABLE: Final = "unschedulable"
PENDING_CALLS: Final = "pending_calls_limit"
GROUP_REMOVED: Final = "placement_group_removed"  # details: group_id hex; actor_id hex if it is an actor's
NAME_TAKEN: Final = "name_taken"
NOT_FOUND: Final = "not_found"
BAD_REQUEST: Final = "bad_request"
NOT_PROVEN: Final = "not_proven"  # a client over TCP without the cluster's token
FORBIDDEN: Final = "forbidden"  # the client's token does not allow it
VERSION: Final = "version"
SHUTDOWN: Final = "shutdown"
# The head could not make a change durable; detail taken: bool, another head writes the journal now.
JOURNAL: Final = "journal"


def fault(code: str, message: str, **details: Any) -> Fault:
    """A fault map."""
    return {"code": code, "message": message, **details}
