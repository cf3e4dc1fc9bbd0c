"""What was done to which machine, and when: what has gone wrong must have its reason here."""

from typing import Final

from rayd.sim.clock import Clock
from rayd.sim.options import SECOND_NS

# Who cannot be reached, or does not answer, for less than this is not given up by anybody; who connects waits for 10 s.
PATIENCE_NS: Final = 9 * SECOND_NS
# A node that the head has not heard for longer than this may be taken for dead; it ends itself after 30 s.
FENCED_NS: Final = 25 * SECOND_NS
# What was done to a machine may show so long after it is over: the end of a silent machine is noticed after up to 50 s,
# and what began while it was unknown may find out 25 s later.
ECHO_NS: Final = 75 * SECOND_NS
# What follows another so soon is one thing: what was held is sent again within a second.
_JOINED_NS: Final = 2 * SECOND_NS


class Span:
    """A time in which something was wrong with a machine.

    Attributes:
        begin, end: in ns; the end may be still to come.
        deadly: its daemon has ended.
    """

    __slots__ = ("begin", "deadly", "end")

    def __init__(self, begin: int, end: int, *, deadly: bool) -> None:
        self.begin = begin
        self.end = end
        self.deadly = deadly

    def lasts(self, ns: int) -> bool:
        """Whether it is the end of a daemon, or longer than that."""
        return self.deadly or self.end - self.begin > ns


class Damage:
    """The harm that has come to machines.

    Args:
        clock: of the simulation.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._spans: dict[str, list[Span]] = {}

    def died(self, address: str) -> None:
        """The daemon of a machine has ended, however."""
        self._add(address, self._clock.now, deadly=True)

    def away(self, address: str, ns: int) -> None:
        """A machine is stopped, or some others cannot reach it, for so long."""
        self._add(address, self._clock.now + ns, deadly=False)

    def _add(self, address: str, end: int, *, deadly: bool) -> None:
        spans, now = self._spans.setdefault(address, []), self._clock.now
        if spans and now <= spans[-1].end + _JOINED_NS:
            spans[-1].end = max(spans[-1].end, end)
            spans[-1].deadly |= deadly
        else:
            spans.append(Span(now, end, deadly=deadly))

    def hurt(self, address: str, since: int, ns: int = PATIENCE_NS) -> bool:
        """Whether something was wrong with a machine that others may have noticed.

        Args:
            address: host:port of its daemon.
            since: from when on it may have been noticed, in ns.
            ns: how long it lasts at least, unless the daemon has ended.
        """
        return any(span.end + ECHO_NS >= since and span.lasts(ns) for span in self._spans.get(address, ()))

    def any_hurt(self, since: int) -> bool:
        """Whether that is so for any machine."""
        return any(self.hurt(address, since) for address in self._spans)
