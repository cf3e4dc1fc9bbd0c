"""Actors: ``@ray.remote`` on a class, handles and their methods."""

import inspect
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from ray import _args, _session, exceptions
from ray._client import Client
from ray._ids import ActorID
from ray._method import ATTRIBUTE
from ray._options import ActorOptions, MethodOptions
from ray._placement import where
from ray._refs import ObjectRef, pickling
from ray._remote import Arity, retry_code, returns_code, several
from ray._serialize import deserialize, dumps
from rayd.errors import ACTOR_DIED, fault
from rayd.ids import FIRST_RETURN, actor_object_id, nonce
from rayd.wire.messages import CALL, CREATE, KILL

# Methods every actor has.
BUILTIN_METHODS: Final = ("__ray_ready__", "__ray_terminate__", "__ray_call__")


class ActorClassInheritanceException(TypeError):  # noqa: N818 - the name users know
    """A class inherits from an actor class instead of from the plain class behind it."""


@dataclass(frozen=True, slots=True)
class MethodMeta:
    """What a handle knows of one method; travels inside the handle.

    Attributes:
        name: attribute of the class.
        options: keywords of ``@ray.method``.
        is_generator: whether it yields.
        least, most: positional arguments that fit without a closer look.
        signature: for messages and for the closer look, None when unknown.
    """

    name: str
    options: dict[str, Any]
    is_generator: bool
    arity: tuple[int, int]
    signature: inspect.Signature | None


@dataclass(frozen=True, slots=True)
class ClassMeta:
    """What a handle knows of its class; travels inside the handle."""

    name: str
    methods: dict[str, MethodMeta]
    is_async: bool
    max_task_retries: int
    max_pending_calls: int
    backpressure: int | None


def _plain_signature(signature: inspect.Signature | None) -> inspect.Signature | None:
    """Without defaults and annotations that may not travel: only what binding needs."""
    if signature is None:
        return None
    parameters = [
        parameter.replace(
            annotation=parameter.empty, default=parameter.empty if parameter.default is parameter.empty else None
        )
        for parameter in signature.parameters.values()
    ]
    return signature.replace(parameters=parameters, return_annotation=signature.empty)


def _describe(cls: type, name: str) -> MethodMeta:
    raw = inspect.getattr_static(cls, name)
    function = getattr(cls, name)
    given: MethodOptions | None = getattr(function, ATTRIBUTE, None)
    arity = Arity(function, skip_self=not isinstance(raw, staticmethod | classmethod))
    is_generator = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
    options = dict(given.given) if given is not None else {}
    return MethodMeta(name, options, is_generator, (arity.least, arity.most), _plain_signature(arity._signature))


def _method_names(cls: type) -> list[str]:
    return [name for name, _ in inspect.getmembers(cls, callable) if not name.startswith("__") or name == "__call__"]


