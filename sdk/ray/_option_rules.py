"""One rule per option: what it takes, and what it says when it gets something else.

A rule is a function ``(option name, value) -> value to keep``. It raises TypeError for a value of the wrong type and
ValueError for a value of the right type that makes no sense. What depends on two options is checked where they meet, in
``_options``.
"""

import difflib
import enum
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias

Rule: TypeAlias = Callable[[str, Any], Any]


class NotGiven(enum.Enum):
    """Type of ``NOT_GIVEN``."""

    NOT_GIVEN = "not given"

    def __repr__(self) -> str:
        return "NOT_GIVEN"


# Where None is a value of its own: ``placement_group=None`` leaves the parent's group, not giving it stays inside.
NOT_GIVEN: Final = NotGiven.NOT_GIVEN

QUANTITY_MIN: Final = 0.0001
SECONDS_MAX: Final = 10**9
PRIORITY_MAX: Final = 100
_RESERVED: Final = {"CPU": "num_cpus", "GPU": "num_gpus"}
# Label syntax: an optional prefix and slash in the key, values of at most 63 characters.
_LABEL_NAME: Final = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
_LABEL_KEY: Final = re.compile(rf"(?:[a-z0-9.-]+/)?{_LABEL_NAME}")
_LABEL_VALUE: Final = re.compile(rf"!?(?:{_LABEL_NAME})?|!?in\(\s*{_LABEL_NAME}\s*(?:,\s*{_LABEL_NAME}\s*)*\)")


def wrong_type(option: str, expected: str, value: Any) -> TypeError:
    """The error for a value of the wrong type."""
    return TypeError(
        f"The type of keyword '{option}' must be {expected}, got {value!r} of type {type(value).__name__}."
    )


def unknown_option(option: str, owner: str, valid: Iterable[str]) -> str:
    """Text for an option that does not exist, with the nearest one that does.

    Args:
        option: as the user wrote it.
        owner: what the options are of, such as ``"remote functions"``.
        valid: the options that exist.
    """
    names = sorted(valid, key=lambda name: (name.startswith("_"), name))
    near = difflib.get_close_matches(option, names, n=1, cutoff=0.6)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"Invalid option keyword {option!r} for {owner}.{hint} Valid ones are: {', '.join(names)}."


def apply(rules: Mapping[str, Rule], given: Mapping[str, Any], owner: str) -> dict[str, Any]:
    """The values to keep.

    Raises:
        ValueError: an option that does not exist, or a value that makes no sense.
        TypeError: a value of the wrong type.
    """
    kept = {}
    for option, value in given.items():
        rule = rules.get(option)
        if rule is None:
            raise ValueError(unknown_option(option, owner, rules))
        kept[option] = rule(option, value)
    return kept


def quantity(option: str, value: Any) -> float | None:
    """A resource quantity, cut to whole ten-thousandths so that equal shares always fit together."""
    if value is None:
        return None
    if not isinstance(value, int | float):
        raise wrong_type(option, "a number or None", value)
    if not math.isfinite(value):
        raise ValueError(f"The quantity of {option} must be finite, got {value!r}.")
    if value < 0:
        raise ValueError(f"The quantity of {option} cannot be negative, got {value!r}; use 0 to demand none.")
    if 0 < value < QUANTITY_MIN:
        raise ValueError(
            f"The quantity of {option} is counted in steps of {QUANTITY_MIN}, got {value!r}; "
            "use 0 or at least one step."
        )
    return math.floor(value * 10_000 + 1e-6) / 10_000


def seconds(option: str, value: Any) -> float | None:
    """A time that is not over at once, or None for any time."""
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise wrong_type(option, "a number of seconds or None", value)
    if not 0.001 <= value <= SECONDS_MAX:
        raise ValueError(f"{option}={value!r}: give seconds from 0.001 to {SECONDS_MAX}, or None for any time.")
    return float(value)


def priority(option: str, value: Any) -> int:
    """A level; higher ones go first."""
    if value is None:
        return 0
    if not isinstance(value, int) or isinstance(value, bool):
        raise wrong_type(option, "a whole number", value)
    if not -PRIORITY_MAX <= value <= PRIORITY_MAX:
        raise ValueError(f"{option}={value!r}: give {-PRIORITY_MAX} (last) to {PRIORITY_MAX} (first).")
    return value


def whole_above_one(option: str, value: Any) -> float | None:
    """A number of devices: a part of one, or whole ones."""
    kept = quantity(option, value)
    if kept is not None and kept > 1 and value != int(value):
        raise ValueError(f"{option} above 1 must be a whole number, got {value!r}; only a single device can be shared.")
    return kept


