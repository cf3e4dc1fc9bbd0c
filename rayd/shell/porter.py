"""Strangers before the gate of the TCP port: how many, how long, and what the log says of them.

Whoever reaches the port can cost the daemon only so much: ``STRANGERS_MAX`` connections at a time that are not through
with TLS, as many that have not proven themselves, each for at most ``PATIENCE_S`` and with the little memory that
``rayd.wire.frame`` allows an unknown client; and a line in the log for each of the first refusals of a minute, one line
with their number for the others.
"""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Final

from rayd.shell.connection import Connection

STRANGERS_MAX: Final = 128
PATIENCE_S: Final = 10.0
LINES_MAX: Final = 20
_MINUTE_S: Final = 60.0
_CROWD: Final = f"more than {STRANGERS_MAX} others came meanwhile"


class Porter:
    """Watches the connections that have not proven themselves.

    Args:
        loop: the daemon's.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._knocking: dict[asyncio.Task[None], str] = {}
        self._strangers: dict[Connection, asyncio.TimerHandle] = {}
        self._lines = 0
        self._unsaid = 0
        self._since = -_MINUTE_S

    def knocks(self, peer: str, let_in: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Somebody has connected; when there are too many, the one that has waited longest has to go.

        Args:
            peer: who, as host:port.
            let_in: brings it before the gate.
        """
        if len(self._knocking) >= STRANGERS_MAX:
            task, other = next(iter(self._knocking.items()))
            self._gone(task)
            task.cancel()
            self._log(other, _CROWD)
        task = self._loop.create_task(self._let_in(peer, let_in), name=f"let {peer} in")
        self._knocking[task] = peer
        task.add_done_callback(self._gone)

    async def _let_in(self, peer: str, let_in: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        try:
            await let_in()
        except OSError as error:
            self._log(peer, f"it does not speak TLS: {error}")

    def _gone(self, task: "asyncio.Task[None]") -> None:
        self._knocking.pop(task, None)

    def arrived(self, connection: Connection) -> None:
        """A stranger, as above."""
        if len(self._strangers) >= STRANGERS_MAX:
            self._send_away(next(iter(self._strangers)), _CROWD)
        self._strangers[connection] = self._loop.call_later(
            PATIENCE_S, self._send_away, connection, f"it did not prove itself within {PATIENCE_S:g} s"
        )

    def left(self, connection: Connection, refusal: str) -> None:
        """It has proven itself, has gone, or was refused with this text."""
        timer = self._strangers.pop(connection, None)
        if timer is not None:
            timer.cancel()
            if refusal:
                self._log(connection.peer, refusal)

    def _send_away(self, connection: Connection, why: str) -> None:
        self.left(connection, why)
        connection.abort()

    def _log(self, peer: str, why: str) -> None:
        now = self._loop.time()
        if now - self._since > _MINUTE_S:
            self._say_the_rest()
            self._since = now
            self._lines = 0
        self._lines += 1
        if self._lines <= LINES_MAX:
            print(f"refused {peer}: {why}", file=sys.stderr, flush=True)
        else:
            self._unsaid += 1

    def _say_the_rest(self) -> None:
        if self._unsaid:
            print(f"refused {self._unsaid} more connections without proof", file=sys.stderr, flush=True)
        self._unsaid = 0

    def close(self) -> None:
        """The daemon ends."""
        for task in self._knocking:
            task.cancel()
        for connection in list(self._strangers):
            self._send_away(connection, "")
        self._say_the_rest()