class ActorClass:
    """A class whose objects are actors, made through ``.remote(...)``.

    Args:
        cls: the Python class.
        options: from the decorator.
    """

    def __init__(self, cls: type, options: ActorOptions) -> None:
        self._cls = cls
        self._options = options
        self._arity = Arity(cls)
        self._made: tuple[Client, bytes | None, ClassMeta, int] | None = None
        self.__name__ = cls.__name__
        self.__qualname__ = cls.__qualname__
        self.__module__ = cls.__module__
        self.__doc__ = cls.__doc__

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError(
            f"An actor class cannot be instantiated directly: write {self._cls.__name__}.remote(...) to create an"
            " actor."
        )

    def __init_subclass__(cls, **kwargs: Any) -> None:
        raise TypeError("ActorClass itself cannot be subclassed")

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type, ...]:
        name = self._cls.__name__
        raise ActorClassInheritanceException(
            f"{name} is an actor class and cannot be inherited from. Inherit from the plain class and decorate the"
            " subclass, too: keep"
            f" class {name} undecorated and make Remote{name} = ray.remote({name})."
        )

    def remote(self, *args: Any, **kwargs: Any) -> "ActorHandle":
        """Create an actor; returns its handle at once.

        Raises:
            TypeError: the arguments do not fit ``__init__``.
            ActorAlreadyExistsError: the name is taken.
        """
        arity = self._arity
        if kwargs or not arity.least <= len(args) <= arity.most:
            arity.check(args, kwargs)
        client = _session.need().client
        meta, key = self._announce(client)
        payload, args_oid, deps, contained, _keep = _args.pack(client, args, kwargs, self._cls.__qualname__)
        aid = nonce(client.info["number"]) + client.job
        ref = client._fresh(actor_object_id(aid))
        if not self._options.name:
            client.link.post((CREATE, 0, aid, key, payload, args_oid, deps, contained))
            return ActorHandle(client, aid, meta, ref)
        there = client.request(lambda req: (CREATE, req, aid, key, payload, args_oid, deps, contained))
        if there is not None:
            return handle_from_info(client, there)
        return ActorHandle(client, aid, meta, ref)

    def _announce(self, client: Client) -> tuple[ClassMeta, int]:
        made = self._made
        if made is None or made[0] is not client or made[1] is not client.captured:
            meta = self._describe()
            key = client.exports.spec(client, self._spec(client, meta))
            made = self._made = (client, client.captured, meta, key)
        return made[2], made[3]

    def _describe(self) -> ClassMeta:
        cls, options = self._cls, self._options
        methods = {name: _describe(cls, name) for name in _method_names(cls)}
        for method in methods.values():
            group = method.options.get("concurrency_group")
            if group and group not in options.concurrency_groups:
                known = ", ".join(options.concurrency_groups) or "none"
                raise ValueError(
                    f"{cls.__name__}.{method.name} is in the concurrency group {group!r}, which the class does not"
                    f" have (it has: {known}); add it"
                    f" with @ray.remote(concurrency_groups={{{group!r}: 1}})"
                )
        return ClassMeta(
            cls.__name__,
            methods,
            options.is_async,
            options.max_task_retries,
            options.max_pending_calls,
            options.generator_backpressure,
        )

    def _spec(self, client: Client, meta: ClassMeta) -> dict[str, Any]:
        options = self._options
        concurrency = options.max_concurrency + sum(options.concurrency_groups.values())
        return {
            "kind": "actor",
            "name": self._cls.__name__,
            "function": client.exports.function(client, self._cls),
            "resources": {name: float(amount) for name, amount in options.held.items()},
            "placement": {name: float(amount) for name, amount in options.demand.items()},
            "actor_name": options.name or "",
            "namespace": options.namespace or "",
            "detached": options.detached,
            "get_if_exists": options.get_if_exists,
            "max_restarts": options.max_restarts,
            "max_concurrency": options.max_concurrency,
            "concurrency": concurrency,
            "groups": dict(options.concurrency_groups),
            "is_async": options.is_async,
            "out_of_order": bool(options.allow_out_of_order_execution),
            "env_vars": client.env_vars(options.runtime_env),
            "meta": dumps(meta),
            **where(options, client.captured, self._cls.__name__),
        }

    def options(self, **options: Any) -> "ActorClass":
        """The same class with other options."""
        changed = ActorClass.__new__(ActorClass)
        changed.__dict__.update(self.__dict__)
        changed._options = self._options.merged(options)
        changed._made = None
        return changed

    def _remote(self, args: Any = (), kwargs: Any = None, **options: Any) -> "ActorHandle":
        """``options(**options).remote(*args, **kwargs)`` in one call; used by libraries."""
        target = self.options(**options) if options else self
        return target.remote(*(args or ()), **(kwargs or {}))

    @property
    def __ray_metadata__(self) -> ClassMeta:
        return self._describe()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._cls, name)

    def __reduce__(self) -> tuple[Any, ...]:
        return make_actor_class, (self._cls, dict(self._options.given))

    def __repr__(self) -> str:
        return f"ActorClass({self._cls.__name__})"


