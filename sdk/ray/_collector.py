"""Functions of ours that Python calls when an object dies: at any moment, between any two steps of the program.

What they raise is printed and forgotten, so a signal handler that wants to raise (Ctrl-C, ``ray.cancel``) must not do
so while one of them runs: it asks ``within`` and lets the signal come again.
"""

from collections.abc import Callable
from types import CodeType, FrameType
from typing import Final, TypeVar

_Function = TypeVar("_Function", bound=Callable[..., object])

_CODE: Final[set[CodeType]] = set()
# Depth of the calls below any of them, the start of a thread included.
_FRAMES_MAX: Final = 8


def at_an_end(function: _Function) -> _Function:
    """Mark a function, as a decorator, that is only called when an object dies."""
    _CODE.add(function.__code__)
    return function


def within(frame: FrameType | None) -> bool:
    """Whether the code that a signal has interrupted is such a function, or was called by one."""
    for _ in range(_FRAMES_MAX):
        if frame is None:
            return False
        if frame.f_code in _CODE:
            return True
        frame = frame.f_back
    return False
