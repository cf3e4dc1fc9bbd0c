"""A pool of actors that work off a list of calls, each actor one call at a time.

Libraries subclass ``ActorPool`` and reach for its underscore attributes, so their names and contents are part of the
interface.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any


class ActorPool:
    """Hands calls to whichever of its actors is free.

    Args:
        actors: handles; the pool calls one method at a time on each.
    """

    def __init__(self, actors: Iterable[Any]) -> None:
        self._idle_actors: list[Any] = list(actors)
        # Reference -> (number of the call, actor). A number is in _index_to_future until its result was handed out.
        self._future_to_actor: dict[Any, tuple[int, Any]] = {}
        self._index_to_future: dict[int, Any] = {}
        self._next_task_index = 0
        self._next_return_index = 0
        self._pending_submits: list[tuple[Callable[[Any, Any], Any], Any]] = []

    def map(self, fn: Callable[[Any, Any], Any], values: Iterable[Any]) -> Iterator[Any]:
        """Results of ``fn(actor, value)`` for all values, in their order.

        Results of earlier ``submit`` calls that nobody fetched are dropped.

        Args:
            fn: makes one remote call and returns its reference, such as ``lambda a, v: a.double.remote(v)``.
            values: what to call it with; all are taken at once.
        """
        self._submit_all(fn, values)
        return self._results(self.get_next)

    def map_unordered(self, fn: Callable[[Any, Any], Any], values: Iterable[Any]) -> Iterator[Any]:
        """Like ``map``, each result as soon as it is there."""
        self._submit_all(fn, values)
        return self._results(self.get_next_unordered)

    def submit(self, fn: Callable[[Any, Any], Any], value: Any) -> None:
        """Call ``fn(actor, value)`` as soon as an actor is free.

        Args:
            fn: makes one remote call and returns its reference.
            value: its second argument.
        """
        if not self._idle_actors:
            self._pending_submits.append((fn, value))
            return
        actor = self._idle_actors.pop()
        future = fn(actor, value)
        # A method with several results returns a list of references.
        key = tuple(future) if isinstance(future, list) else future
        self._future_to_actor[key] = (self._next_task_index, actor)
        self._index_to_future[self._next_task_index] = future
        self._next_task_index += 1

    def has_next(self) -> bool:
        """Whether results are still to come."""
        return bool(self._future_to_actor) or bool(self._pending_submits)

    def get_next(self, timeout: float | None = None, ignore_if_timedout: bool = False) -> Any:
        """The result of the earliest call whose result was not handed out.

        Args:
            timeout: seconds to wait; None waits for ever.
            ignore_if_timedout: whether to give the call up when time is over; its actor counts as free again.

        Raises:
            StopIteration: there is none.
            TimeoutError: time is over.
            RuntimeError: calls wait, but no actor of the pool is alive.
        """
        self._check_next(self._index_to_future)
        while self._next_return_index not in self._index_to_future:  # handed out by get_next_unordered
            self._next_return_index += 1
        index = self._next_return_index
        future = self._index_to_future[index]
        if not self._wait([future[0] if isinstance(future, list) else future], timeout):
            raise self._timed_out(index if ignore_if_timedout else None)
        self._next_return_index = index + 1
        return self._take(index)

    def get_next_unordered(self, timeout: float | None = None, ignore_if_timedout: bool = False) -> Any:
        """The result of a call that is ready, or the first to become ready; arguments and errors as for ``get_next``.

        With ``ignore_if_timedout`` it is the earliest call that is given up.
        """
        self._check_next(self._future_to_actor)
        first = {(key[0] if isinstance(key, tuple) else key): entry[0] for key, entry in self._future_to_actor.items()}
        ready = self._wait(list(first), timeout)
        if not ready:
            raise self._timed_out(min(first.values()) if ignore_if_timedout else None)
        return self._take(first[ready[0]])

    def has_free(self) -> bool:
        """Whether an actor is free and nothing waits for it."""
        return bool(self._idle_actors) and not self._pending_submits

    def pop_idle(self) -> Any:
        """Remove a free actor from the pool; None if there is none."""
        return self._idle_actors.pop() if self.has_free() else None

    def push(self, actor: Any) -> None:
        """Add an actor.

        Raises:
            ValueError: it belongs to the pool already.
        """
        if actor in self._idle_actors or any(entry[1] == actor for entry in self._future_to_actor.values()):
            raise ValueError(f"{actor!r} already belongs to this ActorPool")
        self._return_actor(actor)

    def _return_actor(self, actor: Any) -> None:
        """``actor`` is free: give it the next call that waits."""
        self._idle_actors.append(actor)
        if self._pending_submits:
            self.submit(*self._pending_submits.pop(0))

    def _submit_all(self, fn: Callable[[Any, Any], Any], values: Iterable[Any]) -> None:
        while self._index_to_future:
            _, actor = self._forget(next(iter(self._index_to_future)))
            self._return_actor(actor)  # starts what waited; its result is dropped in the next round
        self._pending_submits.clear()
        for value in values:
            self.submit(fn, value)

    def _results(self, get_next: Callable[[], Any]) -> Iterator[Any]:
        while self.has_next():
            yield get_next()

    def _check_next(self, under_way: dict[Any, Any]) -> None:
        if under_way:
            return
        if self._pending_submits:
            raise RuntimeError(
                f"{len(self._pending_submits)} calls wait in this ActorPool, but all its actors have died; "
                "add one with push(actor)"
            )
        raise StopIteration("No more results to get")

    def _wait(self, futures: list[Any], timeout: float | None) -> list[Any]:
        import ray  # this module is part of it

        ready, _ = ray.wait(futures, num_returns=1, timeout=timeout)
        found: list[Any] = ready
        return found

    def _take(self, index: int) -> Any:
        """The result of a call that is ready; its actor becomes free unless it died."""
        import ray  # this module is part of it
        from ray.exceptions import ActorDiedError, RayTaskError

        future, actor = self._forget(index)
        try:
            result = ray.get(future)
        except Exception as error:
            # A method that met another dead actor fails with an error that is both; its own actor is well.
            if not isinstance(error, ActorDiedError) or isinstance(error, RayTaskError):
                self._return_actor(actor)
            raise
        self._return_actor(actor)
        return result

    def _timed_out(self, given_up: int | None) -> TimeoutError:
        if given_up is None:
            return TimeoutError("The result was not ready in time; call again to go on waiting.")
        future, actor = self._forget(given_up)
        self._return_actor(actor)
        return TimeoutError(f"The result was not ready in time; the call {future!r} has been given up.")

    def _forget(self, index: int) -> tuple[Any, Any]:
        future = self._index_to_future.pop(index)
        _, actor = self._future_to_actor.pop(tuple(future) if isinstance(future, list) else future)
        return future, actor
