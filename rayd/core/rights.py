"""What a client may ask for, by the scope of the token with which it came."""

from typing import Final

from rayd.errors import FORBIDDEN, Fault, fault
from rayd.wire.secret import ADMIN, JOIN, READ

# Questions whose answers change nothing and tell nothing that users have stored.
_LOOKING: Final = frozenset(
    {
        "available_resources",
        "cluster_resources",
        "group_table",
        "list_named_actors",
        "nodes",
        "ping",
        "progress",
        "status",
        "timeline",
    }
)
# What concerns everybody's work, not only the client's own.
RULING: Final = frozenset({"drain", "stop"})
# What only other nodes ask: of their clients' behalf, and for any job.
OF_NODES: Final = frozenset({"group_notice", "groups_end", "name_drop", "name_take", "names_had"})


def refusal(scope: str, method: str) -> Fault | None:
    """Why a client with a token of this scope may not call a method; None if it may."""
    if method in RULING and scope not in (JOIN, ADMIN):
        return fault(FORBIDDEN, f"{method!r} takes a token of scope 'admin'; this client came with one for {scope!r}.")
    if scope == READ and method not in _LOOKING:
        return fault(FORBIDDEN, f"{method!r} is more than looking; this client came with a token for {scope!r}.")
    return None
