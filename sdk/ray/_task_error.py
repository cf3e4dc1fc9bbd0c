"""``RayTaskError``: the error of the user's code, as the caller meets it. Public as ``ray.exceptions``."""

import logging
import weakref
from typing import Any, Final

from ray import _cause
from rayd.errors import Fault

_PUBLIC_MODULE: Final = "ray.exceptions"
_TRACEBACK_LINE: Final = "Traceback (most recent call last):"
_log = logging.getLogger("ray")
# Classes about which the user was told that they cannot be joined with RayTaskError.
_told: weakref.WeakSet[type] = weakref.WeakSet()


class RayError(Exception):
    """Base of everything that the system raises on its own behalf."""

    __module__ = _PUBLIC_MODULE

    fault: Fault | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        # The default would call ``__init__`` with ``args``; here the constructors take more telling arguments than the
        # text.
        return _cause.thaw, (type(self), self.args, self.__dict__ or None)


class RayTaskError(RayError):
    """An exception that the user's code raised in a task or an actor's method.

    What ``ray.get`` raises is also an instance of the class of the original exception, see ``as_instanceof_cause``.

    Args:
        function_name: name to show, such as ``f`` or ``Actor.method``.
        traceback_str: the remote traceback as ``traceback.format_exception`` writes it.
        cause: the original; if it is a ``RayTaskError`` itself, its cause counts, and its story is in
            ``traceback_str``.
        pid: process id of the worker.
        ip: address of the worker's machine.
        actor_id: hexadecimal id, for an actor's method.
        actor_repr: ``repr`` of the actor.
    """

    __module__ = _PUBLIC_MODULE

    def __init__(
        self,
        function_name: str,
        traceback_str: str,
        cause: BaseException,
        *,
        pid: int | None = None,
        ip: str | None = None,
        actor_id: str | None = None,
        actor_repr: str | None = None,
    ) -> None:
        original = cause.cause if isinstance(cause, RayTaskError) else cause
        super().__init__(original)
        self._original = original
        self.function_name = function_name
        self.traceback_str = traceback_str
        self.pid = pid
        self.ip = ip
        self.actor_id = actor_id
        self.actor_repr = actor_repr

    @property
    def cause(self) -> BaseException:
        """The exception as the user's code raised it."""
        original: BaseException = self.__dict__["_original"]
        return original

    def as_instanceof_cause(self) -> "RayTaskError":
        """The error to raise: also an instance of the class of ``cause``, with its attributes.

        It is the error itself when that is impossible: ``cause`` is no ``Exception`` (``SystemExit`` must not end the
        caller), or its class forbids subclasses, which is logged once per class.
        """
        cls = type(self.cause)
        if issubclass(RayTaskError, cls) or not isinstance(self.cause, Exception) or "_plain" in self.__dict__:
            return self
        try:
            error = _cause.join(RayTaskError, self.cause, f"RayTaskError({cls.__name__})")
        except Exception as reason:  # noqa: BLE001 - raised by hooks of the user's class, of any kind
            _tell_not_joined(cls, reason)
            return self
        error.__dict__.update(_original=self.cause, _plain=self)
        assert isinstance(error, RayTaskError)
        return error

    def as_plain(self) -> "RayTaskError":
        """The same error as an instance of ``RayTaskError`` alone.

        A future cannot hold an error that is a ``StopIteration`` as well.
        """
        plain: RayTaskError = self.__dict__.get("_plain", self)
        return plain

    def __getattr__(self, name: str) -> Any:
        # Reached only for what neither class nor instance has. Dunder names are probes of the interpreter.
        known = self.__dict__
        if not name.startswith("__"):
            if "_original" in known:
                try:
                    return getattr(known["_original"], name)
                except AttributeError:
                    pass
            if "_plain" in known and name in known["_plain"].__dict__:
                return known["_plain"].__dict__[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return self.__reduce__()

    def __reduce__(self) -> tuple[Any, ...]:
        it = self.as_plain()
        fields = (
            it.function_name,
            it.traceback_str,
            _cause.Carrier(it.cause),
            it.pid,
            it.ip,
            it.actor_id,
            it.actor_repr,
        )
        notes = self.__dict__.get("__notes__")
        return _restore, (it is not self, *fields), {"__notes__": notes} if notes else None

    def __str__(self) -> str:
        it = self.as_plain()
        header = _header(it)
        lines = it.traceback_str.rstrip("\n").split("\n")
        if _TRACEBACK_LINE not in lines:  # an exception group, or words of ours
            return "\n".join([header, *lines])
        return "\n".join(header if line == _TRACEBACK_LINE else line for line in lines)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.cause!r})"


def _header(error: RayTaskError) -> str:
    facts = (("pid", error.pid), ("ip", error.ip), ("actor_id", error.actor_id), ("repr", error.actor_repr))
    known = ", ".join(f"{name}={value}" for name, value in facts if value is not None)
    return f"ray::{error.function_name}()" + (f" ({known})" if known else "")


def _restore(joined: bool, function_name: str, traceback_str: str, cause: Any, *rest: Any) -> RayTaskError:
    # ``copy.copy`` passes the arguments on unpickled.
    original = cause.exception if isinstance(cause, _cause.Carrier) else cause
    pid, ip, actor_id, actor_repr = rest
    error = RayTaskError(
        function_name, traceback_str, original, pid=pid, ip=ip, actor_id=actor_id, actor_repr=actor_repr
    )
    return error.as_instanceof_cause() if joined else error


def _tell_not_joined(cls: type, reason: Exception) -> None:
    if cls not in _told:
        _told.add(cls)
        _log.warning(
            "A task raised %s.%s, whose class cannot be subclassed (%s: %s); `except %s` will not catch the error "
            "in the caller. Catch ray.exceptions.RayTaskError and look at its .cause, or allow subclasses.",
            cls.__module__,
            cls.__qualname__,
            type(reason).__name__,
            reason,
            cls.__name__,
        )
