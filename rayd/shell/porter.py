"""Strangers before the gate of the TCP port: how many, how long, and what the log says of them.

Whoever reaches the port can cost the daemon only so much: ``STRANGERS_MAX`` connections at a time, each for at most
``PATIENCE_S`` and with the little memory that ``rayd.wire.frame`` allows an unknown client; and a line in the log for
each of the first refusals of a minute, one line with their number for the others.
"""

import asyncio
import sys
from typing import Final

from rayd.shell.connection import Connection

STRANGERS_MAX: Final = 128
PATIENCE_S: Final = 10.0
LINES_MAX: Final = 20
_MINUTE_S: Final = 60.0


class Porter:
    """Watches the connections that have not proven themselves.

    Args:
        loop: the daemon's.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._strangers: dict[Connection, asyncio.TimerHandle] = {}
        self._lines = 0
        self._unsaid = 0
        self._since = -_MINUTE_S

    def arrived(self, connection: Connection) -> None:
        """A stranger; when there are too many, the one that has waited longest has to go."""
        if len(self._strangers) >= STRANGERS_MAX:
            self._send_away(next(iter(self._strangers)), f"more than {STRANGERS_MAX} others came meanwhile")
        self._strangers[connection] = self._loop.call_later(
            PATIENCE_S, self._send_away, connection, f"it did not prove itself within {PATIENCE_S:g} s"
        )

    def left(self, connection: Connection, refusal: str) -> None:
        """It has proven itself, has gone, or was refused with this text."""
        timer = self._strangers.pop(connection, None)
        if timer is not None:
            timer.cancel()
            if refusal:
                self._log(connection, refusal)

    def _send_away(self, connection: Connection, why: str) -> None:
        self.left(connection, why)
        connection.abort()

    def _log(self, connection: Connection, why: str) -> None:
        now = self._loop.time()
        if now - self._since > _MINUTE_S:
            self._say_the_rest()
            self._since = now
            self._lines = 0
        self._lines += 1
        if self._lines <= LINES_MAX:
            print(f"refused {connection.peer}: {why}", file=sys.stderr, flush=True)
        else:
            self._unsaid += 1

    def _say_the_rest(self) -> None:
        if self._unsaid:
            print(f"refused {self._unsaid} more connections without proof", file=sys.stderr, flush=True)
        self._unsaid = 0

    def close(self) -> None:
        """The daemon ends."""
        for connection in list(self._strangers):
            self._send_away(connection, "")
        self._say_the_rest()
