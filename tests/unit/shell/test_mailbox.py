"""The mailbox of a worker, with real sockets: every body is read once, by the worker or by us."""

import socket
import threading
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest

from rayd.shell.mailbox import Mailbox
from rayd.wire.messages import DATAGRAM_BYTES_MAX


class Full:
    """What the mailbox says of its being full."""

    def __init__(self) -> None:
        self.now = False
        self.said: list[bool] = []

    def __call__(self, mailbox: Mailbox, full: bool) -> None:
        self.now = full
        self.said.append(full)


@pytest.fixture
def full() -> Full:
    return Full()


@pytest.fixture
def mailbox(full: Full) -> Iterator[Mailbox]:
    made = Mailbox(full)
    yield made
    made.close()


@pytest.fixture
def worker(mailbox: Mailbox) -> Iterator[socket.socket]:
    """The worker's end: its own descriptor of the receiving socket."""
    theirs = mailbox.theirs.dup()
    theirs.settimeout(10)
    yield theirs
    theirs.close()


def body(number: int, size: int = 0) -> list[Any]:
    return [number.to_bytes(24, "big"), 1, bytes(size), [], [], [], False]


def tid(number: int) -> bytes:
    return number.to_bytes(24, "big")


def fill(mailbox: Mailbox, full: Full) -> list[list[Any]]:
    """Send until the kernel takes no more, and ten on top; how much it takes differs between machines."""
    sent: list[list[Any]] = []
    while not full.now:
        sent.append(body(len(sent), 40_000))
        mailbox.send(sent[-1:], batch=False)
    more = [body(len(sent) + number, 40_000) for number in range(10)]
    mailbox.send(more, batch=False)
    return sent + more


def read(worker: socket.socket) -> list[list[Any]]:
    """Bodies of the next datagram; none at the end."""
    data = worker.recv(4 * 1024 * 1024)
    return msgpack.unpackb(data) if data else []


def test_bodies_arrive_one_by_one_and_whole(mailbox: Mailbox, worker: socket.socket) -> None:
    bodies = [body(number, size) for number, size in enumerate((0, 10, DATAGRAM_BYTES_MAX))]
    mailbox.send(bodies, batch=False)
    assert [read(worker) for _ in bodies] == [[each] for each in bodies]


def test_bodies_of_an_actor_share_datagrams(mailbox: Mailbox, worker: socket.socket) -> None:
    bodies = [body(number) for number in range(10)]
    mailbox.send(bodies, batch=True)
    assert read(worker) == bodies


def test_datagrams_have_a_bounded_size(mailbox: Mailbox, worker: socket.socket) -> None:
    bodies = [body(number, 10_000) for number in range(20)]
    mailbox.send(bodies, batch=True)
    received: list[list[Any]] = []
    while len(received) < len(bodies):
        data = worker.recv(4 * 1024 * 1024)
        assert len(data) <= DATAGRAM_BYTES_MAX + 3
        received += msgpack.unpackb(data)
    assert received == bodies


def test_more_bodies_than_an_array_head_counts_are_split(mailbox: Mailbox, worker: socket.socket) -> None:
    bodies = [body(number) for number in range(600)]
    mailbox.send(bodies, batch=True)
    sizes = []
    received: list[list[Any]] = []
    while len(received) < len(bodies):
        datagram = read(worker)
        sizes.append(len(datagram))
        received += datagram
    assert received == bodies
    assert max(sizes) == 255


def test_what_was_not_read_is_taken_back(mailbox: Mailbox, worker: socket.socket) -> None:
    mailbox.send([body(number) for number in range(5)], batch=False)
    read(worker)
    read(worker)
    assert mailbox.take_back() == [tid(2), tid(3), tid(4)]
    assert mailbox.take_back() == []
    mailbox.send([body(7)], batch=False)
    assert read(worker) == [body(7)]


def test_calls_that_share_a_datagram_are_taken_back_each(mailbox: Mailbox, worker: socket.socket) -> None:
    mailbox.send([body(0)], batch=True)
    mailbox.send([body(number) for number in (1, 2, 3)], batch=True)
    read(worker)
    assert mailbox.take_back() == [tid(1), tid(2), tid(3)]


def test_a_full_mailbox_says_so_once_and_keeps_the_order(mailbox: Mailbox, worker: socket.socket, full: Full) -> None:
    bodies = fill(mailbox, full)
    assert full.said == [True]
    received = []
    while len(received) < len(bodies):
        received += read(worker)
        mailbox.retry()
    assert received == bodies
    assert full.now is False


def test_a_mailbox_that_stays_full_waits_for_the_next_chance(mailbox: Mailbox, full: Full) -> None:
    fill(mailbox, full)
    mailbox.retry()
    assert full.said == [True]


def test_what_did_not_fit_is_taken_back_too_and_in_order(mailbox: Mailbox, worker: socket.socket, full: Full) -> None:
    bodies = fill(mailbox, full)
    read(worker)
    assert mailbox.take_back() == [each[0] for each in bodies[1:]]
    assert full.now is False
    mailbox.send([body(0)], batch=False)
    assert read(worker) == [body(0)]


def test_a_retired_worker_reads_what_is_left_and_then_the_end(mailbox: Mailbox, worker: socket.socket) -> None:
    mailbox.send([body(1), body(2)], batch=False)
    mailbox.retire()
    assert [read(worker) for _ in range(3)] == [[body(1)], [body(2)], []]
    assert mailbox.take_back() == []


def test_mail_to_a_retired_worker_is_not_lost(mailbox: Mailbox, worker: socket.socket) -> None:
    mailbox.retire()
    mailbox.send([body(1)], batch=False)
    mailbox.send([body(2)], batch=False)
    mailbox.retry()
    assert read(worker) == []
    assert mailbox.take_back() == [tid(1), tid(2)]


def test_mail_to_a_dead_worker_stays_to_be_taken_back(mailbox: Mailbox, worker: socket.socket) -> None:
    mailbox.send([body(1)], batch=False)
    worker.close()
    mailbox.send([body(2)], batch=False)
    assert mailbox.take_back() == [tid(1), tid(2)]


def test_each_body_is_read_by_one_of_the_two_even_at_the_same_time(mailbox: Mailbox, worker: socket.socket) -> None:
    """The kernel's queue is the queue: whoever receives a datagram has it."""
    count = 2_000
    by_worker: list[bytes] = []

    def work() -> None:
        while datagram := read(worker):
            by_worker.extend(each[0] for each in datagram)

    thread = threading.Thread(target=work)
    thread.start()
    taken: list[bytes] = []
    for start in range(0, count, 20):
        mailbox.send([body(number) for number in range(start, start + 20)], batch=False)
        taken += mailbox.take_back()
    mailbox.retire()
    thread.join()
    assert sorted(by_worker + taken) == [tid(number) for number in range(count)]
    assert by_worker == sorted(by_worker), "the worker reads in order"
    assert taken == sorted(taken)


def test_a_closed_mailbox_gives_back_its_descriptors(full: Full) -> None:
    made = Mailbox(full)
    numbers = made.ours.fileno(), made.theirs.fileno()
    made.close()
    assert (made.ours.fileno(), made.theirs.fileno()) == (-1, -1)
    assert all(number >= 0 for number in numbers)
    assert full.now is False
