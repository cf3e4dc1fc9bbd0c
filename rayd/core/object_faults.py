"""What users are told of objects that are not there, or have no room."""

from rayd.errors import OBJECT_LOST, STORE_FULL, Fault, fault
from rayd.store.arena import Arena


def lost(oid: bytes) -> Fault:
    """The fault for an id this node knows nothing of."""
    return fault(
        OBJECT_LOST,
        f"Object {oid.hex()} does not exist on this cluster: it belongs to an earlier session, or its last"
        " reference was"
        " dropped before this one was used. Create it again in this session and keep a reference to it.",
        object_id=oid.hex(),
    )


def lost_for_good(oid: bytes, where: str, name: str, gone: list[bytes]) -> Fault:
    """The fault of a result that was lost and cannot be made again.

    Args:
        oid: the result.
        where: the node that had it, in words.
        name: of the task that made it.
        gone: arguments of that task that are gone as well.
    """
    lacks = ", ".join(other.hex() for other in gone)
    why = (
        f"its arguments {lacks} are gone, too (put by ray.put(), or large and passed by value, and nobody refers to"
        " them any more). Keep references to them, or pass what a task has made"
        if gone
        else "its max_retries are used up. Allow more, or keep large results where they are used"
    )
    text = (
        f"Object {oid.hex()} is lost: it was only on {where}, which has died, and {name} cannot make it again: {why}."
    )
    return fault(OBJECT_LOST, text, object_id=oid.hex())


def store_full(arena: Arena, size: int, holders: list[list[str | int]]) -> Fault:
    """The fault of a request for more bytes than are free.

    Args:
        arena: the store.
        size: bytes asked for.
        holders: the largest objects, each [who holds it, bytes].
    """
    listing = "; ".join(f"{_human(int(amount))} {text}" for text, amount in holders) or "none"
    if size > arena.capacity:
        remedy = "It is larger than the whole store: start with a larger object_store_memory or split the value."
    else:
        remedy = "Drop references to large objects (del, smaller lifetimes) or start with a larger object_store_memory."
    text = (
        f"The object store is full: {_human(size)} were asked for, {_human(arena.used)} of"
        f" {_human(arena.capacity)} are in use and"
        f" the largest free gap is {_human(arena.largest_gap)}. Largest objects: {listing}. {remedy}"
    )
    return fault(STORE_FULL, text, asked=size, capacity=arena.capacity, used=arena.used, holders=holders)


def _human(amount: int) -> str:
    for unit in ("B", "KiB", "MiB"):
        if abs(amount) < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024  # type: ignore[assignment]
    return f"{amount:.1f} GiB"
