"""Every message of the protocol, one entry each, grouped by who says it to whom.

A message is a msgpack array whose first item is its tag. On a stream connection messages simply follow each other; in a
worker's mailbox each datagram is one array of EXEC bodies. Ids are raw bytes (lengths in ``rayd.ids``); payloads
(arguments, values, functions, pickled errors) are opaque: the daemon never looks inside.

Rules of this file
* Tuples, not classes, travel on the hot path: building a typed record costs as much as sending the message. The table
  ``SCHEMAS`` is the type check: ``check`` compares the exact item types of a message in one C-level comparison, once,
  at the door.
* A tag's meaning and field order never change; a new meaning takes a new tag and ``PROTOCOL_VERSION`` is raised.

Payload kinds (field ``kind`` below):
  INLINE  data is the serialized value                STORED  data is [offset, size] in the node's arena
  ERROR   data is a pickled exception (opaque)        FAULT   data is a map {code, message, ...} made by a daemon
"""

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

PROTOCOL_VERSION: Final = 5

Message: TypeAlias = Sequence[Any]

INLINE: Final = 0
STORED: Final = 1
ERROR: Final = 2
FAULT: Final = 3
RETRYABLE: Final = 4  # only in DONE: an ERROR that the task's options allow to be tried again

# Values up to this many bytes travel inside messages; larger ones go through the store.
INLINE_BYTES_MAX: Final = 100 * 1024
# Who does not share a node's memory writes and reads stored objects in parts of at most this many bytes.
PART_BYTES_MAX: Final = 4 * 1024 * 1024
# A datagram of the mailbox must fit the kernel's default socket buffer (212 992 bytes) with room for others.
DATAGRAM_BYTES_MAX: Final = 48 * 1024

# ---- any client (driver, worker, command line) to its daemon ---------------------------------------------------------
HELLO: Final = 1  # (version, kind "driver"|"worker"|"cli"|"logs"|"node"|"bulk", info map)  -> WELCOME or REFUSED
EXPORT: Final = 2  # (function_id, blob)  a pickled function or class, once per job
SPEC: Final = 3  # (key int, spec map)  static part of tasks/calls, once per connection
SUBMIT: Final = 4  # (task_id, key, args, args_oid, deps [oid], contained [oid])  run a task; args_oid b"" for none
CREATE: Final = 5  # (req, actor_id, key, args, args_oid, deps, contained)  start an actor; REPLY when req != 0
CALL: Final = 6  # (task_id, actor_id, key, args, args_oid, deps, contained)  call an actor's method
PUT: Final = 7  # (oid, data, contained)  a small value
PUT_ERROR: Final = 20  # (oid, data)  an object that is an error
ALLOC: Final = 8  # (req, oid, size)  -> REPLY [offset]
SEAL: Final = 9  # (oid, contained)  the allocated bytes are complete
HOLD: Final = 10  # ([oid])  this process now refers to them
RELEASE: Final = 11  # ([oid])  and now no more
WANT: Final = 12  # ([oid])  -> VALUE for each, when it is ready
BLOCKED: Final = 13  # ()  a worker's task waits: lend its resources
RESUMED: Final = 14  # ()
CANCEL: Final = 15  # (oid, force, recursive)
KILL: Final = 16  # (actor_id, no_restart)
STREAM_WANT: Final = 17  # (task_id)  -> STREAM_ITEM for each, then STREAM_END
STREAM_ACK: Final = 18  # (task_id, consumed)  back-pressure; -1: no more is wanted
RPC: Final = 19  # (req, method, params map)  -> REPLY; everything that is not hot
AUTH: Final = 21  # (version, scope, expiry, challenge)  over TCP, before HELLO  -> CHALLENGE or REFUSED
PROOF: Final = 22  # (proof)  the answer to CHALLENGE; HELLO may follow at once
WRITE: Final = 23  # (oid, at, bytes)  a part of allocated bytes, from who does not share the memory
PROBE: Final = 25  # ([oid])  -> READY for each, when it is complete somewhere
PUT_WHEN: Final = 26  # (oid, group_id, data)  a small value that is there when the placement group is
READ: Final = 24  # (req, oid, at, size)  -> DATA, or REPLY when it cannot be; "bulk": see rayd.shell.fetcher

