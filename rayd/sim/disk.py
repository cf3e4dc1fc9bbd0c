"""The head's disk: rows of its journal become durable a little after they were put, in order."""

from random import Random
from typing import TYPE_CHECKING, Any

import msgpack

from rayd.core.effect import Stored, Write
from rayd.core.event import Recover, Written
from rayd.errors import JOURNAL, fault
from rayd.sim.options import MS_NS

if TYPE_CHECKING:
    from rayd.sim.daemon import Daemon


class Disk:
    """What outlives the head.

    Args:
        rng: decides how long a transaction takes, and how much of one is done when the head dies.

    Attributes:
        full: nothing can be written.
    """

    def __init__(self, rng: Random) -> None:
        self.full = False
        self._rng = rng
        self._rows: dict[tuple[str, bytes], bytes] = {}
        self._coming: list[Write] = []
        self._under_way: list[Write] = []
        self._refusing = False

    def put(self, daemon: "Daemon", row: Write) -> None:
        """Make a row durable soon, together with those that come while a transaction is under way."""
        if isinstance(row.value, Stored):
            row = row._replace(value=bytes(daemon.memory[row.value.offset]))
        self._coming.append(row)
        if not self._under_way:
            self._begin(daemon)

    def _begin(self, daemon: "Daemon") -> None:
        while self._coming and self._refusing and not self._coming[0].fresh:
            self._coming.pop(0)
        self._under_way, self._coming = self._coming, []
        if self._under_way:
            late = MS_NS // 2 + int(self._rng.expovariate(1.0) * MS_NS)
            daemon.clock.after(late, self._commit, daemon)

    def _commit(self, daemon: "Daemon") -> None:
        if not daemon.alive:
            return
        rows, self._under_way = self._under_way, []
        why = None
        self._refusing = self.full
        if self.full:
            why = fault(JOURNAL, "The disk is full.", taken=False)
        else:
            self._keep(rows)
        daemon.feed(Written(rows[-1].number, why))
        if not self._under_way:
            self._begin(daemon)

    def _keep(self, rows: list[Write]) -> None:
        for row in rows:
            if row.value is None:
                self._rows.pop((row.kind, row.key), None)
            else:
                self._rows[row.kind, row.key] = msgpack.packb(row.value)

    def head_dies(self) -> None:
        """The transaction under way is on the disk or not at all."""
        if self._under_way and not self.full and self._rng.random() < 0.5:
            self._keep(self._under_way)
        self._under_way, self._coming, self._refusing = [], [], False

    def rows(self) -> Recover:
        """What a head finds when it begins."""
        found: list[tuple[str, bytes, Any]] = [
            (kind, key, msgpack.unpackb(value, strict_map_key=False)) for (kind, key), value in self._rows.items()
        ]
        return Recover(found)
