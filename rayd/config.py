"""How one daemon is to run: a frozen record, complete and validated once, and the only reader of the environment in
``rayd``.

``Environment.read`` takes the variables that users set for Ray; ``Config.make`` turns what a user gave into a
complete record, with what was left out filled in from the environment and the machine. A ``Config`` that exists is
valid; it travels to the daemon as JSON.
"""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, NamedTuple, Self

from rayd import machine

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 6379
DEFAULT_TOKEN_FILE: Final = "~/.rayd/token"
# Below this the store cannot hold the handful of large objects that even small programs have at once.
STORE_BYTES_MIN: Final = 75 * 1024 * 1024
STORE_SHARE: Final = 0.3
STORE_BYTES_MAX: Final = 200 * 10**9
# A journal at a URL with one of these lies in a Redis server.
REDIS_SCHEMES: Final = ("redis", "rediss")
LOG_LEVELS: Final = ("debug", "info", "warning", "error")
# These have flags of their own; a second way to give them would let the two disagree.
_FLAG_OF_RESOURCE: Final = {
    "CPU": "num_cpus",
    "GPU": "num_gpus",
    "memory": "memory",
    "object_store_memory": "object_store_memory",
}


class ConfigError(ValueError):
    """A setting that cannot be used.

    Attributes:
        field: name of the setting as ``ray.init`` and ``Config`` spell it.
        flag: the same as a flag of the command line, or the environment variable's own name.
        problem: what is wrong with the value, and what to give instead.
    """

    def __init__(self, field: str, value: object, problem: str) -> None:
        super().__init__(field, value, problem)  # all three, so that it survives pickling
        self.field = field
        self.flag = field if field.isupper() else "--" + field.replace("_", "-")
        self.value = value
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.field}={self.value!r}: {self.problem}"


