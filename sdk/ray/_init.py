"""``ray.init``: join a cluster or start one, and what it returns."""

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from ray import _session

if TYPE_CHECKING:
    from rayd.shell.dial import Target
    from rayd.shell.launch import Launching

# Settings that describe a machine; meaningless for one that already runs.
_MACHINE_SETTINGS: Final = ("num_cpus", "num_gpus", "resources", "labels", "object_store_memory")
# Private keywords of Ray that change nothing here.
_ACCEPTED: Final = frozenset(
    "_driver_object_store_memory _enable_object_reconstruction _labels _lru_evict _memory _metrics_export_port"
    " _node_ip_address _node_name _plasma_directory _redis_password _redis_username _system_config _temp_dir"
    " _tracing_startup_hook".split()
)


class RayContext(Mapping[str, Any]):
    """What ``ray.init`` returns: the cluster's addresses, usable as a context manager that shuts down at its end."""

    def __init__(self, info: dict[str, Any]) -> None:
        import ray

        self.dashboard_url: str | None = None
        self.python_version: str = info["python"]
        self.ray_version: str = ray.__version__
        self.ray_commit: str = ray.__commit__
        self.address_info: dict[str, Any] = {
            "node_ip_address": info["host"],
            "address": info["address"],
            "gcs_address": info["address"],
            "redis_address": info["address"],
            "raylet_socket_name": info["socket"],
            "object_store_address": info["store_path"],
            "webui_url": None,
            "session_dir": info["session_dir"],
            "metrics_export_port": 0,
            "node_id": info["node_id"].hex(),
        }

    def __getitem__(self, key: str) -> Any:
        return self.address_info[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.address_info)

    def __len__(self) -> int:
        return len(self.address_info)

    def __enter__(self) -> "RayContext":
        return self

    def __exit__(self, *_: object) -> None:
        self.disconnect()

    def disconnect(self) -> None:
        """The same as ``ray.shutdown()``."""
        _session.stop()

    def __repr__(self) -> str:
        return f"RayContext(address={self.address_info['address']!r}, session_dir={self.address_info['session_dir']!r})"


class OwnDaemon:
    """A daemon that this process has started for itself."""

    def __init__(self, ready: Any) -> None:
        self._ready = ready

    def wait_gone(self, timeout_s: float = 10.0) -> None:
        """Wait until it has ended; kill it if it does not."""
        from rayd.shell import procfs

        if not procfs.wait_gone(self._ready.pid, self._ready.pid_start_time, timeout_s):
            procfs.end_session(self._ready.pid)
            procfs.wait_gone(self._ready.pid, self._ready.pid_start_time, timeout_s)


def init(
    address: str | None = None,
    *,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    resources: Mapping[str, float] | None = None,
    labels: Mapping[str, str] | None = None,
    object_store_memory: int | None = None,
    local_mode: bool = False,
    ignore_reinit_error: bool = False,
    include_dashboard: bool | None = None,
    dashboard_host: str = "127.0.0.1",
    dashboard_port: int | None = None,
    job_config: Any = None,
    configure_logging: bool = True,
    logging_level: int | str | None = None,
    logging_format: str | None = None,
    logging_config: Any = None,
    log_to_driver: bool | None = None,
    namespace: str | None = None,
    runtime_env: Mapping[str, Any] | None = None,
    enable_resource_isolation: bool = False,
    cgroup_path: str | None = None,
    system_reserved_cpu: float | None = None,
    system_reserved_memory: int | None = None,
    proxy_server_url: str | None = None,
    progress: bool | None = None,
    weight: float = 1.0,
    **kwargs: Any,
) -> RayContext:
    """Connect this program to a cluster, starting one on this machine if there is none.

    Args:
        address: None: RAY_ADDRESS, else the cluster started last with ``rayd start``, else a new one that ends with
            this program.
            "auto": the same, but never a new one. "local": always a new one. "host:port": that cluster, on this or
            another machine; "ray://host:port": the same, and always over the network. Another machine's cluster asks
            for its token (see `rayd token`).
        num_cpus: CPUs of a new cluster (default: the usable ones).
        num_gpus: GPUs of a new cluster (default: the visible ones); may exceed what is built in.
        resources: further resources of a new cluster, amounts by name.
        labels: labels of a new cluster's node.
        object_store_memory: bytes for the object store of a new cluster (default: 30 % of the available memory).
        local_mode: not supported any more.
        ignore_reinit_error: return the present context instead of raising when already connected.
        include_dashboard, dashboard_host, dashboard_port, proxy_server_url: accepted; there is no dashboard yet.
        configure_logging, logging_level, logging_format, logging_config: accepted; the SDK logs to the logger "ray"
            only.
        job_config: accepted; its ``ray_namespace`` and ``runtime_env`` are used when the arguments of that meaning
            are not given.
        enable_resource_isolation, cgroup_path, system_reserved_cpu, system_reserved_memory: accepted without effect.
        log_to_driver: print what workers write (default: True, or RAY_LOG_TO_DRIVER).
        namespace: where this program's named actors live (default: RAY_NAMESPACE, else one of its own).
        runtime_env: environment of all workers of this program; ``env_vars`` is a map of environment variables.
        progress: show running tasks by name in the terminal (default: False, or RAY_PROGRESS=1).
        weight: this program's share of what several want at a time, relative to theirs, 0.001 to 1000. Ray has none.
        kwargs: private keywords of Ray are accepted without effect; unknown ones are errors.

    Returns:
        the context.

    Raises:
        RuntimeError: already connected, unknown keyword, or local_mode.
        ValueError: settings of a machine together with an existing cluster, or settings that make no sense.
        ConnectionError: no cluster at that address, or it refuses.
    """
    _check_arguments(namespace, weight, local_mode, kwargs)
    namespace = namespace or getattr(job_config, "ray_namespace", None)
    runtime_env = _checked_env(runtime_env or getattr(job_config, "runtime_env", None))
    with _session._lock:
        if _session.current is not None:
            if ignore_reinit_error:
                return RayContext(_session.current.client.info)
            raise RuntimeError(
                "ray.init() was already called in this program. Call ray.shutdown() first, or pass"
                " ignore_reinit_error=True to keep the session."
            )
        machine = {
            "num_cpus": num_cpus,
            "num_gpus": num_gpus,
            "resources": resources,
            "labels": labels,
            "object_store_memory": object_store_memory,
        }
        target, launching = _locate(address, machine, kwargs.get("_temp_dir"))
        return _enter(target, launching, log_to_driver, namespace, runtime_env, progress, weight)


