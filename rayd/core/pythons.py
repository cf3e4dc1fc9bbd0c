"""Which versions of Python the nodes of a cluster have: functions cannot travel from one minor version to another."""

from collections import Counter

from rayd.core.member import Member


class Pythons:
    """How many living nodes have each minor version.

    Args:
        mine: of this node; "" if it does not tell.
    """

    def __init__(self, mine: str) -> None:
        self._counts = Counter([mine] if mine else [])
        self._of: dict[int, str] = {}  # of the other nodes, by number

    def note(self, member: Member) -> None:
        """Another node has come or gone."""
        former = self._of.pop(member.number, "")
        if former:
            self._counts[former] -= 1
            if not self._counts[former]:
                del self._counts[former]
        if member.alive and member.python:
            self._of[member.number] = member.python
            self._counts[member.python] += 1

    def differ_from(self, python: str) -> bool:
        """Whether there is a node that cannot run a program of this version; of none, any node can."""
        return bool(python) and any(other != python for other in self._counts)
