"""Which node each bundle of a placement group goes to: pure, from what the nodes have free.

PACK and SPREAD are heuristics for a problem (vector bin packing) that has no quick exact solution; STRICT_PACK and
STRICT_SPREAD are exact.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from rayd.core.resources import Demand, Ledger

PACK: Final = "PACK"
SPREAD: Final = "SPREAD"
STRICT_PACK: Final = "STRICT_PACK"
STRICT_SPREAD: Final = "STRICT_SPREAD"
STRATEGIES: Final = (PACK, SPREAD, STRICT_PACK, STRICT_SPREAD)


def choose(
    strategy: str, bundles: Mapping[int, Demand], free: Mapping[int, Ledger], placed: Sequence[int] = ()
) -> dict[int, int] | None:
    """Find a node for each bundle.

    Args:
        strategy: one of ``STRATEGIES``.
        bundles: what to place, by index.
        free: what each node has free, by number; not changed.
        placed: nodes of the group's other bundles, which stay where they are.

    Returns:
        node number by index of the bundle, or None if there is no place for all of them.
    """
    scratch = {number: Ledger(ledger.available()) for number, ledger in free.items()}
    match strategy:
        case "STRICT_PACK":
            return _on_one(bundles, {n: free for n, free in scratch.items() if n in placed or not placed})
        case "STRICT_SPREAD":
            return _on_different(bundles, {n: free for n, free in scratch.items() if n not in placed})
        case "PACK":
            near = {n: free for n, free in scratch.items() if n in placed}
            return _on_one(bundles, near) or _on_one(bundles, scratch) or _on_few(bundles, scratch)
        case "SPREAD":
            return _on_many(bundles, scratch, placed) or choose(PACK, bundles, free, placed)
    raise ValueError(f"there is no strategy {strategy!r:.40}")


def together(bundles: Mapping[int, Demand]) -> Demand:
    """The sum of all bundles."""
    totals: dict[str, int] = {}
    for demand in bundles.values():
        for name, units in demand.items:
            totals[name] = totals.get(name, 0) + units
    return Demand.from_units(totals.items())


def _by_size(bundles: Mapping[int, Demand]) -> list[int]:
    """Indices, those hardest to place first."""
    return sorted(bundles, key=lambda index: (-sum(units for _, units in bundles[index].items), index))


def _on_one(bundles: Mapping[int, Demand], free: Mapping[int, Ledger]) -> dict[int, int] | None:
    """All on one node: on the one that then has the least left, so that large gaps stay large."""
    whole = together(bundles)
    fit = [number for number, ledger in free.items() if ledger.fits(whole)]
    if not fit:
        return None
    best = min(fit, key=lambda number: (sum(free[number].available().values()), number))
    return dict.fromkeys(bundles, best)


def _on_few(bundles: Mapping[int, Demand], free: Mapping[int, Ledger]) -> dict[int, int] | None:
    """Again and again the node on which most of what is left fits."""
    chosen: dict[int, int] = {}
    while len(chosen) < len(bundles):
        rest = {index: demand for index, demand in bundles.items() if index not in chosen}
        options = {number: _fill(rest, ledger) for number, ledger in free.items() if number not in chosen.values()}
        best = max(options, key=lambda number: (len(options[number]), -number), default=None)
        if best is None or not options[best]:
            return None
        chosen |= dict.fromkeys(options[best], best)
    return chosen


def _fill(bundles: Mapping[int, Demand], ledger: Ledger) -> list[int]:
    """Indices of the bundles that fit on one node together, found by taking one after the other."""
    scratch = Ledger(ledger.available())
    found = []
    for index in _by_size(bundles):
        if scratch.fits(bundles[index]):
            scratch.take(bundles[index])
            found.append(index)
    return found


def _on_many(bundles: Mapping[int, Demand], free: Mapping[int, Ledger], placed: Sequence[int]) -> dict[int, int] | None:
    """Each on the node that has the fewest of them yet."""
    counts = dict.fromkeys(free, 0)
    for number in placed:
        if number in counts:
            counts[number] += 1
    chosen: dict[int, int] = {}
    for index in _by_size(bundles):
        fit = [number for number, ledger in free.items() if ledger.fits(bundles[index])]
        if not fit:
            return None
        best = min(fit, key=lambda number: (counts[number], -sum(free[number].available().values()), number))
        free[best].take(bundles[index])
        counts[best] += 1
        chosen[index] = best
    return chosen


def _on_different(bundles: Mapping[int, Demand], free: Mapping[int, Ledger]) -> dict[int, int] | None:
    """Each on a node of its own: a matching, found by augmenting paths (Kuhn 1955)."""
    holder: dict[int, int] = {}

    def place(index: int, seen: set[int]) -> bool:
        for number in free:
            if number not in seen and free[number].fits(bundles[index]):
                seen.add(number)
                if number not in holder or place(holder[number], seen):
                    holder[number] = index
                    return True
        return False

    if not all(place(index, set()) for index in _by_size(bundles)):
        return None
    return {index: number for number, index in holder.items()}
