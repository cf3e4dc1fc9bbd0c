"""Lengths and layout of identifiers, shared by daemon and SDK.

An object id is its task id plus a 4-byte little-endian return index; a task id is 8 unique bytes plus an actor-sized
tail of 12 unique bytes and the 4-byte job id. A process draws its 12-byte nonce once and then only counts, so ids cost
an addition. The first two bytes of a nonce are the number of the process's node, the *home* of what it makes.
"""

import os
from typing import Final

JOB_ID_BYTES: Final = 4
ACTOR_ID_BYTES: Final = 16
TASK_ID_BYTES: Final = 24
OBJECT_ID_BYTES: Final = 28
UNIQUE_ID_BYTES: Final = 28
PLACEMENT_GROUP_ID_BYTES: Final = 18
NONCE_BYTES: Final = 12
NODE_NUMBER_BYTES: Final = 2
_COUNT_BYTES: Final = 8

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


def nonce(number: int) -> bytes:
    """The unique part of what a process on the node with that number makes."""
    return number.to_bytes(NODE_NUMBER_BYTES, "big") + os.urandom(NONCE_BYTES - NODE_NUMBER_BYTES)


def home_of_actor(actor_id: bytes) -> int:
    """Number of the node on which an actor was created."""
    return int.from_bytes(actor_id[:NODE_NUMBER_BYTES], "big")


def home_of(object_id: bytes) -> int:
    """Number of the node on which an object, or the task that makes it, was made known first."""
    if object_id.endswith(ACTOR_OBJECT_SUFFIX):
        return home_of_actor(object_id)
    return int.from_bytes(object_id[_COUNT_BYTES : _COUNT_BYTES + NODE_NUMBER_BYTES], "big")


def fresh_unique_id() -> bytes:
    """A random 28-byte id for nodes and workers."""
    return os.urandom(UNIQUE_ID_BYTES)
