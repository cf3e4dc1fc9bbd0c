"""One node of a cluster, as the others see it."""

from collections.abc import Mapping
from typing import Any

from rayd.core.resources import Demand, Ledger


class Member:
    """One node as the others see it.

    Attributes:
        number: given by the head; 0 is the head.
        facts: what it says of itself once: node_id, address, host, labels and so on.
        totals: what it offers.
        load: figures for people: workers, actors, objects, store_used, demands.
        alive: it has not left.
        heard_at: when it last said something, in ns; kept up to date in the head only.
        refused: specs of which it could not begin any more tasks, until its next word.
        draining: it takes no more work from others and ends when it has done what it has.
        silent: the head has not heard it for a while; nothing is given to it until it is heard.
        doubtful: a connection with it has ended for no known reason; nothing is given to it until its next word.
    """

    __slots__ = (
        "_free",
        "_said",
        "alive",
        "doubtful",
        "draining",
        "facts",
        "heard_at",
        "load",
        "number",
        "refused",
        "silent",
        "totals",
    )

    def __init__(self, number: int, facts: Mapping[str, Any], totals: Mapping[str, float], now: int) -> None:
        self.number = number
        self.facts: Mapping[str, Any] = facts
        self.totals = Ledger(totals)
        self._said = totals
        self._free: Ledger | None = None  # made of what was said when it is looked at: most words are never
        self.load: dict[str, Any] = {}
        self.alive = True
        self.heard_at = now
        self.refused: dict[int, None] = {}
        self.doubtful = False
        self.draining = False
        self.silent = False

    def has_said(self, free: Mapping[str, float], load: dict[str, Any]) -> bool:
        """Whether a word is the same as the one before."""
        return free == self._said and load == self.load

    def is_now(self, free: Mapping[str, float], load: dict[str, Any], now: int) -> None:
        """Its latest word of itself."""
        self._said = free
        self._free = None
        self.load = load
        self.heard_at = now
        if self.refused:
            self.refused.clear()
        self.doubtful = False

    def is_as_before(self, now: int) -> None:
        """It has said once more what it had said last."""
        self.is_now(self._said, self.load, now)

    @property
    def takes_work(self) -> bool:
        """Whether it makes sense to give it something."""
        return self.alive and not self.doubtful and not self.draining and not self.silent

    @property
    def free(self) -> Ledger:
        """What of it was free at the last word, less what we have sent there since."""
        if self._free is None:
            self._free = Ledger(self._said)
        return self._free

    @free.setter
    def free(self, free: Ledger) -> None:
        self._free = free

    @property
    def address(self) -> str:
        """host:port of its daemon."""
        return str(self.facts.get("address", ""))

    @property
    def node_id(self) -> bytes:
        return bytes(self.facts.get("node_id", b""))

    @property
    def labels(self) -> dict[str, str]:
        """Those with which it was started."""
        return dict(self.facts.get("labels") or {})

    @property
    def python(self) -> str:
        """The minor version of its Python, "3.11": functions of others cannot run there."""
        return minor_version(self.facts.get("python"))

    def is_called(self, text: str) -> bool:
        """Whether people may mean this node by a text: the beginning of its id, its address or its name."""
        return bool(text) and (
            self.node_id.hex().startswith(text.lower()) or text in (self.address, self.facts.get("node_name"))
        )

    def title(self) -> str:
        """How messages call it."""
        return f"node {self.node_id.hex()} at {self.address}"

    def row(self) -> list[Any]:
        """As it travels in MEMBERS."""
        state = self.alive, self.draining, self.silent
        return [self.number, self.facts, self.totals.totals(), self._said, self.load, *state]

    def could(self, demand: Demand) -> bool:
        """Whether it has as much as that at all."""
        return self.alive and not self.totals.can_ever_fit(demand)


def minor_version(version: Any) -> str:
    """The first two parts of a version; "" of none."""
    return ".".join(str(version or "").split(".")[:2])
