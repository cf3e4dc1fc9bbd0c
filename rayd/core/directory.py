"""Names of actors in a cluster, by namespace."""

from rayd.core.actor_record import Actor
from rayd.errors import NAME_TAKEN, Fault, fault


class Directory:
    """Which actor has which name. A name is free again when its actor is dead."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, str], bytes] = {}

    def find(self, namespace: str, name: str) -> bytes | None:
        """Actor id of a name."""
        return self._names.get((namespace, name))

    def register(self, actor: Actor) -> None:
        self._names[actor.namespace, actor.name] = actor.aid

    def release(self, actor: Actor) -> None:
        """Its actor has died."""
        if actor.name and self._names.get((actor.namespace, actor.name)) == actor.aid:
            del self._names[actor.namespace, actor.name]

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
