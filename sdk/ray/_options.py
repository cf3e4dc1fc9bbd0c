"""The options of tasks, actors and actor methods: parsed and validated once, then frozen.

``parse`` takes the keywords as the user wrote them and returns the one shared object when there are none; ``merged``
adds the keywords of ``.options()``. Both resolve what depends on other options, so readers never ask twice. Objects
compare by identity: equal keywords parsed twice give two objects.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, Final

from ray import _option_rules as rules
from ray._option_rules import NOT_GIVEN, NotGiven

__all__ = ["METHOD_KEYWORDS", "NOT_GIVEN", "ActorOptions", "MethodOptions", "NotGiven", "TaskOptions"]

# A node offers 1 of this resource for its model of accelerator; a demand only has to find it.
_ACCELERATOR_SHARE: Final = 0.001
_NO_OPTIONS: Final[Mapping[str, Any]] = {}

_COMMON_RULES: Final[dict[str, rules.Rule]] = {
    "num_cpus": rules.quantity,
    "num_gpus": rules.whole_above_one,
    "memory": rules.quantity,
    "object_store_memory": rules.quantity,
    "accelerator_type": rules.text,
    "resources": rules.custom_resources,
    "scheduling_strategy": rules.scheduling_strategy,
    "placement_group": rules.placement_group,
    "placement_group_bundle_index": rules.bundle_index,
    "placement_group_capture_child_tasks": rules.flag_or_none,
    "label_selector": rules.label_selector,
    "fallback_strategy": rules.fallback_strategy,
    "runtime_env": rules.runtime_env,
    "enable_task_events": rules.flag,
    "priority": rules.priority,
    "_labels": rules.mapping,
}
_TASK_RULES: Final = _COMMON_RULES | {
    "num_returns": rules.returns,
    "max_calls": rules.integer(0, "for ever the same worker"),
    "max_retries": rules.integer(-1, "without end"),
    "retry_exceptions": rules.retried_exceptions,
    "name": rules.text,
    "timeout_s": rules.seconds,
    "_generator_backpressure_num_objects": rules.backpressure,
    "_num_objects_per_yield": rules.integer(1, "one object each"),
}
_ACTOR_RULES: Final = _COMMON_RULES | {
    "name": rules.actor_name,
    "namespace": rules.namespace,
    "lifetime": rules.lifetime,
    "get_if_exists": rules.flag,
    "max_restarts": rules.integer(-1, "without end"),
    "max_task_retries": rules.integer(-1, "without end"),
    "max_pending_calls": rules.integer(-1, "no limit"),
    "max_concurrency": rules.integer(0, "the default"),
    "concurrency_groups": rules.concurrency_groups,
    "allow_out_of_order_execution": rules.flag_or_none,
    "enable_tensor_transport": rules.flag,
    "_actor_generator_backpressure_num_objects": rules.backpressure,
}
_DECORATED_RULES: Final[dict[str, rules.Rule]] = {
    "num_returns": rules.returns,
    "concurrency_group": rules.text,
    "max_task_retries": rules.integer(-1, "without end"),
    "retry_exceptions": rules.retried_exceptions,
    "enable_task_events": rules.flag,
    "tensor_transport": rules.tensor_transport,
    "_generator_backpressure_num_objects": rules.backpressure,
    "_num_objects_per_yield": rules.integer(1, "one object each"),
}
_METHOD_RULES: Final = _DECORATED_RULES | {"name": rules.text}
# What ``@ray.method`` takes; ``.options()`` of a method takes ``name`` too.
METHOD_KEYWORDS: Final = tuple(_DECORATED_RULES)


@dataclasses.dataclass(frozen=True, slots=True, eq=False, weakref_slot=True, kw_only=True)
class _Placed:
    """What tasks and actors have in common."""

    given: Mapping[str, Any]  # the validated keywords, by the names users write
    demand: Mapping[str, float]  # what must be free to start, by name of the resource
    accelerator_type: str | None
    scheduling_strategy: Any  # None, "DEFAULT", "SPREAD" or an object of ray.util.scheduling_strategies
    placement_group: Any  # NOT_GIVEN, None or the group
    placement_group_bundle_index: int
    placement_group_capture_child_tasks: bool | None
    label_selector: Mapping[str, str] | None
    fallback_strategy: list[dict[str, Any]] | None
    runtime_env: Any
    enable_task_events: bool
    priority: int  # higher ones go first, among what the same program has waiting
    labels: Mapping[str, Any] | None


@dataclasses.dataclass(frozen=True, slots=True, eq=False, weakref_slot=True, kw_only=True)
class TaskOptions(_Placed):
    """Options of a remote function."""

    is_generator: bool
    num_returns: int | str  # 0 and up, "streaming" or "dynamic"
    max_calls: int  # tasks after which a worker ends; 0 for never
    max_retries: int | None  # None leaves it to the session; -1 for ever
    retry_exceptions: bool | tuple[type[Exception], ...]
    name: str | None
    timeout_s: float | None  # how long one run may take; None for any time
    generator_backpressure: int | None  # items ahead of the consumer; None for no limit
    objects_per_yield: int

    @classmethod
    def parse(cls, kwargs: Mapping[str, Any], is_generator: bool) -> "TaskOptions":
        """The options written in the decorator.

        Args:
            kwargs: keywords as given.
            is_generator: whether the function contains ``yield``.

        Raises:
            ValueError: unknown option, or a value that makes no sense.
            TypeError: a value of the wrong type.
        """
        if not kwargs:
            return _default_task(is_generator)
        return _task(rules.apply(_TASK_RULES, kwargs, "remote functions"), is_generator)

    def merged(self, kwargs: Mapping[str, Any]) -> "TaskOptions":
        """These options, changed by the keywords of ``.options()``; errors as for ``parse``."""
        if not kwargs:
            return self
        kept = rules.apply(_TASK_RULES, kwargs, "remote functions")
        if "max_calls" in kwargs:
            raise ValueError(
                "max_calls cannot be set in .options(): workers are shared by all calls; "
                "set it in @ray.remote(max_calls=...)."
            )
        return _task({**self.given, **kept}, self.is_generator)

    def resources(self) -> Mapping[str, float]:
        """What must be free to run the task, by name of the resource; not to be changed."""
        return self.demand


@dataclasses.dataclass(frozen=True, slots=True, eq=False, weakref_slot=True, kw_only=True)
class ActorOptions(_Placed):
    """Options of an actor class."""

    is_async: bool
    held: Mapping[str, float]
    name: str | None
    namespace: str | None
    detached: bool
    get_if_exists: bool
    max_restarts: int
    max_task_retries: int
    max_pending_calls: int  # -1 for no limit
    max_concurrency: int
    concurrency_groups: Mapping[str, int]
    allow_out_of_order_execution: bool
    enable_tensor_transport: bool
    generator_backpressure: int | None

    @classmethod
    def parse(cls, kwargs: Mapping[str, Any], is_async: bool) -> "ActorOptions":
        """The options written in the decorator.

        Args:
            kwargs: keywords as given.
            is_async: whether the class has an ``async def`` method.

        Raises:
            ValueError: unknown option, or a value that makes no sense.
            TypeError: a value of the wrong type.
        """
        if not kwargs:
            return _default_actor(is_async)
        return _actor(rules.apply(_ACTOR_RULES, kwargs, "actors"), is_async)

    def merged(self, kwargs: Mapping[str, Any]) -> "ActorOptions":
        """These options, changed by the keywords of ``.options()``; errors as for ``parse``."""
        if not kwargs:
            return self
        kept = rules.apply(_ACTOR_RULES, kwargs, "actors")
        if "concurrency_groups" in kwargs:
            raise ValueError(
                "concurrency_groups cannot be set in .options(): methods refer to them; "
                "set it in @ray.remote(concurrency_groups=...)."
            )
        return _actor({**self.given, **kept}, self.is_async)

    def placement_resources(self) -> Mapping[str, float]:
        """What must be free to start the actor, by name of the resource; not to be changed."""
        return self.demand

    def running_resources(self) -> Mapping[str, float]:
        """What the actor keeps for its life, by name of the resource; not to be changed."""
        return self.held


@dataclasses.dataclass(frozen=True, slots=True, eq=False, weakref_slot=True, kw_only=True)
class MethodOptions:
    """Options of an actor's method."""

    given: Mapping[str, Any]
    is_generator: bool
    num_returns: int | str  # 0 and up, "streaming" or "dynamic"
    name: str | None
    concurrency_group: str | None
    max_task_retries: int | None  # None leaves it to the actor
    retry_exceptions: bool | tuple[type[Exception], ...]
    enable_task_events: bool
    tensor_transport: str | None
    generator_backpressure: int | None  # None leaves it to the actor
    objects_per_yield: int

    @classmethod
    def parse(cls, kwargs: Mapping[str, Any], is_generator: bool) -> "MethodOptions":
        """The options of one method; arguments and errors as for ``TaskOptions.parse``."""
        if not kwargs:
            return _default_method(is_generator)
        return _method(rules.apply(_METHOD_RULES, kwargs, "actor methods"), is_generator)

    def merged(self, kwargs: Mapping[str, Any]) -> "MethodOptions":
        """These options, changed by the keywords of ``.options()``; errors as for ``parse``."""
        if not kwargs:
            return self
        kept = rules.apply(_METHOD_RULES, kwargs, "actor methods")
        return _method({**self.given, **kept}, self.is_generator)


