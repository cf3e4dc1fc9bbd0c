"""Resource amounts: whole numbers inside, and the ledger of what one node still has.

Amounts are counted in units of 1/10 000, so a thousand tenths add up to a hundred and nothing drifts. What is available
is never negative: a worker that comes back for a CPU that was lent out meanwhile gets what is there and books the rest
as *debt*, and what is given back pays debt first.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import ClassVar, Final, Self
from weakref import WeakValueDictionary

UNITS_PER_ONE: Final = 10_000
CPU: Final = "CPU"
GPU: Final = "GPU"
# What asks for nothing fits any number of times; so many at a time are enough for one node.
TIMES_MAX: Final = 8

_UNITS_MAX: Final = (1 << 63) - 1  # what a message can carry


class LedgerError(AssertionError):
    """The books do not balance: somebody took what did not fit or gave back what was not taken; a bug in rayd."""


def to_units(name: str, amount: float) -> int:
    """`amount` of the resource `name` in units of 1/10 000.

    Raises ValueError, naming the resource and the remedy, for an amount that is negative, not finite, finer than
    0.0001, too large for a message, or for more than one GPU that is not whole; TypeError for what is no real number.
    """
    given: object = amount  # options come from users, whom no type checker stops
    if not isinstance(given, Real):
        kind = type(given).__name__
        raise TypeError(f"{name}={amount!r}: a resource amount is a number, not {kind}; pass {name}=1, say")
    if not math.isfinite(amount):
        raise ValueError(f"{name}={amount}: a resource amount is finite; pass the amount that is really needed")
    if amount < 0:
        raise ValueError(f"{name}={amount}: a resource amount cannot be negative; pass 0 or more")
    if amount == int(amount):
        units = int(amount) * UNITS_PER_ONE  # exact, also for bytes of memory beyond the precision of a float
    else:
        scaled = float(amount) * UNITS_PER_ONE
        units = round(scaled)
        if abs(scaled - units) > _noise(scaled):
            nearest = max(units, 1) / UNITS_PER_ONE
            raise ValueError(f"{name}={amount}: the smallest step of a resource is 0.0001; pass {nearest}")
        if name == GPU and amount > 1:
            whole = int(amount)
            raise ValueError(
                f"{name}={amount}: more than one GPU is given out in whole GPUs only; pass {whole} or {whole + 1}, "
                f"or less than 1 to share one"
            )
    if units > _UNITS_MAX:
        raise ValueError(
            f"{name}={amount}: the largest amount is {_UNITS_MAX // UNITS_PER_ONE}; count in a larger unit"
        )
    return units


def _noise(scaled: float) -> float:
    """How far arithmetic may have moved `scaled` from a whole number of units without anybody meaning it.

    A millionth covers 0.1 + 0.2 and single precision, at most a thousandth of a unit; a billionth covers a third of the
    memory in bytes.
    """
    return max(min(scaled * 1e-6, 1e-3), scaled * 1e-9)


class Demand:
    """What a task, an actor or a bundle asks for: immutable, hashable, one object for equal contents at any time.

    `items` are (name, units) pairs sorted by name, without zeros. Make one with `of` or `from_units`.
    """

    __slots__ = ("__weakref__", "_hash", "gpus", "items")

    # Holds nothing alive and changes no answer: it only saves memory and lets comparison end at identity.
    _interned: ClassVar[WeakValueDictionary[tuple[tuple[str, int], ...], "Demand"]] = WeakValueDictionary()

    items: tuple[tuple[str, int], ...]
    gpus: int  # units of GPU

    def __new__(cls, items: tuple[tuple[str, int], ...]) -> Self:
        """For `of` and `from_units`, which sort and check."""
        demand = object.__new__(cls)
        object.__setattr__(demand, "items", items)
        object.__setattr__(demand, "_hash", hash(items))
        object.__setattr__(demand, "gpus", dict(items).get(GPU, 0))
        return demand

    @classmethod
    def of(cls, amounts: Mapping[str, float]) -> "Demand":
        """The demand for `amounts` (name -> amount as users write it). Raises as `to_units` does."""
        return cls.from_units((name, to_units(name, amount)) for name, amount in amounts.items())

    @classmethod
    def from_units(cls, items: Iterable[tuple[str, int]]) -> "Demand":
        """The demand for `items` (name, units), in any order.

        Raises ValueError for negative units or a name given twice.
        """
        key = tuple(sorted((name, units) for name, units in items if units))
        found = cls._interned.get(key)
        if found is not None:
            return found
        if any(units < 0 for _, units in key):
            raise ValueError(f"a demand has no negative units: {dict(key)}")
        if len({name for name, _ in key}) < len(key):
            raise ValueError(f"a demand names each resource once: {key}")
        made = cls(key)
        cls._interned[key] = made
        return made

    def units(self, name: str) -> int:
        """Units of `name`, 0 if it is not asked for."""
        for mine, units in self.items:
            if mine == name:
                return units
        return 0

    def only(self, name: str) -> "Demand":
        """The part of this demand that concerns `name`: what a worker lends out (its CPU) while it waits."""
        return Demand.from_units(item for item in self.items if item[0] == name)

    def to_floats(self) -> dict[str, float]:
        """Name -> amount, as users write it."""
        return {name: units / UNITS_PER_ONE for name, units in self.items}

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Demand cannot change (tried to set {name}); make a new one with Demand.of")

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return self.items == other.items if isinstance(other, Demand) else NotImplemented

    def __hash__(self) -> int:
        return self._hash  # type: ignore[attr-defined, no-any-return]

    def __bool__(self) -> bool:
        return bool(self.items)

    def __reduce__(self) -> tuple[object, ...]:
        return Demand.from_units, (self.items,)

    def __repr__(self) -> str:
        return f"<Demand {self.to_floats()}>"


class Ledger:
    """What a node has, what of it is free, and what is owed.

    Arguments: `total`, name -> amount as users write it. Raises as `to_units` does.
    """

    __slots__ = ("_debt", "_free", "_total")

    def __init__(self, total: Mapping[str, float]) -> None:
        self._total = {name: units for name, amount in total.items() if (units := to_units(name, amount))}
        self._free = dict(self._total)  # the same names always; 0 <= free <= total
        self._debt: dict[str, int] = {}  # units taken beyond the total; what is owed is never free at the same time

    def fits(self, demand: Demand) -> bool:
        """Whether everything asked for is free now."""
        free = self._free
        for name, units in demand.items:  # noqa: SIM110 - a generator would cost three times as much here
            if free.get(name, 0) < units:
                return False
        return True

    def fits_beside(self, demand: Demand, kept: Demand) -> bool:
        """Whether everything asked for is free now, and enough is left for another demand, or as much as there is."""
        return all(self._free.get(name, 0) - kept.units(name) >= units for name, units in demand.items)

    def units_free(self, name: str) -> int:
        """Units of a resource that are free, less those that are owed."""
        return self._free.get(name, 0) - self._debt.get(name, 0)

    def take(self, demand: Demand) -> None:
        """Take what `fits` said is free. Raises LedgerError, with nothing taken, if it does not fit."""
        if not self.fits(demand):
            raise LedgerError(f"cannot take {demand.to_floats()}: only {self.available()} is free")
        free = self._free
        for name, units in demand.items:
            free[name] -= units

    def force_take(self, demand: Demand) -> None:
        """Take what is there of each resource and owe the rest: for a worker that goes on after its CPU was lent out.

        Raises LedgerError, with nothing taken, for a resource this node does not have, since nobody can have lent that
        out.
        """
        free = self._free
        for name, _ in demand.items:
            if name not in free:
                raise LedgerError(f"cannot take {demand.to_floats()}: this node has no {name}")
        for name, units in demand.items:
            there = min(units, free[name])
            free[name] -= there
            if units > there:
                self._debt[name] = self._debt.get(name, 0) + units - there

    def give(self, demand: Demand) -> None:
        """Give back what `take` or `force_take` took; debt is paid first.

        Raises LedgerError, with nothing given, if that would be more than was taken.
        """
        free, total = self._free, self._total
        for name, units in demand.items:
            if free.get(name, 0) - self._debt.get(name, 0) + units > total.get(name, 0):
                raise LedgerError(f"cannot give back {demand.to_floats()}: that is more {name} than was taken")
        for name, units in demand.items:
            free[name] += self._pay(name, units) if self._debt else units

    def can_ever_fit(self, demand: Demand) -> list[tuple[str, float, float]]:
        """What this node lacks even when idle: (name, asked, total) of each missing resource; empty if none is."""
        return [
            (name, units / UNITS_PER_ONE, self._total.get(name, 0) / UNITS_PER_ONE)
            for name, units in demand.items
            if units > self._total.get(name, 0)
        ]

    def times(self, demand: Demand) -> int:
        """How often a demand fits into what is free now; one for nothing, ``TIMES_MAX``."""
        found = TIMES_MAX
        for name, units in demand.items:  # a generator would cost twice as much here
            times = self._free.get(name, 0) // units
            found = min(found, times)
        return found

    def part(self, name: str, units: int) -> float:
        """How large a part of all there is of a resource some units of it are, 0 to 1."""
        total = self._total.get(name, 0)
        return units / total if total else 0.0

    def used(self, totals: "Ledger", demand: Demand) -> float:
        """The largest part in use of anything that a demand asks for, 0 to 1, if this ledger says what is free.

        Args:
            totals: what there is in all.
            demand: whose resources count; of one for nothing, CPU.
        """
        names = [name for name, _ in demand.items] or [CPU]
        parts = [1 - self._free.get(name, 0) / total for name in names if (total := totals._total.get(name, 0))]
        return max(parts, default=0.0)

    def available(self) -> dict[str, float]:
        """Name -> free amount; what is used up is left out."""
        return {name: units / UNITS_PER_ONE for name, units in self._free.items() if units}

    def available_beside(self, kept: Demand) -> dict[str, float]:
        """The same, if some of it is kept for somebody."""
        left = {name: units - kept.units(name) for name, units in self._free.items()}
        return {name: units / UNITS_PER_ONE for name, units in left.items() if units > 0}

    def totals(self) -> dict[str, float]:
        """Name -> amount this node has."""
        return {name: units / UNITS_PER_ONE for name, units in self._total.items()}

    def units(self) -> dict[str, int]:
        """What is free now, in units, to be compared with later by ``is_as``."""
        return dict(self._free)

    def is_as(self, units: Mapping[str, int]) -> bool:
        """Whether exactly that is free now."""
        return self._free == units

    def in_debt(self) -> bool:
        """Whether anything is owed."""
        return bool(self._debt)

    def debt(self) -> dict[str, float]:
        """Name -> amount owed; empty most of the time."""
        return {name: units / UNITS_PER_ONE for name, units in self._debt.items()}

    def check(self) -> None:
        """Raise LedgerError naming the first broken invariant."""
        if list(self._free) != list(self._total):
            raise LedgerError("ledger invariant broken: free and total name the same resources")
        for name, units in self._free.items():
            if not 0 <= units <= self._total[name]:
                raise LedgerError(f"ledger invariant broken: {name} has {units} units free of {self._total[name]}")
        for name, units in self._debt.items():
            if units <= 0 or self._free[name]:
                raise LedgerError(f"ledger invariant broken: {name} owes {units} units with {self._free[name]} free")

    def __repr__(self) -> str:
        return f"<Ledger available {self.available()} of {self.totals()}, debt {self.debt()}>"

    def _pay(self, name: str, units: int) -> int:
        """Pay debt of `name` with `units`; returns what is left over."""
        owed = self._debt.get(name, 0)
        if units < owed:
            self._debt[name] = owed - units
            return 0
        self._debt.pop(name, None)
        return units - owed


class GpuSlots:
    """Which GPUs, by index, go to whom: whole ones for one and more, a share of one for less than one.

    The ledger counts GPUs, this knows which: two half-used GPUs are one free in the ledger, yet hold no whole one. A
    GPU demand must fit both. Arguments: `total_units` of GPU; a fraction at the end makes one partial GPU; `indices` of
    them, counted from 0 if not given.
    """

    __slots__ = ("_free", "_sizes")

    def __init__(self, total_units: int, indices: Sequence[int] | None = None) -> None:
        whole, rest = divmod(total_units, UNITS_PER_ONE)
        sizes = [UNITS_PER_ONE] * whole + ([rest] if rest else [])
        self._sizes = dict(zip(range(len(sizes)) if indices is None else indices, sizes, strict=True))
        self._free = dict(self._sizes)

    def fits(self, units: int) -> bool:
        """Whether `take` would find GPUs for `units`."""
        return units == 0 or bool(self._find(units))

    def take(self, units: int) -> list[int]:
        """Assign GPUs for `units` and return their indices, ascending; empty for 0 units.

        A share comes from the fullest GPU that still has room, so that whole ones stay whole. Raises LedgerError if
        `fits` is false.
        """
        if units == 0:
            return []
        found = self._find(units)
        if not found:
            raise LedgerError(f"cannot assign {units / UNITS_PER_ONE} GPU: free shares are {self.shares()}")
        for index in found:
            self._free[index] -= min(units, UNITS_PER_ONE)
        return found

    def give(self, indices: Iterable[int], units: int) -> None:
        """Give back the `indices` that `take(units)` returned.

        Raises LedgerError, with nothing given, if they were not taken.
        """
        given, share = list(indices), min(units, UNITS_PER_ONE)
        if len(given) != len(dict.fromkeys(given)):
            raise LedgerError(f"cannot give back GPUs {given}: one is named twice")
        for index in given:
            if index not in self._sizes or self._free[index] + share > self._sizes[index]:
                raise LedgerError(f"cannot give back {share / UNITS_PER_ONE} of GPU {index}: that much was not taken")
        for index in given:
            self._free[index] += share

    def shares(self) -> list[float]:
        """The free share of each GPU, by index."""
        return [units / UNITS_PER_ONE for units in self._free.values()]

    def check(self) -> None:
        """Raise LedgerError naming the first broken invariant."""
        for index, free in self._free.items():
            if not 0 <= free <= self._sizes[index]:
                size = self._sizes[index]
                raise LedgerError(f"GPU invariant broken: GPU {index} has {free} units free of {size}")

    def __repr__(self) -> str:
        return f"<GpuSlots free {self.shares()}>"

    def _find(self, units: int) -> list[int]:
        free = self._free
        if units >= UNITS_PER_ONE:
            count, rest = divmod(units, UNITS_PER_ONE)
            whole = [index for index, there in free.items() if there == UNITS_PER_ONE]
            return whole[:count] if not rest and len(whole) >= count else []
        holding = [(there, index) for index, there in free.items() if there >= units]
        return [min(holding)[1]] if holding else []