def make_actor_class(cls: type, options: dict[str, Any]) -> ActorClass:
    """Check a class and its options."""
    is_async = any(
        inspect.iscoroutinefunction(member) or inspect.isasyncgenfunction(member)
        for _, member in inspect.getmembers(cls, inspect.isfunction)
    )
    return ActorClass(cls, ActorOptions.parse(options, is_async=is_async))


class ActorHandle:
    """A handle to an actor: its methods are attributes with ``.remote(...)``. Handles can be passed to tasks and other
    actors.
    """

    def __init__(self, client: Client, aid: bytes, meta: ClassMeta, ref: ObjectRef[Any] | None) -> None:
        self._client = client
        self._aid = aid
        self._meta = meta
        self._ref = ref
        self._pending: list[ObjectRef[Any]] = []

    @property
    def _actor_id(self) -> ActorID:
        return ActorID(self._aid)

    _ray_actor_id = _actor_id

    def __getattr__(self, name: str) -> "ActorMethod":
        meta: MethodMeta | None = self._meta.methods.get(name)
        if meta is None:
            if name in BUILTIN_METHODS:
                meta = MethodMeta(name, {}, False, (0, 1 << 30), None)
            elif name.startswith("__"):
                raise AttributeError(name)
            else:
                known = ", ".join(self._meta.methods) or "none"
                raise AttributeError(f"the actor class {self._meta.name} has no method {name!r}; it has: {known}")
        method = ActorMethod(self, meta, _parsed(meta))
        # Found without this detour from now on. The cycle is no loss: a handle that has been used lives until the
        # collector runs, so the method refers to the parts of the handle it needs, not to the handle.
        self.__dict__[name] = method
        return method

    def __dir__(self) -> list[str]:
        return [*self._meta.methods, *BUILTIN_METHODS]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ActorHandle) and other._aid == self._aid

    def __hash__(self) -> int:
        return hash(self._aid)

    def __reduce__(self) -> tuple[Any, ...]:
        if pickling.found is not None and self._ref is not None:
            pickling.found.append(self._ref)
        return _restore, (self._aid, self._meta)

    def __repr__(self) -> str:
        return f"Actor({self._meta.name}, {self._aid.hex()})"


def _parsed(meta: MethodMeta) -> MethodOptions:
    return MethodOptions.parse(meta.options, is_generator=meta.is_generator)


def _restore(aid: bytes, meta: ClassMeta) -> ActorHandle:
    client = _session.need().client
    return ActorHandle(client, aid, meta, client.receive(actor_object_id(aid)))


def handle_from_info(client: Client, info: dict[str, Any], weak: bool = False) -> ActorHandle:
    """A handle from what the daemon tells of an actor. A weak one does not keep the actor alive."""
    aid = info["actor_id"]
    ref = None if weak else client.receive(actor_object_id(aid))
    return ActorHandle(client, aid, deserialize(info["meta"]), ref)


