"""Saying something once instead of every time."""

import threading
import time
from typing import Final

_lock: Final = threading.Lock()
_said: Final = dict[str, float]()
_settings: Final = {"enabled": True, "period_s": float("inf")}


def log_once(key: str) -> bool:
    """Whether the message known as ``key`` is to be logged now: True the first time, then False.

    Args:
        key: any text that names the message.
    """
    now = time.monotonic()
    with _lock:
        last = _said.get(key)
        if not _settings["enabled"] or (last is not None and now - last < _settings["period_s"]):
            return False
        _said[key] = now
    return True


def disable_log_once_globally() -> None:
    """Make ``log_once`` return False from now on."""
    with _lock:
        _settings["enabled"] = False


def enable_periodic_logging(period_s: float = 60.0) -> None:
    """Make ``log_once`` return True again for a key after some time.

    Args:
        period_s: seconds between two times.
    """
    with _lock:
        _settings["enabled"] = True
        _settings["period_s"] = period_s