def custom_resources(option: str, value: Any) -> dict[str, float] | None:
    """Named quantities; CPU and GPU have their own options."""
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise wrong_type(option, "a dict of quantities by name, or None", value)
    kept = {}
    for name, amount in value.items():
        if not isinstance(name, str):
            raise TypeError(f"{option} takes names of resources as keys, got {name!r} of type {type(name).__name__}.")
        if name in _RESERVED:
            raise ValueError(f"{option} cannot contain {name!r}; use the option {_RESERVED[name]}={amount!r} instead.")
        if amount is None:
            raise TypeError(f"{option}[{name!r}] takes a number, got None; leave the key out to demand none.")
        kept[name] = quantity(f"{option}[{name!r}]", amount) or 0.0
    return kept


def text(option: str, value: Any) -> str | None:
    """A string."""
    if value is None or isinstance(value, str):
        return value
    raise wrong_type(option, "str or None", value)


def flag(option: str, value: Any) -> bool:
    """True or False."""
    if isinstance(value, bool):
        return value
    raise wrong_type(option, "bool", value)


def flag_or_none(option: str, value: Any) -> bool | None:
    """True, False or None."""
    return None if value is None else flag(option, value)


def integer(least: int, meaning: str) -> Rule:
    """Rule for a whole number of at least ``least``, or None; ``meaning`` says what the least value means."""

    def rule(option: str, value: Any) -> int | None:
        if value is None:
            return None
        if not isinstance(value, int):
            raise wrong_type(option, "int or None", value)
        if value < least:
            raise ValueError(f"{option} must be at least {least} ({meaning}), got {value}.")
        return int(value)

    return rule


def returns(option: str, value: Any) -> int | str | None:
    """How many values a call returns."""
    if value is None or value in ("streaming", "dynamic"):
        return value  # type: ignore[no-any-return]
    if isinstance(value, str):
        raise ValueError(f"{option} takes a whole number from 0, 'streaming' or 'dynamic', got {value!r}.")
    if not isinstance(value, int):
        raise wrong_type(option, "int, str or None", value)
    if value < 0:
        raise ValueError(f"{option} cannot be negative, got {value}; use 0 for a call whose result nobody needs.")
    return int(value)


def retried_exceptions(option: str, value: Any) -> bool | tuple[type[Exception], ...]:
    """Which exceptions of the user's code lead to another attempt."""
    if isinstance(value, bool):
        return value
    if not isinstance(value, list | tuple):
        raise wrong_type(option, "bool or a list of exception classes", value)
    for item in value:
        if not (isinstance(item, type) and issubclass(item, Exception)):
            raise ValueError(
                f"{option} takes True, False or a list of subclasses of Exception, got {item!r} in the list."
            )
    return tuple(value)


def mapping(option: str, value: Any) -> dict[str, Any] | None:
    """A dict; kept as given."""
    if value is None or isinstance(value, dict):
        return value
    raise wrong_type(option, "dict or None", value)


def runtime_env(option: str, value: Any) -> Any:
    """A description of the process to run in; kept as given."""
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise wrong_type(option, "dict or None", value)
    variables = value.get("env_vars")
    if variables is not None and not isinstance(variables, Mapping):
        raise wrong_type(f"{option}['env_vars']", "a dict of strings", variables)
    for name, content in (variables or {}).items():
        if not (isinstance(name, str) and isinstance(content, str)):
            raise TypeError(
                f"{option}['env_vars'] takes strings only, got {name!r}: {content!r}; write the value as a string."
            )
        if not name or "=" in name or "\0" in name + content or not _encodable(name + content):
            raise ValueError(
                f"{option}['env_vars'] has {name!r}: {content!r}, which no process can be given: a name has at least "
                "one character and no '=', and both are Unicode text without a zero byte."
            )
    return value


def _encodable(value: str) -> bool:
    try:
        os.fsencode(value)
    except UnicodeEncodeError:
        return False
    return True


def label_selector(option: str, value: Any) -> dict[str, str] | None:
    """Labels that the node must have."""
    if value is None:
        return None
    if not isinstance(value, dict):
        raise wrong_type(option, "a dict of conditions by label, or None", value)
    for key, condition in value.items():
        if not (isinstance(key, str) and isinstance(condition, str)):
            raise TypeError(f"{option} takes strings only, got {key!r}: {condition!r}.")
        if not _LABEL_KEY.fullmatch(key):
            raise ValueError(
                f"{option} has the label {key!r}; a label is up to 63 letters, digits, '-', '_' or '.', "
                "beginning and ending with a letter or digit, with an optional prefix and '/'."
            )
        if not _LABEL_VALUE.fullmatch(condition):
            raise ValueError(f"{option}[{key!r}] takes 'value', '!value', 'in(a,b)' or '!in(a,b)', got {condition!r}.")
    return value


