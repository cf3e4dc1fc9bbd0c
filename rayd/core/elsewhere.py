"""What the actors of a node need of other nodes; bound when there are any."""

from typing import Protocol

from rayd.core.actor_record import Actor
from rayd.core.task import Task
from rayd.errors import Fault


class FarActors(Protocol):
    """Calls of actors that belong to other nodes; see ``rayd.core.far_calls``."""

    def is_far(self, aid: bytes) -> bool:
        """Whether an actor belongs to another node."""

    def expect(self, task: Task) -> None:
        """A call is about to be admitted."""

    def ready(self, task: Task) -> None:
        """It has all its arguments."""


class Hosts(Protocol):
    """Other nodes that run actors of this one; see ``rayd.core.hosting``."""

    def place(self, actor: Actor) -> bool:
        """An actor looks for a place; whether another node has it now."""

    def waits(self, actor: Actor) -> bool:
        """Whether an actor must not be started again yet."""

    def send(self, actor: Actor, task: Task) -> None:
        """Give the host of an actor a call."""

    def kill(self, actor: Actor, no_restart: bool) -> None:
        """The actor's process is to die."""

    def let_end(self, actor: Actor) -> None:
        """The actor is to end when it has done what it has been given."""


class Guests(Protocol):
    """Actors of other nodes that run here; see ``rayd.core.guests``."""

    def alive(self, actor: Actor, data: bytes) -> None:
        """Its constructor has returned ``data``."""

    def refuse(self, actor: Actor) -> None:
        """There is no room for it."""

    def over(self, actor: Actor, why: Fault, mailed: list[Task], unread: list[bytes], final: bool) -> None:
        """It runs here no more.

        Args:
            actor: the actor, of whose calls none has been failed.
            why: the cause.
            mailed: calls that its worker had.
            unread: those of them that the worker had not read.
            final: it must not be started again.
        """
