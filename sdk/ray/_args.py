"""Arguments of a call to bytes and back.

The payload is a pickled tuple when there are only positional values, else a dict: ``a`` positional, ``k`` by keyword,
``s`` the places (index or keyword) where the values of top-level references belong, in the order of the message's deps.
Large arrays given by value are stored once and then passed like references, see ``_repeats``.
"""

import pickle
from typing import Any, Final

from ray._client import Client, foreign
from ray._refs import ObjectRef
from ray._serialize import serialize
from rayd.wire.messages import INLINE_BYTES_MAX

_PLAIN: Final = frozenset({int, float, bool, type(None), str, bytes})
# An argument of at least this size is looked at on its own, and stored once if it comes again.
LARGE_BYTES: Final = 1024 * 1024
_SHORT: Final = 4096

Packed = tuple[bytes, bytes, list[bytes], list[bytes], Any]


def pack(client: Client, args: tuple[Any, ...], kwargs: dict[str, Any], what: str) -> Packed:
    """Serialize arguments.

    Args:
        client: where large ones are stored.
        args: positional arguments.
        kwargs: keyword arguments.
        what: how an error calls the function.

    Returns:
        payload, id of the object that holds it when it is large (else b""), ids of top-level references, ids of nested
        ones, and what the caller must keep alive until it has posted the message.
    """
    if not kwargs:
        if not args:
            return b"", b"", [], [], None
        if _PLAIN.issuperset(map(type, args)):
            payload = pickle.dumps(args, 5)
            if len(payload) <= _SHORT:
                return payload, b"", [], [], None
    return _pack_any(client, args, kwargs, what)


def _pack_any(client: Client, args: tuple[Any, ...], kwargs: dict[str, Any], what: str) -> Packed:
    slots: list[int | str] = []
    refs: list[ObjectRef[Any]] = []
    values: list[Any] = []
    for index, value in enumerate(args):
        ref = _as_ref(client, value)
        values.append(None if ref is not None else value)
        if ref is not None:
            slots.append(index)
            refs.append(ref)
    named: dict[str, Any] = {}
    for key, value in kwargs.items():
        ref = _as_ref(client, value)
        named[key] = None if ref is not None else value
        if ref is not None:
            slots.append(key)
            refs.append(ref)
    body: Any = {"a": values, "k": named, "s": slots} if slots or named else tuple(values)
    packed = serialize(body, f"the arguments of {what}")
    if packed.contained:
        client.check_own(packed.contained)
    deps = [ref._id for ref in refs]
    contained = [ref._id for ref in packed.contained]
    if packed.size <= INLINE_BYTES_MAX:
        return packed.to_bytes(), b"", deps, contained, refs
    holder = client.put_serialized(packed)
    return b"", holder._id, deps, contained, (holder, refs)


def _as_ref(client: Client, value: Any) -> ObjectRef[Any] | None:
    """The reference to pass instead of a value, if it is one or is large enough to be stored on its own."""
    if type(value) is ObjectRef:
        if value._client is not client:
            raise foreign(value)
        return value
    size = getattr(value, "nbytes", 0)
    if type(size) is int and size >= LARGE_BYTES and type(value).__module__ == "numpy":
        ref: ObjectRef[Any] = client.repeats.reference(value)
        return ref
    return None


def unpack(payload: Any, values: list[Any]) -> tuple[Any, dict[str, Any]]:
    """Arguments from a loaded payload and the values of the top-level references."""
    if type(payload) is tuple:
        return payload, {}
    args: list[Any] = payload["a"]
    kwargs: dict[str, Any] = payload["k"]
    for slot, value in zip(payload["s"], values, strict=True):
        if type(slot) is int:
            args[slot] = value
        else:
            kwargs[slot] = value
    return args, kwargs
