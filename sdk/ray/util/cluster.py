"""Small questions about the cluster."""

from typing import Any

from ray import _session


def get_node_ip_address() -> str:
    """Address by which the cluster knows this machine."""
    return str(_session.need().client.info["host"])


def list_named_actors(all_namespaces: bool = False) -> list[Any]:
    """Names of the live named actors of this namespace; of all of them, as maps with ``name`` and ``namespace``, when
    asked.
    """
    rows = _session.need().client.rpc("list_named_actors", all_namespaces=all_namespaces)
    return list(rows) if all_namespaces else [row["name"] for row in rows]
