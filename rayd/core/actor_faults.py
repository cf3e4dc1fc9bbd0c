"""What callers of actors are told that can serve them no more."""

from typing import Any

from rayd.core.actor_record import Actor
from rayd.core.faults import crashed
from rayd.core.worker import Worker
from rayd.errors import ACTOR_DIED, ACTOR_UNAVAILABLE, Fault, fault


def died(actor: Actor, why: str, **more: Any) -> Fault:
    """Fault of an actor that is dead for a reason in words."""
    return fault(ACTOR_DIED, f"The actor {actor.title()} died: {why}.", actor_id=actor.aid.hex(), **more)


def worker_died(actor: Actor, worker: Worker, cause: dict[str, Any], stderr: list[str]) -> Fault:
    """Fault of an actor whose process died."""
    text = worker.fate or cause["text"]
    tail = "".join(f"\n  {line}" for line in stderr)
    said = f"\nIts last lines on stderr:{tail}" if stderr else ""
    return {
        **crashed(actor.creation, worker, cause, stderr),
        "code": ACTOR_DIED,
        "actor_id": actor.aid.hex(),
        "intended": worker.fate is not None,
        "message": f"The actor {actor.title()} died: {text}.{said}",
    }


def unavailable(why: Fault) -> Fault:
    """Fault of a call that an actor had begun when it died: it is started again, the call is not."""
    text = (
        f"{why['message']} It is being restarted, but this call was in its hands and its max_task_retries are"
        " used up: call again, or allow retries with max_task_retries."
    )
    return {**why, "code": ACTOR_UNAVAILABLE, "message": text}


def out_of_scope(actor: Actor) -> Fault:
    """Fault of an actor that nobody could call any more."""
    text = (
        f"The actor {actor.title()} ended because all handles to it went out of scope. Keep a handle to keep it alive."
    )
    return fault(ACTOR_DIED, text, actor_id=actor.aid.hex(), intended=True)


def unknown(aid: bytes) -> Fault:
    """Fault of an actor that nobody remembers."""
    text = (
        f"Actor {aid.hex()} is not known to this cluster: its handle is from an earlier session."
        " Create the actor again in this session."
    )
    return fault(ACTOR_DIED, text, actor_id=aid.hex())