def _check_arguments(namespace: Any, weight: Any, local_mode: bool, others: Mapping[str, Any]) -> None:
    """Raise what ``init`` says of arguments that make no sense."""
    unknown = sorted(set(others) - _ACCEPTED)
    if unknown:
        raise RuntimeError(f"ray.init() does not know {', '.join(unknown)}; see help(ray.init) for its keywords")
    if namespace is not None and not isinstance(namespace, str):
        raise TypeError(f"namespace={namespace!r}: a namespace is a text, not {type(namespace).__name__}")
    if namespace == "":
        raise ValueError('namespace="" is none; leave it out to get a namespace of your own')
    if isinstance(weight, bool) or not isinstance(weight, int | float):
        raise TypeError(f"weight={weight!r}: a weight is a number, not {type(weight).__name__}")
    if not 0.001 <= weight <= 1000:
        raise ValueError(f"weight={weight!r}: give 0.001 to 1000; 2 is twice the share of a program with 1")
    if local_mode:
        raise RuntimeError(
            "local_mode is not supported any more; use num_cpus=1, or call the plain function without .remote()"
        )


def _checked_env(runtime_env: Any) -> Any:
    if runtime_env is None:
        return None
    from ray import _option_rules  # only programs that have one pay for it

    return _option_rules.runtime_env("runtime_env", runtime_env)


def _locate(
    address: str | None, machine: dict[str, Any], temp_dir: str | None
) -> tuple["Target | None", "Launching | None"]:
    """The daemon to use, or the one that is being started for us."""
    from rayd.config import Config, Environment
    from rayd.shell import sessions
    from rayd.shell.dial import Target

    wanted = address or Environment.read().address
    if wanted == "local":
        wanted = None
    elif wanted is None:
        try:
            record = sessions.find()
        except sessions.NoDaemonError:
            record = None
        if record is not None:
            _refuse_machine_settings(machine, record.address)
            return Target(record.socket), None
    if wanted is not None:
        try:
            target = sessions.target(wanted)
        except sessions.NoDaemonError as error:
            raise ConnectionError(str(error)) from None
        _refuse_machine_settings(machine, wanted)
        return target, None
    from rayd.shell.launch import Launching

    return None, Launching(Config.make(embedded_pid=os.getpid(), temp_dir=temp_dir, **machine))


def _refuse_machine_settings(machine: dict[str, Any], address: str) -> None:
    given = [name for name in _MACHINE_SETTINGS if machine[name] is not None]
    if given:
        raise ValueError(
            f"{', '.join(given)} cannot be given when joining the existing cluster at {address}: its machines are"
            " what they are. Leave them"
            ' out, or pass address="local" to start a cluster of your own.'
        )


def _enter(
    target: "Target | None",
    launching: "Launching | None",
    log_to_driver: bool | None,
    namespace: str | None,
    runtime_env: Mapping[str, Any] | None,
    progress: bool | None,
    weight: float,
) -> RayContext:
    try:
        # A third of the time to the first task is spent importing these, if it is not spent while the daemon starts.
        from ray._driver_output import DriverOutput
        from ray._session import Session

        env = {str(k): str(v) for k, v in dict((runtime_env or {}).get("env_vars") or {}).items()}
        from rayd.shell.dial import Target

        info = _session.self_description(namespace or os.environ.get("RAY_NAMESPACE"), env)
        info["weight"] = float(weight)
    except BaseException:
        if launching is not None:
            launching.abandon()
        raise
    daemon = None
    if launching is not None:
        ready = launching.finish()
        target, daemon = Target(ready.socket), OwnDaemon(ready)
    assert target is not None
    info["elsewhere"] = not target.path
    try:
        client = _session.connect(target, "driver", info)
    except BaseException:
        if daemon is not None:
            daemon.wait_gone(0.0)
        raise
    client.default_retries = int(os.environ.get("RAY_TASK_MAX_RETRIES", "3"))
    if log_to_driver is None:
        log_to_driver = os.environ.get("RAY_LOG_TO_DRIVER", "1") != "0"
    output = DriverOutput(target, client, show_lines=log_to_driver, progress=progress)
    _session.start(Session(client, daemon=daemon, output=output, runtime_env=runtime_env))
    return RayContext(client.info)
