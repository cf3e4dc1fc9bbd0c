"""Names of Ray's surface that have no meaning here; they say so when used."""

import enum
from typing import Any, NoReturn

SCRIPT_MODE = 0
WORKER_MODE = 1


class Language(enum.Enum):
    """Languages of remote functions; only Python is supported."""

    PYTHON = 0
    CPP = 1
    JAVA = 2


def java_function(class_name: str, function_name: str) -> NoReturn:
    """Not supported.

    Raises:
        CrossLanguageError: always.
    """
    _refuse(f"java_function({class_name!r}, {function_name!r})")


def java_actor_class(class_name: str) -> NoReturn:
    """Not supported.

    Raises:
        CrossLanguageError: always.
    """
    _refuse(f"java_actor_class({class_name!r})")


def cpp_function(function_name: str) -> NoReturn:
    """Not supported.

    Raises:
        CrossLanguageError: always.
    """
    _refuse(f"cpp_function({function_name!r})")


def _refuse(what: str) -> NoReturn:
    from ray.exceptions import CrossLanguageError

    raise CrossLanguageError(
        f"{what}: rayd runs Python only; call the other language from a Python function, for example through subprocess"
    )


class LoggingConfig:
    """How worker logs are written; accepted by ``ray.init`` for compatibility.

    Args:
        encoding: "TEXT" or "JSON".
        log_level: name of a level.
        additional_log_standard_attrs: further attributes of log records.
    """

    def __init__(
        self,
        encoding: str = "TEXT",
        log_level: str = "INFO",
        additional_log_standard_attrs: list[str] | None = None,
    ) -> None:
        if encoding not in ("TEXT", "JSON"):
            raise ValueError(f'encoding={encoding!r}: use "TEXT" or "JSON"')
        self.encoding = encoding
        self.log_level = log_level
        self.additional_log_standard_attrs = list(additional_log_standard_attrs or [])


class ClientBuilder:
    """The builder of old programs: ``ray.client(address).namespace(n).connect()``.

    Args:
        address: as for ``ray.init``.
    """

    def __init__(self, address: str | None) -> None:
        self._address = address
        self._settings: dict[str, Any] = {}

    def env(self, runtime_env: dict[str, Any]) -> "ClientBuilder":
        """The environment of all workers."""
        self._settings["runtime_env"] = runtime_env
        return self

    def namespace(self, namespace: str) -> "ClientBuilder":
        """Where named actors live."""
        self._settings["namespace"] = namespace
        return self

    def connect(self) -> Any:
        """The same as ``ray.init``."""
        from ray._init import init

        return init(self._address, **self._settings)


def client(address: str | None = None) -> ClientBuilder:
    """Start of ``ray.client(...).connect()``; ``ray.init(address)`` does the same."""
    return ClientBuilder(address)
