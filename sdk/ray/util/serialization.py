"""Serializers that the user registers for classes which pickle cannot handle or handles badly.

The registry is process-wide on purpose: it must be filled before the first object of the class is serialized, which can
be before ``ray.init``. A serializer registered in the driver is known in a worker only if the worker runs the
registration too or receives an object of the class: the deserializer travels with the object.
"""

from collections.abc import Callable
from typing import Any

# Read by the SDK's pickler: class -> (serializer, deserializer).
_CUSTOM: dict[type, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {}


def register_serializer(cls: type, *, serializer: Callable[[Any], Any], deserializer: Callable[[Any], Any]) -> None:
    """Serialize objects of exactly ``cls`` with ``serializer`` from now on, replacing an earlier registration.

    Args:
        cls: the class; subclasses are not affected.
        serializer: turns an object into something that pickles.
        deserializer: turns that back into an equal object; must itself be picklable.

    Raises:
        TypeError: ``cls`` is no class, or one of the functions cannot be called.
    """
    if not isinstance(cls, type):
        raise TypeError(
            f"register_serializer takes a class, got {cls!r} of type {type(cls).__name__}; pass the class itself"
        )
    for name, function in (("serializer", serializer), ("deserializer", deserializer)):
        if not callable(function):
            raise TypeError(
                f"{name} must be a function of one argument, got {function!r} of type {type(function).__name__}"
            )
    _CUSTOM[cls] = (serializer, deserializer)


def deregister_serializer(cls: type) -> None:
    """Forget the serializer of ``cls``; does nothing when there is none."""
    _CUSTOM.pop(cls, None)
