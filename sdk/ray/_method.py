"""``@ray.method``: attaches options to a method of an actor class; the class reads them when it becomes remote."""

import inspect
from collections.abc import Callable
from typing import Any, Final, TypeVar, overload

from ray._option_rules import unknown_option
from ray._options import METHOD_KEYWORDS, MethodOptions

ATTRIBUTE: Final = "__ray_method_options__"

MethodT = TypeVar("MethodT", bound=Callable[..., Any])


@overload
def method(function: MethodT, /) -> MethodT: ...
@overload
def method(**options: Any) -> Callable[[MethodT], MethodT]: ...
def method(*args: Any, **options: Any) -> Any:
    """Give a method of an actor class options of its own.

    Args:
        args: the method, when used without parentheses.
        options: ``num_returns``, ``concurrency_group``, ``max_task_retries``, ``retry_exceptions``,
            ``enable_task_events``, ``tensor_transport``.

    Raises:
        AssertionError: an unknown option, or not used as a decorator.
        TypeError: a value of the wrong type.
        ValueError: a value that makes no sense.
    """
    for option in options:
        if option not in METHOD_KEYWORDS:
            raise AssertionError(unknown_option(option, "@ray.method", METHOD_KEYWORDS))
    if args:
        if len(args) != 1 or options or not callable(args[0]):
            raise AssertionError(
                "@ray.method stands above a method, either alone or with options in keywords, "
                "as in @ray.method(num_returns=2); "
                f"valid options are: {', '.join(METHOD_KEYWORDS)}."
            )
        return _attach(args[0], options)
    # A wrong value is reported at the decorator's own line, not when the class is made remote.
    MethodOptions.parse(options, is_generator=True)
    return lambda function: _attach(function, options)


def _attach(function: Any, options: dict[str, Any]) -> Any:
    is_generator = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
    setattr(function, ATTRIBUTE, MethodOptions.parse(options, is_generator=is_generator))
    return function
