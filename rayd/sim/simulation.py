"""One simulated cluster, from its start until it is quiet."""

from collections import Counter
from random import Random
from typing import Final, NamedTuple

from rayd.core.event import Join
from rayd.sim.checkers import Checkers
from rayd.sim.clock import Clock
from rayd.sim.disk import Disk
from rayd.sim.driver import Driver
from rayd.sim.faults import Faults
from rayd.sim.host import Host
from rayd.sim.name_scenes import Cleaner
from rayd.sim.network import Network
from rayd.sim.options import MS_NS, SECOND_NS, US_NS, Options
from rayd.sim.quiet import check_quiet
from rayd.sim.remote import RemoteDriver
from rayd.sim.trace import Trace
from rayd.sim.workload import SCENES

# Everything that was asked for has ended so long after the last fault: a connection is given up after up to 40 s, a
# node ends 30 s after it has lost its head, and so on once more for what was begun anew meanwhile.
BOUND_NS: Final = 200 * SECOND_NS
# Nothing is left so long after the last driver has gone, and so long after the last fault, since the death of a machine
# may take 40 s to be noticed, and what it ran is started again 25 s later at the latest.
SETTLE_NS: Final = 5 * SECOND_NS
NOTICED_NS: Final = 70 * SECOND_NS


# How many of the drivers are on machines of their own.
REMOTE: Final = 0.3


class Report(NamedTuple):
    """What came of a run.

    Attributes:
        virtual_s: how long it took in virtual time.
        events: how many there were.
        outcomes: how calls ended.
        faults: how often each happened.
        digest: of the trace.
    """

    virtual_s: float
    events: int
    outcomes: Counter[str]
    faults: dict[str, int]
    digest: str