def _task(given: Mapping[str, Any], is_generator: bool) -> TaskOptions:
    if given.get("object_store_memory"):
        raise ValueError(
            "object_store_memory is an option of actors; a task reserves room when its results are stored."
        )
    get = given.get
    return TaskOptions(
        **_placed(given),
        demand=_demand(given, default_cpus=1.0),
        is_generator=is_generator,
        num_returns=_returns(given, is_generator),
        # A worker that used a device keeps memory on it; ending it gives the device back whole.
        max_calls=(1 if get("num_gpus") else 0) if get("max_calls") is None else given["max_calls"],
        max_retries=get("max_retries"),
        retry_exceptions=get("retry_exceptions", False),
        name=get("name"),
        timeout_s=get("timeout_s"),
        generator_backpressure=_limit(get("_generator_backpressure_num_objects")),
        objects_per_yield=get("_num_objects_per_yield") or 1,
    )


def _actor(given: Mapping[str, Any], is_async: bool) -> ActorOptions:
    get = given.get
    if get("get_if_exists") and not get("name"):
        raise ValueError("get_if_exists=True needs a name to look for; add name='...'.")
    ordered = get("allow_out_of_order_execution")
    if is_async and ordered is False:
        raise ValueError(
            "allow_out_of_order_execution=False cannot be kept by an actor with `async def` methods: calls overtake "
            "each other at every await; leave the option out or make all methods plain `def`."
        )
    concurrency = get("max_concurrency") or (1000 if is_async else 1)
    named_resource = get("num_cpus") is not None or get("num_gpus") is not None or bool(get("resources"))
    return ActorOptions(
        **_placed(given),
        demand=_demand(given, default_cpus=1.0),
        held=_demand(given, default_cpus=1.0 if named_resource else 0.0),
        is_async=is_async,
        name=get("name"),
        namespace=get("namespace"),
        detached=get("lifetime") == "detached",
        get_if_exists=get("get_if_exists", False),
        max_restarts=get("max_restarts") or 0,
        max_task_retries=get("max_task_retries") or 0,
        max_pending_calls=get("max_pending_calls") or -1,
        max_concurrency=concurrency,
        concurrency_groups=get("concurrency_groups") or {},
        allow_out_of_order_execution=(is_async or concurrency > 1) if ordered is None else ordered,
        enable_tensor_transport=get("enable_tensor_transport", False),
        generator_backpressure=_limit(get("_actor_generator_backpressure_num_objects")),
    )


