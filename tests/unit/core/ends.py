"""The ends of the wires between several node cores."""

from collections import deque
from typing import Any

from rayd.core.event import Connected, Disconnected, Linked, Received
from rayd.wire import messages as m
from rayd.wire.frame import Framer, ProtocolError, encode_many
from world import World


class End:
    """One end of a wire, in the place of a peer of its world.

    Attributes:
        world: whose end it is.
        conn: its number there.
        coming: messages on their way to this end.
        other: the other end.
    """

    kind = "node"

    def __init__(self, world: World, conn: int) -> None:
        self.world = world
        self.conn = conn
        self.coming: deque[list[Any]] = deque()
        self.other: End
        self.connected = True
        self.known = False  # the world has heard of the connection
        self.inbox: list[Any] = []
        self._framer = Framer()
        world.peers[conn] = self  # type: ignore[assignment]

    def sent(self, messages: list[Any]) -> None:
        """Its world has written this."""
        if self.other.connected:
            self.other.coming += self._framer.feed(encode_many(messages))

    def deliver(self, count: int) -> None:
        """The next messages arrive."""
        batch = [self.coming.popleft() for _ in range(min(count, len(self.coming)))]
        while batch and not self.known:
            self._meet(batch.pop(0))
        if batch and self.connected:
            self.world.step(Received(self.conn, batch))

    def _meet(self, message: list[Any]) -> None:
        self.known = True
        if message[0] == m.HELLO:
            try:
                self.world.step(Connected(self.conn, "node", message[3]))
            except ProtocolError:  # it is not let in
                self.close()
                self.other.close()
        else:
            assert message[0] == m.WELCOME
            self.world.step(Linked(self.conn, message[1]))

    def close(self, how: str = "") -> None:
        """Its world hears that the connection has ended."""
        if self.connected:
            self.connected = False
            self.coming.clear()
            self.world.step(Disconnected(self.conn, how=how))
