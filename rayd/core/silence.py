"""What the head makes of nodes that say nothing.

A network that is cut for less than half a minute is to fail nothing, so it takes long until a node is taken for dead.
That something is wrong is noticed earlier: a node that has been silent for ``DOUBT_NS`` is given nothing new, and
people are told.
"""

from collections.abc import Iterable
from typing import Final

from rayd.core.member import Member

# A node says something every second, and what is wrong with one is to be noticed within ten.
DOUBT_NS: Final = 8_000_000_000
# A node that has said nothing for so long is taken for dead: by then it has ended itself, if it still runs.
SILENCE_NS: Final = 35_000_000_000


def unheard(members: Iterable[Member], now: int) -> tuple[list[Member], list[Member]]:
    """Members that are doubted from now on, and those that are taken for dead.

    Args:
        members: that live.
        now: in ns.
    """
    doubted, dead = [], []
    for member in members:
        silent = now - member.heard_at
        if silent > SILENCE_NS:
            dead.append(member)
        elif silent > DOUBT_NS and not member.silent:
            doubted.append(member)
    return doubted, dead


def told_silent(member: Member) -> str:
    """What people are told of a node that is doubted."""
    return (
        f"Nothing has been heard of {member.title()} for {DOUBT_NS // 1_000_000_000} s. It gets nothing new to do until"
        f" it is heard; after {SILENCE_NS // 1_000_000_000} s it is taken for dead, and its work begins anew elsewhere."
    )


def told_heard(member: Member) -> str:
    """What people are told when it is heard again."""
    return f"The {member.title()} is heard again."
