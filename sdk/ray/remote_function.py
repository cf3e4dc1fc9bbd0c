"""Import path of remote functions, as programs written for Ray know it."""

from ray._remote import RemoteFunction

__all__ = ["RemoteFunction"]
