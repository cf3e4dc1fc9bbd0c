"""What every job announces, by key: tasks, classes of actors, methods."""

from typing import Any, Final

TASKS: Final[list[dict[str, Any]]] = [
    {"name": "plain", "max_retries": 3},
    {"name": "once", "max_retries": 0},
    {"name": "wide", "resources": {"CPU": 2}, "max_retries": 3},
    {"name": "free", "resources": {}, "max_retries": 3},
    {"name": "disk", "resources": {"CPU": 1, "disk": 0.5}, "max_retries": 3},
    {"name": "gpu", "resources": {"CPU": 0.5, "GPU": 0.5}, "max_retries": 3},
    {"name": "spread", "spread": True, "max_retries": 3},
    {"name": "few", "max_calls": 3, "max_retries": 3},
    {"name": "items", "num_returns": -1, "max_retries": 3},
    {"name": "items once", "num_returns": -1, "max_retries": 0, "spread": True},
    {"name": "slow items", "num_returns": -1, "backpressure": 2, "max_retries": 3},
]
STREAMS: Final = (8, 9, 10)
SLOW_STREAM: Final = 10
ACTORS: Final[list[dict[str, Any]]] = [
    {"name": "Plain", "resources": {}},
    {"name": "Restarted", "resources": {"CPU": 0.5}, "max_restarts": 3},
    {"name": "Forever", "resources": {}, "max_restarts": -1, "concurrency": 3},
    {"name": "Spread", "resources": {"CPU": 0.25}, "spread": True, "max_restarts": -1},
    {"name": "Gpu", "resources": {"GPU": 0.5}, "max_restarts": 1},
    {"name": "Named", "resources": {}, "max_restarts": -1},
    {"name": "Service", "resources": {}, "max_restarts": -1, "detached": True},
    {"name": "Frail", "resources": {"CPU": 0.25}, "detached": True},
]
# How many of those have no name.
NAMELESS: Final = 5
METHODS: Final[list[dict[str, Any]]] = [
    {"name": "add", "method": "add"},
    {"name": "add again", "method": "add", "max_retries": 2},
    {"name": "items", "method": "yield", "num_returns": -1},
]
METHOD_STREAM: Final = 2
