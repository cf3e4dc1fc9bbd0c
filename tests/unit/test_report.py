"""The text of `rayd status`."""

from typing import Any

import pytest

from rayd.report import size, status_text


def node(**changes: Any) -> dict[str, Any]:
    return {
        "node_id": "ab" * 28,
        "alive": True,
        "address": "127.0.0.1:6379",
        "hostname": "box",
        "total": {"CPU": 8.0, "disk": 1.0, "memory": 4 * 2.0**30, "node:127.0.0.1": 1.0},
        "available": {"CPU": 8.0, "disk": 1.0, "memory": 4 * 2.0**30, "node:127.0.0.1": 1.0},
        "workers": 3,
        "actors": 0,
        "is_head": True,
    } | changes


def text(*nodes: dict[str, Any], demands: list[dict[str, Any]] | None = None) -> list[str]:
    store = {"used": 512 * 2**20, "capacity": 2 * 2**30, "objects": 7}
    return status_text({"nodes": nodes, "demands": demands or [], "store": store}, "2026-01-01 12:00:00").splitlines()


def section(lines: list[str], title: str) -> list[str]:
    """The indented lines below a title."""
    rest = lines[lines.index(title) + 1 :]
    end = next((at for at, line in enumerate(rest) if not line.startswith(" ")), len(rest))
    return rest[:end]


def test_a_node_of_which_nothing_is_used_is_idle() -> None:
    lines = text(node())
    assert section(lines, "Active:") == [" (no active nodes)"]
    assert section(lines, "Idle:") == [f" 1 node_{'ab' * 28} (head, box, 127.0.0.1:6379): 3 workers, 0 actors"]


def test_a_node_with_used_resources_or_actors_is_active() -> None:
    assert "3 workers" in section(text(node(available={"CPU": 6.5})), "Active:")[0]
    assert "1 actors" in section(text(node(actors=1)), "Active:")[0]


def test_a_dead_node_is_a_failure_and_its_resources_do_not_count() -> None:
    lines = text(node(), node(alive=False, is_head=False, node_id="cd"))
    assert section(lines, "Recent failures:")[0].startswith(" 1 node_cd (box")
    assert " 0.0/8.0 CPU" in lines


def test_usage_is_shown_with_units_and_without_internal_resources() -> None:
    lines = section(text(node(available={"CPU": 5.9999, "disk": 1.0, "memory": 3 * 2.0**30})), "Total Usage:")
    assert lines == [
        " 2.0001/8.0 CPU",
        " 0.0/1.0 disk",
        " 1.00GiB/4.00GiB memory",
        " 512.00MiB/2.00GiB object_store_memory (7 objects)",
    ]


def test_demands_are_counted_and_the_impossible_ones_are_marked() -> None:
    demand = {
        "resources": {"GPU": 1.0},
        "count": 3,
        "what": "pending tasks/actors",
        "name": "train",
        "infeasible": True,
    }
    lines = section(text(node(), demands=[demand, demand | {"infeasible": False}]), "Total Demands:")
    assert lines[0].startswith(" {'GPU': 1.0}: 3+ pending tasks/actors (train); no node has that much")
    assert lines[1] == " {'GPU': 1.0}: 3+ pending tasks/actors (train)"


def test_without_demands_it_says_so() -> None:
    assert section(text(node()), "Total Demands:") == [" (no resource demands)"]


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, "0B"), (1023, "1023B"), (1024, "1.00KiB"), (5 * 2**20, "5.00MiB"), (2**40, "1.00TiB"), (2**50, "1024.00TiB")],
)
def test_sizes_have_units(count: int, expected: str) -> None:
    assert size(count) == expected
