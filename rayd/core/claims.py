"""What a node keeps free for those who have waited long for much at a time.

A task that asks for half a node would wait for ever beside a stream of small ones: whatever becomes free is taken
before there is enough of it. So whoever is next, does not fit, and has waited for ``PATIENCE_NS`` has a *claim*: those
who come after it get only what it leaves. It is next in the order that ``rayd.core.turns`` gives, so a claim overrules
neither priorities nor shares.

A node has one claim at a time. There is none for what would not be free if all running tasks ended, as actors do not
end; and a claim lasts for ``HOLD_NS``, after which the others have as much time: it may be that what runs waits for
those that are held up. As long as no task runs for longer than that, who has a claim waits for the longest of those
that run, and no more.

A node that has no room for its own may claim some on another one (CLAIM): see ``rayd.core.claiming``.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from rayd.core.allotment import Allotment, fitting
from rayd.core.resources import Demand
from rayd.core.worker import WorkerState
from rayd.wire.messages import CLAIMED

if TYPE_CHECKING:
    from rayd.core.state import NodeState

PATIENCE_NS: Final = 1_000_000_000
HOLD_NS: Final = 10_000_000_000


class Claim:
    """What is kept for whom.

    Attributes:
        who: number of the spec of the task or actor that waits, or id of a placement group.
        source: from where it is to be taken.
        demand: how much.
        until: when it is over, in ns.
        conn: the connection to the node that waits, 0 for this one.
        key: the number that the spec has there.
        told: that node knows that there is room.
    """

    __slots__ = ("conn", "demand", "key", "source", "told", "until", "who")

    def __init__(self, who: int | bytes, source: Allotment, demand: Demand, until: int) -> None:
        self.who = who
        self.source = source
        self.demand = demand
        self.until = until
        self.conn = 0
        self.key = 0
        self.told = False


class Claims:
    """The claim to a node, if there is one.

    Args:
        state: the node's tables.

    Attributes:
        claim: the one there is.
    """

    def __init__(self, state: "NodeState") -> None:
        self.state = state
        self.claim: Claim | None = None
        self._reached = False  # whether those whose turn it is now come after who has the claim
        self._rests: dict[int | bytes, int] = {}  # whose claim was of no use, and until when there is no other
        self._vain: dict[tuple[tuple[Allotment, ...], Demand], None] = {}  # what would not fit
        self._vain_at = 0  # in the step of this time

    # ---- one pass over those who wait --------------------------------------------------------------------------------

    def begin_pass(self) -> None:
        """Those who wait are about to be served, in the order of their turns."""
        self._reached = self.claim is not None and self.claim.conn != 0

    def fitting(self, who: int | bytes, sources: Iterable[Allotment], *demands: Demand) -> Allotment | None:
        """As ``rayd.core.allotment.fitting``, from what is not kept for somebody else.

        Args:
            who: as in ``Claim``.
            sources, demands: where each of them has to fit for itself.
        """
        claim = self.claim
        if claim is None or not self._reached or claim.who == who:
            return fitting(sources, *demands)
        return fitting((source for source in sources if self._leaves(claim, source, demands)), *demands)

    @staticmethod
    def _leaves(claim: Claim, source: Allotment, demands: Iterable[Demand]) -> bool:
        if source is not claim.source:
            return True
        return all(source.ledger.fits_beside(demand, claim.demand) for demand in demands)

    def unserved(self, who: int | bytes, since: int, sources: Iterable[Allotment], demand: Demand) -> None:
        """Somebody could not be served: the first of those that have waited has the claim.

        Args:
            who: as in ``Claim``.
            since: from when on nothing of it has begun, in ns.
            sources, demand: where it could run, and what it takes there.
        """
        if self.claim is not None:
            self.reach(who)
        elif self.is_late(since):
            self.make(who, sources, demand)

    def reach(self, who: int | bytes) -> None:
        """Its turn has come, and it waits on: if it has the claim, that holds for those after it."""
        self._reached |= self.claim is not None and self.claim.who == who

    def is_late(self, since: int) -> bool:
        """Whether who has waited since a time, in ns, may claim room."""
        return self.state.now - since >= PATIENCE_NS

    def make(self, who: int | bytes, sources: Iterable[Allotment], demand: Demand) -> bool:
        """Make a claim; whether that is possible now."""
        if self._vain_at != self.state.now:
            self._vain_at = self.state.now
            self._vain.clear()
            self._rests = {who: until for who, until in self._rests.items() if until > self.state.now}
        if self.claim is not None or who in self._rests or self._is_served(who):
            return False
        wanted = tuple(sources), demand
        for source in sources if wanted not in self._vain else ():
            if self._would_fit(source, demand):
                self.claim = Claim(who, source, demand, self.state.now + HOLD_NS)
                self._reached = True
                return True
        self._vain[wanted] = None
        return False

    def _is_served(self, who: int | bytes) -> bool:
        """Whether something of a spec runs: then it starves of nothing."""
        return any(
            worker.spec is not None and worker.spec.cid == who and worker.state is WorkerState.LEASED
            for worker in self.state.pool.workers.values()
        )

    def _would_fit(self, source: Allotment, demand: Demand) -> bool:
        """Whether there would be room if all tasks ended that run and wait for nobody."""
        running = [
            worker.held
            for worker in self.state.pool.workers.values()
            if worker.source is source and worker.held is not None and worker.state is WorkerState.LEASED
        ]
        return all(
            source.ledger.units_free(name) + sum(held.units(name) for held in running) >= units
            for name, units in demand.items
        )

    def end_pass(self) -> bool:
        """All have had their turn; whether a claim is over, so that others have to be looked at again."""
        claim = self.claim
        if claim is None:
            return False
        if claim.until <= self.state.now:
            self._rests[claim.who] = self.state.now + HOLD_NS
            self.claim = None
            if claim.conn and not claim.told:
                self.state.effects.sends[claim.conn].append((CLAIMED, claim.key, False))
        elif not self._reached:  # it waits no more
            self.claim = None
        elif claim.conn and not claim.told and claim.source.fits(claim.demand):
            claim.told = True
            self.state.effects.sends[claim.conn].append((CLAIMED, claim.key, True))
        return self.claim is None

    # ---- the end -----------------------------------------------------------------------------------------------------

    def served(self, who: int | bytes) -> None:
        """Something of a spec has begun."""
        if self.claim is not None and self.claim.who == who:
            self.claim = None

    def lost(self, conn: int) -> None:
        """The connection to another node has ended."""
        if self.claim is not None and self.claim.conn == conn:
            self.claim = None
            self.state.dirty = True

    def deadline(self) -> int | None:
        """When the claim is over, in ns."""
        return None if self.claim is None else self.claim.until

    def is_due(self) -> bool:
        """Whether it is over."""
        return self.claim is not None and self.claim.until <= self.state.now
