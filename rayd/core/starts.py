"""Starting worker processes: how many at once, and what happens when they do not come up.

Workers of one key (job, environment) that end before they have connected are tried again after a pause that doubles.
The driver is told the first time; after ``TRIES_MAX`` failures in a row, what waits for such a worker fails with
the cause, since most likely it is the environment that was asked for, which does not get better by waiting.
"""

from typing import Any, Final, TypeAlias

from rayd.core.effect import StartWorker
from rayd.core.state import NodeState
from rayd.core.worker import STARTING_MAX, Worker
from rayd.errors import WORKER_CRASHED, WORKER_START, Fault, fault

Key: TypeAlias = tuple[bytes, tuple[tuple[str, str], ...]]

TRIES_MAX: Final = 5
PAUSE_NS: Final = 100_000_000
# How much of the value of an environment variable an error shows.
VALUE_CHARS_MAX: Final = 80


class Starts:
    """The policy of starting workers.

    Args:
        state: the node's tables.
    """

    def __init__(self, state: NodeState) -> None:
        self._state = state
        self._failures: dict[Key, int] = {}
        self._paused: dict[Key, int] = {}
        self._told: set[Key] = set()

    def want(self, key: Key, count: int) -> None:
        """See to it that ``count`` workers of a kind are starting, as far as there is room."""
        state, pool = self._state, self._state.pool
        if key[0] not in state.jobs or self.paused(key):
            return
        for _ in range(min(count - pool.starting.get(key, 0), STARTING_MAX - pool.starting_total())):
            worker = pool.new(key)
            state.effects.others.append(StartWorker(worker.wid, key[0], key[1]))

    def paused(self, key: Key) -> bool:
        """Whether workers of this kind have just failed to start and are not tried again yet."""
        return self._paused.get(key, 0) > self._state.now

    def succeeded(self, worker: Worker) -> None:
        """One has connected."""
        if self._failures:
            self._failures.pop(worker.key, None)
            self._paused.pop(worker.key, None)

    def failed(self, worker: Worker, cause: dict[str, Any], stderr: list[str]) -> Fault | None:
        """One has ended before it connected; returns the fault of what waits for it once it is given up."""
        key = worker.key
        if worker.fate is not None or key[0] not in self._state.jobs or self.paused(key):
            return None
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        tail = "".join(f"\n  {line}" for line in stderr)
        said = f"\nIts last lines on stderr:{tail}" if stderr else ""
        asked = ", ".join(f"{name}={_shortened(value)}" for name, value in key[1])
        env = f" with the environment variables {asked}" if asked else ""
        if failures >= TRIES_MAX:
            del self._failures[key]
            text = f"No worker process{env} could be started, {failures} times in a row: {cause['text']}.{said}"
            return fault(WORKER_START if asked else WORKER_CRASHED, text, cause=cause, stderr=stderr)
        if failures == 1 and key not in self._told:
            self._told.add(key)
            text = f"A worker process{env} could not be started and is tried again: {cause['text']}.{said}"
            self._state.warn(key[0], text)
        self._paused[key] = self._state.now + (PAUSE_NS << (failures - 1))
        return None

    def deadline(self) -> int | None:
        """When the next pause is over, in ns."""
        return min(self._paused.values()) if self._paused else None

    def resume(self) -> bool:
        """Forget the pauses that are over; whether there were any."""
        over = [key for key, until in self._paused.items() if until <= self._state.now]
        for key in over:
            del self._paused[key]
        return bool(over)

    def forget(self, job: bytes) -> None:
        """A job has ended."""
        for table in (self._failures, self._paused):
            for key in [key for key in table if key[0] == job]:
                del table[key]
        self._told = {key for key in self._told if key[0] != job}


def _shortened(value: str) -> str:
    return value if len(value) <= VALUE_CHARS_MAX else f"{value[:VALUE_CHARS_MAX]}... ({len(value)} characters)"
