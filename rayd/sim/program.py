"""Programs of simulated processes: generators, and what they wait for."""

from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from rayd.wire.messages import Message

if TYPE_CHECKING:
    from rayd.sim.process import Process

Program: TypeAlias = Generator["Wanted", Any, Any]
Scene: TypeAlias = Generator["Wanted", Any, None]


class Wanted(Protocol):
    """What a program waits for."""

    def begin(self, thread: "Thread") -> None:
        """Have the thread go on when it is there."""


class Sleep:
    """So many ns."""

    def __init__(self, ns: int) -> None:
        self.ns = ns

    def begin(self, thread: "Thread") -> None:
        thread.process.sim.clock.after(self.ns, thread.go_on, None)


class Get:
    """The values of objects: a list of (kind, content)."""

    def __init__(self, oids: Iterable[bytes]) -> None:
        self.oids = list(oids)

    def begin(self, thread: "Thread") -> None:
        thread.process.get(thread, self.oids)


class Ask:
    """The answer to a request: (ok, value)."""

    def __init__(self, message: Callable[[int], Message]) -> None:
        self.message = message

    def begin(self, thread: "Thread") -> None:
        thread.process.ask(thread, self.message)


class Thread:
    """One program on its way.

    Args:
        process: where it runs.
        program: just made.
        on_end: called with what it returns, unless it is given up before.
    """

    def __init__(self, process: "Process", program: Program, on_end: Callable[[Any], None]) -> None:
        self.process = process
        self.program = program
        self.over = False
        self._on_end = on_end

    def go_on(self, value: Any) -> None:
        """What it has waited for is there."""
        if self.over or not self.process.alive:
            return
        try:
            wanted = self.program.send(value)
        except StopIteration as end:
            self.over = True
            self._on_end(end.value)
            self.process.flush()
            return
        wanted.begin(self)
        self.process.flush()

    def give_up(self) -> None:
        """It does not go on."""
        self.over = True
        self.program.close()