def fallback_strategy(option: str, value: Any) -> list[dict[str, Any]] | None:
    """Label selectors to try in turn when the first one has no node."""
    if value is None:
        return None
    if not isinstance(value, list):
        raise wrong_type(option, "a list of dicts, or None", value)
    for i, entry in enumerate(value):
        if not isinstance(entry, dict):
            raise ValueError(
                f"{option}[{i}] takes a dict such as {{'label_selector': {{'region': 'eu'}}}}, got {entry!r}."
            )
        for key, selector in entry.items():
            if key != "label_selector":
                raise ValueError(f"{option}[{i}] has the key {key!r}; only 'label_selector' can fall back.")
            label_selector(f"{option}[{i}]['label_selector']", selector)
    return value


def scheduling_strategy(option: str, value: Any) -> Any:
    """Where to run."""
    if value is None or value in ("DEFAULT", "SPREAD"):
        return value
    if isinstance(value, str):
        raise ValueError(
            f"{option} takes 'DEFAULT', 'SPREAD' or an object of ray.util.scheduling_strategies, got {value!r}."
        )
    from ray.util.scheduling_strategies import STRATEGIES  # only programs that place by hand pay for it

    if not isinstance(value, STRATEGIES):
        raise wrong_type(option, "'DEFAULT', 'SPREAD' or an object of ray.util.scheduling_strategies", value)
    return value


def placement_group(option: str, value: Any) -> Any:
    """A placement group; None for none, ``"default"`` for the parent's."""
    if value is NOT_GIVEN or value == "default":
        return NOT_GIVEN
    if isinstance(value, str | int | float | list | dict):
        raise wrong_type(option, "a placement group, None or 'default'", value)
    return value


def bundle_index(option: str, value: Any) -> int:
    """The number of a bundle."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise wrong_type(option, "int", value)
    if value < -1:
        raise ValueError(f"{option} is counted from 0, and -1 takes any bundle; got {value}.")
    return value


def backpressure(option: str, value: Any) -> int | None:
    """How many items a streaming call may be ahead of its consumer."""
    if value is None:
        return None
    if not isinstance(value, int):
        raise wrong_type(option, "int or None", value)
    if value == 0 or value < -1:
        raise ValueError(f"{option} must be at least 1, or -1 for no limit, got {value}.")
    return value


def lifetime(option: str, value: Any) -> str | None:
    """How long an actor lives."""
    if text(option, value) not in (None, "detached", "non_detached"):
        raise ValueError(f"{option} takes 'detached', 'non_detached' or None, got {value!r}.")
    return None if value == "non_detached" else value


def actor_name(option: str, value: Any) -> str | None:
    """The name under which an actor can be found."""
    if text(option, value) == "":
        raise ValueError(f"{option} cannot be the empty string; leave it out for an actor without a name.")
    return value  # type: ignore[no-any-return]


def namespace(option: str, value: Any) -> str | None:
    """Where a named actor lives."""
    if text(option, value) == "":
        raise ValueError(f"{option} cannot be the empty string; leave it out for the namespace of this program.")
    return value  # type: ignore[no-any-return]


def concurrency_groups(option: str, value: Any) -> dict[str, int] | None:
    """Named groups of methods and how many calls of each may run at once."""
    if value is None:
        return None
    if not isinstance(value, dict):
        raise wrong_type(option, "a dict such as {'io': 2}, or None", value)
    for name, limit in value.items():
        if not isinstance(name, str):
            raise TypeError(f"{option} takes names of groups as keys, got {name!r} of type {type(name).__name__}.")
        if not isinstance(limit, int) or isinstance(limit, bool):
            raise wrong_type(f"{option}[{name!r}]", "int", limit)
        if limit < 1:
            raise ValueError(
                f"{option}[{name!r}] must be at least 1, got {limit}; with 0 no call of the group could ever run."
            )
    return value


def tensor_transport(option: str, value: Any) -> str | None:
    """How tensors travel between actors."""
    if (text(option, value) or "object_store").lower() != "object_store":
        raise ValueError(f"{option} takes 'object_store', got {value!r}; transfer between devices is not available.")
    return None if value is None else "object_store"
