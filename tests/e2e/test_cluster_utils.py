"""`ray.cluster_utils.Cluster`: several real daemons in a test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import ray
from ray.cluster_utils import Cluster

from .support import until


@pytest.fixture
def cluster(ray_tmpdir: Path) -> Iterator[Cluster]:
    with Cluster(initialize_head=True, connect=True, head_node_args={"num_cpus": 1}) as made:
        yield made


@ray.remote(resources={"special": 1})
def node_id() -> str:
    return str(ray.get_runtime_context().get_node_id())


def test_nodes_come_and_go(cluster: Cluster) -> None:
    special = cluster.add_node(num_cpus=2, resources={"special": 1})
    cluster.wait_for_nodes(20)
    assert ray.cluster_resources()["CPU"] == 3
    assert ray.get(node_id.remote()) == special.node_id
    assert [node.address for node in cluster.list_all_nodes()] == [cluster.address, special.address]
    cluster.remove_node(special)
    cluster.wait_for_nodes(20)
    assert not special.alive()
    assert ray.cluster_resources()["CPU"] == 1
    replacement = cluster.add_node(resources={"special": 1})
    assert ray.get(node_id.remote()) == replacement.node_id
    assert cluster.remaining_processes_alive()


def test_nodes_listen_where_they_are_told(cluster: Cluster) -> None:
    special = cluster.add_node(node_ip_address="127.0.0.2", resources={"special": 1})
    assert special.address.startswith("127.0.0.2:")
    assert ray.get(node_id.remote()) == special.node_id


def test_a_node_that_is_killed_is_missed(cluster: Cluster) -> None:
    node = cluster.add_node(num_cpus=2)
    node.kill_raylet()
    until(lambda: ray.cluster_resources()["CPU"] == 1)
    assert not cluster.remaining_processes_alive()
    with pytest.raises(TimeoutError, match="not 2"):
        cluster.wait_for_nodes(0.1)
    cluster.remove_node(node)


def test_variables_reach_the_workers_of_their_node_only(cluster: Cluster) -> None:
    cluster.add_node(num_cpus=1, resources={"special": 1}, env_vars={"FLAVOUR": "vanilla"})

    @ray.remote
    def flavour() -> str | None:
        import os

        return os.environ.get("FLAVOUR")

    assert ray.get(flavour.options(resources={"special": 1}).remote()) == "vanilla"
    assert ray.get(flavour.options(num_cpus=1, resources={"node:__internal_head__": 0.1}).remote()) is None


def test_what_cannot_be_is_refused(cluster: Cluster) -> None:
    node = cluster.add_node()
    assert cluster.head_node is not None
    with pytest.raises(ValueError, match="goes last"):
        cluster.remove_node(cluster.head_node)
    cluster.remove_node(node)
    with pytest.raises(ValueError, match="no node of this cluster"):
        cluster.remove_node(node)
    with pytest.raises(ValueError, match="initialize_head"):
        Cluster(connect=True)
    with pytest.raises(RuntimeError, match="no head yet"):
        Cluster().address  # noqa: B018 - to ask is the mistake
