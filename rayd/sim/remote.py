"""Programs on machines that run no daemon: they speak over TCP to a node, and have no memory in common with it."""

from typing import TYPE_CHECKING, Any

from rayd.sim.driver import Driver, Scenes
from rayd.sim.host import Host
from rayd.sim.network import End
from rayd.sim.process import content
from rayd.wire import messages as m
from rayd.wire.messages import Message

if TYPE_CHECKING:
    from rayd.sim.daemon import Daemon
    from rayd.sim.simulation import Simulation

# Numbers of machines from here on are those of such programs.
_OUTSIDE = 1 << 20


class RemoteDriver(Driver):
    """A driver elsewhere.

    Args:
        sim: the simulation.
        daemon: whose client it is to be.
        budget: as of a ``Driver``.
        scenes: as of a ``Driver``.

    Attributes:
        stands: the daemon has let it in.
    """

    def __init__(self, sim: "Simulation", daemon: "Daemon", budget: int, scenes: Scenes) -> None:
        super().__init__(sim, daemon, budget, scenes)
        del daemon.host.processes[self]
        self.stands = False
        self._end_here = End(sim.network, Host(sim, _OUTSIDE + self.pid, {}), self, accepted=False)
        self._reads: dict[int, bytes] = {}

    # ---- the line ----------------------------------------------------------------------------------------------------

    def connect(self, info: dict[str, Any], worker: int = 0) -> None:
        self.sim.network.dial(self._end_here, self.daemon.host.address, self.kind, {"pid": self.pid, **info})

    def arrived(self, messages: list[Message]) -> None:
        """The daemon has said something."""
        self.stands = True
        self.receive(messages)

    def ended(self, why: str, how: str) -> None:
        """The connection is no more, and with it this program."""
        if self.alive:
            self._end("by itself")

    def write_out(self, out: list[Message]) -> None:
        self._end_here.send(out)

    def hang_up(self) -> None:
        self._end_here.close()

    # ---- objects -----------------------------------------------------------------------------------------------------

    def heard(self, message: Message) -> None:
        if message[0] == m.REFUSED:
            self.hang_up()
        elif message[0] == m.DATA:
            self._has_read(message[1], m.STORED, bytes(message[2]))
        elif message[0] == m.REPLY and message[1] in self._reads:
            self._has_read(message[1], m.FAULT, message[3])
        else:
            super().heard(message)

    def take_item(self, oid: bytes, kind: int, data: Any) -> bool:
        if kind != m.STORED:
            return super().take_item(oid, kind, data)
        self._requests += 1
        self._reads[self._requests] = oid
        self.say((m.READ, self._requests, oid, 0, min(data[1], m.PART_BYTES_MAX)))  # the rest says nothing more
        return False

    def _has_read(self, req: int, kind: int, data: Any) -> None:
        oid = self._reads.pop(req)
        if oid in self.held:
            self.keep(oid, kind, data)
            self.has_come(oid)

    def write(self, oid: bytes, offset: int) -> None:
        self.say((m.WRITE, oid, 0, content(oid)))
