"""Messages and bodies leave in order, bodies piece by piece, and who lends a body hears when it is through."""

from typing import Any

from rayd.shell.outflow import STEP, Outflow


class Transport:
    """Takes as much as it has room for at once, and the rest when it is told to."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.taken = b""
        self.kept = b""
        self.high = 1 << 16
        self.flow: Outflow
        self.pausing = False

    def set_write_buffer_limits(self, high: int) -> None:
        self.high = high
        self._maybe_pause()

    def get_write_buffer_size(self) -> int:
        return len(self.kept)

    def is_closing(self) -> bool:
        return False

    def write(self, data: Any) -> None:
        self.kept += bytes(data)
        self._take()
        self._maybe_pause()

    def _take(self) -> None:
        count = min(self.room, len(self.kept))
        self.taken += self.kept[:count]
        self.kept = self.kept[count:]
        self.room -= count

    def _maybe_pause(self) -> None:
        if len(self.kept) > self.high and not self.pausing:
            self.pausing = True
            self.flow.pause()

    def more(self, room: int) -> None:
        """The other side has read so much."""
        self.room += room
        self._take()
        if self.pausing and len(self.kept) <= self.high // 4:
            self.pausing = False
            self.flow.resume()


def flow_into(room: int) -> tuple[Transport, Outflow, list[int]]:
    """Something to write to, and how much had been taken whenever a body was through."""
    transport = Transport(room)
    through: list[int] = []
    flow = transport.flow = Outflow(transport, lambda: through.append(len(transport.taken)))  # type: ignore[arg-type]
    return transport, flow, through


def test_what_is_written_at_once_is_through_at_once() -> None:
    transport, flow, through = flow_into(1 << 30)
    flow.write(b"head", memoryview(b"body"))
    assert transport.taken == b"headbody"
    assert through == [8]


def test_messages_and_bodies_keep_their_order() -> None:
    transport, flow, through = flow_into(0)
    bodies = [bytes([number]) * (3 * STEP + number) for number in range(3)]
    expected = b""
    for number, body in enumerate(bodies):
        flow.write(b"head %d" % number, memoryview(body))
        expected += b"head %d" % number + body
    flow.write(b"a message")
    assert len(transport.kept) <= 4 * STEP, "no more is handed over than can be taken"
    assert not through
    while len(transport.taken) < len(expected) + 9:
        before = len(transport.taken)
        transport.more(STEP // 2)
        assert len(transport.taken) > before
    assert transport.taken == expected + b"a message"
    ends = [6 + len(bodies[0]), 12 + len(bodies[0] + bodies[1]), len(expected)]
    assert [said >= end for said, end in zip(through, ends, strict=True)] == [True] * 3, "never before it is through"


def test_the_last_body_is_said_to_be_through() -> None:
    transport, flow, through = flow_into(10)
    flow.write(b"head", memoryview(bytes(100)))
    assert not through
    transport.more(93)
    assert not through
    transport.more(1)
    assert through == [104]
