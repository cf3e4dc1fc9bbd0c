"""Key-value pairs of a cluster, by namespace."""

from collections.abc import Callable
from typing import Any

from rayd.core.journal import KEY, Journal
from rayd.core.state import Conn


class KeyValue:
    """What users have stored under names; of no use except in the head.

    Args:
        journal: what of it outlives the head.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._values: dict[tuple[str, bytes], bytes] = {}

    def methods(self) -> dict[str, Callable[[Conn, dict[str, Any]], tuple[bool, Any]]]:
        """The questions and orders, by name."""
        return {"kv_del": self.delete, "kv_get": self.get, "kv_list": self.list, "kv_put": self.put}

    def restore(self, rows: list[tuple[bytes, Any]]) -> None:
        """This head has begun anew: these were the pairs."""
        for _, (space, key, value) in rows:
            self._values[space, key] = value

    def put(self, conn: Conn, params: dict[str, Any]) -> tuple[bool, Any]:
        """Returns whether the key was there before. params: namespace, key, value, overwrite."""
        name = _name(params)
        value, before = _bytes(params["value"]), self._values.get(name)
        if before == value and params.get("again"):  # the head has gone before it could answer
            return True, False
        if before is None or params.get("overwrite", True):
            self._set(name, value)
        return True, before is not None

    def get(self, conn: Conn, params: dict[str, Any]) -> tuple[bool, Any]:
        """The value, None if there is none. params: namespace, key."""
        return True, self._values.get(_name(params))

    def delete(self, conn: Conn, params: dict[str, Any]) -> tuple[bool, Any]:
        """Returns whether there was one. params: namespace, key."""
        name = _name(params)
        there = name in self._values
        if there:
            self._set(name, None)
        return True, there

    def list(self, conn: Conn, params: dict[str, Any]) -> tuple[bool, Any]:
        """Keys of a namespace with a prefix."""
        space, prefix = str(params.get("namespace", "")), _bytes(params.get("prefix", b""))
        return True, [key for found, key in self._values if found == space and key.startswith(prefix)]

    def _set(self, name: tuple[str, bytes], value: bytes | None) -> None:
        before = self._values.get(name)
        self._replace(name, value)
        row = None if value is None else [*name, value]
        space = name[0].encode()
        key = len(space).to_bytes(4, "big") + space + name[1]
        self._journal.put(KEY, key, row, lambda: self._replace(name, before))

    def _replace(self, name: tuple[str, bytes], value: bytes | None) -> None:
        if value is None:
            self._values.pop(name, None)
        else:
            self._values[name] = value


def _name(params: dict[str, Any]) -> tuple[str, bytes]:
    return str(params.get("namespace", "")), _bytes(params["key"])


def _bytes(value: Any) -> bytes:
    """The value itself: ``bytes(value)`` would make as many zeros as a number says."""
    if type(value) is not bytes:
        raise TypeError(f"expected bytes, got {type(value).__name__}")
    return value
