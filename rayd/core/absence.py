"""The time in which a node has no head: when it calls again, and when it gives up."""

from typing import Final

# From one attempt to the next: a head that has begun anew is to be useful at once.
RETRY_NS: Final = 250_000_000
# Somebody has to start the head again. Who has not done so by then does not mean to.
AWAY_NS_MAX: Final = 600_000_000_000


class Absence:
    """The head has gone and may come back.

    Args:
        now: since when, in ns.

    Attributes:
        next_try: when to call it again, in ns.
    """

    __slots__ = ("_began_at", "next_try")

    def __init__(self, now: int) -> None:
        self._began_at = now
        self.next_try = now

    def tried(self, now: int) -> None:
        """It could not be reached."""
        self.next_try = now + RETRY_NS

    def is_time(self, now: int) -> bool:
        """Whether to call it."""
        return now >= self.next_try

    def is_too_long(self, now: int) -> bool:
        """Whether to give up."""
        return now - self._began_at > AWAY_NS_MAX

    def seconds(self, now: int) -> float:
        """How long it has lasted."""
        return (now - self._began_at) / 1e9
