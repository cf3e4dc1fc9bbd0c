"""Keys, tokens and the conversation in which both sides prove that they have one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayd.wire import messages as m
from rayd.wire.auth import Gate, NotProvenError, Visitor
from rayd.wire.secret import ADMIN, CHALLENGE_BYTES, JOIN, KINDS, NEVER, READ, SUBMIT, Key, TokenError, key_of, parse

SECRET = bytes(range(32))
OTHER = bytes(32)
OURS, THEIRS = b"a" * CHALLENGE_BYTES, b"b" * CHALLENGE_BYTES
BINDING = b"hash of a certificate"
NOW = 1_800_000_000.0


def talk(gate: Gate, visitor: Visitor, now_s: float = NOW) -> str:
    """Let them talk to the end; the scope that the visitor has got."""
    challenge = gate.answer(visitor.greeting(), now_s)
    assert challenge is not None
    assert gate.scope == ""
    assert gate.answer(visitor.answer(challenge), now_s) is None
    return gate.scope


@pytest.mark.parametrize("scope", KINDS)
def test_who_has_the_key_comes_in_with_its_scope(scope: str) -> None:
    assert talk(Gate(SECRET, THEIRS, BINDING), Visitor(key_of(SECRET, scope), OURS, BINDING)) == scope


@given(st.sampled_from([ADMIN, SUBMIT, READ]), st.integers(0, 1 << 40))
def test_a_token_carries_scope_expiry_and_key(scope: str, expires: int) -> None:
    key = key_of(SECRET, scope, expires)
    assert parse(key.token()) == key
    assert SECRET.hex() not in key.value.hex()


def test_the_token_to_join_is_the_secret_itself() -> None:
    assert parse(key_of(SECRET).token()).value == SECRET


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no token of rayd"),
        ("hunter2", "no token of rayd"),
        ("rayd-king-0-aaaa", "no token of rayd"),
        ("rayd-join-0-" + "1" * 52, "letters that no token has"),
        ("rayd-join-x-" + "a" * 52, "letters that no token has"),
        ("rayd-join-0-aaaa", "not complete"),
        (key_of(SECRET).token()[:-8], "not complete"),
        ("rayd-join-" + "f" * 30 + "-" + "a" * 52, "not complete"),
    ],
)
def test_what_is_no_token_is_told_why(text: str, why: str) -> None:
    with pytest.raises(TokenError, match=why):
        parse(text)


@pytest.mark.parametrize(("scope", "expires"), [("king", 0), (JOIN, 5), (READ, -1), (READ, 1 << 60)])
def test_there_are_no_other_keys(scope: str, expires: int) -> None:
    with pytest.raises(ValueError):
        key_of(SECRET, scope, expires)


@pytest.mark.parametrize(
    "key",
    [
        key_of(OTHER),
        key_of(OTHER, SUBMIT),
        Key(ADMIN, NEVER, key_of(SECRET, SUBMIT).value),
        Key(SUBMIT, int(NOW) + 500, key_of(SECRET, SUBMIT, int(NOW) + 50).value),
    ],
    ids=["another cluster's", "another cluster's, scoped", "a scope raised", "an expiry put off"],
)
def test_neither_side_believes_a_wrong_key(key: Key) -> None:
    gate, visitor = Gate(SECRET, THEIRS, BINDING), Visitor(key, OURS, BINDING)
    challenge = gate.answer(visitor.greeting(), NOW)
    assert challenge is not None
    with pytest.raises(NotProvenError, match="does not know the secret"):
        visitor.answer(challenge)
    # A visitor that does not care who answers is not let in all the same.
    careless = Visitor(key, OURS, BINDING)
    forged = Gate(key.value if key.scope == JOIN else OTHER, THEIRS, BINDING).answer(careless.greeting(), NOW)
    assert forged is not None
    with pytest.raises(NotProvenError, match="not one of this cluster"):
        gate.answer((m.PROOF, bytes(32)), NOW)
    assert gate.scope == ""


def test_a_key_is_void_from_its_expiry_on_even_in_the_middle_of_the_talk() -> None:
    key = key_of(SECRET, SUBMIT, int(NOW))
    assert talk(Gate(SECRET, THEIRS, b""), Visitor(key, OURS, b""), NOW - 1) == SUBMIT
    with pytest.raises(NotProvenError, match="expired"):
        Gate(SECRET, THEIRS, b"").answer(Visitor(key, OURS, b"").greeting(), NOW)
    gate, visitor = Gate(SECRET, THEIRS, b""), Visitor(key, OURS, b"")
    challenge = gate.answer(visitor.greeting(), NOW - 1)
    assert challenge is not None
    with pytest.raises(NotProvenError, match="expired"):
        gate.answer(visitor.answer(challenge), NOW)


def test_who_stands_in_between_shows_another_certificate_and_is_found_out() -> None:
    gate, visitor = Gate(SECRET, THEIRS, b"the daemon's certificate"), Visitor(key_of(SECRET), OURS, b"another's")
    challenge = gate.answer(visitor.greeting(), NOW)
    assert challenge is not None
    with pytest.raises(NotProvenError, match="somebody in between"):
        visitor.answer(challenge)


def test_an_answer_fits_one_connection_only() -> None:
    visitor = Visitor(key_of(SECRET), OURS, BINDING)
    challenge = Gate(SECRET, THEIRS, BINDING).answer(visitor.greeting(), NOW)
    assert challenge is not None
    heard = visitor.answer(challenge)
    gate = Gate(SECRET, b"c" * CHALLENGE_BYTES, BINDING)
    gate.answer(visitor.greeting(), NOW)
    with pytest.raises(NotProvenError):
        gate.answer(heard, NOW)


def test_the_answer_of_one_side_is_none_of_the_other() -> None:
    """Else a stranger could send the daemon's own words back to it."""
    gate = Gate(SECRET, THEIRS, BINDING)
    challenge = gate.answer((m.AUTH, m.PROTOCOL_VERSION, JOIN, NEVER, THEIRS), NOW)
    assert challenge is not None
    with pytest.raises(NotProvenError):
        gate.answer((m.PROOF, challenge[2]), NOW)


