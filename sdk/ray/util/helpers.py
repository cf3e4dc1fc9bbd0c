"""Results in the order in which they become ready."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any


def as_completed(refs: Sequence[Any], *, chunk_size: int = 10, yield_obj_refs: bool = False) -> Iterator[Any]:
    """The values of ``refs`` as they become ready.

    Args:
        refs: references, each once.
        chunk_size: how many are collected at a time; more is faster and later.
        yield_obj_refs: whether to give the references instead of their values.

    Raises:
        ValueError: ``chunk_size`` is below 1.
        Exception: that of the first failed reference met, when values are given.
    """
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, got {chunk_size}")
    return _as_completed(list(refs), chunk_size, yield_obj_refs)


def map_unordered(
    fn: Any,
    items: Iterable[Any],
    *,
    backpressure_size: int | None = 100,
    chunk_size: int = 10,
    yield_obj_refs: bool = False,
) -> Iterator[Any]:
    """The values of ``fn.remote(item)`` for all items as they become ready.

    Args:
        fn: remote function or method of one argument.
        items: any iterable; taken no faster than there is room.
        backpressure_size: how many calls are under way at most; None for all at once.
        chunk_size: how many results are collected at a time.
        yield_obj_refs: whether to give references instead of values.

    Raises:
        ValueError: ``backpressure_size`` or ``chunk_size`` is below 1.
        Exception: that of the first failed call met, when values are given.
    """
    if backpressure_size is not None and backpressure_size < 1:
        raise ValueError(f"backpressure_size must be at least 1, or None for no limit, got {backpressure_size}")
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, got {chunk_size}")
    return _map_unordered(fn, iter(items), backpressure_size, chunk_size, yield_obj_refs)


def _as_completed(waiting: list[Any], chunk_size: int, yield_obj_refs: bool) -> Iterator[Any]:
    while waiting:
        ready, waiting = _next_ready(waiting, chunk_size)
        yield from ready if yield_obj_refs else _values(ready)


def _map_unordered(
    fn: Any, items: Iterator[Any], backpressure_size: int | None, chunk_size: int, yield_obj_refs: bool
) -> Iterator[Any]:
    waiting = [fn.remote(item) for item in islice(items, backpressure_size)]
    while waiting:
        ready, waiting = _next_ready(waiting, chunk_size)
        waiting += [fn.remote(item) for item in islice(items, len(ready))]
        yield from ready if yield_obj_refs else _values(ready)


def _next_ready(waiting: list[Any], chunk_size: int) -> tuple[list[Any], list[Any]]:
    """At least one reference that is ready and at most ``chunk_size``, and the others."""
    import ray  # this module is part of it

    ready, others = ray.wait(waiting, num_returns=min(chunk_size, len(waiting)), timeout=0)
    if not ready:
        ready, others = ray.wait(waiting, num_returns=1)
    return ready, others


def _values(refs: list[Any]) -> list[Any]:
    import ray  # this module is part of it

    values: list[Any] = ray.get(refs)
    return values
