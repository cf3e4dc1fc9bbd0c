"""One row of the benchmark: its name, its unit, and the function that does and measures the work.

Rules of this folder: only the public interface of ``ray`` is used, so that the same files run under any environment's
``ray``; nothing of ``rayd`` is imported, because the other environment does not have it; what runs in a worker is
defined inside the row's function and uses nothing global, so that it travels by value.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from .measure import Bench

Better = Literal["more", "less"]

#: Logical CPUs of the session of most rows; also the number of processes of the pool they are compared with.
CPUS = 2
#: Logical CPUs for rows in which several processes submit or put at once.
CPUS_MANY_CLIENTS = 8
#: The seed programs say ``ray.init(num_cpus=4)``.
CPUS_SEEDS = 4


class WrongResultError(AssertionError):
    """The work of a row gave another result than the one that it must give."""


@dataclass(frozen=True, slots=True)
class Result:
    """What one run of a row measured.

    ``samples`` are in the row's unit. ``extras`` are further figures of the same run by name (a memcpy, a serial loop).
    """

    samples: Sequence[float]
    extras: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Row:
    """A row: ``measure`` runs inside a session of ``cpus`` logical CPUs (None: the row makes its own).

    ``better`` says whether a larger or a smaller figure is the better one. ``limit_s`` is the time that a child process
    may take for it. ``by_request_for_peers`` rows are too slow to be run on another environment unless they are named.
    """

    name: str
    unit: str
    better: Better
    cpus: int | None
    limit_s: float
    by_request_for_peers: bool
    measure: Callable[[Bench], Result]

    @property
    def about(self) -> str:
        """What the row does, in words."""
        return " ".join((self.measure.__doc__ or "").split())


def row(
    name: str,
    unit: str,
    *,
    better: Better = "more",
    cpus: int | None = CPUS,
    limit_s: float = 180.0,
    by_request_for_peers: bool = False,
) -> Callable[[Callable[[Bench], Result]], Row]:
    """Turn a measuring function into a Row."""

    def wrap(measure: Callable[[Bench], Result]) -> Row:
        return Row(name, unit, better, cpus, limit_s, by_request_for_peers, measure)

    return wrap


def check(*, holds: bool, what: str) -> None:
    """Raise WrongResultError unless the fetched result is right."""
    if not holds:
        raise WrongResultError(what)


def select(names: Iterable[str], patterns: Sequence[str]) -> list[str]:
    """The names that the patterns choose, in the order of ``names``; all of them when there is no pattern.

    A pattern that is a name chooses only it; one with ``*``, ``?`` or ``[`` is a shell pattern; any other chooses the
    names that contain it. Case does not matter. Raises LookupError for a pattern that chooses nothing.
    """
    known = list(names)
    if not patterns:
        return known
    chosen: set[str] = set()
    for pattern in patterns:
        matching = _matching(known, pattern.strip().lower())
        if not matching:
            message = f"no row matches {pattern!r}; the rows are: {', '.join(known)}"
            raise LookupError(message)
        chosen.update(matching)
    return [name for name in known if name in chosen]


def _matching(known: Sequence[str], pattern: str) -> list[str]:
    exact = [name for name in known if name.lower() == pattern]
    if exact:
        return exact
    if any(sign in pattern for sign in "*?["):
        return [name for name in known if fnmatch.fnmatchcase(name.lower(), pattern)]
    return [name for name in known if pattern in name.lower()]
