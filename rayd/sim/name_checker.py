"""What must hold of names: one living actor has each, and whom nothing has ended is found by it.

An actor is *sure* to live from the moment its creation was acknowledged until something is done that may end it: a
program kills it or lets go of it, its home ends or is cut off for so long that it is taken for dead, or worker
processes cannot be started. Detached ones outlive their drivers, and those of a head that keeps a journal outlive that
head.
"""

from typing import TYPE_CHECKING, Any

from rayd.core.starts import TRIES_MAX
from rayd.errors import JOURNAL, NAME_TAKEN
from rayd.sim.damage import FENCED_NS

if TYPE_CHECKING:
    from rayd.sim.checkers import Checkers
    from rayd.sim.process import Process


class Named:
    """One actor with a name, or that should have had it.

    Attributes:
        aid: its id.
        name: its name.
        detached: it outlives its driver.
        by: the process that has created it.
        life: of the machine of its home, when it was created.
        since: when it was known that it exists, in ns; -1 as long as it is not.
        ended: why it may not live any more; "" while nothing has been done to it.
    """

    __slots__ = ("aid", "by", "detached", "ended", "forever", "life", "name", "since", "starts")

    def __init__(self, aid: bytes, name: str, options: dict[str, Any], by: "Process", starts: int) -> None:
        self.aid = aid
        self.name = name
        self.detached = bool(options.get("detached"))
        self.forever = int(options.get("max_restarts", 0)) < 0
        self.by = by
        self.life = by.daemon.host.life
        self.since = -1
        self.ended = ""
        self.starts = starts


class Names:
    """Who has which name."""

    def __init__(self, checkers: "Checkers") -> None:
        self._checkers = checkers
        self._by_id: dict[bytes, Named] = {}
        self._by_name: dict[str, list[Named]] = {}

    def any(self) -> bool:
        """Whether anybody was to have a name."""
        return bool(self._by_id)

    def asked_for(self, aid: bytes, name: str, options: dict[str, Any], by: "Process") -> None:
        """A program asks for an actor with a name."""
        named = self._by_id[aid] = Named(aid, name, options, by, self._checkers.causes.failed_starts)
        self._by_name.setdefault(name, []).append(named)

    def created(self, aid: bytes) -> None:
        """Its creation is acknowledged."""
        named = self._by_id[aid]
        other = self._sure(named.name, self._now())
        if other is not None:
            self._checkers.fails("names", f"{aid.hex()} gets the name {named.name}, which {other.aid.hex()} has")
        named.since = self._now()

    def not_created(self, aid: bytes, ok: bool, value: Any) -> None:
        """There is one already, or it was refused."""
        named = self._by_id[aid]
        named.ended = "it was never created"
        if ok:
            self._knows(named.name, value["actor_id"])
        elif value["code"] == NAME_TAKEN:
            if len(self._by_name[named.name]) < 2:
                self._checkers.fails("names", f"the name {named.name} was refused for no reason: {value}")
        elif value["code"] != JOURNAL or not self._checkers.disk_was_full:
            self._checkers.fails("names", f"an actor called {named.name} was refused for no reason: {value}")

    def _knows(self, name: str, aid: bytes) -> None:
        if all(named.aid != aid for named in self._by_name.get(name, ())):
            self._checkers.fails("names", f"{aid.hex()} is found by the name {name}, which it never had")

    def found(self, name: str, asked_at: int, ok: bool, value: Any) -> None:
        """A program has looked for a name."""
        sure = self._sure(name, asked_at)
        if ok:
            self._knows(name, value["actor_id"])
        if sure is not None and not (ok and value["actor_id"] == sure.aid):
            self._checkers.fails("names", f"{sure.aid.hex()} lives and is not found by its name {name}: {value}")

    def listed(self, names: list[str]) -> None:
        """All names that there are, when no program runs any more."""
        for name in self._by_name:
            sure = self._sure(name, self._now())
            if sure is not None and name not in names:
                self._checkers.fails("names", f"{sure.aid.hex()} lives, and its name {name} is not among {names}")

    # ---- what may end them -------------------------------------------------------------------------------------------

    def killed(self, aid: bytes) -> None:
        """A program kills an actor for good."""
        if aid in self._by_id:
            self._by_id[aid].ended = "it was killed"

    def let_go(self, aid: bytes) -> None:
        """The program that has created an actor drops its handle."""
        if aid in self._by_id and not self._by_id[aid].detached:
            self._by_id[aid].ended = "nobody refers to it"

    def _now(self) -> int:
        return self._checkers.clock.now

    def _sure(self, name: str, since: int) -> Named | None:
        """Who has a name and lives for sure, and has done so since a time."""
        for named in self._by_name.get(name, ()):
            if 0 <= named.since <= since and self.is_sure(named.aid):
                return named
        return None

    def is_sure(self, aid: bytes) -> bool:
        """Whether an actor lives for sure."""
        named = self._by_id.get(aid)
        if named is None or named.since < 0:
            return False
        if not named.ended:
            named.ended = self._why_not(named)
        return not named.ended

    def _why_not(self, named: Named) -> str:
        """Why an actor may not live any more; "" if it does."""
        host = named.by.daemon.host
        if not named.forever:
            return "its process may have ended"
        if not named.detached and not named.by.alive:
            return "its program has ended"
        if self._checkers.causes.failed_starts - named.starts >= TRIES_MAX:
            return "workers could not be started"
        if host.is_head:
            stays = named.detached or host.life == named.life
            return "" if stays else "the head of its program has ended"
        lost = host.daemon is None or host.life != named.life
        if lost or self._checkers.damage.hurt(host.address, named.since, FENCED_NS):
            return "its home was lost"
        return ""