class Environment(NamedTuple):
    """The variables that concern a daemon.

    Attributes:
        address: RAY_ADDRESS, the cluster to join; None when not set or empty.
        temp_root: RAY_TMPDIR, the folder in which the folder ``ray`` of all sessions lies (default /tmp).
        visible_gpus: CUDA_VISIBLE_DEVICES; None when not set.
        store_share: RAY_DEFAULT_OBJECT_STORE_MEMORY_PROPORTION, part of the available memory for the object store
            (default 0.3).
        store_bytes_max: RAY_DEFAULT_OBJECT_STORE_MAX_MEMORY_BYTES, upper bound for that part (default 200 GB).
        token_file: RAYD_TOKEN_FILE, the file that holds the cluster's token (default ~/.rayd/token).
        unencrypted: RAYD_INSECURE_UNENCRYPTED_NETWORK=1, whether to connect to daemons that were told to go without
            TLS.
    """

    address: str | None = None
    temp_root: str = "/tmp"
    visible_gpus: str | None = None
    store_share: float = STORE_SHARE
    store_bytes_max: int = STORE_BYTES_MAX
    token_file: str = DEFAULT_TOKEN_FILE
    unencrypted: bool = False

    @classmethod
    def read(cls, variables: Mapping[str, str] | None = None) -> Self:
        """The environment as it is now.

        Args:
            variables: instead of the process's own, for tests.

        Raises:
            ConfigError: a variable holds no number where one is needed, or a relative RAY_TMPDIR.
        """
        given = os.environ if variables is None else variables
        temp_root = given.get("RAY_TMPDIR") or "/tmp"
        if not os.path.isabs(temp_root):
            raise ConfigError("RAY_TMPDIR", temp_root, "is a relative path; set an absolute one or unset it")
        share = _number_in(given, "RAY_DEFAULT_OBJECT_STORE_MEMORY_PROPORTION", STORE_SHARE)
        if not 0 < share <= 1:
            raise ConfigError("RAY_DEFAULT_OBJECT_STORE_MEMORY_PROPORTION", share, "must be above 0 and at most 1")
        return cls(
            address=given.get("RAY_ADDRESS") or None,
            temp_root=os.path.normpath(temp_root),
            visible_gpus=given.get("CUDA_VISIBLE_DEVICES"),
            store_share=share,
            store_bytes_max=int(_number_in(given, "RAY_DEFAULT_OBJECT_STORE_MAX_MEMORY_BYTES", STORE_BYTES_MAX)),
            token_file=given.get("RAYD_TOKEN_FILE") or DEFAULT_TOKEN_FILE,
            unencrypted=given.get("RAYD_INSECURE_UNENCRYPTED_NETWORK") == "1",
        )

    def token_path(self) -> str:
        """The token's file, in full."""
        return os.path.expanduser(self.token_file)

    def temp_dir(self) -> str:
        """The folder of all sessions of this user: ``<temp_root>/ray``, or ``ray-<uid>`` where another user owns the
        former.
        """
        shared = os.path.join(self.temp_root, "ray")
        try:
            owner = os.stat(shared).st_uid
        except OSError:
            return shared
        return shared if owner == os.getuid() else f"{shared}-{os.getuid()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """How one daemon is to run. Use ``Config.make``, which fills in what is not given.

    Attributes:
        head: whether it makes a cluster of its own.
        host: address of this machine by which the cluster is named.
        port: TCP port that names the cluster together with ``host``; 0 takes any free one.
        num_cpus: CPUs that tasks may use at the same time.
        num_gpus: GPUs that tasks may use, a whole number; may exceed what is built in.
        resources: further resources by name.
        labels: labels of this node.
        memory: bytes that tasks may ask for with the option ``memory``.
        object_store_memory: capacity of the object store in bytes.
        temp_dir: absolute path of the folder that holds the sessions.
        node_name: name of this node for people.
        embedded_pid: the driver that owns this daemon; the daemon ends when that process does. None for a daemon of
            its own.
        session_name: folder of this session inside ``temp_dir``; empty until the session is made.
        log_level: least level that is logged: debug, info, warning or error.
        unencrypted: leave out TLS where a connection leaves the machine.
        join: host:port of the head whose cluster this daemon joins; empty for the head itself.
        journal: file or Redis URL in which the head keeps what shall outlive it; empty for none.
        journal_kept: an orderly stop leaves the journal as it is; otherwise the cluster has then come to its end.
    """

    head: bool
    host: str
    port: int
    num_cpus: float
    num_gpus: float
    resources: dict[str, float]
    labels: dict[str, str]
    memory: int
    object_store_memory: int
    temp_dir: str
    node_name: str
    embedded_pid: int | None = None
    session_name: str = ""
    log_level: str = "info"
    unencrypted: bool = False
    join: str = ""
    journal: str = ""
    journal_kept: bool = False

    def __post_init__(self) -> None:
        if not self.host or self.host in {"0.0.0.0", "::", "*"}:
            raise ConfigError(
                "host", self.host, f"is no single address; give one of this machine, such as {DEFAULT_HOST}"
            )
        if not _is_whole(self.port) or not 0 <= self.port <= 65535:
            raise ConfigError("port", self.port, "is no TCP port; give 1 to 65535, or 0 for any free one")
        _check_amount("num_cpus", self.num_cpus)
        _check_amount("num_gpus", self.num_gpus)
        if self.num_gpus != int(self.num_gpus):
            raise ConfigError("num_gpus", self.num_gpus, "a machine has whole GPUs; tasks may ask for parts of one")
        _check_resources(self.resources)
        _check_labels(self.labels)
        _check_bytes("memory", self.memory, 0)
        _check_bytes("object_store_memory", self.object_store_memory, STORE_BYTES_MIN)
        if not os.path.isabs(self.temp_dir):
            raise ConfigError("temp_dir", self.temp_dir, "is a relative path; give an absolute one")
        if "/" in self.session_name:
            raise ConfigError("session_name", self.session_name, "is a path; give the name of a folder in temp_dir")
        if self.log_level not in LOG_LEVELS:
            raise ConfigError("log_level", self.log_level, f"is no level; give one of {', '.join(LOG_LEVELS)}")

    @classmethod
    def make(
        cls,
        *,
        environment: Environment | None = None,
        head: bool = True,
        host: str | None = None,
        port: int | None = None,
        num_cpus: float | None = None,
        num_gpus: float | None = None,
        resources: Mapping[str, float] | None = None,
        labels: Mapping[str, str] | None = None,
        memory: int | None = None,
        object_store_memory: int | None = None,
        temp_dir: str | None = None,
        node_name: str | None = None,
        embedded_pid: int | None = None,
        log_level: str = "info",
        unencrypted: bool = False,
        join: str = "",
        journal: str | None = None,
    ) -> Self:
        """A complete configuration; the attributes of the class say what each argument means, None takes the default.

        Defaults: host 127.0.0.1; port 6379 (any free one when embedded); the usable CPUs; the visible GPUs; 30 % of the
            available memory, at most 200 GB and at least 75 MiB, for the object store; the rest of the available
            memory; the environment's ``temp_dir``; the host's name; for a head of its own with a certain port, a
            journal beside the token's file, that ends with an orderly stop. ``journal="none"`` is for none.

        Raises:
            ConfigError: names the setting, its value and what to give instead.
        """
        env = Environment.read() if environment is None else environment
        available = machine.available_memory() if memory is None or object_store_memory is None else 0
        if object_store_memory is None:
            share = min(int(available * env.store_share), env.store_bytes_max)
            object_store_memory = max(share, STORE_BYTES_MIN)
        else:
            _check_bytes("object_store_memory", object_store_memory, STORE_BYTES_MIN)
        if port is None:
            port = DEFAULT_PORT if embedded_pid is None else 0
        host = DEFAULT_HOST if host is None or host == "localhost" else host
        lasting = head and embedded_pid is None
        if journal is not None and not lasting:
            raise ConfigError("journal", journal, "is for the head of a cluster; leave it out here")
        return cls(
            head=head,
            host=host,
            port=port,
            num_cpus=float(machine.usable_cpus()) if num_cpus is None else num_cpus,
            num_gpus=float(machine.gpu_count(env.visible_gpus)) if num_gpus is None else num_gpus,
            resources=dict(resources or {}),
            labels=dict(labels or {}),
            memory=max(0, available - object_store_memory) if memory is None else memory,
            object_store_memory=object_store_memory,
            temp_dir=env.temp_dir() if temp_dir is None else os.path.abspath(temp_dir),
            node_name=node_name or os.uname().nodename,
            embedded_pid=embedded_pid,
            log_level=log_level,
            unencrypted=unencrypted,
            join=join,
            journal=_journal(journal, env, host, port) if lasting else "",
            journal_kept=journal is not None,
        )

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The configuration that ``to_json`` wrote.

        Raises:
            ConfigError: the text is no such configuration.
        """
        try:
            data = json.loads(text)
        except ValueError as error:
            raise ConfigError("config", text[:80], f"is no JSON: {error}") from None
        names = {field.name for field in fields(cls)}
        if not isinstance(data, dict) or not set(data) <= names:
            raise ConfigError("config", text[:80], "is no configuration of this version of rayd")
        try:
            return cls(**data)
        except TypeError as error:
            raise ConfigError("config", text[:80], f"is incomplete: {error}") from None

    def to_json(self) -> str:
        """This configuration on one line."""
        return json.dumps({field.name: getattr(self, field.name) for field in fields(self)})

    @property
    def session_dir(self) -> str:
        """Absolute path of the session's folder."""
        return os.path.join(self.temp_dir, self.session_name)