class Simulation:
    """A cluster.

    Args:
        options: what is asked for.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.clock = Clock()
        self.trace = Trace(options.trace)
        self.rng = Random(f"{options.seed} processes")
        self.checkers = Checkers(self.clock)
        self.network = Network(self.clock, Random(f"{options.seed} network"), encoded=options.encoded)
        self.disk = Disk(Random(f"{options.seed} disk"))
        self.faults = Faults(self, Random(f"{options.seed} faults"))
        self._plan = Random(f"{options.seed} workload")
        self.hosts = [self._host(number) for number in range(options.nodes)]
        self._pids = 0
        self._repaired_at = 0
        self._left = options.tasks
        self._drivers: dict[Driver, None] = {}
        share = max(1, options.tasks // max(1, options.drivers))
        self._share = share
        self.batches = [1, 3, 10, 30] if share < 2_000 else [10, 100, 300, 1_000]
        # As long as there are faults there shall be work.
        rounds = max(1, share * 2 // sum(self.batches))
        self.think_ns = max(MS_NS, int(options.seconds * SECOND_NS / rounds)) if options.faults else 5 * MS_NS

    def _host(self, number: int) -> Host:
        resources: dict[str, float] = {"CPU": self.options.cpus, "disk": 1.0}
        if number % 2 == 0:
            resources["GPU"] = 1.0
        host = Host(self, number, resources)
        self.network.hosts[host.address] = host
        return host

    # ---- what its parts need -----------------------------------------------------------------------------------------

    def next_pid(self) -> int:
        """A number for a process that no other has."""
        self._pids += 1
        return self._pids

    def local_delay(self) -> int:
        """How long something takes from one process to another on the same machine, in ns."""
        return 20 * US_NS + self.rng.randrange(20 * US_NS)

    def start_head(self) -> None:
        """A head begins, with what is on the disk."""
        head = self.hosts[0]
        if head.daemon is None:
            head.start(*([self.disk.rows()] if self.options.journal else []))

    def drivers(self) -> list[Driver]:
        """Programs that run."""
        return [driver for driver in self._drivers if driver.alive]

    def stopped(self, host: Host, reason: str) -> None:
        """A daemon ends by itself."""
        self.trace.line(self.clock.now, host.address, f"stops: {reason}")
        self.faults.counts["node stopped itself"] = self.faults.counts.get("node stopped itself", 0) + 1
        self.faults.stopped(host, reason)

    # ---- the run -----------------------------------------------------------------------------------------------------

    def run(self) -> Report:
        """Everything, until the cluster is quiet.

        Raises:
            ViolationError: a checker has found something.
        """
        try:
            self._boot()
            self.clock.after(SECOND_NS, self.faults.begin)
            self._work()
            self.faults.end()
            self._repaired_at = self.clock.now
            self._finish()
            self._clean()
            self._settle()
        finally:
            self.trace.close()
        virtual_s = self.clock.now / SECOND_NS
        return Report(virtual_s, self.clock.events, self.checkers.calls.counts, self.faults.counts, self.trace.digest())

    def _boot(self) -> None:
        self.start_head()
        head = self.hosts[0].address
        for host in self.hosts[1:]:
            self.clock.after(host.number * MS_NS, host.start, Join(head))
        for host in self.hosts[1:]:
            while host.daemon is None or not host.daemon.joined:
                self.clock.step()

    def _work(self) -> None:
        """Drivers come as long as there is something left to do, and there are faults."""
        end = self.clock.now + int(self.options.seconds * SECOND_NS)
        self._employ()
        while self._left > 0 or self._drivers:
            if self.clock.now > end:
                return
            self.clock.step()
            self._employ()

    def _employ(self) -> None:
        gone = [driver for driver in self._drivers if not driver.alive]
        for driver in gone:
            del self._drivers[driver]
            self._left += max(driver.budget, 0)
        while len(self._drivers) < self.options.drivers and self._left > 0:
            able = [host for host in self.hosts if host.daemon is not None and (host.is_head or host.daemon.joined)]
            able = [host for host in able if not host.paused]
            if not able:
                return
            daemon = self._plan.choice(able).daemon
            assert daemon is not None
            budget = min(self._share, self._left)
            self._left -= budget
            kind = RemoteDriver if self._plan.random() < REMOTE else Driver
            driver = kind(self, daemon, budget, SCENES)
            self._drivers[driver] = None
            driver.connect({"namespace": "test"})

    def _finish(self) -> None:
        """The faults are over: all that was asked for has to come within its bound."""
        self.think_ns = 5 * MS_NS
        bound = self.clock.now + BOUND_NS
        while self._left > 0 or self._drivers:
            if self.clock.now > bound:
                self._too_late()
            self.clock.step()
            self._employ()

    def _too_late(self) -> None:
        pending = {
            f"{tid.hex()} of {process.kind} {process.pid} at {process.daemon.host.address}": what
            for process, calls in self.checkers.calls.pending.items()
            for tid, what in calls.items()
        }
        drivers = [driver.pid for driver in self._drivers]
        some = dict(list(pending.items())[:10])
        self.checkers.fails("bound", f"drivers {drivers} go on; {len(pending)} calls never end: {some}")

    def _clean(self) -> None:
        """What has outlived its drivers is ended by a last one, on the head."""
        if not self.checkers.names.any():
            return
        bound = self.clock.now + BOUND_NS
        cleaner: Cleaner | None = None
        while cleaner is None or not cleaner.done:
            if self.clock.now > bound:
                self.checkers.fails("bound", "the last program does not come to its end")
            daemon = self.hosts[0].daemon
            if daemon is not None and (cleaner is None or not cleaner.alive):
                cleaner = Cleaner(self, daemon)
                cleaner.connect({"namespace": "test"})
            self.clock.step()

    def _settle(self) -> None:
        """The drivers have gone, and with them everything; machines that are still down come back."""
        end = self.clock.now + SETTLE_NS
        if self.options.faults:
            end = max(end, self._repaired_at + NOTICED_NS)
        down = [host for host in self.hosts if host.daemon is None]
        for host in down:
            self.start_head() if host.is_head else self.faults.begin_anew(host)
        late = self.clock.now + BOUND_NS
        while self.clock.now < end or (self._unsettled() and self.clock.now < late):
            self.clock.step()
        check_quiet(self)
        for host in self.hosts:
            if host.daemon is not None:
                host.daemon.check()

    def _unsettled(self) -> bool:
        for host in self.hosts:
            if host.daemon is None or not (host.is_head or host.daemon.joined):
                return True
            if host.daemon.node.neighbours.cluster.absence is not None:
                return True
        return False
