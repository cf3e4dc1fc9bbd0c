"""What drivers do: seeded programs of tasks, actors, objects and groups."""

from typing import Any, Final

from rayd.sim.catalogue import NAMELESS
from rayd.sim.driver import Driver, Scenes
from rayd.sim.name_scenes import names
from rayd.sim.options import MS_NS
from rayd.sim.process import contained_in
from rayd.sim.program import Ask, Get, Scene, Sleep
from rayd.sim.stream_scenes import actor_streams, streams
from rayd.wire import messages as m

_PLAIN: Final = 0
_SPREAD: Final = 6
_LARGE: Final = 200_000


def fan_out(driver: Driver, count: int) -> Scene:
    """Many independent tasks."""
    index, run_us = driver.task_index(), driver.run_us()
    refs = [driver.submit(index, ["run", run_us, 0]) for _ in range(count)]
    yield Get(refs)
    driver.drop(*refs)


def mixture(driver: Driver, count: int) -> Scene:
    """Tasks of all sorts, some of which fail or crash."""
    refs = []
    for _ in range(count):
        what: list[list[Any]] = [["run", driver.run_us(), 0]] * 6
        what += [["fail", 100, 0], ["fail", 100, 2], ["crash", 100, 1]]
        refs.append(driver.submit(driver.task_index(), driver.rng.choice(what)))
    yield Get(refs)
    driver.drop(*refs)


def chain(driver: Driver, count: int) -> Scene:
    """Each task has the result of the one before as its argument, some of them large."""
    refs: list[bytes] = []
    for _ in range(count):
        size = driver.rng.choice([0, 0, _LARGE])
        refs.append(driver.submit(driver.task_index(), ["run", driver.run_us(), size], refs[-1:]))
    yield Get(refs[-1:])
    if driver.rng.random() < 0.5:
        yield Get(refs)
    driver.sim.checkers.calls.forgives(driver, refs)
    driver.drop(*refs)


def large(driver: Driver, count: int) -> Scene:
    """Large objects that tasks make or the driver puts, and tasks that take some of them."""
    refs = []
    for _ in range(max(1, count // 3)):
        if driver.rng.random() < 0.3:
            oid = yield from driver.store(_LARGE)
            refs += [oid] if oid else []
        else:
            refs.append(driver.submit(driver.task_index(), ["run", driver.run_us(), _LARGE]))
    users = []
    for _ in range(count - len(refs)):
        taken = driver.rng.sample(refs, min(len(refs), 3))
        if driver.rng.random() < 0.5:
            users.append(driver.submit(driver.task_index(), ["run", driver.run_us(), 0], deps=taken))
        else:
            users.append(driver.submit(_PLAIN, ["open", driver.run_us()], inner=taken))
    if driver.rng.random() < 0.5:
        yield Get(refs)
    driver.sim.checkers.calls.forgives(driver, refs)
    driver.drop(*refs)
    yield Get(users)
    driver.drop(*users)


def nest(driver: Driver, count: int) -> Scene:
    """Tasks that submit tasks and wait for them."""
    refs = []
    for _ in range(max(1, count // 4)):
        children = [[driver.task_index(), ["run", driver.run_us(), 0]] for _ in range(driver.rng.randrange(1, 5))]
        if driver.rng.random() < 0.3:
            children = [[_PLAIN, ["nest", 100, children]]]
        refs.append(driver.submit(_PLAIN, ["nest", driver.run_us(), children]))
    yield Get(refs)
    driver.drop(*refs)


def references(driver: Driver, count: int) -> Scene:
    """Results that contain references, passed on to tasks that read them."""
    refs = [driver.submit(_SPREAD, ["refs", 100, 3, _LARGE]) for _ in range(max(1, count // 2))]
    users = [driver.submit(_SPREAD, ["open", 100], inner=[ref]) for ref in refs]
    kept: list[bytes] = []
    if driver.rng.random() < 0.5:
        results = yield Get(refs)
        kept = [oid for kind, data in results for oid in contained_in(kind, data)[:1]]
        for oid in kept:
            driver.refer(oid)
    driver.sim.checkers.calls.forgives(driver, refs)
    driver.drop(*refs)
    yield Get(users)
    driver.drop(*users)
    yield Sleep(MS_NS)
    yield Get(kept)
    driver.drop(*kept)


def actors(driver: Driver, count: int) -> Scene:
    """An actor that the driver and tasks call."""
    aid, handle = driver.create(driver.rng.randrange(NAMELESS))
    if driver.rng.random() < 0.3:
        yield Get([handle])
    refs: list[bytes] = []
    while len(refs) < count:
        run_us = driver.rng.choice([0, 100, 1_000])
        if driver.rng.random() < 0.2:
            refs.append(driver.submit(_PLAIN, ["call", run_us, aid, 3], inner=[handle]))
        else:
            refs.append(
                driver.call(aid, driver.rng.randrange(2), run_us, refs[-1:] if driver.rng.random() < 0.1 else [])
            )
        if driver.rng.random() < 0.02:
            driver.kill(aid, no_restart=driver.rng.random() < 0.5)
        if driver.rng.random() < 0.1:
            yield Sleep(driver.rng.randrange(20 * MS_NS))
    if driver.rng.random() < 0.5:
        driver.let_go(aid)
        yield Get(refs)
    else:
        yield Get(refs)
        driver.let_go(aid)
    driver.drop(*refs)


def cancels(driver: Driver, count: int) -> Scene:
    """Tasks that are cancelled, before or while they run."""
    refs = [driver.submit(driver.task_index(), ["run", driver.run_us(), 0]) for _ in range(count)]
    yield Sleep(driver.rng.randrange(20 * MS_NS))
    for ref in refs:
        if driver.rng.random() < 0.5:
            driver.cancel(ref, force=driver.rng.random() < 0.3, recursive=driver.rng.random() < 0.5)
    yield Get(refs)
    driver.drop(*refs)


def group(driver: Driver, count: int) -> Scene:
    """A placement group, tasks in it, and its end, perhaps under them."""
    gid = driver.new_id()[:6] + driver.pid.to_bytes(8, "big") + driver.job
    bundles = [{"CPU": 1}] * driver.rng.randrange(1, 3)
    strategy = driver.rng.choice(["PACK", "SPREAD"])
    params = {"group_id": gid, "bundles": bundles, "strategy": strategy}
    ok, why = yield Ask(lambda req: (m.RPC, req, "group_create", params))
    if not ok:
        driver.sim.checkers.group_failed(why)
        return
    ready = driver.new_id() + b"\x01\x00\x00\x00"
    driver.held[ready] = 1
    driver.say((m.PUT_WHEN, ready, gid, b"v" + ready))
    yield Get([ready])
    place: dict[str, Any] = {"placement_group": gid, "bundle": driver.rng.randrange(-1, len(bundles))}
    refs = [driver.submit(_PLAIN, ["run", driver.run_us(), 0], **place) for _ in range(count)]
    if driver.rng.random() < 0.7:
        yield Get(refs)
    driver.sim.checkers.causes.removes(gid)
    yield Ask(lambda req: (m.RPC, req, "group_remove", {"group_id": gid}))
    yield Get(refs)
    driver.drop(ready, *refs)


SCENES: Final[Scenes] = [
    (fan_out, 6),
    (mixture, 4),
    (chain, 2),
    (large, 3),
    (nest, 3),
    (references, 2),
    (actors, 5),
    (cancels, 1),
    (group, 1),
    (streams, 3),
    (actor_streams, 1),
    (names, 4),
]
