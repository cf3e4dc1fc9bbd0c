"""What each row must show at least, and the verdict on what it showed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from rayd.bench.figures import in_digits


@dataclass(frozen=True, slots=True)
class Limit:
    """An absolute bound on a figure of our own run: the row's value (``figure=""``) or one of its extras."""

    figure: str
    sign: Literal[">=", "<="]
    bound: float

    def holds(self, value: float) -> bool:
        """Whether the figure keeps the bound."""
        return value >= self.bound if self.sign == ">=" else value <= self.bound


@dataclass(frozen=True, slots=True)
class Floor:
    """At least this many times better than Ray, than the process pool, and bounds of our own; None: no floor."""

    ray: float | None = None
    pool: float | None = None
    limits: tuple[Limit, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """One floor against one figure: ``text`` says both, ``kept`` whether the floor was reached."""

    text: str
    kept: bool


NO_FLOOR = Floor()

#: A share of the rate of fewer tasks that is within the spread of two runs of the same work.
NO_SLOWDOWN = 0.9

FLOORS: Mapping[str, Floor] = {
    "single client tasks sync": Floor(ray=8, pool=1),
    "single client tasks async": Floor(ray=12, pool=1),
    "single client tasks and get batch": Floor(ray=12, pool=1),
    "multi client tasks async": Floor(ray=10),
    "wait 1k refs": Floor(ray=15),
    "1:1 actor calls sync": Floor(ray=5, pool=1),
    "1:1 actor calls async": Floor(ray=6, pool=1),
    "1:1 actor calls concurrent": Floor(ray=6),
    "1:n actor calls async": Floor(ray=5),
    "n:n actor calls async": Floor(ray=5),
    "n:n actor calls with arg async": Floor(ray=15),
    "1:1 async-actor calls sync": Floor(ray=6),
    "1:1 async-actor calls async": Floor(ray=8),
    "1:1 async-actor calls with args async": Floor(ray=8),
    "1:n async-actor calls async": Floor(ray=8),
    "n:n async-actor calls async": Floor(ray=8),
    "single client get calls": Floor(ray=8),
    "single client put calls": Floor(ray=15),
    "multi client put calls": Floor(ray=15),
    "single client put GB/s": Floor(ray=3, limits=(Limit("memcpy_share", ">=", 0.65),)),
    "multi client put GB/s": Floor(ray=1),
    "get object containing 10k refs": Floor(ray=3),
    "startup: ray.init and first task": Floor(ray=12),
    "actors ready (40 new)": Floor(ray=40),
    "memory per idle worker (PSS)": Floor(ray=4, limits=(Limit("", "<=", 12.0),)),
    "seed: 100k tiny_work": Floor(limits=(Limit("speedup", ">=", 2.5),)),
    "seed: 10 arrays of 160 MB by value": Floor(limits=(Limit("times_memcpy", "<=", 3.0),)),
    "1M queued no-op tasks": Floor(limits=(Limit("share_of_10k", ">=", NO_SLOWDOWN),)),
    "memory per queued task": Floor(limits=(Limit("", "<=", 1024.0),)),
    "two nodes: tasks sync": Floor(ray=6),
    "two nodes: tasks async": Floor(ray=10),
    "two nodes: get of 100 MB from the other": Floor(ray=1.5, limits=(Limit("share_of_tcp", ">=", 0.7),)),
    "two nodes: a node joins": Floor(limits=(Limit("", "<=", 0.5),)),
    "two nodes: placement group create/remove": Floor(ray=4),
    "placement groups create/remove": Floor(ray=4),
    "remote driver: get calls": Floor(ray=3),
    "remote driver: put calls": Floor(ray=10),
    "remote driver: put GB/s": Floor(ray=5),
}


def verdicts(
    floor: Floor,
    value: float | None,
    extras: Mapping[str, float],
    times_ray: float | None,
    times_pool: float | None,
) -> list[Verdict]:
    """Every floor whose figure was measured, in the order Ray, pool, own limits."""
    found: list[Verdict] = []
    for name, least, times in (("ray", floor.ray, times_ray), ("pool", floor.pool, times_pool)):
        if least is not None and times is not None:
            found.append(Verdict(f"{in_digits(times)} x {name}, floor {in_digits(least)}", times >= least))
    for limit in floor.limits:
        figure = extras.get(limit.figure) if limit.figure else value
        if figure is not None:
            name = limit.figure or "value"
            text = f"{name} {in_digits(figure)}, must be {limit.sign} {in_digits(limit.bound)}"
            found.append(Verdict(text, limit.holds(figure)))
    return found
