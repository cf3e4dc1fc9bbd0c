"""From an exception in a worker to the bytes of an error.

The remote traceback is written down without our own frames, and the pickle is one that really loads.
"""

import os
import pickle
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any, Final

import rayd.errors
from ray.exceptions import RayError, RayTaskError
from ray.util.check_serialize import explain_unpicklable

# Deeper recursion than this is cut off at its outer end, so that an endless recursion does not make an error of
# megabytes.
_FRAMES_MAX: Final = 300
_OUR_FOLDERS: Final = (os.path.dirname(__file__) + os.sep, os.path.dirname(rayd.errors.__file__) + os.sep)
_SCALARS: Final = frozenset({str, int, float, bool, bytes, type(None)})


def capture(
    exc: BaseException,
    function_name: str,
    pid: int,
    ip: str,
    actor_id: str | None = None,
    actor_repr: str | None = None,
) -> RayTaskError:
    """The error that reports ``exc`` to the caller.

    Args:
        exc: as caught around the user's code; its ``__traceback__`` and chain are written down, not kept.
        function_name: name to show, such as ``f`` or ``Actor.method``.
        pid: process id of this worker.
        ip: address of this machine.
        actor_id: hexadecimal id, for an actor's method.
        actor_repr: ``repr`` of the actor.
    """
    report = traceback.TracebackException(type(exc), exc, exc.__traceback__, limit=-_FRAMES_MAX, compact=True)
    ours = _our_folders()
    for part in _parts(report):
        part.stack[:] = [frame for frame in part.stack if not frame.filename.startswith(ours)]
    text = "".join(report.format())
    return RayTaskError(function_name, text, exc, pid=pid, ip=ip, actor_id=actor_id, actor_repr=actor_repr)


def failed_argument(
    exc: BaseException,
    function_name: str,
    pid: int,
    ip: str,
    actor_id: str | None = None,
    actor_repr: str | None = None,
) -> RayTaskError:
    """The error of a call that did not run because ``exc`` stands in place of one of its arguments."""
    cls = type(exc)
    text = f"  An argument of this call could not be computed:\n{cls.__module__}.{cls.__qualname__}: {exc}"
    return RayTaskError(function_name, text, exc, pid=pid, ip=ip, actor_id=actor_id, actor_repr=actor_repr)


def dump_error(
    error: RayTaskError,
    dumps: Callable[[Any], bytes],
    loads: Callable[[bytes], Any] = pickle.loads,
) -> bytes:
    """``error`` pickled so that the caller can load it.

    A cause that cannot be pickled, or whose pickle cannot be loaded again, is replaced by a ``RayError`` that names it,
    the reason and the remedy. The remote traceback stays.

    Args:
        error: from ``capture``.
        dumps: the pickler to use.
        loads: its counterpart, for the trial.
    """
    try:
        data = dumps(error)
    except Exception as reason:  # noqa: BLE001 - pickling runs code of the user
        return dumps(_with_stand_in(error, _not_dumped(error.cause, reason)))
    if not _surely_loads(error.cause):
        try:
            loads(data)
        except Exception as reason:  # noqa: BLE001 - loading runs code of the user
            return dumps(_with_stand_in(error, _not_loaded(error.cause, reason)))
    return data


def _our_folders() -> tuple[str, ...]:
    cloudpickle = sys.modules.get("cloudpickle")
    if cloudpickle is None or cloudpickle.__file__ is None:
        return _OUR_FOLDERS
    return (*_OUR_FOLDERS, os.path.dirname(cloudpickle.__file__) + os.sep)


def _parts(report: traceback.TracebackException) -> Iterator[traceback.TracebackException]:
    """The report, and all that it chains to or groups."""
    waiting, seen = [report], set[int]()
    while waiting:
        part = waiting.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        yield part
        waiting.extend(other for other in (part.__cause__, part.__context__) if other is not None)
        waiting.extend(part.exceptions or ())


def _surely_loads(cause: BaseException) -> bool:
    """A built-in class with plain arguments, as most errors are, needs no trial."""
    cls = type(cause)
    if cls.__module__ != "builtins" or isinstance(cause, BaseExceptionGroup):
        return False
    return not cause.__dict__ and all(type(argument) in _SCALARS for argument in cause.args)


def _with_stand_in(error: RayTaskError, stand_in: RayError) -> RayTaskError:
    it = error.as_plain()
    other = RayTaskError(
        it.function_name,
        it.traceback_str,
        stand_in,
        pid=it.pid,
        ip=it.ip,
        actor_id=it.actor_id,
        actor_repr=it.actor_repr,
    )
    other.add_note(str(stand_in))
    return other


def _not_dumped(cause: BaseException, reason: Exception) -> RayError:
    culprit = explain_unpicklable(cause, "the exception")
    return RayError(
        f"The task raised {_named(cause)}\nThis exception cannot be pickled: {reason}"
        f"{f' ({culprit})' if culprit else ''}. Keep what cannot be pickled out of the attributes of the exception, "
        "or give its class a __reduce__ that leaves it out."
    )


def _not_loaded(cause: BaseException, reason: Exception) -> RayError:
    return RayError(
        f"The task raised {_named(cause)}\nThis exception can be pickled, but its pickle cannot be loaded: "
        f"{type(reason).__name__}: {reason}. Give its class a __reduce__ that returns the class and the arguments "
        "its __init__ takes."
    )


def _named(cause: BaseException) -> str:
    cls = type(cause)
    try:
        text = str(cause)
    except Exception as reason:  # noqa: BLE001 - a __str__ of the user
        text = f"(its __str__ raised {type(reason).__name__})"
    return f"{cls.__module__}.{cls.__qualname__}: {text}"
