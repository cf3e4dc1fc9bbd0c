"""Marks that say who may rely on a name. They change nothing but ``Deprecated``, which warns when the name is used."""

import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Any


class RayDeprecationWarning(DeprecationWarning):
    """Something that is used will go."""


def PublicAPI(*args: Any, **options: Any) -> Any:  # noqa: N802 - the name users import
    """Mark a name as open to everyone; used with or without parentheses.

    Args:
        args: the marked object, without parentheses.
        options: ``stability``, ``api_group``; kept for readers.
    """
    return _mark("PublicAPI", args, options)


def DeveloperAPI(*args: Any, **options: Any) -> Any:  # noqa: N802 - the name users import
    """Mark a name as open to authors of libraries; used with or without parentheses.

    Args:
        args: the marked object, without parentheses.
        options: ``api_group``; kept for readers.
    """
    return _mark("DeveloperAPI", args, options)


def Deprecated(*args: Any, message: str | None = None, warning: bool = False) -> Any:  # noqa: N802 - as imported
    """Mark a name as going away; used with or without parentheses.

    Args:
        args: the marked object, without parentheses.
        message: what to use instead.
        warning: whether using it warns.
    """

    def mark(target: Any) -> Any:
        marked = _warning(target, message) if warning else target
        return _mark("Deprecated", (marked,), {})

    return mark(args[0]) if args else mark


def _mark(kind: str, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    def mark(target: Any) -> Any:
        target._annotated = target.__name__
        target._annotated_type = kind
        target._annotated_api_group = options.get("api_group", "Others")
        return target

    if len(args) == 1 and not options and callable(args[0]):
        return mark(args[0])
    if args:
        raise TypeError(f"@{kind} takes its options as keywords, got {args!r}")
    return mark


def _warning(target: Any, message: str | None) -> Any:
    text = f"{target.__qualname__} is deprecated. {message or ''}".rstrip()

    def warned(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            warnings.warn(text, RayDeprecationWarning, stacklevel=2)
            return function(*args, **kwargs)

        return call

    if inspect.isclass(target):
        setattr(target, "__init__", warned(target.__init__))  # noqa: B010 - mypy forbids the plain assignment
        return target
    return warned(target)
