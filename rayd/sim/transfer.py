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


class Way:
    """One machine's part in a transfer.

    Args:
        transfer: which.
        asked: what, and of whom.
    """

    stands = True

    def __init__(self, transfer: "Transfer", asked: Fetch) -> None:
        self._transfer = transfer
        self._asked = asked
        daemon = transfer.daemon
        self._end = End(daemon.sim.network, daemon.host, self, accepted=False)
        daemon.sim.network.dial(self._end, asked.address, "bulk", {"pid": 1})

    def arrived(self, messages: list[Message]) -> None:
        for message in messages:
            if message[0] == WELCOME:
                self._end.send([(READ, 1, self._asked.oid, 0, self._asked.size)])
            elif message[0] == DATA:
                self._transfer.came(bytes(message[2]))
            elif message[0] == REPLY:
                self._fail(dict(message[3]))
            elif message[0] == REFUSED:
                self._fail(self._unreachable(str(message[1]["message"])))

    def ended(self, why: str, how: str) -> None:
        self._fail(self._unreachable(why or how or "the other side closed the connection"))

    def close(self) -> None:
        """It is not needed any more."""
        self._end.close()

    def _unreachable(self, why: str) -> dict[str, Any]:
        text = f"Its bytes cannot be brought from the node at {self._asked.address}: {why}."
        return fault(NODE_DIED, text, object_id=self._asked.oid.hex())

    def _fail(self, why: dict[str, Any]) -> None:
        self._end.close()
        self._transfer.failed(self, self._asked.source, why)


class Transfer:
    """The receiving end of a ``Fetch``: whichever machine brings the whole first has brought it.

    Args:
        daemon: who fetches.
        asked: what.
    """

    def __init__(self, daemon: "Daemon", asked: Fetch) -> None:
        self.daemon = daemon
        self._asked = asked
        self._ways: dict[int, Way] = {}
        self._over = False

    def come_from(self, asked: Fetch) -> None:
        """One more machine has it. One that has parts will have all of it, or fail, and is named again then."""
        if not asked.parts and asked.source not in self._ways and not self._over:
            self._ways[asked.source] = Way(self, asked)

    def came(self, data: bytes) -> None:
        """All of it is here."""
        if not self._over:
            self.daemon.memory[self._asked.offset] = data
            self._finish()

    def failed(self, way: Way, source: int, why: dict[str, Any]) -> None:
        """It does not come from there."""
        if self._ways.get(source) is way and not self._over:
            del self._ways[source]
            self.daemon.source_failed(self._asked.number, source, why)

    def stop(self) -> None:
        """Nobody wants it any more."""
        self.daemon.clock.after(100 * US_NS, self._finish)

    def _finish(self) -> None:
        if not self._over:
            self._over = True
            for way in self._ways.values():
                way.close()
            self.daemon.fetched(self._asked.number)
