"""How an exception of the user travels and how it is joined with ``RayTaskError``.

Default pickling of an exception calls its class with ``args`` again, which breaks for every class whose ``__init__``
takes something else than it hands to ``super().__init__``. Here such an exception is taken apart and rebuilt without
calling any ``__init__`` of the user: built-in part, ``args``, instance dictionary. Classes that say themselves how they
are pickled are left alone.

Rejected: wrapping only after a failed trial. A wrong ``__init__`` often succeeds and silently changes the message.
"""

import copyreg
import types
import weakref
from typing import Any, Final

from ray.util.serialization import _CUSTOM

_HEAP_TYPE: Final = 1 << 9  # Py_TPFLAGS_HEAPTYPE: the class was made by a class statement, not in C
_PICKLE_HOOKS: Final = (
    "__reduce__",
    "__reduce_ex__",
    "__getstate__",
    "__setstate__",
    "__getnewargs__",
    "__getnewargs_ex__",
)
_BUILTIN_ARGS: Final = BaseException.__dict__["args"]

# Whether instances of a class may be rebuilt by ``thaw``; decided once per class, by trying.
_thawable: weakref.WeakKeyDictionary[type, bool] = weakref.WeakKeyDictionary()
# A joined class lives as long as one of its instances or subclasses.
_joined: weakref.WeakValueDictionary[type, type] = weakref.WeakValueDictionary()


def native_class(cls: type[BaseException]) -> Any:
    """The most derived built-in class of an exception class: the one that owns the memory layout of its instances."""
    return next(base for base in cls.__mro__ if not base.__flags__ & _HEAP_TYPE)


def thaw(cls: type[BaseException], args: tuple[Any, ...], state: dict[str, Any] | None) -> BaseException:
    """An instance of ``cls`` made without calling ``__init__`` or ``__new__`` of a class written in Python."""
    native = native_class(cls)
    exc: BaseException = native.__new__(cls, *args)
    native.__init__(exc, *args)  # OSError, ImportError, SyntaxError and UnicodeError unpack ``args`` here
    for name, value in (state or {}).items():
        if hasattr(native, name):
            setattr(exc, name, value)
        else:
            exc.__dict__[name] = value
    return exc


class Carrier:
    """Stands for an exception in a pickle; what comes out of the pickle is the exception itself."""

    __slots__ = ("exception",)

    def __init__(self, exception: BaseException) -> None:
        self.exception = exception

    def __reduce__(self) -> tuple[Any, ...]:
        exc = self.exception
        args, state = _parts(exc)
        if _can_thaw(exc, args):
            if isinstance(exc, BaseExceptionGroup):
                args = (exc.message, [Carrier(member) for member in exc.exceptions])
            return thaw, (type(exc), args, state)
        return _itself, (exc,)


def join(base: type[BaseException], cause: BaseException, name: str) -> BaseException:
    """An exception that is an instance of ``base`` and of the class of ``cause``, with ``args == (cause,)``.

    It has the instance attributes of ``cause``; attributes kept by built-in classes (``errno``, ``code``...) are views
    on it.

    Args:
        base: class that comes first; brings the methods.
        cause: the user's exception.
        name: name of the joined class, when it must be made.

    Raises:
        Exception: whatever the class of ``cause`` does to forbid being subclassed or filled.
    """
    cls = type(cause)
    joined = _joined.get(cls)
    if joined is None:
        joined = _join_types(base, cls, name)
        _joined[cls] = joined
    native = native_class(cls)
    parts = (cause.message, cause.exceptions) if isinstance(cause, BaseExceptionGroup) else ()
    error: BaseException = native.__new__(joined, *parts)
    _BUILTIN_ARGS.__set__(error, (cause,))
    error.__dict__.update(cause.__dict__)
    error.__dict__.pop("__notes__", None)  # they are in the remote traceback, which is the text
    return error


def _join_types(base: type[BaseException], cls: type[BaseException], name: str) -> type:
    namespace: dict[str, Any] = {"__module__": base.__module__, "__qualname__": name, "__doc__": None}
    for level in native_class(cls).__mro__:
        if level in (Exception, BaseException):
            break
        for attribute, member in vars(level).items():
            if isinstance(member, types.MemberDescriptorType | types.GetSetDescriptorType) and attribute[0] != "_":
                namespace[attribute] = _view(attribute)
    return types.new_class(name, (base, cls), exec_body=lambda body: body.update(namespace))


def _view(attribute: str) -> property:
    """Property of a joined class that reads and writes an attribute of the cause."""

    def read(self: Any) -> Any:
        return getattr(self.cause, attribute)

    def write(self: Any, value: Any) -> None:
        setattr(self.cause, attribute, value)

    return property(read, write)


def _parts(exc: BaseException) -> tuple[tuple[Any, ...], dict[str, Any] | None]:
    reduced = native_class(type(exc)).__reduce__(exc)
    return reduced[1], reduced[2] if len(reduced) > 2 else None


def _can_thaw(exc: BaseException, args: tuple[Any, ...]) -> bool:
    cls = type(exc)
    if cls in _CUSTOM or cls in copyreg.dispatch_table:
        return False
    known = _thawable.get(cls)
    if known is None:
        written = [vars(base) for base in cls.__mro__ if base.__flags__ & _HEAP_TYPE]
        known = not any(hook in body for body in written for hook in _PICKLE_HOOKS)
        # Slots are in no instance dictionary; the class was written with its own idea of pickling.
        known = known and not any(body.get("__slots__") for body in written)
        try:
            native_class(cls).__new__(cls, *args)
        except Exception:  # noqa: BLE001 - an extension type with a layout of its own
            known = False
        _thawable[cls] = known
    return known


def _itself(exc: BaseException) -> BaseException:
    return exc
