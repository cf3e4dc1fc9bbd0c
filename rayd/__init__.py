"""rayd: Python functions and classes across processes, with the programming interface of Ray.

One daemon per machine. A driver (``import ray``) and its workers talk to it over a Unix socket; the daemon schedules
tasks, holds the mailboxes of actors, owns the objects and the processes that run user code. Objects below 100 KB
travel inside messages, larger ones lie once in shared memory and are mapped, never copied. Workers are forked from a
warm process in about a millisecond.

Layers, each importing only what stands to its right or below (the contracts in pyproject.toml hold this)::

    ray (sdk/ray)      thin face: calls become messages, results become ObjectRefs; only here is anything unpickled
    rayd.cli           the commands ``rayd`` and ``ray``
    rayd.shell         sockets, processes, timers, session folders: carries out what the core decides, has no policy
    rayd.core          pure state machines: event in, effects out; no clock, no I/O, no randomness, no logging
    rayd.wire          bytes to messages and back; one file defines every message
    rayd.store         the arena for large objects: the allocator is pure, the segment does the mapping
    rayd.config        one frozen record of how a daemon is to run; the only reader of the environment
    rayd.ids, errors   names and faults that everybody shares

One task through it: ``f.remote(x)`` pickles the arguments and appends SUBMIT to the connection's batch; the daemon's
shell decodes the batch and hands it to ``core``, which picks a worker and returns an effect; the shell sends the task
to that worker's mailbox; the worker runs the function and answers DONE with the value or the error; the core stores
it and wakes whoever waits.

A session is one life of one daemon: a folder ``<temp_dir>/session_<time>_<pid>`` with ``logs``, ``sockets`` and
``daemon.json``, by which tools and drivers find it. A daemon that a driver embedded dies with that driver.
"""

from typing import Final

__version__: Final = "0.1.0"
