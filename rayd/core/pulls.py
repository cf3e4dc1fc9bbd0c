"""The bytes of large objects on their way to this node, from whoever has them.

Who told this node of a large object is asked where it is to be had (SEEK), and names nodes that have it, or parts of it
already, as they become free (FOUND). All that were named send at the same time, each the parts that are still missing.
One that cannot be reached or does not have it is reported (DRY), what has come from it stays, and another may be named.
At the end it is said whether the object is here (SOUGHT). While it comes, others may be sent here for what has come:
then each part is told of (PARTS).
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from rayd.core.channels import Channels
from rayd.core.chunks import Parting, bits
from rayd.core.effect import Fetch, Report, StopFetch
from rayd.core.member import Member
from rayd.core.sharing import SHARED_FROM
from rayd.core.state import Conn, NodeState
from rayd.errors import NODE_DIED, Fault
from rayd.wire.frame import ProtocolError
from rayd.wire.messages import DRY, PARTS, SEEK, SOUGHT

# How often the node that told of an object is tried before it is given up while it seems to live.
TRIES_MAX: Final = 3


class Pull:
    """One object on its way here.

    Attributes:
        oid: of the object.
        conn: who has told of it; 0 when that node has died.
        offset, size: their place here.
        number: by which effects and events name the transfer.
        sought: it was asked where the bytes are to be had.
        begun: the shell knows of the transfer.
        spread: others are sent here for what has come.
        sources: numbers of the nodes from which they come, and whether each has all of them.
        tries: how often it has failed to have them from who has told of it.
        here: parts that have come, as far as others need to know.
    """

    __slots__ = ("begun", "conn", "here", "number", "offset", "oid", "size", "sought", "sources", "spread", "tries")

    def __init__(self, oid: bytes, conn: int, offset: int, size: int, number: int) -> None:
        self.oid = oid
        self.conn = conn
        self.offset = offset
        self.size = size
        self.number = number
        self.sought = False
        self.begun = False
        self.spread = False
        self.sources: dict[int, bool] = {}
        self.tries = 0
        self.here = 0


class Pulls:
    """All transfers to a node.

    Args:
        state: the node's tables.
        channels: to the nodes that tell of objects.

    Attributes:
        shared_from: objects from this size on, in bytes, are worth a question.
        parting: how they are divided.
        on_come: called with a transfer that is complete; its place belongs to whoever is called.
        on_failed: called with one that has been given up, and why.
    """

    def __init__(self, state: NodeState, channels: Channels) -> None:
        self.state = state
        self.channels = channels
        self.shared_from = SHARED_FROM
        self.parting = Parting()
        self.on_come: Callable[[Pull], None]
        self.on_failed: Callable[[Pull, Fault], None]
        self._by_oid: dict[bytes, Pull] = {}
        self._by_number: dict[int, Pull] = {}  # those that the shell knows, also when nobody wants them any more
        self._next = 1

    def __contains__(self, oid: bytes) -> bool:
        return oid in self._by_oid

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._by_oid)

    def begin(self, oid: bytes, conn: int, size: int) -> bool:
        """Have an object that ``conn`` has told of; False if there is no room for it."""
        offset = self.state.objects.arena.allocate(size)
        if offset is None:
            return False
        pull = self._by_oid[oid] = Pull(oid, conn, offset, size, self._next)
        self._next += 1
        if size >= self.shared_from:
            self._seek(pull)
        else:
            self._fetch(pull, self._teller(pull), ())
        return True

    def _seek(self, pull: Pull) -> None:
        pull.sought = True
        self.state.effects.sends[pull.conn].append((SEEK, pull.oid))

    def _teller(self, pull: Pull) -> Member:
        return self.channels.by_conn[pull.conn].member

    def _fetch(self, pull: Pull, member: Member, parts: Iterable[int]) -> None:
        parts = tuple(parts)
        pull.sources[member.number] = pull.sources.get(member.number, False) or not parts
        place = (pull.oid, pull.offset, pull.size)
        self.state.effects.others.append(Fetch(pull.number, member.number, member.address, *place, parts))
        if not pull.begun:
            pull.begun = True
            self._by_number[pull.number] = pull
            if pull.spread:
                self.state.effects.others.append(Report(pull.number))

    def stop(self, oid: bytes) -> None:
        """Nobody wants it any more; parts that come yet are not written."""
        pull = self._by_oid.pop(oid, None)
        if pull is None:
            return
        self._say(pull, ok=False)
        if pull.begun:
            self.state.effects.others.append(StopFetch(pull.number))
        else:
            self.state.objects.arena.free(pull.offset)

    def _say(self, pull: Pull, *, ok: bool) -> None:
        if pull.sought and pull.conn in self.state.conns:
            self.state.effects.sends[pull.conn].append((SOUGHT, pull.oid, ok))

    # ---- what other nodes say ----------------------------------------------------------------------------------------

    def _asked(self, conn: Conn, oid: bytes) -> Pull | None:
        """What was sought and is still wanted."""
        pull = self._by_oid.get(oid)
        return pull if pull is not None and pull.sought and pull.conn == conn.conn else None

    def found(self, conn: Conn, message: Any) -> None:
        """FOUND: an object is to be had from a node, or these parts of it."""
        _, oid, number, parts = message
        pull = self._asked(conn, oid)
        if pull is None:
            return
        if parts and not 0 <= min(parts) <= max(parts) < self.parting.count(pull.size):
            raise ProtocolError(f"{oid.hex()} has no parts {parts!r:.100}")
        teller = self._teller(pull)
        member = teller if number == teller.number else self.channels.cluster.members.get(number)
        if member is None or not (member.alive or member is teller) or number == self.state.number:
            self.state.effects.sends[conn.conn].append((DRY, oid, number))
        else:
            self._fetch(pull, member, parts)

    def spread(self, conn: Conn, message: Any) -> None:
        """SPREAD: others are sent here for what has come."""
        pull = self._asked(conn, message[1])
        if pull is not None and not pull.spread:
            pull.spread = True
            if pull.begun:
                self.state.effects.others.append(Report(pull.number))

    def place_of(self, oid: bytes, at: int, size: int) -> int | None:
        """Where an object begins of which these bytes have come, whole parts; None if it has not."""
        pull = self._by_oid.get(oid)
        if pull is None:
            return None
        parts = self.parting.within(pull.size, at, size)
        return pull.offset if parts and pull.here & parts == parts else None

    # ---- what becomes of them ----------------------------------------------------------------------------------------

    def _wanted(self, number: int) -> Pull | None:
        pull = self._by_number.get(number)
        return pull if pull is not None and self._by_oid.get(pull.oid) is pull else None

    def arrived(self, number: int, parts: list[int]) -> None:
        """Parts have come of something that others are sent here for."""
        pull = self._wanted(number)
        if pull is not None:
            pull.here |= bits(parts)
            if pull.conn in self.state.conns:
                self.state.effects.sends[pull.conn].append((PARTS, pull.oid, parts))

    def source_failed(self, number: int, source: int, why: Fault) -> None:
        """A node does not send any more of an object."""
        pull = self._wanted(number)
        if pull is None:
            return
        pull.sources.pop(source, None)
        if not pull.conn:
            self._goes_on_alone(pull, why)
            return
        teller = self._teller(pull)
        if source != teller.number:
            self.state.effects.sends[pull.conn].append((DRY, pull.oid, source))
            if not pull.sources and pull.tries == TRIES_MAX:
                self._give_up(pull, why)
            return
        pull.tries += 1
        if why["code"] == NODE_DIED and pull.tries < TRIES_MAX:
            self._fetch(pull, teller, ())
            return
        pull.tries = TRIES_MAX
        if pull.sources:
            self.state.effects.sends[pull.conn].append((DRY, pull.oid, source))
        else:
            self._give_up(pull, why)

    def _goes_on_alone(self, pull: Pull, why: Fault) -> None:
        """Parts that others have come from who is to get them from here too, so somebody must have all."""
        if not any(pull.sources.values()):
            self._give_up(pull, why)

    def _give_up(self, pull: Pull, why: Fault) -> None:
        self.stop(pull.oid)
        self.on_failed(pull, why)

    def fetched(self, number: int) -> None:
        """A transfer has ended: all bytes are there, if it was not stopped."""
        wanted = self._wanted(number)
        pull = self._by_number.pop(number)
        if wanted is None:
            self.state.objects.arena.free(pull.offset)
            return
        del self._by_oid[pull.oid]
        self._say(pull, ok=True)
        self.on_come(pull)

    # ---- the end -----------------------------------------------------------------------------------------------------

    def move(self, oid: bytes, conn: int) -> None:
        """The node that told of it is reached by another connection from now on."""
        pull = self._by_oid.get(oid)
        if pull is not None:
            pull.conn = conn
            pull.spread = False
            if pull.sought:
                self._seek(pull)

    def outlives(self, oid: bytes, number: int) -> bool:
        """The node that told of an object, ``number``, has died; whether the object is to be had nevertheless."""
        pull = self._by_oid.get(oid)
        if pull is None or not pull.sought:
            return False
        pull.sources.pop(number, None)
        pull.conn = 0
        return any(pull.sources.values())

    def places(self) -> list[list[int]]:
        """Offset and size of what is being pulled."""
        pulls = {pull.number: pull for pull in (*self._by_oid.values(), *self._by_number.values())}
        return [[pull.offset, pull.size] for pull in pulls.values()]

    def check(self) -> None:
        """Raise AssertionError naming the first broken invariant."""
        for oid, pull in self._by_oid.items():
            assert pull.begun == (pull.number in self._by_number), f"the transfer of {oid.hex()} is unknown"
            assert pull.sources or pull.sought, f"nobody was asked for {oid.hex()}"
            known = pull.conn in self.channels.by_conn or any(pull.sources.values())
            assert known, f"{oid.hex()} is pulled, and nobody can say from where"
            assert pull.here < 1 << self.parting.count(pull.size), f"{oid.hex()} has parts that there are not"
