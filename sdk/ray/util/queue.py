"""A first-in first-out queue that many tasks and actors share; it lives in an actor."""

import asyncio
import queue
from collections.abc import Iterable
from typing import Any


class Empty(queue.Empty):
    """Nothing is in the queue."""


class Full(queue.Full):
    """No room is in the queue."""


class Queue:
    """A queue that can be passed to tasks and actors.

    Args:
        maxsize: how many items it holds at most; 0 for no limit.
        actor_options: options of the actor that holds it, such as ``{"num_cpus": 1}``.
    """

    def __init__(self, maxsize: int = 0, actor_options: dict[str, Any] | None = None) -> None:
        import ray  # this module is part of it

        self.maxsize = maxsize
        self.actor: Any = ray.remote(_QueueActor).options(**(actor_options or {})).remote(maxsize)

    def __len__(self) -> int:
        return self.size()

    def size(self) -> int:
        """How many items it holds."""
        return int(self._ask("qsize"))

    def qsize(self) -> int:
        """How many items it holds."""
        return self.size()

    def empty(self) -> bool:
        """Whether it holds none."""
        return bool(self._ask("empty"))

    def full(self) -> bool:
        """Whether it has no room."""
        return bool(self._ask("full"))

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Add an item at the end.

        Args:
            item: what to add.
            block: whether to wait for room.
            timeout: seconds to wait at most; None waits for ever.

        Raises:
            Full: there is no room, or was none in time.
            ValueError: ``timeout`` is negative.
            RuntimeError: the queue was shut down.
        """
        if not self._ask("put", item, _limit(block, timeout)):
            raise Full

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Take the item at the front.

        Args:
            block: whether to wait for one.
            timeout: seconds to wait at most; None waits for ever.

        Raises:
            Empty: there is none, or was none in time.
            ValueError: ``timeout`` is negative.
            RuntimeError: the queue was shut down.
        """
        return _only(self._ask("get", _limit(block, timeout)))

    async def put_async(self, item: Any, block: bool = True, timeout: float | None = None) -> None:  # noqa: ASYNC109 - as given
        """Like ``put``, for coroutines."""
        if not await self._call("put", item, _limit(block, timeout)):
            raise Full

    async def get_async(self, block: bool = True, timeout: float | None = None) -> Any:  # noqa: ASYNC109 - as given
        """Like ``get``, for coroutines."""
        return _only(await self._call("get", _limit(block, timeout)))

    def put_nowait(self, item: Any) -> None:
        """Add an item if there is room; raises ``Full`` otherwise."""
        self.put(item, block=False)

    def get_nowait(self) -> Any:
        """Take the item at the front if there is one; raises ``Empty`` otherwise."""
        return self.get(block=False)

    def put_nowait_batch(self, items: Iterable[Any]) -> None:
        """Add all items, or none.

        Raises:
            Full: there is not room for all.
            TypeError: ``items`` cannot be iterated over.
        """
        if not isinstance(items, Iterable):
            raise TypeError(f"items takes an iterable, got {items!r} of type {type(items).__name__}")
        batch = list(items)
        room = self._ask("put_batch", batch)
        if room is not None:
            raise Full(
                f"{len(batch)} items do not fit: the queue holds {self.maxsize - room} of at most {self.maxsize}"
            )

    def get_nowait_batch(self, num_items: int) -> list[Any]:
        """Take exactly ``num_items`` items, or none.

        Raises:
            Empty: there are fewer.
            TypeError: ``num_items`` is no whole number.
            ValueError: ``num_items`` is negative.
        """
        if not isinstance(num_items, int):
            raise TypeError(f"num_items takes a whole number, got {num_items!r} of type {type(num_items).__name__}")
        if num_items < 0:
            raise ValueError(f"num_items cannot be negative, got {num_items}")
        complete, found = self._ask("get_batch", num_items)
        if not complete:
            raise Empty(f"{num_items} items were asked for, the queue holds {found}")
        items: list[Any] = found
        return items

    def shutdown(self, force: bool = False, grace_period_s: float = 5) -> None:
        """End the actor that holds the queue; items still in it are lost.

        Args:
            force: whether to end it at once, instead of after the calls under way.
            grace_period_s: seconds after which it is ended anyhow.
        """
        import ray  # this module is part of it

        if self.actor is None:
            return
        if not force:
            ray.wait([self.actor.__ray_terminate__.remote()], timeout=grace_period_s)
        ray.kill(self.actor, no_restart=True)
        self.actor = None

    def _call(self, method: str, *args: Any) -> Any:
        if self.actor is None:
            raise RuntimeError("this Queue was shut down; make a new one")
        return getattr(self.actor, method).remote(*args)

    def _ask(self, method: str, *args: Any) -> Any:
        import ray  # this module is part of it

        return ray.get(self._call(method, *args))


class _QueueActor:
    """Holds the items. Answers instead of raising, so that a full or empty queue costs no traceback."""

    def __init__(self, maxsize: int) -> None:
        self._items: asyncio.Queue[Any] = asyncio.Queue(maxsize)

    async def qsize(self) -> int:
        return self._items.qsize()

    async def empty(self) -> bool:
        return self._items.empty()

    async def full(self) -> bool:
        return self._items.full()

    async def put(self, item: Any, timeout_s: float | None) -> bool:
        """Whether ``item`` was added in time."""
        try:
            if timeout_s == 0:
                self._items.put_nowait(item)
            else:
                await asyncio.wait_for(self._items.put(item), timeout_s)
        except (asyncio.QueueFull, TimeoutError):
            return False
        return True

    async def get(self, timeout_s: float | None) -> list[Any]:
        """The item in a list; an empty list if there was none in time."""
        try:
            if timeout_s == 0:
                return [self._items.get_nowait()]
            return [await asyncio.wait_for(self._items.get(), timeout_s)]
        except (asyncio.QueueEmpty, TimeoutError):
            return []

    async def put_batch(self, items: list[Any]) -> int | None:
        """None if all were added, else how many would have fitted."""
        room = self._items.maxsize - self._items.qsize()
        if self._items.maxsize > 0 and len(items) > room:
            return room
        for item in items:
            self._items.put_nowait(item)
        return None

    async def get_batch(self, count: int) -> tuple[bool, Any]:
        """True and the items, or False and how many there are."""
        if self._items.qsize() < count:
            return False, self._items.qsize()
        return True, [self._items.get_nowait() for _ in range(count)]


def _limit(block: bool, timeout: float | None) -> float | None:
    """Seconds to wait: 0 for not at all, None for ever."""
    if not block:
        return 0
    if timeout is not None and timeout < 0:
        raise ValueError(f"timeout cannot be negative, got {timeout}; use block=False to not wait at all")
    return timeout


def _only(found: list[Any]) -> Any:
    if not found:
        raise Empty
    return found[0]
