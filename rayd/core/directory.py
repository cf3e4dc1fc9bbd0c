"""Names of actors in a cluster, by namespace."""

from typing import Any

from rayd.core.actor_record import Actor
from rayd.errors import NAME_TAKEN, Fault, fault


class Directory:
    """Which actor has which name. A name is free again when its actor is dead."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, str], bytes] = {}
        self._far: dict[bytes, tuple[tuple[str, str], dict[str, Any], str]] = {}
        self._titles: dict[bytes, str] = {}
        self._buried: dict[tuple[str, str], str] = {}

    def find(self, namespace: str, name: str) -> bytes | None:
        """Actor id of a name."""
        return self._names.get((namespace, name))

    def register(self, actor: Actor) -> None:
        self._names[actor.namespace, actor.name] = actor.aid
        self._titles[actor.aid] = actor.title()

    def register_far(self, namespace: str, name: str, info: dict[str, Any], title: str) -> None:
        """An actor on another node has the name; ``info`` is what a client needs to make a handle."""
        aid = bytes(info["actor_id"])
        self._names[namespace, name] = aid
        self._far[aid] = ((namespace, name), info, title)

    def bury(self, namespace: str, name: str, text: str) -> None:
        """An actor has ended with a former head, for this reason."""
        self._buried[namespace, name] = text

    def epitaph(self, namespace: str, name: str) -> str:
        """Why there is no actor of that name any more; "" if there was none."""
        return self._buried.get((namespace, name), "")

    def far(self) -> list[bytes]:
        """Actors on other nodes that have names."""
        return list(self._far)

    def info(self, aid: bytes) -> dict[str, Any]:
        """What a client needs to make a handle of an actor on another node."""
        return self._far[aid][1]

    def title(self, aid: bytes) -> str:
        """How messages call the holder of a name."""
        return self._far[aid][2] if aid in self._far else self._titles[aid]

    def drop(self, aid: bytes) -> None:
        """An actor on another node has died."""
        known = self._far.pop(aid, None)
        if known is not None and self._names.get(known[0]) == aid:
            del self._names[known[0]]

    def release(self, actor: Actor) -> None:
        """Its actor has died."""
        if actor.name and self._names.get((actor.namespace, actor.name)) == actor.aid:
            del self._names[actor.namespace, actor.name]
        self._titles.pop(actor.aid, None)

    def names(self, namespace: str | None) -> list[dict[str, str]]:
        """All names, of one namespace or (None) of all."""
        return [
            {"name": name, "namespace": space} for space, name in self._names if namespace is None or space == namespace
        ]

    @staticmethod
    def taken(namespace: str, name: str, holder: str) -> Fault:
        """The fault of a second actor with the same name."""
        text = (
            f"The name {name!r} is taken in namespace {namespace!r} by the actor {holder}. Choose another name, pass"
            f" get_if_exists=True, or fetch it with ray.get_actor({name!r})."
        )
        return fault(NAME_TAKEN, text, name=name, namespace=namespace)
