"""Amounts that are given out together: those of a node, or those of one bundle of a placement group."""

from collections.abc import Iterable, Mapping, Sequence

from rayd.core.resources import Demand, GpuSlots, Ledger, to_units


class Allotment:
    """A ledger, and which GPUs belong to it.

    Args:
        total: name -> amount as users write it.
        gpus: indices of its GPUs; counted from 0 if not given.

    Raises:
        ValueError, TypeError: an amount makes no sense, as ``to_units`` says.
    """

    __slots__ = ("gpus", "ledger")

    def __init__(self, total: Mapping[str, float], gpus: Sequence[int] | None = None) -> None:
        self.ledger = Ledger(total)
        self.gpus = GpuSlots(to_units("GPU", total.get("GPU", 0)), gpus)

    def fits(self, demand: Demand) -> bool:
        """Whether everything asked for is free now."""
        return self.ledger.fits(demand) and (not demand.gpus or self.gpus.fits(demand.gpus))

    def take(self, demand: Demand) -> list[int]:
        """Take what ``fits`` said is free; returns the indices of the GPUs among it."""
        self.ledger.take(demand)
        return self.gpus.take(demand.gpus) if demand.gpus else []

    def give(self, demand: Demand, gpus: Iterable[int]) -> None:
        """Give back what ``take`` took and returned."""
        self.ledger.give(demand)
        if demand.gpus:
            self.gpus.give(gpus, demand.gpus)

    def part(self, demand: Demand, gpus: Sequence[int]) -> "Allotment":
        """What was taken from this one, as an allotment of its own."""
        return Allotment(demand.to_floats(), gpus)


def fitting(sources: Iterable[Allotment], *demands: Demand) -> Allotment | None:
    """The first of ``sources`` into which each of the demands fits for itself."""
    for source in sources:
        for demand in demands:
            if not source.fits(demand):
                break
        else:
            return source
    return None
