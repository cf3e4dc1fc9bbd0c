"""Finds the part of an object that cannot be pickled: a closure variable, a global, an attribute.

The search goes down from the object and pickles each part alone, into a sink that throws the bytes away (large buffers
are not even copied). The first part that fails is entered, until a part fails of which no part does: that one is the
culprit.
"""

import dis
import functools
import inspect
import os
import sys
import time
import types
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, Protocol, TextIO

import cloudpickle

_STEPS_MAX: Final = 25
_ATOMS: Final = frozenset({int, float, complex, bool, str, bytes, type(None), type(Ellipsis), types.ModuleType})
# Made by the interpreter for every class; the pickler does not send them.
_CLASS_NOISE: Final = frozenset({"__dict__", "__weakref__", "__doc__", "__module__", "__qualname__", "__firstlineno__"})
_FUNCTIONS: Final = (types.FunctionType, staticmethod, classmethod)


class Pickler(Protocol):
    """What the search needs of a pickler."""

    def dump(self, obj: Any, /) -> Any:
        """Pickle ``obj`` or raise."""


class FailureTuple:
    """One part that cannot be pickled.

    Attributes:
        obj: the part.
        name: name of the variable, attribute or item that holds it.
        parent: the object it was found in; ``None`` if it is the inspected object itself.
        path: how it is reached from the inspected object.
    """

    __slots__ = ("name", "obj", "parent", "path")

    def __init__(self, obj: Any, name: str, parent: Any, path: str = "") -> None:
        self.obj = obj
        self.name = name
        self.parent = parent
        self.path = path

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, FailureTuple)
            and self.obj is other.obj
            and self.parent is other.parent
            and self.name == other.name
        )

    def __hash__(self) -> int:
        return hash((id(self.obj), id(self.parent), self.name))

    def __repr__(self) -> str:
        return f"FailureTuple({self.path} [{_type_name(self.obj)}])"


class _Step(NamedTuple):
    """From an object to one of its parts."""

    name: str
    text: str
    part: Any


class _OutOfTimeError(Exception):
    """The time limit of the search is over."""


class _Sink:
    """A file that keeps nothing, and ends the search when its time is over."""

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline

    def write(self, data: Any) -> int:
        if time.monotonic() > self._deadline:
            raise _OutOfTimeError
        return len(data)


def _cloudpickler(sink: Any) -> Pickler:
    pickler: Pickler = cloudpickle.Pickler(sink, protocol=5, buffer_callback=lambda _buffer: None)
    return pickler


def explain_unpicklable(
    obj: Any, name: str, *, pickler: Callable[[Any], Pickler] = _cloudpickler, limit_s: float = 2.0
) -> str:
    """Where the culprit sits that keeps ``obj`` from being pickled, in one line.

    Args:
        obj: what could not be pickled.
        name: what the user calls it, such as ``"argument 'x' of f"``.
        pickler: makes the pickler that refused it, writing to the given sink.
        limit_s: seconds after which the search ends with what it has found.

    Returns:
        Text such as ``closure variable 'client' of f (app.py:12) -> .session -> _thread.lock``; ``""`` if ``obj`` can
        be pickled.
    """
    sink = _Sink(time.monotonic() + limit_s)
    current, path = obj, list[_Step]()
    try:
        if _refusal(obj, pickler, sink) is None:
            return ""
        seen = {id(obj)}
        while len(path) < _STEPS_MAX:
            step = next((s for s in _new_steps(current, seen) if _refusal(s.part, pickler, sink) is not None), None)
            if step is None:
                break
            path.append(step)
            current = step.part
    except _OutOfTimeError:
        pass
    # The first step names the function or class it starts from; elsewhere the user's name for the object comes first.
    start = [] if path and isinstance(obj, (*_FUNCTIONS, type)) else [name]
    return " -> ".join([*start, *(step.text for step in path), _type_name(current)])


def inspect_serializability(
    base_obj: Any, name: str | None = None, depth: int = 3, print_file: TextIO | None = None
) -> tuple[bool, set[FailureTuple]]:
    """Prints and returns which parts of an object keep it from being pickled.

    Args:
        base_obj: the object, often a function or class.
        name: what to call it; by default its own name.
        depth: how many steps down to search.
        print_file: where to print; by default ``sys.stdout``.

    Returns:
        Whether it can be pickled, and the parts that cannot.
    """
    label = name or getattr(base_obj, "__qualname__", None) or _type_name(base_obj)
    out = print_file or sys.stdout
    sink = _Sink(float("inf"))
    reason = _refusal(base_obj, _cloudpickler, sink)
    if reason is None:
        out.write(f"{label} can be pickled.\n")
        return True, set()
    failures = set[FailureTuple]()
    _collect(FailureTuple(base_obj, label, None, label), depth, {id(base_obj)}, sink, failures)
    out.write(f"{label} cannot be pickled: {type(reason).__name__}: {reason}\n")
    for failure in sorted(failures, key=lambda found: found.path):
        out.write(f"  {failure.path} is a {_type_name(failure.obj)}, which cannot be pickled.\n")
    out.write(
        "Make these inside the function or method that uses them, or leave them out in a __reduce__ or __getstate__.\n"
    )
    return False, failures


def _collect(found: FailureTuple, depth: int, seen: set[int], sink: _Sink, failures: set[FailureTuple]) -> None:
    deeper = False
    if depth > 0:
        for step in _new_steps(found.obj, seen):
            if _refusal(step.part, _cloudpickler, sink) is not None:
                deeper = True
                path = f"{found.path} -> {step.text}"
                _collect(FailureTuple(step.part, step.name, found.obj, path), depth - 1, seen, sink, failures)
    if not deeper:
        failures.add(found)


