"""Large arrays that are passed by value again and again are stored once.

An array is recognised by identity and then compared with the stored copy, so one that was changed in between is stored
anew: passing by value keeps its meaning. A comparison reads at memory speed and needs no room, a copy writes and does.
"""

import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ray._collector import at_an_end
from ray._refs import ObjectRef
from ray._serialize import serialize

if TYPE_CHECKING:
    from ray._client import Client

# Stored copies are kept while their array lives, for at most this many arrays.
_KEPT_MAX: Final = 8


class _Known(NamedTuple):
    """A stored array.

    Attributes:
        array: weak, so that only the user keeps it alive.
        ref: the stored copy.
        start: where in it the array's bytes begin.
        form: shape, type and strides.
        mark: what the store makes of the bytes to know them again; None where it compares them themselves.
    """

    array: Any
    ref: ObjectRef[Any]
    start: int
    form: tuple[Any, ...]
    mark: bytes | None


class Repeats:
    """The arrays a process has passed lately.

    Args:
        client: where they are stored.
    """

    def __init__(self, client: "Client") -> None:
        self._client = client
        self._known: OrderedDict[int, _Known] = OrderedDict()

    def reference(self, array: Any) -> ObjectRef[Any]:
        """A reference to the array's present contents."""
        key = id(array)
        known = self._known.get(key)
        if known is not None and known.array() is array and self._unchanged(array, known):
            self._known.move_to_end(key)
            return known.ref
        packed = serialize(array, "an argument")
        self._known.pop(key, None)
        if len(self._known) >= _KEPT_MAX:
            self._known.popitem(last=False)
        ref = self._client.put_serialized(packed)
        if len(packed.parts) == 2:
            alive = weakref.ref(array, self._forgetting(key))
            mark = self._client.store.mark(memoryview(packed.parts[1]))
            self._known[key] = _Known(alive, ref, packed.starts[1], _form(array), mark)
        return ref

    def _forgetting(self, key: int) -> Callable[[Any], None]:
        @at_an_end
        def forget(_: Any) -> None:
            self._known.pop(key, None)

        return forget

    def _unchanged(self, array: Any, known: _Known) -> bool:
        if _form(array) != known.form:
            return False
        flat = memoryview(array.reshape(-1, order="A").view("u1"))
        store = self._client.store
        if known.mark is not None:
            return store.mark(flat) == known.mark
        return store.holds(known.ref, known.start, flat)

    def clear(self) -> None:
        """Let go of all stored copies."""
        self._known.clear()


def _form(array: Any) -> tuple[Any, ...]:
    return array.shape, array.dtype, array.strides
