"""What a head has to remember beyond its own death, and who waits until it does.

A part that changes something durable says so (``put``) after it has changed its tables; whoever would acknowledge the
change waits (``then``) until the shell has reported that everything put so far is on stable storage. When it cannot be
written, what is not durable yet is undone, the latest first, and whoever waits is told why. What is not to be undone,
such as that a driver is there, is owed: it is written before the next row.
"""

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from rayd.core.effect import Effects, Write
from rayd.errors import Fault

# Kinds of rows.
COUNTER: Final = "counter"
NODE: Final = "node"
JOB: Final = "job"
EXPORT: Final = "export"
GROUP: Final = "group"
ACTOR: Final = "actor"
NAME: Final = "name"
KEY: Final = "key"
OBJECT: Final = "object"


class Journal:
    """The rows of a head that outlive it, as (kind, key) -> value.

    Args:
        effects: the core's way out.

    Attributes:
        on: rows are kept; otherwise everything counts as durable at once.
        count: how many rows have been put.
    """

    def __init__(self, effects: Effects) -> None:
        self.on = False
        self.count = 0
        self._effects = effects
        self._durable = 0
        self._fresh = False
        self._coming: deque[tuple[int, str, bytes, Any, Callable[[], None] | None]] = deque()  # not durable yet
        self._owed: dict[tuple[str, bytes], Any] = {}
        self._waiting: deque[tuple[int, Callable[[Fault | None], None]]] = deque()

    def put(self, kind: str, key: bytes, value: Any, undo: Callable[[], None] | None = None) -> None:
        """Keep a row from now on, in the place of the one of the same kind and key.

        Args:
            kind, key: its name.
            value: what travels in messages; None to keep it no longer.
            undo: takes the change back that this row stands for, if it cannot be written; None for what stays so.
        """
        if not self.on:
            return
        owed, self._owed = self._owed, {}
        for (other_kind, other_key), other in owed.items():
            self._write(other_kind, other_key, other, None)
        self._write(kind, key, value, undo)

    def _write(self, kind: str, key: bytes, value: Any, undo: Callable[[], None] | None) -> None:
        self.count += 1
        self._effects.others.append(Write(self.count, kind, key, value, self._fresh))
        self._fresh = False
        self._coming.append((self.count, kind, key, value, undo))

    def then(self, do: Callable[[Fault | None], None]) -> None:
        """Do something when everything put so far is durable, or (with the reason) when it cannot be."""
        if self._durable == self.count:
            do(None)
        else:
            self._waiting.append((self.count, do))

    def after(self, count: int, do: Callable[[Fault | None], None]) -> None:
        """The same for what has been put since there were ``count`` rows: nobody waits for what others have put."""
        if self.count == count:
            do(None)
        else:
            self.then(do)

    def written(self, number: int, why: Fault | None) -> None:
        """All rows up to a number are durable; or nothing is that was not reported to be yet."""
        if number <= self._durable:  # of rows that were given up with an earlier one
            return
        self._durable = number if why is None else self.count
        if why is not None:
            self._fresh = True
            refused, self._coming = self._coming, deque()
            self._owed.update({(kind, key): value for _, kind, key, value, undo in refused if undo is None})
            for *_, undo in reversed(refused):
                if undo is not None:
                    undo()
        while self._coming and self._coming[0][0] <= number:
            self._coming.popleft()
        while self._waiting and self._waiting[0][0] <= self._durable:
            self._waiting.popleft()[1](why)
