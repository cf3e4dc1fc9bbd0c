"""Strangers before the gate of the TCP port: how many, how long, and what the log says of them.

Whoever reaches the port can cost the daemon only so much: ``KNOCKING_MAX`` connections at a time that are not through
with TLS, some 100 KB each, and ``STRANGERS_MAX`` that have not proven themselves, with the little memory that
``rayd.wire.frame`` allows an unknown client; each for at most ``PATIENCE_S``; and a line in the log for each of the
first refusals of a minute, one line with their number for the others.
"""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Final

from rayd.shell.connection import Connection

STRANGERS_MAX: Final = 128
KNOCKING_MAX: Final = 512
PATIENCE_S: Final = 10.0
# How long somebody may knock, when there are too many, before another one takes its place: so that those who come all
# at once do not drive out each other.
PACE_S: Final = 0.005
LINES_MAX: Final = 20
_MINUTE_S: Final = 60.0
_CAME: Final = "others came meanwhile"


class Porter:
    """Watches the connections that have not proven themselves.

    Args:
        loop: the daemon's.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._knocking: dict[asyncio.Task[None], str] = {}
        self._left = asyncio.Event()
        self._strangers: dict[Connection, asyncio.TimerHandle] = {}
        self._lines = 0
        self._unsaid = 0
        self._since = -_MINUTE_S

    def knocks(self, peer: str, let_in: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Somebody has connected.

        Args:
            peer: who, as host:port.
            let_in: brings it before the gate.
        """
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
        self._left.set()

    async def make_room(self) -> None:
        """Wait until another one may knock. When there are too many, that is when one of them is through, as in no time
        when a whole cluster begins; or else the one that has waited longest has to go.
        """
        while len(self._knocking) >= KNOCKING_MAX:
            self._left.clear()
            try:
                await asyncio.wait_for(self._left.wait(), PACE_S)
            except TimeoutError:
                task, peer = next(iter(self._knocking.items()))
                self._gone(task)
                task.cancel()
                self._log(peer, f"more than {KNOCKING_MAX} {_CAME}")

    def arrived(self, connection: Connection) -> None:
        """A stranger; when there are too many, the one that has waited longest has to go."""
        if len(self._strangers) >= STRANGERS_MAX:
            self._send_away(next(iter(self._strangers)), f"more than {STRANGERS_MAX} {_CAME}")
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
