"""Import path of the runtime context, as programs written for Ray know it."""

from ray._context import RuntimeContext, get_runtime_context

__all__ = ["RuntimeContext", "get_runtime_context"]
