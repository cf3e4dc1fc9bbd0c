"""What a simulation is asked for."""

from typing import Final, NamedTuple

SECOND_NS: Final = 1_000_000_000
MS_NS: Final = 1_000_000
US_NS: Final = 1_000


class Options(NamedTuple):
    """One run.

    Attributes:
        seed: decides everything that is left open here.
        nodes: machines, the head among them.
        tasks: tasks and calls that drivers make in all, roughly.
        drivers: programs that run at a time.
        seconds: for how long faults happen, in virtual time.
        faults: whether there are any.
        journal: whether the head keeps one, and may be killed.
        cpus: of each machine.
        encoded: every message is packed and unpacked, so that what cannot travel fails.
        check_every: the invariants of a core are checked at every so manieth of its steps; 0 for never.
        trace: path of a file for a line per event; "" for none.
    """

    seed: int = 1
    nodes: int = 5
    tasks: int = 300
    drivers: int = 2
    seconds: float = 60.0
    faults: bool = True
    journal: bool = True
    cpus: int = 2
    encoded: bool = False
    check_every: int = 0
    trace: str = ""
