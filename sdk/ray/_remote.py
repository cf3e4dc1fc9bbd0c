"""Remote functions: ``@ray.remote`` on a function."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, Final, Generic, NoReturn, ParamSpec, TypeVar

from ray import _args, _session
from ray._client import Client
from ray._generators import ObjectRefGenerator
from ray._hashing import content_id
from ray._options import TaskOptions
from ray._placement import where
from ray._refs import ObjectRef
from ray._serialize import dumps, export
from rayd.ids import FIRST_RETURN, return_id
from rayd.wire.messages import EXPORT, SPEC, SUBMIT

P = ParamSpec("P")
R = TypeVar("R")

STREAMING: Final = -1


class RemoteFunction(Generic[P, R]):
    """A function that runs as a task when called through ``.remote(...)``.

    Args:
        function: the Python function.
        options: from the decorator.
    """

    def __init__(self, function: Callable[P, R], options: TaskOptions) -> None:
        self._function = function
        self._options = options
        self._arity = Arity(function)
        self._route: _Route | None = None
        functools.update_wrapper(self, function)
        # A closure with the function's own signature, for editors and ``inspect``; also quicker to reach than a method.
        self.remote = self._make_remote()

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        name = self._function.__name__
        raise TypeError(f"A remote function cannot be called directly: write {name}.remote(...) to run it as a task.")

    def _make_remote(self) -> Callable[P, Any]:
        arity = self._arity
        backpressure = self._options.generator_backpressure

        @functools.wraps(self._function)
        def remote(*args: P.args, **kwargs: P.kwargs) -> Any:
            """Submit a task.

            Returns:
                an ObjectRef; a list of them for num_returns above 1; None for num_returns=0; an ObjectRefGenerator for
                a streaming task.

            Raises:
                TypeError: the arguments do not fit the function's signature, or cannot be serialized.
            """
            route = self._route
            session = _session.current
            if (
                route is None
                or session is None
                or route.client is not session.client
                or route.captured is not route.client.captured
            ):
                route = self._route = self._make_route()
            if kwargs or not arity.least <= len(args) <= arity.most:
                arity.check(args, kwargs)
            client = route.client
            payload, args_oid, deps, contained, _keep = _args.pack(client, args, kwargs, route.name)
            tid = client.new_task_id()
            # The reference first: should Ctrl-C come in between, its end lets go of the result.
            returns = route.num_returns
            result = client._fresh(tid + FIRST_RETURN) if returns == 1 else several(client, tid, returns, backpressure)
            client.link.post((SUBMIT, tid, route.key, payload, args_oid, deps, contained))
            return result

        return remote

    def _make_route(self) -> "_Route":
        client = _session.need().client
        blob_id = client.exports.function(client, self._function)
        options = self._options
        spec = {
            "kind": "task",
            "name": options.name or self._function.__name__,
            "function": blob_id,
            "resources": {name: float(amount) for name, amount in options.demand.items()},
            "num_returns": returns_code(options.num_returns),
            "dynamic": options.num_returns == "dynamic",
            "generator": options.is_generator,
            "max_retries": client.default_retries if options.max_retries is None else options.max_retries,
            "max_calls": options.max_calls,
            "retry_exceptions": retry_code(options.retry_exceptions),
            "backpressure": options.generator_backpressure or 0,
            "env_vars": client.env_vars(options.runtime_env),
        }
        if options.timeout_s is not None:
            spec["timeout_s"] = options.timeout_s
        spec |= where(options, client.captured, spec["name"])
        key = client.exports.spec(client, spec)
        return _Route(client, key, spec["num_returns"], spec["name"])

    def options(self, **options: Any) -> "RemoteFunction[P, R]":
        """The same function with other options."""
        changed = RemoteFunction.__new__(RemoteFunction)
        changed.__dict__.update(self.__dict__)
        changed._options = self._options.merged(options)
        changed._route = None
        changed.remote = changed._make_remote()
        return changed

    def _remote(self, args: Any = (), kwargs: Any = None, **options: Any) -> Any:
        """``options(**options).remote(*args, **kwargs)`` in one call; used by libraries."""
        target = self.options(**options) if options else self
        return target.remote(*(args or ()), **(kwargs or {}))

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self._function, dict(self._options.given))

    def __repr__(self) -> str:
        return f"RemoteFunction({self._function.__module__}.{self._function.__qualname__})"


class _Route:
    """What a remote function knows of the session it was last used in."""

    __slots__ = ("captured", "client", "key", "name", "num_returns")

    def __init__(self, client: Client, key: int, num_returns: int, name: str) -> None:
        self.client = client
        self.captured = client.captured
        self.key = key
        self.num_returns = num_returns
        self.name = name


def _restore(function: Callable[..., Any], options: dict[str, Any]) -> RemoteFunction[Any, Any]:
    return make_remote_function(function, options)


def make_remote_function(function: Callable[P, R], options: dict[str, Any]) -> RemoteFunction[P, R]:
    """Check a function and its options.

    Raises:
        ValueError: an async function, or options that make no sense.
    """
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise ValueError(
            f"{function.__name__} is an async function, which cannot be a task; make it a plain def, or a method of"
            " an actor, whose async"
            " methods run concurrently."
        )
    parsed = TaskOptions.parse(options, is_generator=inspect.isgeneratorfunction(function))
    return RemoteFunction(function, parsed)


class Arity:
    """Which calls fit a function; the ordinary case costs two comparisons.

    Attributes:
        least, most: how many positional arguments fit when there are no others; ``least`` above ``most`` when that
            must be looked at.
    """

    __slots__ = ("_function", "_signature", "_skip_self", "least", "most")

    def __init__(self, function: Callable[..., Any], skip_self: bool = False) -> None:
        self._function = function
        self._skip_self = skip_self
        self._signature: inspect.Signature | None = None
        self.least, self.most = 1, 0
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError):  # some builtins tell no signature
            self.least, self.most = 0, 1 << 30
            return
        parameters = list(signature.parameters.values())
        if skip_self and parameters and parameters[0].kind is not inspect.Parameter.VAR_POSITIONAL:
            parameters = parameters[1:]
        self._signature = signature.replace(parameters=parameters)
        positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        if any(p.kind is p.KEYWORD_ONLY and p.default is p.empty for p in parameters):
            return
        self.least = sum(p.default is p.empty for p in positional)
        self.most = 1 << 30 if any(p.kind is p.VAR_POSITIONAL for p in parameters) else len(positional)

    def check(self, args: Any, kwargs: dict[str, Any]) -> None:
        """Raise TypeError as a direct call would."""
        if self._signature is None:
            return
        try:
            self._signature.bind(*args, **kwargs)
        except TypeError as error:
            name = getattr(self._function, "__qualname__", repr(self._function))
            raise TypeError(f"{name}.remote(): {error}. Its signature is {self._signature}.") from None


def returns_code(num_returns: int | str) -> int:
    """num_returns as the protocol has it; a dynamic task has one return that lists the others."""
    if num_returns == "streaming":
        return STREAMING
    return 1 if num_returns == "dynamic" else int(num_returns)


def retry_code(retry: bool | tuple[type[Exception], ...]) -> Any:
    """retry_exceptions as the worker gets it: a flag or pickled classes."""
    return retry if isinstance(retry, bool) else dumps(retry)


def several(client: Client, tid: bytes, returns: int, backpressure: int | None) -> Any:
    """What ``.remote`` returns when it is not one reference."""
    if returns == STREAMING:
        return ObjectRefGenerator(client, tid, backpressure)
    if returns == 0:
        return None
    return [client._fresh(return_id(tid, index)) for index in range(1, returns + 1)]


class Exports:
    """Functions, classes and specs a session has announced.

    Captured references are kept for the session: a task that was submitted may still need them.
    """

    def __init__(self) -> None:
        self._ids: dict[bytes, list[ObjectRef[Any]]] = {}
        self._specs: dict[bytes, int] = {}

    def function(self, client: Client, function: Any) -> bytes:
        """Export a function or class once; returns its content id."""
        blob, refs = export(function, getattr(function, "__qualname__", repr(function)))
        blob_id = content_id(blob)
        if blob_id not in self._ids:
            client.link.post((EXPORT, blob_id, blob))
            self._ids[blob_id] = refs  # only now, for Ctrl-C may come at any moment
        return blob_id

    def spec(self, client: Client, spec: dict[str, Any]) -> int:
        """Announce a spec once; returns its key on this connection."""
        identity = dumps(spec)
        key = self._specs.get(identity)
        if key is None:
            key = len(self._specs) + 1
            client.link.post((SPEC, key, spec))
            self._specs[identity] = key
        return key
