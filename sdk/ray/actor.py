"""Import path of actors, as programs written for Ray know it."""

from ray._actor import ActorClass, ActorClassInheritanceException, ActorHandle, ActorMethod, exit_actor
from ray._method import method

__all__ = ["ActorClass", "ActorClassInheritanceException", "ActorHandle", "ActorMethod", "exit_actor", "method"]
