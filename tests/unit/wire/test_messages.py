"""The table of messages: numbers that never change, and types that are checked exactly."""

from itertools import product

import pytest

from rayd.wire import messages as m
from rayd.wire.frame import ProtocolError, check

SAMPLES = {int: 1, bytes: b"x", str: "s", list: [], dict: {}, bool: True, float: 0.5, type(None): None}
# What is on the wire once is never given another meaning. To add a message, add it here; to change one is a new tag.
TAGS = {
    "HELLO": 1,
    "EXPORT": 2,
    "SPEC": 3,
    "SUBMIT": 4,
    "CREATE": 5,
    "CALL": 6,
    "PUT": 7,
    "ALLOC": 8,
    "SEAL": 9,
    "HOLD": 10,
    "RELEASE": 11,
    "WANT": 12,
    "BLOCKED": 13,
    "RESUMED": 14,
    "CANCEL": 15,
    "KILL": 16,
    "STREAM_WANT": 17,
    "STREAM_ACK": 18,
    "RPC": 19,
    "DONE": 32,
    "DONE_MANY": 33,
    "YIELD": 34,
    "FETCH": 35,
    "BODY": 36,
    "WELCOME": 64,
    "REFUSED": 65,
    "VALUE": 66,
    "REPLY": 67,
    "STREAM_ITEM": 68,
    "STREAM_END": 69,
    "STOP_TASK": 70,
    "CREDIT": 71,
    "LOG": 72,
    "EVENT": 73,
}


def test_tags_keep_their_numbers() -> None:
    assert {name: tag for tag, name in m.NAMES.items() if name in TAGS} == TAGS


def test_every_tag_has_one_name_and_a_schema() -> None:
    assert sorted(m.NAMES) == sorted(m.SCHEMAS)
    assert len(set(m.NAMES.values())) == len(m.NAMES)


@pytest.mark.parametrize("tag", sorted(m.SCHEMAS), ids=lambda tag: m.NAMES[tag])
def test_exactly_the_listed_types_pass(tag: int) -> None:
    variants = m.SCHEMAS[tag]
    for variant in variants:
        check([tag, *(SAMPLES[kind] for kind in variant[1:])])
    (length,) = {len(variant) for variant in variants}
    for wrong in {max(length - 1, 1), length + 1} - {length}:
        with pytest.raises(ProtocolError):
            check([tag] + [b""] * (wrong - 1))
    allowed = [{variant[place] for variant in variants} for place in range(1, length)]
    for place, kinds in enumerate(allowed):
        good = [SAMPLES[next(iter(sorted(each, key=str)))] for each in allowed]
        for kind in [kind for kind in SAMPLES if kind not in kinds]:
            with pytest.raises(ProtocolError, match=f"{m.NAMES[tag]} has wrong fields"):
                check([tag, *good[:place], SAMPLES[kind], *good[place + 1 :]])


def test_alternatives_are_independent_of_each_other() -> None:
    for tag, variants in m.SCHEMAS.items():
        length = len(next(iter(variants)))
        alternatives = [{variant[place] for variant in variants} for place in range(length)]
        assert set(product(*alternatives)) == set(variants), m.NAMES[tag]


def test_a_datagram_fits_what_is_sent_inline() -> None:
    assert m.DATAGRAM_BYTES_MAX < 212_992 / 4
    assert m.INLINE_BYTES_MAX <= 128 * 1024