def _refusal(obj: Any, pickler: Callable[[Any], Pickler], sink: _Sink) -> Exception | None:
    """Why ``obj`` cannot be pickled, or None."""
    try:
        pickler(sink).dump(obj)
    except _OutOfTimeError:
        raise
    except Exception as reason:  # noqa: BLE001 - pickling runs code of the user
        return reason
    return None


def _new_steps(obj: Any, seen: set[int]) -> Iterator[_Step]:
    for step in _steps(obj):
        if type(step.part) not in _ATOMS and id(step.part) not in seen:
            seen.add(id(step.part))
            yield step


def _steps(obj: Any) -> Iterator[_Step]:
    """To every part of ``obj`` that its pickle contains."""
    if isinstance(obj, types.FunctionType):
        yield from _function_steps(obj)
    elif isinstance(obj, staticmethod | classmethod):
        yield from _function_steps(obj.__func__)
    elif isinstance(obj, type):
        yield from _class_steps(obj)
    elif isinstance(obj, types.MethodType):
        yield _Step("__self__", ".__self__", obj.__self__)
        yield _Step("__func__", f"method {obj.__func__.__qualname__}", obj.__func__)
    elif isinstance(obj, functools.partial):
        yield _Step("func", ".func", obj.func)
        yield from (_Step(f"args[{i}]", f".args[{i}]", part) for i, part in enumerate(obj.args))
        yield from (_Step(key, f".keywords[{key!r}]", part) for key, part in obj.keywords.items())
    elif isinstance(obj, property):
        yield from (
            _Step(key, f".{key}", part) for key in ("fget", "fset", "fdel") if (part := getattr(obj, key)) is not None
        )
    elif type(obj) is dict:
        yield from (_Step(repr(key), f"key {key!r}", key) for key in obj)
        yield from (_Step(repr(key), f"[{key!r}]", part) for key, part in obj.items())
    elif type(obj) in (list, tuple):
        yield from (_Step(f"[{i}]", f"[{i}]", part) for i, part in enumerate(obj))
    elif type(obj) in (set, frozenset):
        yield from (_Step("item", "an item", part) for part in obj)
    else:
        yield from _object_steps(obj)


def _function_steps(function: Any) -> Iterator[_Step]:
    where = functools.partial(_where, function)
    code = function.__code__
    for variable, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield _Step(variable, f"closure variable {variable!r} of {where(variable)}", cell.cell_contents)
        except ValueError:  # not assigned yet
            continue
    for variable in _names_used(code):
        if variable in function.__globals__:
            yield _Step(
                variable, f"global variable {variable!r} used by {where(variable)}", function.__globals__[variable]
            )
    arguments = [
        parameter
        for parameter in inspect.signature(function).parameters.values()
        if parameter.default is not parameter.empty
    ]
    for parameter in arguments:
        yield _Step(parameter.name, f"default of parameter {parameter.name!r} of {where()}", parameter.default)
    for key, part in function.__dict__.items():
        yield _Step(key, f"attribute {key!r} of {where()}", part)


def _class_steps(cls: type) -> Iterator[_Step]:
    for key, part in vars(cls).items():
        if key in _CLASS_NOISE or isinstance(part, types.MemberDescriptorType | types.GetSetDescriptorType):
            continue
        kind = "method" if isinstance(part, _FUNCTIONS) else "attribute"
        yield _Step(key, f"{kind} {key!r} of class {cls.__qualname__}", part)
    yield from (_Step(base.__name__, f"base class {base.__qualname__}", base) for base in cls.__bases__)


def _object_steps(obj: Any) -> Iterator[_Step]:
    try:
        reduced = obj.__reduce_ex__(4)
    except Exception:  # noqa: BLE001 - it refuses by itself, whatever it raises
        return
    if not isinstance(reduced, tuple):
        return
    maker, args, state, items, pairs = (*reduced, None, None, None)[:5]
    made_by_class = getattr(maker, "__name__", "") in ("__newobj__", "__newobj_ex__")
    for i, part in enumerate(args or ()):
        if isinstance(part, type):
            yield _Step(part.__name__, f"class {part.__qualname__}", part)
        elif isinstance(obj, BaseException):
            yield _Step(f"args[{i}]", f".args[{i}]", part)
        else:
            yield _Step(f"argument {i}", f"argument {i} of its {'__new__' if made_by_class else '__reduce__'}", part)
    for part in state if isinstance(state, tuple) else (state,):
        if isinstance(part, dict):
            yield from (_Step(str(key), f".{key}", value) for key, value in part.items())
        elif part is not None:
            yield _Step("state", "its __getstate__()", part)
    yield from (_Step(f"[{i}]", f"[{i}]", part) for i, part in enumerate(items or ()))
    yield from (_Step(repr(key), f"[{key!r}]", part) for key, part in pairs or ())


def _names_used(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names_used(constant)


def _where(function: Any, variable: str | None = None) -> str:
    """Name, file and line of a function; the line where it first uses ``variable``, if given."""
    code = function.__code__
    line = (_line_of_use(code, variable) if variable else None) or code.co_firstlineno
    return f"{function.__qualname__} ({os.path.basename(code.co_filename)}:{line})"


def _line_of_use(code: types.CodeType, variable: str) -> int | None:
    for instruction in dis.get_instructions(code):
        if instruction.argval == variable and instruction.opname.startswith("LOAD_") and instruction.positions:
            return instruction.positions.lineno
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType) and (line := _line_of_use(constant, variable)):
            return line
    return None


def _type_name(obj: Any) -> str:
    cls = obj if isinstance(obj, type) else type(obj)
    return cls.__qualname__ if cls.__module__ in ("builtins", "__main__") else f"{cls.__module__}.{cls.__qualname__}"
