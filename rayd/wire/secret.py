"""What members of a cluster know and strangers do not: one 256-bit secret, and the keys of limited scope made from it.

A *token* is how a person carries a key to another machine: ``rayd-<scope>-<expiry>-<key in base32>``. The key of scope
``join`` is the secret itself, since a node has to judge all others; the keys of the other scopes are derived from the
secret, the scope and the moment at which they expire, and tell nothing of it. So a daemon needs no list of the tokens
that were handed out: a client names scope and expiry, and only the right key fits both.

A key is never sent. Each side answers a fresh challenge of the other with a keyed hash (HMAC-SHA-256, RFC 2104) over
both challenges, the scope, the side that answers and the *binding*: the hash of the certificate that the connection's
TLS layer has shown, as in RFC 5929 (``tls-server-end-point``). So an answer fits one connection, one direction and one
scope, and somebody in between, who has to show another certificate, cannot pass it on.
"""

import base64
import binascii
import hashlib
import hmac
from typing import Final, NamedTuple

SECRET_BYTES: Final = 32
CHALLENGE_BYTES: Final = 32
JOIN: Final = "join"
ADMIN: Final = "admin"
SUBMIT: Final = "submit"
READ: Final = "read"
# Which kinds of connection a scope may open. What they may ask for there: ``rayd.core.rights``.
KINDS: Final = {
    JOIN: frozenset({"driver", "cli", "logs", "node", "bulk"}),
    ADMIN: frozenset({"driver", "cli", "logs"}),
    SUBMIT: frozenset({"driver", "cli", "logs"}),
    READ: frozenset({"cli"}),
}
NEVER: Final = 0
_EXPIRY_MAX: Final = 1 << 48


class TokenError(ValueError):
    """A text is no token; says why."""


class Key(NamedTuple):
    """One key.

    Attributes:
        scope: what it allows, one of ``KINDS``.
        expires: seconds since 1970 from which on it is void; 0 for never.
        value: 32 bytes.
    """

    scope: str
    expires: int
    value: bytes

    def token(self) -> str:
        """As text to copy."""
        body = base64.b32encode(self.value).decode().rstrip("=").lower()
        return f"rayd-{self.scope}-{self.expires:x}-{body}"


def key_of(secret: bytes, scope: str = JOIN, expires: int = NEVER) -> Key:
    """The key of a scope.

    Args:
        secret: of the cluster, 32 bytes.
        scope: one of ``KINDS``.
        expires: seconds since 1970; 0 for never.

    Raises:
        ValueError: there is no such scope, or a key that lets nodes join was to expire.
    """
    if scope not in KINDS:
        raise ValueError(f"there is no scope {scope!r:.40}; there are {', '.join(KINDS)}")
    if not 0 <= expires < _EXPIRY_MAX:
        raise ValueError(f"a key cannot expire at {expires}")
    if scope == JOIN:
        if expires:
            raise ValueError("a token that lets nodes join does not expire, since nodes judge others by it; rotate it")
        return Key(JOIN, NEVER, secret)
    return Key(scope, expires, hmac.digest(secret, f"rayd key {scope} {expires}".encode(), "sha256"))


def parse(text: str) -> Key:
    """The key that a token carries.

    Raises:
        TokenError: it is none.
    """
    parts = text.split("-")
    if len(parts) != 4 or parts[0] != "rayd" or parts[1] not in KINDS:
        raise TokenError("this is no token of rayd; one looks like rayd-join-0-abc..., as `rayd token` shows it")
    try:
        expires = int(parts[2], 16)
        body = parts[3].upper()
        value = base64.b32decode(body + "=" * (-len(body) % 8))
    except (ValueError, binascii.Error):
        raise TokenError("this token has letters that no token has; copy it again from `rayd token`") from None
    if len(value) != SECRET_BYTES or not 0 <= expires < _EXPIRY_MAX:
        raise TokenError("this token is not complete; copy all of it from `rayd token`")
    return Key(parts[1], expires, value)


def client_proof(key: Key, ours: bytes, theirs: bytes, binding: bytes) -> bytes:
    """What a client answers to the challenge ``theirs`` of a server, having sent ``ours``."""
    return _proof(key, b"client", theirs, ours, binding)


def server_proof(key: Key, ours: bytes, theirs: bytes, binding: bytes) -> bytes:
    """What a server answers to the challenge ``theirs`` of a client, sending ``ours`` with it."""
    return _proof(key, b"server", ours, theirs, binding)


def same(one: bytes, other: bytes) -> bool:
    """Comparison in a time that does not tell where they differ."""
    return hmac.compare_digest(one, other)


def _proof(key: Key, side: bytes, of_server: bytes, of_client: bytes, binding: bytes) -> bytes:
    said = (b"rayd", side, key.scope.encode(), of_server, of_client, binding)
    # Each part with its length, so that no two different sets of parts are one text.
    text = b"".join(len(part).to_bytes(2, "big") + part for part in said)
    return hmac.digest(key.value, text, hashlib.sha256)
