"""Import path of cloudpickle, as programs written for Ray know it."""

from cloudpickle import CloudPickler, dump, dumps, load, loads

__all__ = ["CloudPickler", "dump", "dumps", "load", "loads"]
