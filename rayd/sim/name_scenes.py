"""Scenes with names: actors that others find, some of which outlive their drivers, and who ends the last of them."""

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Final

from rayd.sim.catalogue import NAMELESS
from rayd.sim.driver import Driver
from rayd.sim.options import MS_NS, SECOND_NS
from rayd.sim.program import Ask, Get, Scene, Sleep, Wanted
from rayd.wire import messages as m

if TYPE_CHECKING:
    from rayd.sim.daemon import Daemon
    from rayd.sim.simulation import Simulation

_NAMES: Final = 4
_CLASSES: Final = 3


def _look_for(driver: Driver, name: str) -> Generator[Wanted, Any, bytes]:
    """The actor of a name; b"" if there is none."""
    asked_at = driver.sim.clock.now
    ok, value = yield Ask(lambda req: (m.RPC, req, "get_actor", {"name": name}))
    driver.sim.checkers.names.found(name, asked_at, ok, value)
    return bytes(value["actor_id"]) if ok else b""


def _call(driver: Driver, aid: bytes, count: int) -> Scene:
    """Call an actor, whoever has created it."""
    refs = [driver.call(aid, driver.rng.randrange(2), driver.rng.choice([0, 100, 1_000])) for _ in range(count)]
    yield Get(refs)
    driver.drop(*refs)


def names(driver: Driver, count: int) -> Scene:
    """Create an actor with a name, or take the one that there is, or look for one; then call it."""
    name = f"name {driver.rng.randrange(_NAMES)}"
    if driver.rng.random() < 0.5:
        aid = yield from _look_for(driver, name)
        if aid:
            yield from _call(driver, aid, min(count, 10))
            if driver.rng.random() < 0.1:
                driver.kill(aid, no_restart=driver.rng.random() < 0.7)
        return
    index = NAMELESS + driver.rng.randrange(_CLASSES)
    aid, _ = yield from driver.create_named(index, name, get_if_exists=driver.rng.random() < 0.3)
    if not aid:
        return
    yield from _call(driver, aid, min(count, 10))
    yield Sleep(driver.rng.randrange(200 * MS_NS))
    yield from _look_for(driver, name)
    driver.let_go(aid)


class Cleaner(Driver):
    """The last program: it sees to it that everybody who should be there is, and ends them.

    Args:
        sim: the simulation.
        daemon: the head's.
    """

    def __init__(self, sim: "Simulation", daemon: "Daemon") -> None:
        super().__init__(sim, daemon, 0, [])
        self.done = False

    def welcomed(self) -> None:
        self.run(self._clean(), self._cleaned)

    def _clean(self) -> Scene:
        found = yield from self._list()
        self.sim.checkers.names.listed(found)
        while found:
            for name in found:
                aid = yield from _look_for(self, name)
                if aid:
                    yield from _call(self, aid, 2)
                    self.kill(aid, no_restart=True)
            yield Sleep(SECOND_NS)
            found = yield from self._list()

    def _list(self) -> Generator[Wanted, Any, list[str]]:
        _, rows = yield Ask(lambda req: (m.RPC, req, "list_named_actors", {"all_namespaces": True}))
        return [row["name"] for row in rows]

    def _cleaned(self, _: Any) -> None:
        self.done = True
        self.leave()
