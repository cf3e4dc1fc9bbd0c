"""The bytes of one object on their way from one store to another, over a connection of their own."""

from typing import TYPE_CHECKING, Any, Final

from rayd.core.effect import Fetch
from rayd.errors import NODE_DIED, fault
from rayd.sim.network import End
from rayd.sim.options import US_NS
from rayd.wire.messages import DATA, READ, REFUSED, REPLY, WELCOME, Message

if TYPE_CHECKING:
    from rayd.sim.daemon import Daemon

# About what one connection brings.
BYTES_PER_US: Final = 1_000


class Transfer:
    """The receiving end of a ``Fetch``.

    Args:
        daemon: who fetches.
        asked: what.
    """

    stands = True

    def __init__(self, daemon: "Daemon", asked: Fetch) -> None:
        self._daemon = daemon
        self._asked = asked
        self._over = False
        self._end = End(daemon.sim.network, daemon.host, self, accepted=False)
        daemon.sim.network.dial(self._end, asked.address, "bulk", {"pid": 1})

    def arrived(self, messages: list[Message]) -> None:
        for message in messages:
            if message[0] == WELCOME:
                self._end.send([(READ, 1, self._asked.oid, 0, self._asked.size)])
            elif message[0] == DATA:
                self._daemon.memory[self._asked.offset] = bytes(message[2])
                self._finish(None)
            elif message[0] == REPLY:
                self._finish(dict(message[3]))
            elif message[0] == REFUSED:
                self._finish(self._unreachable(str(message[1]["message"])))

    def ended(self, why: str, how: str) -> None:
        self._finish(self._unreachable(why or how or "the other side closed the connection"))

    def stop(self) -> None:
        """Nobody wants it any more."""
        self._daemon.clock.after(100 * US_NS, self._finish, None)

    def _unreachable(self, why: str) -> dict[str, Any]:
        text = f"Its bytes cannot be brought from the node at {self._asked.address}: {why}."
        return fault(NODE_DIED, text, object_id=self._asked.oid.hex())

    def _finish(self, why: dict[str, Any] | None) -> None:
        if not self._over:
            self._over = True
            self._end.close()
            self._daemon.fetched(self._asked.number, why)