# ---- worker to its daemon --------------------------------------------------------------------------------------------
# Data of kind STORED is the id under which the worker has allocated and written it; the daemon takes the bytes over.
DONE: Final = 32  # (task_id, kind, data, contained, run_us)  the one result of a task
DONE_MANY: Final = 33  # (task_id, [[kind, data, contained]], run_us)  num_returns other than 1
YIELD: Final = 34  # (task_id, index, kind, data, contained)  one streamed item
FETCH: Final = 35  # (req, class_id)  -> REPLY spec map
BODY: Final = 36  # (req, task_id)  -> REPLY EXEC body too large for a datagram

# ---- node to node ----------------------------------------------------------------------------------------------------
# Two nodes also say to each other most of what a driver says to its daemon: see ``rayd.core.channels``.
VIEW: Final = 40  # (free map, load map, urgent)  a member to the head: how it is; urgent: tell it also if it is no news
MEMBERS: Final = 41  # ([Member.row], [number])  the head to a member: these have changed, those are as before
FAR_VALUE: Final = 42  # (oid, kind, data, contained)  the answer to WANT of a node; STORED: data is [size]
FAR_DONE: Final = 43  # (task_id, [[kind, data, contained]], run_us)  results; of an error one row for all of them
REFUSE: Final = 44  # ([task_id], [oid], free map)  these tasks cannot begin here now; these results are held here
HOST: Final = 45  # (actor_id, key, args, args_oid, deps, contained)  run an actor of mine -> HOSTED, more than once
HOSTED: Final = 46  # (actor_id, state, why map, [task_id] unbegun, [oid])  what becomes of it; results as in REFUSE
FAR_ITEM: Final = 48  # (task_id, index, kind, data, contained)  a streamed item; STORED: data is [size]
RESERVE: Final = (
    49  # (group_id, attempt, [[index, amounts map]], patient)  the head to a member: take these -> RESERVED
)
RESERVED: Final = 50  # (group_id, attempt, ok, free map)
GROUP: Final = 51  # (group_id, notice map)  the head to a member: what has become of a placement group
DRAIN: Final = 52  # (seconds)  the head to a member: end when nothing is left, or when they are over; 0 for any time
ENDED: Final = 53  # ()  the driver has gone, but not all that it leaves: end what nobody wants any more
SEEK: Final = 54  # (oid)  where is a large object to be had? -> FOUND, any number of them
SOUGHT: Final = 56  # (oid, ok)  it has come, or is not wanted any more
FOUND: Final = 57  # (oid, number, [part])  from that node too, which has all of it, or these parts besides those before
DRY: Final = 58  # (oid, number)  it does not come from that node -> FOUND, if there is another
SPREAD: Final = 59  # (oid)  others are sent to you for what you have of it -> PARTS, again and again
PARTS: Final = 60  # (oid, [part])  these have come
CLAIM: Final = 61  # (key, wants)  keep room for this spec of mine -> CLAIMED; or let go of that
CLAIMED: Final = 62  # (key, ok)  there is room now, or none is kept
UNHOST: Final = 47  # (actor_id)  let it end when it has done what it has been given

# ---- daemon to client ------------------------------------------------------------------------------------------------
WELCOME: Final = 64  # (info map)
REFUSED: Final = 65  # (fault map)
VALUE: Final = 66  # (oid, kind, data)
REPLY: Final = 67  # (req, ok, value)  value is a fault map when not ok
STREAM_ITEM: Final = 68  # (task_id, index, kind, data)  kind < 0: it is complete elsewhere, ask with WANT
STREAM_END: Final = 69  # (task_id, count)
STOP_TASK: Final = 70  # (task_id)  interrupt it if it is the running one
CREDIT: Final = 71  # (task_id, consumed)  a streaming task may go on
LOG: Final = 72  # (source map, is_err, [line])  output of a worker
EVENT: Final = 73  # (level, text)  something the user should know
UNREAD: Final = 74  # (kind, data)  an error that nobody asked for
CHALLENGE: Final = 75  # (challenge, proof)
READY: Final = 77  # ([oid])
DATA: Final = 76  # (req, bytes)  a part of a stored object

