"""Lengths and layout of identifiers, shared by daemon and SDK.

An object id is its task id plus a 4-byte little-endian return index; a task id is 8 unique bytes plus an actor-sized
tail of 12 unique bytes and the 4-byte job id. A process draws its 12-byte nonce once and then only counts, so ids cost
an addition.
"""

import os
from typing import Final

JOB_ID_BYTES: Final = 4
ACTOR_ID_BYTES: Final = 16
TASK_ID_BYTES: Final = 24
OBJECT_ID_BYTES: Final = 28
UNIQUE_ID_BYTES: Final = 28
PLACEMENT_GROUP_ID_BYTES: Final = 18

# The object that stands for an actor's life: held by its handles, ready when the constructor has returned.
ACTOR_OBJECT_SUFFIX: Final = b"\xff" * (OBJECT_ID_BYTES - ACTOR_ID_BYTES)
# Return index reserved for ``put`` objects, so that they never collide with task returns.
FIRST_RETURN: Final = (1).to_bytes(4, "little")


def actor_object_id(actor_id: bytes) -> bytes:
    """Id of the object that stands for the actor."""
    return actor_id + ACTOR_OBJECT_SUFFIX


def return_id(task_id: bytes, index: int) -> bytes:
    """Object id of return number ``index`` (from 1) of a task."""
    return task_id + index.to_bytes(4, "little")


def task_of(object_id: bytes) -> bytes:
    """Task id that an object id belongs to."""
    return object_id[:TASK_ID_BYTES]


def fresh_unique_id() -> bytes:
    """A random 28-byte id for nodes and workers."""
    return os.urandom(UNIQUE_ID_BYTES)
