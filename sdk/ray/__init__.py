"""rayd's Python SDK: the interface that Ray made popular, on the ``rayd`` daemon.

    import ray

    @ray.remote
    def square(x):
        return x * x

    print(ray.get([square.remote(i) for i in range(4)]))

Importing it has no effects; ``ray.init()``, or the first remote call, connects or starts a cluster.
"""

import os
import sys
from importlib import import_module as _import_module
from typing import Any as _Any

from rayd import __version__

__commit__ = "rayd"

# Where each public name lives; imported at first use, so that `import ray` costs a program nothing it does not use.
_NAMES = {
    "ray._api": "available_resources cancel cluster_resources get get_actor get_gpu_ids kill nodes put remote timeline"
    " wait",
    "ray._context": "get_runtime_context",
    "ray._generators": "DynamicObjectRefGenerator ObjectRefGenerator",
    "ray._ids": "ActorClassID ActorID FunctionID JobID NodeID PlacementGroupID TaskID UniqueID WorkerID",
    "ray._init": "init",
    "ray._method": "method",
    "ray._refs": "ObjectID ObjectRef",
    "ray._unsupported": "ClientBuilder Language LoggingConfig SCRIPT_MODE WORKER_MODE client cpp_function"
    " java_actor_class java_function",
}
_HOMES: dict[str, str] = {name: home for home, names in _NAMES.items() for name in names.split()}
_SUBPACKAGES = ("actor", "cloudpickle", "exceptions", "remote_function", "runtime_context", "util")


def _refuse_upstream() -> None:
    """Two distributions that both own the package ``ray`` cannot share an environment: whichever was installed last
    has overwritten parts of the other.
    """
    for folder in sys.path:
        try:
            names = os.listdir(folder or ".")
        except OSError:
            continue
        for name in names:
            if name.startswith("ray-") and name.endswith(".dist-info"):
                raise ImportError(
                    f"the distribution 'ray' ({name[4:-10]}) is installed in {folder} together with 'rayd'; both"
                    " provide the package 'ray'."
                    " Uninstall one: `pip uninstall ray`, then reinstall rayd with `pip install --force-reinstall"
                    " --no-deps rayd`."
                )


_refuse_upstream()


def is_initialized() -> bool:
    """Whether this program is connected to a cluster."""
    from ray import _session

    return _session.current is not None


def shutdown(*, wait_for_processes: bool = False) -> None:
    """Disconnect; ends the cluster if this program started it. Does nothing when not connected.

    Args:
        wait_for_processes: accepted for compatibility; a cluster of this program is always gone when this returns.
    """
    from ray import _session

    _session.stop()


def __getattr__(name: str) -> _Any:
    home = _HOMES.get(name)
    if home is not None:
        value = getattr(_import_module(home), name)
    elif name in _SUBPACKAGES:
        value = _import_module(f"ray.{name}")
    else:
        raise AttributeError(f"module 'ray' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, *_SUBPACKAGES})


__all__ = ["__version__", "is_initialized", "shutdown", *_HOMES, *_SUBPACKAGES]  # noqa: PLE0604 - all of them are names
