"""Bytes to messages and back: whatever the cuts, whatever arrives."""

from itertools import pairwise

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rayd.wire import messages as m
from rayd.wire.frame import HELLO_BYTES_MAX, Framer, ProtocolError, check, encode, encode_many

MESSAGES = [
    (m.HELLO, 1, "driver", {"pid": 7, "python": "3.11", "sys_path": ["a", "b"], "env_vars": {}}),
    (m.SUBMIT, b"t" * 24, 3, b"args", b"", [b"o" * 28], []),
    (m.PUT, b"o" * 28, b"x" * 100_000, []),
    (m.DONE, b"t" * 24, m.INLINE, b"", [], 1 << 40),
    (m.CANCEL, b"o" * 28, True, False),
    (m.REPLY, 1, True, None),
    (m.REPLY, 1, False, {"code": "bad_request", "message": "ü", "holders": [["text", 5]]}),
    (m.BLOCKED,),
    (m.LOG, {"name": "f", "pid": 1}, False, ["one", "two"]),
]
AS_LISTS = [list(message) for message in MESSAGES]


def test_messages_arrive_as_they_were_sent() -> None:
    assert list(Framer().feed(encode_many(MESSAGES))) == AS_LISTS


def test_one_message_is_encoded_like_one_of_several() -> None:
    assert b"".join(map(encode, MESSAGES)) == encode_many(MESSAGES)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 100_200), max_size=20))
def test_messages_arrive_whatever_the_cuts_in_the_stream(cuts: list[int]) -> None:
    data = encode_many(MESSAGES)
    framer = Framer()
    places = sorted({0, *(cut for cut in cuts if cut < len(data)), len(data)})
    pieces = [data[start:end] for start, end in pairwise(places)]
    assert [message for piece in pieces for message in framer.feed(piece)] == AS_LISTS


def test_messages_arrive_byte_by_byte() -> None:
    framer = Framer()
    short = [message for message in MESSAGES if message[0] != m.PUT]
    data = encode_many(short)
    received = [message for index in range(len(data)) for message in framer.feed(data[index : index + 1])]
    assert received == [list(message) for message in short]


def test_messages_before_a_bad_one_are_handed_out() -> None:
    feed = Framer().feed(encode((m.BLOCKED,)) + encode((99,)) + encode((m.RESUMED,)))
    assert next(feed) == [m.BLOCKED]
    with pytest.raises(ProtocolError, match="unknown message tag 99"):
        next(feed)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\xc1", "undecodable bytes"),
        (b"\x91" * 5000, "undecodable bytes"),  # nested beyond all reason
        (b"\x92\x01\xa1\xff", "undecodable bytes"),  # no UTF-8
        (b"\x81\x90\x01", "undecodable bytes"),  # a list as the key of a map
        (b"\x81\x01\x02", "expected a message array, got dict"),
        (b"\x07", "expected a message array, got int"),
        (b"GET / HTTP/1.1\r\n", "expected a message array, got int"),
        (b"\x90", "expected a message array, got list"),
        (b"\x91\xc3", "unknown message tag True"),
        (b"\x91\xc0", "unknown message tag None"),
        (b"\x91\x90", r"unknown message tag \[\]"),
        (b"\x91\xcb" + b"\0" * 8, "unknown message tag 0.0"),
        (encode(("x" * 10_000,)), "unknown message tag 'xxx"),
    ],
)
def test_what_is_no_message_is_refused_with_its_reason(data: bytes, reason: str) -> None:
    with pytest.raises(ProtocolError, match=reason) as refused:
        list(Framer().feed(data))
    assert len(str(refused.value)) < 200


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_garbage_is_refused_or_waits_for_more_but_never_breaks_anything_else(data: bytes) -> None:
    try:
        for message in Framer(HELLO_BYTES_MAX).feed(data):
            check(message)
    except ProtocolError:
        pass


def test_a_message_larger_than_the_limit_is_refused_when_the_limit_is_reached() -> None:
    framer = Framer(1000)
    assert list(framer.feed(encode((m.EXPORT, b"f", b"x" * 500)))) == [[m.EXPORT, b"f", b"x" * 500]]
    data = encode((m.EXPORT, b"f", b"x" * 5000))
    with pytest.raises(ProtocolError, match="exceeds the size limit"):
        list(framer.feed(data))


@pytest.mark.parametrize("head", [b"\xdd\x7f\xff\xff\xff", b"\xdf\x7f\xff\xff\xff", b"\xdd\x1f\xff\xff\xff"])
def test_the_length_of_a_list_or_map_is_not_believed(head: bytes) -> None:
    """Five bytes must not make a table of billions."""
    for framer in (Framer(HELLO_BYTES_MAX), Framer()):
        with pytest.raises(ProtocolError, match="undecodable"):
            list(framer.feed(b"\x92\x01" + head))


@pytest.mark.parametrize("head", [b"\xc6\x7f\xff\xff\xff", b"\xdb\x7f\xff\xff\xff"])
def test_bytes_and_texts_are_held_up_to_the_limit(head: bytes) -> None:
    framer = Framer(HELLO_BYTES_MAX)
    assert list(framer.feed(b"\x92\x01" + head)) == []
    with pytest.raises(ProtocolError, match="exceeds the size limit"):
        list(framer.feed(bytes(2 * HELLO_BYTES_MAX)))


def test_raising_the_limit_keeps_what_has_not_been_decoded() -> None:
    framer = Framer(HELLO_BYTES_MAX)
    large = encode((m.EXPORT, b"f", b"x" * 200_000))
    hello = encode(MESSAGES[0])
    assert list(framer.feed(hello + large[:100])) == [AS_LISTS[0]]
    framer.raise_limit()
    assert list(framer.feed(large[100:])) == [[m.EXPORT, b"f", b"x" * 200_000]]


def test_raising_the_limit_keeps_whole_messages_that_were_not_asked_for_yet() -> None:
    framer = Framer(HELLO_BYTES_MAX)
    feed = framer.feed(encode_many(MESSAGES[:2]))
    assert next(feed) == AS_LISTS[0]
    framer.raise_limit()
    assert list(framer.feed(b"")) == [AS_LISTS[1]]


def test_raising_the_limit_between_messages_loses_nothing() -> None:
    framer = Framer(HELLO_BYTES_MAX)
    assert list(framer.feed(encode(MESSAGES[0]))) == [AS_LISTS[0]]
    framer.raise_limit()
    assert list(framer.feed(encode(MESSAGES[1]))) == [AS_LISTS[1]]


def test_tuples_and_lists_travel_alike() -> None:
    assert encode((m.HOLD, (b"a", b"b"))) == encode([m.HOLD, [b"a", b"b"]])


@pytest.mark.parametrize("value", [object(), {1, 2}, 1 << 64, 1j])
def test_what_cannot_travel_is_an_error_of_the_sender(value: object) -> None:
    with pytest.raises((TypeError, OverflowError)):
        encode((m.RPC, 1, "ping", {"value": value}))


def test_the_mailbox_and_the_stream_use_the_same_encoding() -> None:
    body = [b"t" * 24, 1, b"args", [], [[b"o" * 28, 0, b"v"]], [0], True]
    assert msgpack.unpackb(encode([body])) == [body]
