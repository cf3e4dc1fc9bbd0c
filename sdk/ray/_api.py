"""The functions of the package ``ray`` that act on objects, tasks and the cluster."""

import inspect
import operator
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, overload

from ray import _actor, _session, exceptions
from ray._client import Client, foreign
from ray._generators import ObjectRefGenerator
from ray._refs import ObjectRef
from ray._remote import make_remote_function
from ray._serialize import deserialize
from rayd.wire.messages import CANCEL


def remote(*args: Any, **options: Any) -> Any:
    """Make a function a task or a class an actor class.

    Use it plain (``@ray.remote``) or with options (``@ray.remote(num_cpus=2)``), above a ``def`` or a ``class``, or
    called with one.

    Args:
        args: the function or class, when used plain.
        options: see the user guide; the same as for ``.options()``.

    Raises:
        TypeError: neither a function nor a class.
        ValueError: unknown options, or values that make no sense.
    """
    if len(args) == 1 and not options:
        return _make_remote(args[0], {})
    if args or not options:
        raise AssertionError(
            "@ray.remote is used plain, as @ray.remote, or with options by name, as @ray.remote(num_cpus=2); see"
            " help(ray.remote)"
        )
    return lambda target: _make_remote(target, options)


def _make_remote(target: Any, options: dict[str, Any]) -> Any:
    if inspect.isclass(target):
        return _actor.make_actor_class(target, options)
    if inspect.isfunction(target) or type(target).__name__ == "cython_function_or_method":
        return make_remote_function(target, options)
    raise TypeError(
        f"@ray.remote goes above a function or a class, not above {target!r} of type {type(target).__name__}"
    )


@overload
def get(refs: ObjectRef[Any], *, timeout: float | None = None) -> Any: ...
@overload
def get(refs: Sequence[ObjectRef[Any]], *, timeout: float | None = None) -> list[Any]: ...
def get(refs: Any, *, timeout: float | None = None) -> Any:
    """The value of a reference, or the values of a list of them, in order; waits until they are there.

    Arrays are read-only views of shared memory. If a task raised, its exception is raised here; of a list, the first
    that is known to have failed.

    Args:
        refs: one reference or a list.
        timeout: seconds to wait at the most; 0 only looks; None waits without limit.

    Raises:
        GetTimeoutError: not everything was there in time.
        ValueError: neither a reference nor a list, or a reference of an earlier session.
        TypeError: the list contains something else.
    """
    if type(refs) is ObjectRef:
        client = _owner(refs)
        if refs._kind == 0:
            return deserialize(refs._data)
        _warn_if_blocking()
        return client.get((refs,), timeout)[0]
    if isinstance(refs, ObjectRefGenerator):
        return refs
    if not isinstance(refs, list):
        raise ValueError(
            f"ray.get() takes an ObjectRef or a list of ObjectRefs, got {type(refs).__name__}{_hint(refs)}"
        )
    for ref in refs:
        if type(ref) is not ObjectRef:
            raise TypeError(f"ray.get() takes a list of ObjectRefs; it contains a {type(ref).__name__}{_hint(ref)}")
    client = _owner(refs[0]) if refs else _session.need().client
    client.check_own(refs)
    _warn_if_blocking()
    return client.get(refs, timeout)


def _owner(ref: ObjectRef[Any]) -> Client:
    """The client of a reference, if it is that of the present session."""
    session = _session.current
    client = ref._client
    if client is None or session is None or session.client is not client:
        raise foreign(ref)
    return client


def _hint(value: Any) -> str:
    if isinstance(value, tuple | set):
        return "; make a list of it: ray.get(list(refs))"
    if isinstance(value, _actor.ActorHandle):
        return "; call one of the actor's methods with .remote() and get that"
    return ""


def _warn_if_blocking() -> None:
    session = _session.current
    executor = session.executor if session is not None else None
    if executor is not None and executor.actor is not None and executor.actor.options.get("mode") == "async":
        import asyncio

        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return
        from ray.util import log_once

        if log_once("blocking_get_in_async_actor"):
            warnings.warn(
                "ray.get() blocks the event loop of this async actor; write `await ref` instead", stacklevel=3
            )


def put(value: Any) -> ObjectRef[Any]:
    """Store a value; returns a reference to it.

    Raises:
        TypeError: the value is a reference itself, or cannot be serialized.
        ObjectStoreFullError: no room.
    """
    if type(value) is ObjectRef:
        raise TypeError(
            "ray.put() was given an ObjectRef: the object is stored already. Pass the reference itself, or put a"
            " list that contains it."
        )
    return _session.need().client.put(value)


def wait(
    waitables: Any, *, num_returns: int = 1, timeout: float | None = None, fetch_local: bool = True
) -> tuple[list[Any], list[Any]]:
    """Wait until some of the references are ready.

    Args:
        waitables: a list of different references or generators.
        num_returns: how many to wait for.
        timeout: seconds to wait at the most; 0 only looks; None waits without limit.
        fetch_local: also bring the values to this machine; False is satisfied when they are complete on another. Not
            looked at when there are generators among the waitables.

    Returns:
        (ready, not ready): at most ``num_returns`` ready ones, both in the order given.

    Raises:
        TypeError: not a list of references.
        ValueError: duplicates, or a ``num_returns`` or ``timeout`` that makes no sense.
    """
    if not isinstance(waitables, list):
        raise TypeError(
            f"ray.wait() takes a list of ObjectRefs, got {type(waitables).__name__}; for one write ray.wait([ref])"
        )
    if timeout is not None and timeout < 0:
        raise ValueError(
            f"timeout={timeout}: seconds to wait cannot be negative; use 0 to only look, None to wait without limit"
        )
    if not waitables:
        return [], []
    if operator.countOf(map(type, waitables), ObjectRef) != len(waitables):
        return _wait_mixed(waitables, num_returns, timeout)
    _check_wait(waitables, num_returns)
    return _owner(waitables[0]).wait(waitables, num_returns, timeout, fetch_local)


