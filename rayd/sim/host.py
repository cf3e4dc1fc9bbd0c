"""One machine: it runs a daemon, then perhaps another one, and the processes around it."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rayd.core.effect import StartWorker
from rayd.core.event import Event
from rayd.errors import SHUTDOWN, fault
from rayd.sim.daemon import Daemon
from rayd.sim.network import End
from rayd.sim.options import MS_NS
from rayd.sim.worker import WorkerProcess
from rayd.wire.messages import REFUSED

if TYPE_CHECKING:
    from rayd.sim.process import Process
    from rayd.sim.simulation import Simulation


class Host:
    """One machine of the cluster.

    Args:
        sim: the simulation.
        number: of the machine, from 0 on, the head's.
        resources: what a daemon there offers.

    Attributes:
        address: host:port of its daemon.
        daemon: the one that runs, if one does.
        life: how many have been started.
        paused: the daemon is stopped (SIGSTOP) and may go on.
        silent: the machine has lost its power.
        processes: drivers and workers there.
    """

    def __init__(self, sim: "Simulation", number: int, resources: dict[str, float]) -> None:
        self.sim = sim
        self.number = number
        self.resources = resources
        self.address = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}:6379"
        self.daemon: Daemon | None = None
        self.life = 0
        self.paused = False
        self.silent = False
        self.processes: dict[Process, None] = {}
        self._backlog: list[tuple[Callable[..., object], tuple[Any, ...]]] = []

    @property
    def is_head(self) -> bool:
        """Whether the cluster's head runs here."""
        return self.number == 0

    def start(self, *events: Event) -> None:
        """Start a daemon, which first hears this."""
        self.life += 1
        self.paused = self.silent = False
        self._backlog.clear()
        node_id = f"{self.address} {self.life}".encode().ljust(28)
        self.daemon = Daemon(self, node_id)
        for event in events:
            self.daemon.feed(event)

    def pause(self) -> None:
        """SIGSTOP to the daemon."""
        self.paused = True

    def resume(self) -> None:
        """SIGCONT: it hears what has happened meanwhile."""
        if not self.paused:
            return
        self.paused = False
        backlog, self._backlog = self._backlog, []
        for act, args in backlog:
            act(*args)

    def when_resumed(self, act: Callable[..., object], *args: Any) -> None:
        """Have something done when the daemon goes on."""
        self._backlog.append((act, args))

    def accept(self, end: End, kind: str, info: dict[str, Any]) -> None:
        """Somebody has connected and introduced itself."""
        assert self.daemon is not None
        self.daemon.accept(end, kind, info)

    # ---- the end -----------------------------------------------------------------------------------------------------

    def die(self, *, silent: bool = False) -> None:
        """SIGKILL to the daemon, or the machine loses its power: all processes here end."""
        self._end(silent=silent, reason="")

    def stop(self, reason: str) -> None:
        """The daemon ends in order, since it wants to."""
        if self.daemon is not None:
            self.sim.stopped(self, reason)
            self._end(silent=False, reason=reason)

    def _end(self, *, silent: bool, reason: str) -> None:
        daemon = self.daemon
        if daemon is None:
            return
        self.daemon = None
        daemon.silence()
        self.silent = silent
        self.paused = False
        self._backlog.clear()
        refusal = (REFUSED, fault(SHUTDOWN, f"the daemon was stopped: {reason}")) if reason else None
        self.sim.checkers.damage.died(self.address)
        self.sim.network.leave(self, silent=silent, refusal=refusal)
        for process in list(self.processes):
            process.vanish()
        if self.is_head:
            self.sim.disk.head_dies()

    # ---- workers -----------------------------------------------------------------------------------------------------

    def start_worker(self, effect: StartWorker) -> None:
        """Fork a worker."""
        assert self.daemon is not None
        worker = WorkerProcess(self.sim, self.daemon, effect.worker)
        self.daemon.workers[effect.worker] = worker
        late = MS_NS + int(self.sim.rng.expovariate(1.0) * 3 * MS_NS)
        self.sim.clock.after(late, worker.fork)