class ActorMethod:
    """One method of one actor."""

    __slots__ = ("_aid", "_client", "_key", "_meta", "_name", "_options", "_owner", "_pending", "_returns", "_title")

    def __init__(self, handle: ActorHandle, meta: MethodMeta, options: MethodOptions) -> None:
        self._aid = handle._aid
        self._client = handle._client
        self._owner = (handle._ref, handle._meta)
        self._pending = handle._pending
        self._meta = meta
        self._options = options
        self._name = meta.name
        self._title = f"{handle._meta.name}.{meta.name}"
        self._key = 0
        self._returns = 1

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError(f"Actor methods cannot be called directly: write .{self._name}.remote(...).")

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        """Call the method.

        Returns:
            as for remote functions.

        Raises:
            TypeError: the arguments do not fit.
            PendingCallsLimitExceeded: the handle has max_pending_calls calls outstanding.
        """
        client = self._client
        session = _session.current
        if session is None or session.client is not client:
            text = (
                f"The handle of actor {self._aid.hex()} belongs to a session that has ended."
                " Create the actor again after ray.init()."
            )
            raise exceptions.from_fault(fault(ACTOR_DIED, text, actor_id=self._aid.hex()))
        if not self._key:
            self._announce()
        least, most = self._meta.arity
        if kwargs or not least <= len(args) <= most:
            self._check(args, kwargs)
        limit = self._owner[1].max_pending_calls
        if limit > 0:
            self._respect(limit)
        payload, args_oid, deps, contained, _keep = _args.pack(client, args, kwargs, self._title)
        tid = client.new_task_id()
        if self._returns == 1:  # the reference first, as for tasks
            ref = client._fresh(tid + FIRST_RETURN)
            client.link.post((CALL, tid, self._aid, self._key, payload, args_oid, deps, contained))
            if limit > 0:
                self._pending.append(ref)
            return ref
        refs = several(client, tid, self._returns, self._options.generator_backpressure)
        client.link.post((CALL, tid, self._aid, self._key, payload, args_oid, deps, contained))
        return refs

    def _check(self, args: Any, kwargs: dict[str, Any]) -> None:
        signature = self._meta.signature
        if signature is None:
            return
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self._title}.remote(): {error}. Its signature is {signature}.") from None

    def _respect(self, limit: int) -> None:
        pending = self._pending
        self._client.ask(pending)
        self._client.link.flush()
        self._client.link.poll()
        pending[:] = [ref for ref in pending if ref._kind < 0]
        if len(pending) >= limit:
            raise exceptions.PendingCallsLimitExceeded(
                f"Actor {self._aid.hex()} has {len(pending)} calls of this handle outstanding and"
                f" max_pending_calls={limit}: wait for some"
                " results before calling again, or raise the limit."
            )

    def _announce(self) -> None:
        options = self._options
        meta = self._owner[1]
        retries = meta.max_task_retries if options.max_task_retries is None else options.max_task_retries
        spec = {
            "kind": "method",
            "name": options.name or self._title,
            "function": b"",
            "method": self._name,
            "num_returns": returns_code(options.num_returns),
            "dynamic": options.num_returns == "dynamic",
            "max_retries": retries,
            "retry_exceptions": retry_code(options.retry_exceptions),
            "group": options.concurrency_group or "",
            "backpressure": options.generator_backpressure or meta.backpressure or 0,
        }
        self._returns = spec["num_returns"]
        self._key = self._client.exports.spec(self._client, spec)

    def options(self, **options: Any) -> "ActorMethod":
        """The same method with other options."""
        changed = ActorMethod.__new__(ActorMethod)
        for slot in ActorMethod.__slots__:
            setattr(changed, slot, getattr(self, slot))
        changed._options = self._options.merged(options)
        changed._key = 0
        return changed

    def _remote(self, args: Any = (), kwargs: Any = None, **options: Any) -> Any:
        target = self.options(**options) if options else self
        return target.remote(*(args or ()), **(kwargs or {}))

    def __repr__(self) -> str:
        return f"ActorMethod({self._title})"


def kill(handle: Any, no_restart: bool) -> None:
    """See ``ray.kill``."""
    if not isinstance(handle, ActorHandle):
        raise ValueError(
            f"ray.kill() takes an actor handle, got {type(handle).__name__}; cancel a task with ray.cancel(ref)"
        )
    session = _session.current
    if session is None or session.client is not handle._client:
        raise ValueError(f"{handle!r} belongs to a session that has ended, and so has the actor")
    handle._client.link.post((KILL, handle._aid, no_restart))
    handle._client.link.flush()


def exit_actor() -> NoReturn:
    """End the calling actor after this method; callers waiting for it get ActorDiedError.

    Raises:
        TypeError: not called in an actor.
    """
    session = _session.current
    executor = session.executor if session is not None else None
    if executor is None or executor.instance is None:
        raise TypeError("exit_actor() ends the actor it is called in; here is no actor. Call it in an actor's method.")
    executor.client.rpc("exit_actor")
    raise ActorExit


class ActorExit(BaseException):
    """Unwinds an actor's method after exit_actor; not an Exception, so that user code does not swallow it."""