def _check_wait(waitables: list[Any], num_returns: int) -> None:
    if len(set(waitables)) != len(waitables):
        raise ValueError(
            "ray.wait() was given the same ObjectRef more than once; pass each only once, for example"
            " list(dict.fromkeys(refs))"
        )
    if not 0 < num_returns <= len(waitables):
        raise ValueError(f"num_returns={num_returns}: must be from 1 to the number of references, {len(waitables)}")


def _wait_mixed(waitables: list[Any], num_returns: int, timeout: float | None) -> tuple[list[Any], list[Any]]:
    for item in waitables:
        if type(item) is not ObjectRef and not isinstance(item, ObjectRefGenerator):
            raise TypeError(f"ray.wait() takes a list of ObjectRefs; it contains a {type(item).__name__}{_hint(item)}")
    _check_wait(waitables, num_returns)
    client = _session.need().client

    def is_ready(item: Any) -> bool:
        return item._settled() if isinstance(item, ObjectRefGenerator) else item._kind >= 0

    for item in waitables:
        if isinstance(item, ObjectRefGenerator):
            item._ask()
    client.ask([item for item in waitables if type(item) is ObjectRef])
    client.block_until(lambda: sum(map(is_ready, waitables)) >= num_returns, timeout)
    ready = [item for item in waitables if is_ready(item)][:num_returns]
    chosen = {id(item) for item in ready}
    return ready, [item for item in waitables if id(item) not in chosen]


def cancel(waitable: Any, *, force: bool = False, recursive: bool = True) -> None:
    """Cancel a task or an actor call. What has not begun is dropped; what runs is interrupted; what has ended stays as
    it is.

    Args:
        waitable: a reference the task returned, or its generator.
        force: kill the worker that runs it (not for actor calls).
        recursive: cancel what the task has submitted, too.

    Raises:
        TypeError: not a reference.
        ValueError: ``force`` on an actor call.
    """
    ref = waitable.completed() if isinstance(waitable, ObjectRefGenerator) else waitable
    if type(ref) is not ObjectRef:
        raise TypeError(
            f"ray.cancel() takes an ObjectRef that a task returned, got {type(waitable).__name__}; end an actor"
            " with ray.kill()"
        )
    client = _owner(ref)
    if force and client.is_actor_call(ref._id):
        raise ValueError(
            "force=True would kill the actor and all its state; use ray.kill(actor) if that is meant, or cancel"
            " without force"
        )
    client.link.post((CANCEL, ref._id, force, recursive))
    client.link.flush()


def kill(actor: Any, *, no_restart: bool = True) -> None:
    """End an actor at once, without finishing what it does.

    Args:
        actor: its handle.
        no_restart: False lets it restart if it has restarts left.

    Raises:
        ValueError: not an actor handle.
    """
    _session.need()
    _actor.kill(actor, no_restart)


def get_actor(name: str, namespace: str | None = None) -> _actor.ActorHandle:
    """A handle to a named actor. It does not keep the actor alive.

    Args:
        name: its name.
        namespace: where it lives (default: this program's).

    Raises:
        ValueError: no such actor, or an empty name.
    """
    if not name:
        raise ValueError("ray.get_actor() takes the name of an actor, got an empty one")
    if namespace is not None and not namespace:
        raise ValueError('namespace="" is none; leave it out for the namespace of this program')
    client = _session.need().client
    return _actor.handle_from_info(client, client.rpc("get_actor", name=name, namespace=namespace or ""), weak=True)


def _connected() -> Any:
    if _session.current is None:
        raise exceptions.RaySystemError("ray is not initialized; call ray.init() first")
    return _session.current.client


def nodes() -> list[dict[str, Any]]:
    """One row a machine of the cluster."""
    return [_node_row(row) for row in _connected().rpc("nodes")]


def _node_row(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "NodeID": row["node_id"].hex(),
        "Alive": row["alive"],
        "alive": row["alive"],
        "NodeManagerAddress": row["host"],
        "NodeManagerHostname": row["hostname"],
        "NodeManagerPort": row["port"],
        "ObjectManagerPort": row["port"],
        "ObjectStoreSocketName": row["store_path"],
        "RayletSocketName": row["socket"],
        "MetricsExportPort": 0,
        "RuntimeEnvAgentPort": 0,
        "NodeName": row["node_name"],
        "DeathReason": 0,
        "DeathReasonMessage": "",
        "Resources": row["total"],
        "Labels": {"ray.io/node-id": row["node_id"].hex(), **row["labels"]},
    }


def cluster_resources() -> dict[str, float]:
    """Total amounts of all resources."""
    totals: dict[str, float] = _connected().rpc("cluster_resources")
    return totals


def available_resources() -> dict[str, float]:
    """Amounts that are free now; what is used up is left out."""
    free: dict[str, float] = _connected().rpc("available_resources")
    return free


def timeline(filename: str | None = None) -> Any:
    """What ran where and when, as a trace that https://ui.perfetto.dev and chrome://tracing open.

    Args:
        filename: write it there as JSON instead of returning it.

    Returns:
        a list of trace events, or None when written to a file.
    """
    from ray._timeline import chrome_trace, write_trace

    rows = _connected().rpc("timeline")
    trace = chrome_trace([tuple(row) for row in rows])
    if filename is None:
        return trace
    write_trace(trace, filename)
    return None


def get_gpu_ids() -> list[int]:
    """Ids of the GPUs granted to the running task or actor."""
    executor = _session.need().executor
    if executor is None:
        return []
    return list(executor.gpus_now())
