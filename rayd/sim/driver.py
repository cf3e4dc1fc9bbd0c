"""Programs with a connection to a daemon: what a driver can do, and the scenes that it plays."""

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from rayd.ids import actor_object_id
from rayd.sim.options import MS_NS
from rayd.sim.process import Process
from rayd.sim.program import Scene, Sleep
from rayd.wire import messages as m

if TYPE_CHECKING:
    from rayd.sim.daemon import Daemon
    from rayd.sim.simulation import Simulation

# Scenes that a driver plays at a time.
THREADS: Final = 2
# What a task asks for: see the first places of ``TASKS``.
_SORTS: Final = 8

Scenes: TypeAlias = "list[tuple[Callable[[Driver, int], Scene], int]]"


class Driver(Process):
    """A program that makes its part of the tasks, waits for each, lets go of everything and ends.

    Args:
        sim: the simulation.
        daemon: whose client it is.
        budget: how many tasks and calls it makes, about.
        scenes: what it may play, with weights.
    """

    def __init__(self, sim: "Simulation", daemon: "Daemon", budget: int, scenes: Scenes) -> None:
        super().__init__(sim, daemon, "driver")
        self.scenes = scenes
        self.rng = Random(f"{sim.options.seed} driver {self.pid}")
        self.budget = budget
        self._left = THREADS

    def welcomed(self) -> None:
        for _ in range(THREADS):
            self.run(self._play(), self._played)

    def _play(self) -> Scene:
        while self.budget > 0:
            ((scene, _),) = self.rng.choices(self.scenes, [weight for _, weight in self.scenes])
            count = min(self.budget, self.rng.choice(self.sim.batches))
            self.budget -= count
            yield from scene(self, count)
            yield Sleep(self.rng.randrange(self.sim.think_ns))

    def _played(self, _: Any) -> None:
        self._left -= 1
        if not self._left:
            if self.held:
                self.sim.checkers.fails("simulator", f"a driver forgets {[oid.hex() for oid in self.held]}")
            self.sim.clock.after(MS_NS, self.leave)

    def be_killed(self) -> None:
        """SIGKILL: its end is all that others hear of it."""
        self._end("killed")
        self.hang_up()

    def kill(self, aid: bytes, *, no_restart: bool) -> None:
        """Kill an actor, for good or not."""
        self.sim.checkers.causes.kills(aid, no_restart=no_restart)
        self.say((m.KILL, aid, no_restart))

    def let_go(self, aid: bytes) -> None:
        """Drop the handle of an actor."""
        self.sim.checkers.causes.lets_go(self, aid)
        self.drop(actor_object_id(aid))

    def cancel(self, oid: bytes, *, force: bool, recursive: bool) -> None:
        """Cancel a task, perhaps with what it has submitted, perhaps by killing its worker."""
        self.sim.checkers.causes.cancels(self, oid, force=force, recursive=recursive)
        self.say((m.CANCEL, oid, force, recursive))

    def run_us(self) -> int:
        """How long a task takes."""
        return self.rng.choice([0, 50, 500, 2_000, 10_000, 30_000])

    def task_index(self) -> int:
        """Some sort of task."""
        return max(0, self.rng.randrange(-2, _SORTS))
