"""Scenes with streams: tasks and methods that yield, and who takes what they yield."""

from typing import TYPE_CHECKING, Any, Final

from rayd.core.streams import GENERATOR_INDEX
from rayd.ids import return_id
from rayd.sim.catalogue import METHOD_STREAM, SLOW_STREAM, STREAMS
from rayd.sim.program import Get, Scene
from rayd.sim.streaming import Next

if TYPE_CHECKING:
    from rayd.sim.driver import Driver

_LARGE: Final = 200_000
_RESTARTED: Final = 1


def _yields(driver: "Driver", *, may_crash: bool = True) -> list[Any]:
    """The arguments of something that yields."""
    what = ["", "", "", "fail", "retry", "crash"] if may_crash else ["", "", "fail"]
    run_us = driver.rng.choice([0, 50, 500, 2_000])
    size = driver.rng.choice([0, _LARGE])
    return ["yield", run_us, driver.rng.randrange(10), size, driver.rng.choice(what), 1]


def streams(driver: "Driver", count: int) -> Scene:
    """Streaming tasks, the items of which the driver takes one by one and uses, or drops before their end."""
    tids, users = [], []
    for _ in range(max(1, count // 5)):
        index = driver.rng.choice(STREAMS)
        if driver.rng.random() < 0.2:
            users.append(driver.submit(0, ["consume", 100, index, _yields(driver)]))
        else:
            tids.append((driver.submit(index, _yields(driver)), index))
    for tid, index in tids:
        if index != SLOW_STREAM and driver.rng.random() < 0.1:
            yield Get([return_id(tid, GENERATOR_INDEX)])
        yield from _take(driver, tid, users)
    yield Get(users)
    driver.drop(*users)


def _take(driver: "Driver", tid: bytes, users: list[bytes]) -> Scene:
    """Take the items of a stream, all or some."""
    early = driver.rng.random() < 0.2
    while oid := (yield Next(tid)):
        if driver.rng.random() < 0.3:
            yield Get([oid])
        if driver.rng.random() < 0.2:
            users.append(driver.submit(0, ["run", driver.run_us(), 0], deps=[oid]))
        driver.drop(oid)
        if early and driver.rng.random() < 0.3:
            break
    driver.streams.close(tid)


def actor_streams(driver: "Driver", count: int) -> Scene:
    """Methods that yield, among others that do not."""
    aid, _ = driver.create(driver.rng.choice([0, _RESTARTED]))
    refs, tids = [], []
    for _ in range(max(2, count // 5)):
        refs.append(driver.call(aid, 0, 100))
        more = _yields(driver, may_crash=False)[2:]
        tids.append(driver.call(aid, METHOD_STREAM, 100, more=more))
    for tid in tids:
        yield from _take(driver, tid, refs)
    yield Get(refs)
    driver.let_go(aid)
    driver.drop(*refs)
