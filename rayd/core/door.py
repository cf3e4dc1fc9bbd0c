"""What a schema cannot say of a message: checked before anything is changed, so that a bad message changes nothing."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from rayd.core.objects import ObjectTable
from rayd.core.task import STREAMING, Task
from rayd.wire.frame import ProtocolError
from rayd.wire.messages import (
    BLOCKED,
    BODY,
    DONE,
    DONE_MANY,
    ERROR,
    FETCH,
    INLINE,
    RESUMED,
    RETRYABLE,
    RPC,
    STORED,
    YIELD,
)

# What only the process that runs a task may say; tools may only ask.
ONLY_WORKERS: Final = frozenset({BLOCKED, BODY, DONE, DONE_MANY, FETCH, RESUMED, YIELD})
ONLY_TOOLS: Final = frozenset({RPC})
_BYTES: Final = frozenset({bytes})
_ROW: Final = [int, bytes, list]


_INFO: Final = {
    "cwd": str,
    "entrypoint": str,
    "env_vars": dict,
    "job": bytes,
    "namespace": str,
    "pid": int,
    "sys_path": list,
    "weight": float,
}
# Of a job, beside others; and the reverse at the other end.
WEIGHT_MAX: Final = 1_000.0


def check_introduction(info: dict[str, Any]) -> None:
    """Raise ProtocolError unless a client says of itself what can be used."""
    for key, kind in _INFO.items():
        if key in info and type(info[key]) is not kind:
            raise ProtocolError(f"{key} of HELLO is {type(info[key]).__name__}, not {kind.__name__}")
    check_environment(info.get("env_vars", {}))
    if not 1 / WEIGHT_MAX <= info.get("weight", 1.0) <= WEIGHT_MAX:
        raise ProtocolError(f"a job cannot have the weight {info['weight']}")
    if not all(type(path) is str for path in info.get("sys_path", [])):
        raise ProtocolError("sys_path of HELLO has items that are no text")


def check_environment(variables: dict[Any, Any]) -> None:
    """Raise ProtocolError unless a process can be given these environment variables."""
    for name, value in variables.items():
        if not (type(name) is str and type(value) is str):
            raise ProtocolError(f"the environment variable {name!r:.40} and its value must be text")
        if not name or "=" in name or "\0" in name + value:
            raise ProtocolError(f"there can be no environment variable {name!r:.40} with this value")


def check_ids(*lists: Iterable[Any]) -> None:
    """Raise ProtocolError unless all are lists of ids."""
    for oids in lists:
        if oids and not _BYTES.issuperset(map(type, oids)):
            raise ProtocolError("an object id is bytes")


def check_arguments(objects: ObjectTable, args_oid: bytes, deps: list[Any], contained: list[Any]) -> None:
    """Raise ProtocolError unless these can be the arguments of a task: ids, and stored bytes that are complete."""
    check_ids(deps, contained)
    if args_oid and objects.payload(args_oid)[0] != STORED:
        raise ProtocolError(f"the arguments {args_oid.hex()} are not in the store")


def check_done(objects: ObjectTable, conn: int, task: Task, kind: int, data: bytes, contained: list[Any]) -> None:
    """Raise ProtocolError unless this can be the one result of the task."""
    returns = task.spec.num_returns
    if returns != 1 and not (kind == ERROR or kind == RETRYABLE or (kind == INLINE and returns == STREAMING)):
        raise ProtocolError(f"DONE has one result of kind {kind} for {returns} returns")
    if kind == STORED and task.spec.options.get("kind") == "actor":
        raise ProtocolError("DONE of a constructor has no value")
    if kind != ERROR and kind != RETRYABLE:
        check_values(objects, conn, [(kind, data, contained)])


def check_done_many(objects: ObjectTable, conn: int, task: Task, rows: list[Any]) -> None:
    """Raise ProtocolError unless these can be the results of the task, one for each return."""
    if len(rows) != max(task.spec.num_returns, 0):
        raise ProtocolError(f"DONE_MANY has {len(rows)} results for {task.spec.num_returns} returns")
    if any(type(row) is not list or list(map(type, row)) != _ROW for row in rows):
        raise ProtocolError("a result of DONE_MANY is no [kind, data, contained]")
    check_values(objects, conn, rows)


def check_values(objects: ObjectTable, conn: int, rows: Sequence[Sequence[Any]]) -> None:
    """Raise ProtocolError unless each of ``rows`` (kind, data, contained) is a value, stored ones in own bytes."""
    stored = []
    for kind, data, contained in rows:
        check_ids(contained)
        if kind == STORED:
            stored.append(data)
            if not objects.owns_scratch(conn, data):
                raise ProtocolError("a result names stored bytes that this worker has not allocated")
        elif kind != INLINE:
            raise ProtocolError(f"no value has kind {kind!r:.20}")
    if len(stored) > 1 and len(dict.fromkeys(stored)) < len(stored):
        raise ProtocolError("two results name the same stored bytes")
