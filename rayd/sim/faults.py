"""What goes wrong, by seed: workers, daemons and machines die, stop for a while, or cannot be reached."""

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Final

from rayd.core.event import Join
from rayd.sim.network import Cut
from rayd.sim.options import MS_NS, SECOND_NS
from rayd.sim.worker import KILLED

if TYPE_CHECKING:
    from rayd.sim.host import Host
    from rayd.sim.simulation import Simulation

# Nodes end themselves when they hear nothing from the head for 30 s, so it is never away for as long on purpose.
_HEAD_AWAY_MAX: Final = 20 * SECOND_NS


class Faults:
    """The faults of one simulation.

    Args:
        sim: the simulation.
        rng: decides what goes wrong, where and when.

    Attributes:
        on: they happen.
        counts: how often each has happened.
    """

    def __init__(self, sim: "Simulation", rng: Random) -> None:
        self.sim = sim
        self.rng = rng
        self.on = False
        self.counts: dict[str, int] = {}
        self._cuts: list[Cut] = []
        self._kinds: list[tuple[Callable[[], bool], int]] = [
            (self.kill_worker, 6),
            (self.kill_driver, 1),
            (self.kill_node, 2),
            (self.power_failure, 1),
            (self.pause, 2),
            (self.short_cut, 2),
            (self.long_cut, 1),
            (self.quarrel, 1),
            (self.lossy, 2),
            (self.kill_head, 1),
            (self.full_disk, 1),
        ]

    def begin(self) -> None:
        """From now on things go wrong."""
        if self.sim.options.faults:
            self.on = True
            self._soon()

    def end(self) -> None:
        """Everything is repaired."""
        self.on = False
        self.sim.network.loss = 0.0
        self.sim.disk.full = False
        for cut in self._cuts:
            self.sim.network.heal(cut)
        self._cuts.clear()
        for host in self.sim.hosts:
            host.resume()

    def _soon(self) -> None:
        mean = 3 * SECOND_NS / max(1, len(self.sim.hosts) / 20)
        self.sim.clock.after(int(self.rng.expovariate(1.0) * mean) + MS_NS, self._strike)

    def _strike(self) -> None:
        if self.on:
            fault = self.rng.choices([kind for kind, _ in self._kinds], [weight for _, weight in self._kinds])[0]
            if fault():
                name = fault.__name__
                self.counts[name] = self.counts.get(name, 0) + 1
                self.sim.trace.line(self.sim.clock.now, "fault", name)
            self._soon()

    def start_fails(self) -> bool:
        """Whether a worker process cannot be started."""
        if self.on and self.rng.random() < 0.02:
            self.sim.checkers.causes.failed_starts += 1
            return True
        return False

    # ---- one each ----------------------------------------------------------------------------------------------------

    def _member(self) -> "Host | None":
        """A machine that runs a daemon and is not the head."""
        found = [host for host in self.sim.hosts[1:] if host.daemon is not None and host.daemon.joined]
        return self.rng.choice(found) if found else None

    def kill_worker(self) -> bool:
        """SIGKILL to a worker."""
        hosts = [host for host in self.sim.hosts if host.daemon is not None and host.daemon.workers]
        if not hosts:
            return False
        daemon = self.rng.choice(hosts).daemon
        assert daemon is not None
        daemon.workers[self.rng.choice(list(daemon.workers))].exit(KILLED, "killed")
        return True

    def kill_driver(self) -> bool:
        """SIGKILL to a program."""
        drivers = self.sim.drivers()
        if not drivers:
            return False
        self.rng.choice(drivers).be_killed()
        return True

    def kill_node(self) -> bool:
        """SIGKILL to a daemon; another one begins at its address some time later."""
        return self._end_node(silent=False)

    def power_failure(self) -> bool:
        """A machine says nothing any more, and nobody says so in its place."""
        return self._end_node(silent=True)

    def _end_node(self, *, silent: bool) -> bool:
        host = self._member()
        if host is None:
            return False
        host.die(silent=silent)
        self.sim.clock.after(
            self.rng.randrange(MS_NS, 60 * SECOND_NS if silent else 20 * SECOND_NS), self.begin_anew, host
        )
        return True

    def begin_anew(self, host: "Host") -> None:
        """A new daemon on a machine that has none."""
        if host.daemon is None and not host.is_head:
            host.start(Join(self.sim.hosts[0].address))

    def stopped(self, host: "Host", reason: str) -> None:
        """A daemon has ended by itself: it or the head was not to be reached, or had gone."""
        around = (host.address, self.sim.hosts[0].address)
        if not any(self.sim.checkers.damage.hurt(address, self.sim.clock.now) for address in around):
            self.sim.checkers.fails("causes", f"the node at {host.address} stops for no reason: {reason}")
        if not host.is_head:
            self.sim.clock.after(self.rng.randrange(SECOND_NS, 5 * SECOND_NS), self.begin_anew, host)

    def pause(self) -> bool:
        """SIGSTOP to a daemon, SIGCONT later."""
        head = self.rng.random() < 0.1
        host = self.sim.hosts[0] if head else self._member()
        if host is None or host.daemon is None or host.paused:
            return False
        longest = _HEAD_AWAY_MAX if head else 50 * SECOND_NS
        span = int(min(longest, self.rng.expovariate(1.0) * 8 * SECOND_NS))
        self.sim.checkers.damage.away(host.address, span)
        host.pause()
        life = host.life

        def resume() -> None:
            if host.life == life:
                host.resume()

        self.sim.clock.after(span, resume)
        return True

    def _isolate(self, span: int) -> bool:
        some = self.rng.randrange(1, max(2, min(len(self.sim.hosts) // 3, 20)))
        inside = [host.address for host in self.rng.sample(self.sim.hosts[1:], min(some, len(self.sim.hosts) - 1))]
        if not inside:
            return False
        inward, outward = self.rng.choice([(True, True), (True, True), (True, False), (False, True)])
        self._cut(Cut(inside, inward=inward, outward=outward), span)
        return True

    def _cut(self, cut: Cut, span: int) -> None:
        self._cuts.append(cut)
        for address in cut.inside:
            self.sim.checkers.damage.away(address, span)
        self.sim.network.cut(cut)
        self.sim.clock.after(span, self._heal, cut)

    def _heal(self, cut: Cut) -> None:
        if cut in self._cuts:
            self._cuts.remove(cut)
            self.sim.network.heal(cut)

    def short_cut(self) -> bool:
        """Some machines cannot be reached for less time than anybody minds."""
        return self._isolate(self.rng.randrange(MS_NS, 20 * SECOND_NS))

    def long_cut(self) -> bool:
        """Some machines cannot be reached for so long that they are given up."""
        return self._isolate(self.rng.randrange(28 * SECOND_NS, 60 * SECOND_NS))

    def quarrel(self) -> bool:
        """Two machines cannot reach each other, while all others, and so the head, can reach both."""
        if len(self.sim.hosts) < 3:
            return False
        one, other = self.rng.sample(self.sim.hosts[1:], 2)
        cut = Cut([one.address], inward=True, outward=self.rng.random() < 0.7, by=[other.address])
        span = self.rng.randrange(28 * SECOND_NS, 60 * SECOND_NS)
        self.sim.checkers.damage.away(other.address, span)
        self._cut(cut, span)
        return True

    def lossy(self) -> bool:
        """For a while some of what is sent gets lost, and TCP sends it again."""
        self.sim.network.loss = self.rng.choice([0.001, 0.01, 0.1])
        self.sim.clock.after(self.rng.randrange(10 * SECOND_NS), setattr, self.sim.network, "loss", 0.0)
        return True

    def kill_head(self) -> bool:
        """SIGKILL to the head; another one goes on with its journal."""
        head = self.sim.hosts[0]
        if not self.sim.options.journal or head.daemon is None:
            return False
        head.die()
        self.sim.clock.after(self.rng.randrange(MS_NS, 10 * SECOND_NS), self.sim.start_head)
        return True

    def full_disk(self) -> bool:
        """The head's disk takes nothing for a while."""
        self.sim.disk.full = True
        self.sim.checkers.disk_was_full = True
        self.sim.clock.after(self.rng.randrange(3 * SECOND_NS), setattr, self.sim.disk, "full", False)
        return True