def _method(given: Mapping[str, Any], is_generator: bool) -> MethodOptions:
    get = given.get
    return MethodOptions(
        given=given,
        is_generator=is_generator,
        num_returns=_returns(given, is_generator),
        name=get("name"),
        concurrency_group=get("concurrency_group"),
        max_task_retries=get("max_task_retries"),
        retry_exceptions=get("retry_exceptions", False),
        enable_task_events=get("enable_task_events", True),
        tensor_transport=get("tensor_transport"),
        generator_backpressure=_limit(get("_generator_backpressure_num_objects")),
        objects_per_yield=get("_num_objects_per_yield") or 1,
    )


def _placed(given: Mapping[str, Any]) -> dict[str, Any]:
    strategy, group = given.get("scheduling_strategy"), given.get("placement_group", NOT_GIVEN)
    if strategy is not None and group is not NOT_GIVEN and group is not None:
        raise ValueError(
            "scheduling_strategy and placement_group cannot be given together; keep "
            "scheduling_strategy=PlacementGroupSchedulingStrategy(...) alone."
        )
    return {
        "given": given,
        "accelerator_type": given.get("accelerator_type"),
        "priority": given.get("priority", 0),
        "scheduling_strategy": strategy,
        "placement_group": group,
        "placement_group_bundle_index": given.get("placement_group_bundle_index", -1),
        "placement_group_capture_child_tasks": given.get("placement_group_capture_child_tasks"),
        "label_selector": given.get("label_selector"),
        "fallback_strategy": given.get("fallback_strategy"),
        "runtime_env": given.get("runtime_env"),
        "enable_task_events": given.get("enable_task_events", True),
        "labels": given.get("_labels"),
    }


def _demand(given: Mapping[str, Any], default_cpus: float) -> dict[str, float]:
    cpus = given.get("num_cpus")
    demand = {
        "CPU": default_cpus if cpus is None else cpus,
        "GPU": given.get("num_gpus"),
        "memory": given.get("memory"),
        "object_store_memory": given.get("object_store_memory"),
        **(given.get("resources") or {}),
    }
    if given.get("accelerator_type"):
        demand[f"accelerator_type:{given['accelerator_type']}"] = _ACCELERATOR_SHARE
    return {name: amount for name, amount in demand.items() if amount}


def _returns(given: Mapping[str, Any], is_generator: bool) -> int | str:
    returns: int | str | None = given.get("num_returns")
    if returns is None:
        return "streaming" if is_generator else 1
    if isinstance(returns, str) and not is_generator:
        raise ValueError(
            f"num_returns={returns!r} is for generator functions; this one has no yield. "
            "Give the number of values it returns instead."
        )
    return returns


def _limit(backpressure: int | None) -> int | None:
    return None if backpressure == -1 else backpressure


@functools.cache
def _default_task(is_generator: bool) -> TaskOptions:
    return _task(_NO_OPTIONS, is_generator)


@functools.cache
def _default_actor(is_async: bool) -> ActorOptions:
    return _actor(_NO_OPTIONS, is_async)


@functools.cache
def _default_method(is_generator: bool) -> MethodOptions:
    return _method(_NO_OPTIONS, is_generator)