# ---- daemon to worker mailbox: a datagram is an array of these ----------------------------------------------------
# EXEC: [task_id, class_id, args, args_at, deps, gpus, more]; args_at is [] or [offset, size, oid]; a dep is
# [oid, kind, data]; more hints that another body follows at once
# FETCH_BODY: [task_id]: the body did not fit; ask for it with BODY


def _variants(*fields: type | tuple[type, ...]) -> frozenset[tuple[type, ...]]:
    """All exact type tuples a message may have; a field with alternatives multiplies them."""
    combos: list[tuple[type, ...]] = [(int,)]
    for field in fields:
        options = field if isinstance(field, tuple) else (field,)
        combos = [(*combo, option) for combo in combos for option in options]
    return frozenset(combos)


SCHEMAS: Final[dict[int, frozenset[tuple[type, ...]]]] = {
    HELLO: _variants(int, str, dict),
    EXPORT: _variants(bytes, bytes),
    SPEC: _variants(int, dict),
    SUBMIT: _variants(bytes, int, bytes, bytes, list, list),
    CREATE: _variants(int, bytes, int, bytes, bytes, list, list),
    CALL: _variants(bytes, bytes, int, bytes, bytes, list, list),
    PUT: _variants(bytes, bytes, list),
    PUT_ERROR: _variants(bytes, bytes),
    ALLOC: _variants(int, bytes, int),
    SEAL: _variants(bytes, list),
    HOLD: _variants(list),
    RELEASE: _variants(list),
    WANT: _variants(list),
    BLOCKED: _variants(),
    RESUMED: _variants(),
    CANCEL: _variants(bytes, bool, bool),
    KILL: _variants(bytes, bool),
    STREAM_WANT: _variants(bytes),
    STREAM_ACK: _variants(bytes, int),
    RPC: _variants(int, str, dict),
    AUTH: _variants(int, str, int, bytes),
    PROOF: _variants(bytes),
    WRITE: _variants(bytes, int, bytes),
    READ: _variants(int, bytes, int, int),
    PROBE: _variants(list),
    PUT_WHEN: _variants(bytes, bytes, bytes),
    DONE: _variants(bytes, int, bytes, list, int),
    DONE_MANY: _variants(bytes, list, int),
    YIELD: _variants(bytes, int, int, bytes, list),
    FETCH: _variants(int, int),
    BODY: _variants(int, bytes),
    VIEW: _variants(dict, dict, bool),
    MEMBERS: _variants(list, list),
    FAR_VALUE: _variants(bytes, int, (bytes, list, dict), list),
    FAR_DONE: _variants(bytes, list, int),
    REFUSE: _variants(list, list, dict),
    HOST: _variants(bytes, int, bytes, bytes, list, list),
    HOSTED: _variants(bytes, int, dict, list, list),
    UNHOST: _variants(bytes),
    DRAIN: _variants((int, float)),
    ENDED: _variants(),
    SEEK: _variants(bytes),
    SOUGHT: _variants(bytes, bool),
    CLAIM: _variants(int, bool),
    CLAIMED: _variants(int, bool),
    FOUND: _variants(bytes, int, list),
    DRY: _variants(bytes, int),
    SPREAD: _variants(bytes),
    PARTS: _variants(bytes, list),
    RESERVE: _variants(bytes, int, list, bool),
    RESERVED: _variants(bytes, int, bool, dict),
    GROUP: _variants(bytes, dict),
    FAR_ITEM: _variants(bytes, int, int, (bytes, list, dict), list),
    WELCOME: _variants(dict),
    REFUSED: _variants(dict),
    VALUE: _variants(bytes, int, (bytes, list, dict)),
    REPLY: _variants(int, bool, (dict, list, bytes, str, int, float, bool, type(None))),
    STREAM_ITEM: _variants(bytes, int, int, (bytes, list, dict)),
    STREAM_END: _variants(bytes, int),
    STOP_TASK: _variants(bytes),
    CREDIT: _variants(bytes, int),
    LOG: _variants(dict, bool, list),
    EVENT: _variants(str, str),
    UNREAD: _variants(int, (bytes, dict)),
    CHALLENGE: _variants(bytes, bytes),
    DATA: _variants(int, bytes),
    READY: _variants(list),
}

NAMES: Final[dict[int, str]] = {
    value: name
    for name, value in list(globals().items())
    if name.isupper() and isinstance(value, int) and value in SCHEMAS
}
