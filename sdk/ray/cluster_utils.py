"""Clusters of several real daemons on one machine, for tests of programs that are to run on many machines."""

import atexit
import os
import signal
import time
from collections.abc import Mapping
from typing import Any, Final

import ray
from rayd.config import Config
from rayd.shell import procfs, sessions
from rayd.shell.control import Control, ControlError
from rayd.shell.launch import Ready, launch

_STORE_BYTES: Final = 150 * 1024 * 1024
_GRACE_S: Final = 10.0
_LOOK_AGAIN_S: Final = 0.01


class ClusterNode:
    """One daemon of a ``Cluster``.

    Attributes:
        node_id: hex, as in ``ray.nodes()``; ``unique_id`` is the same.
        address: host:port.
        node_ip_address: its host.
        address_info: the facts of ``ray.init().address_info`` that are known of it.
    """

    def __init__(self, ready: Ready) -> None:
        self._ready = ready
        self.node_id = ready.node_id
        self.unique_id = ready.node_id
        self.address = ready.address
        self.node_ip_address = ready.address.rpartition(":")[0]
        self.address_info: dict[str, Any] = {
            "address": ready.address,
            "gcs_address": ready.address,
            "node_id": ready.node_id,
            "node_ip_address": self.node_ip_address,
            "raylet_socket_name": ready.socket,
            "session_dir": ready.session_dir,
        }

    @property
    def pid(self) -> int:
        """Process of the daemon."""
        return self._ready.pid

    def alive(self) -> bool:
        """Whether the daemon runs."""
        return procfs.alive(self._ready.pid, self._ready.pid_start_time)

    def kill_raylet(self) -> None:
        """SIGKILL the daemon: the death of a machine."""
        procfs.kill(self._ready.pid, signal.SIGKILL)
        self._wait()

    def stop(self) -> None:
        """End the daemon in order; kill it if it does not."""
        procfs.kill(self._ready.pid, signal.SIGTERM)
        self._wait()

    def _wait(self) -> None:
        ready = self._ready
        if not procfs.wait_gone(ready.pid, ready.pid_start_time, _GRACE_S):
            procfs.kill(ready.pid, signal.SIGKILL)
            procfs.wait_gone(ready.pid, ready.pid_start_time, _GRACE_S)
        procfs.end_session(ready.pid)
        sessions.clean(os.path.dirname(ready.session_dir))

    def __repr__(self) -> str:
        return f"ClusterNode(address={self.address!r}, node_id={self.node_id!r})"


class Cluster:
    """A head and other nodes, each a daemon of its own with an address of its own; also a context manager.

    Args:
        initialize_head: start the head at once.
        connect: connect this program to it, too.
        head_node_args: arguments of ``add_node`` for the head.
        shutdown_at_exit: end all daemons when the program ends.
    """

    def __init__(
        self,
        initialize_head: bool = False,
        connect: bool = False,
        head_node_args: Mapping[str, Any] | None = None,
        shutdown_at_exit: bool = True,
    ) -> None:
        self.head_node: ClusterNode | None = None
        self.worker_nodes: list[ClusterNode] = []
        self._connected = False
        if connect and not initialize_head:
            raise ValueError("connect=True takes initialize_head=True: there is nothing else to connect to")
        if shutdown_at_exit:
            atexit.register(self.shutdown)
        if initialize_head:
            self.add_node(**dict(head_node_args or {}))
            if connect:
                self.connect()

    @property
    def address(self) -> str:
        """host:port of the head."""
        if self.head_node is None:
            raise RuntimeError("this cluster has no head yet; call add_node()")
        return self.head_node.address

    gcs_address = address

    def add_node(
        self,
        wait: bool = True,
        *,
        num_cpus: float = 1,
        num_gpus: float = 0,
        resources: Mapping[str, float] | None = None,
        labels: Mapping[str, str] | None = None,
        object_store_memory: int = _STORE_BYTES,
        node_name: str | None = None,
        node_ip_address: str | None = None,
        env_vars: Mapping[str, str] | None = None,
    ) -> ClusterNode:
        """Start another daemon: the head if it is the first one.

        Args:
            wait: return only when the head knows it; a node that joins has always been let in when this returns.
            num_cpus, num_gpus, resources, labels, object_store_memory, node_name: what the node offers, as for
                ``ray.init``.
            node_ip_address: an address of this machine at which it listens, 127.0.0.1 by default; at any that is not of
                loopback, what crosses nodes goes over TLS.
            env_vars: variables of the daemon's environment, and so of its workers'.

        Raises:
            RuntimeError: it did not start; the text says why.
        """
        head = self.head_node
        config = Config.make(
            head=head is None,
            join=head.address if head is not None else "",
            port=0,
            host=node_ip_address,
            num_cpus=num_cpus,
            num_gpus=num_gpus,
            resources=resources,
            labels=labels,
            object_store_memory=object_store_memory,
            node_name=node_name,
        )
        before = {name: os.environ.get(name) for name in env_vars or {}}
        os.environ.update(env_vars or {})
        try:
            node = ClusterNode(launch(config))
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
        if head is None:
            self.head_node = node
        else:
            self.worker_nodes.append(node)
        return node

    def remove_node(self, node: ClusterNode, allow_graceful: bool = True) -> None:
        """End a node.

        Args:
            node: of this cluster. The head can be removed only when no other is left.
            allow_graceful: False to kill it instead.

        Raises:
            ValueError: it is the head and others are left, or none of this cluster.
        """
        if node is self.head_node:
            if self.worker_nodes:
                raise ValueError("the head goes last: remove the other nodes first, or call shutdown()")
            self.head_node = None
        elif node in self.worker_nodes:
            self.worker_nodes.remove(node)
        else:
            raise ValueError(f"{node!r} is no node of this cluster")
        if allow_graceful:
            node.stop()
        else:
            node.kill_raylet()

    def wait_for_nodes(self, timeout: float = 30) -> None:
        """Wait until the head counts as many living nodes as were added and not removed.

        Args:
            timeout: in seconds.

        Raises:
            TimeoutError: it does not come to that in time.
        """
        wanted = len(self.list_all_nodes())
        deadline = time.monotonic() + timeout
        while (found := self._living()) != wanted:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the cluster has {found} living nodes after {timeout:g} s, not {wanted}")
            time.sleep(_LOOK_AGAIN_S)

    def _living(self) -> int:
        assert self.head_node is not None
        try:
            with Control(self.head_node.address_info["raylet_socket_name"]) as control:
                return sum(bool(node["alive"]) for node in control.rpc("status")["nodes"])
        except ControlError:
            return 0

    def list_all_nodes(self) -> list[ClusterNode]:
        """The head and the others, as they were added."""
        return [node for node in [self.head_node, *self.worker_nodes] if node is not None]

    def connect(self, namespace: str | None = None) -> None:
        """Connect this program to the cluster: ``ray.init`` with its address."""
        ray.init(self.address, namespace=namespace)
        self._connected = True

    def remaining_processes_alive(self) -> bool:
        """Whether all daemons run."""
        return all(node.alive() for node in self.list_all_nodes())

    def shutdown(self) -> None:
        """End everything; more than once is fine."""
        if self._connected:
            ray.shutdown()
            self._connected = False
        for node in reversed(self.list_all_nodes()):
            node.stop()
        self.worker_nodes.clear()
        self.head_node = None
        atexit.unregister(self.shutdown)

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