def _number_in(variables: Mapping[str, str], name: str, default: float) -> float:
    text = variables.get(name)
    if not text:
        return default
    try:
        return float(text)
    except ValueError:
        raise ConfigError(name, text, "is no number; set one or unset the variable") from None


def _journal(given: str | None, environment: Environment, host: str, port: int) -> str:
    """Where a head has its journal: a cluster that anybody could find again has one."""
    if given is not None:
        if not given:
            raise ConfigError("journal", given, 'is empty; give a file, a redis:// URL, or "none" for no journal')
        scheme, colon, _ = given.partition("://")
        if colon and scheme not in REDIS_SCHEMES:
            raise ConfigError("journal", given, "is no journal; give a file, redis:// or rediss:// URL, or none")
        return "" if given == "none" else given if colon else os.path.abspath(given)
    folder = os.path.dirname(os.path.abspath(environment.token_path()))
    return os.path.join(folder, f"journal-{host}-{port}.sqlite") if port else ""


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_amount(field: str, value: Any) -> None:
    """An amount of a resource: a finite number that is not negative."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(field, value, "is no number; give 0 or more")
    if not math.isfinite(value) or value < 0:
        raise ConfigError(field, value, "is no amount; give a finite number, 0 or more")


def _check_bytes(field: str, value: Any, least: int) -> None:
    if not _is_whole(value):
        raise ConfigError(field, value, "is no whole number of bytes; give one, such as 4 * 1024**3 for 4 GiB")
    if value < least:
        raise ConfigError(field, value, f"is too little; give at least {least} bytes ({least // 2**20} MiB)")


def _check_resources(resources: Mapping[Any, Any]) -> None:
    for name, amount in resources.items():
        if not isinstance(name, str) or not name:
            raise ConfigError("resources", resources, f"the name {name!r} is no text; name resources by non-empty text")
        if name in _FLAG_OF_RESOURCE:
            raise ConfigError("resources", resources, f"give {name} with {_FLAG_OF_RESOURCE[name]} instead")
        try:
            _check_amount(name, amount)
        except ConfigError as error:
            raise ConfigError("resources", resources, f"the amount {amount!r} of {name!r} {error.problem}") from None


def _check_labels(labels: Mapping[Any, Any]) -> None:
    for key, value in labels.items():
        if not isinstance(key, str) or not key or not isinstance(value, str):
            raise ConfigError("labels", labels, f"{key!r}: {value!r} is no label; give non-empty text for both")