@pytest.mark.parametrize(
    ("message", "why"),
    [
        ((m.HELLO, m.PROTOCOL_VERSION, "driver", {}), "prove by a token"),
        ((m.PROOF, bytes(32)), "prove by a token"),
        ((m.RPC, 1, "stop", {}), "prove by a token"),
        ((m.AUTH, m.PROTOCOL_VERSION + 1, JOIN, NEVER, OURS), "protocol version"),
        ((m.AUTH, m.PROTOCOL_VERSION, "king", NEVER, OURS), "no introduction"),
        ((m.AUTH, m.PROTOCOL_VERSION, JOIN, NEVER, b"short"), "no introduction"),
        ((m.AUTH, m.PROTOCOL_VERSION, JOIN, 7, OURS), "does not expire"),
    ],
)
def test_a_stranger_is_told_nothing_but_why_not(message: m.Message, why: str) -> None:
    gate = Gate(SECRET, THEIRS, BINDING)
    with pytest.raises(NotProvenError, match=why):
        gate.answer(message, NOW)
    assert gate.scope == ""


def test_one_challenge_a_connection() -> None:
    gate, visitor = Gate(SECRET, THEIRS, BINDING), Visitor(key_of(SECRET), OURS, BINDING)
    gate.answer(visitor.greeting(), NOW)
    with pytest.raises(NotProvenError):
        gate.answer(visitor.greeting(), NOW)


@pytest.mark.parametrize("answer", [(m.WELCOME, {}), (m.CHALLENGE, b"short", bytes(32))])
def test_a_visitor_recognises_what_is_no_daemon(answer: m.Message) -> None:
    with pytest.raises(NotProvenError, match="no rayd daemon"):
        Visitor(key_of(SECRET), OURS, b"").answer(answer)
