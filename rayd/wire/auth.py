"""The conversation that opens a connection over TCP, without the connection: messages in, messages out.

    client                                   server
    AUTH (version, scope, expiry, challenge) ->
                                          <- CHALLENGE (challenge, proof)
    PROOF (proof), HELLO ...                 ->

The server proves itself first, so a client tells nobody anything that it has not recognised. Until the client's proof
has come, nothing it sends reaches the core, and all that it gets is one challenge or one refusal.
"""

from typing import Any

from rayd.wire.messages import AUTH, CHALLENGE, PROOF, PROTOCOL_VERSION, Message
from rayd.wire.secret import (
    CHALLENGE_BYTES,
    KINDS,
    NEVER,
    Key,
    client_proof,
    key_of,
    same,
    server_proof,
)


class NotProvenError(Exception):
    """The other side did not prove that it belongs to the cluster; the text says why, for its user."""


class Gate:
    """The server's side of one connection.

    Args:
        secret: of the cluster.
        challenge: 32 random bytes, for this connection only.
        binding: hash of the certificate that this connection showed; b"" without TLS.

    Attributes:
        scope: what the client may do; "" until it has proven itself.
    """

    def __init__(self, secret: bytes, challenge: bytes, binding: bytes) -> None:
        self._secret = secret
        self._challenge = challenge
        self._binding = binding
        self._key: Key | None = None
        self._theirs = b""
        self.scope = ""

    def answer(self, message: Message, now_s: float) -> Message | None:
        """What to reply to a message of the client; None when it has proven itself with it.

        Args:
            message: AUTH, later PROOF.
            now_s: seconds since 1970, by which keys expire.

        Raises:
            NotProvenError: refuse it with this text, and close.
        """
        if message[0] == AUTH and self._key is None:
            _, version, scope, expires, theirs = message
            return self._meet(version, scope, expires, theirs, now_s)
        if message[0] == PROOF and self._key is not None:
            self._judge(message[1], now_s)
            return None
        raise NotProvenError("this address is for clients that prove by a token that they belong to the cluster")

    def _meet(self, version: int, scope: str, expires: int, theirs: bytes, now_s: float) -> Message:
        if version != PROTOCOL_VERSION:
            raise NotProvenError(
                f"this daemon speaks protocol version {PROTOCOL_VERSION}, the client version {version}; install the"
                " same version of rayd on both sides"
            )
        if scope not in KINDS or len(theirs) != CHALLENGE_BYTES:
            raise NotProvenError("this is no introduction that rayd makes")
        try:
            self._key = key_of(self._secret, scope, expires)
        except ValueError as error:
            raise NotProvenError(str(error)) from None
        self._refuse_if_expired(self._key, now_s)
        self._theirs = theirs
        return CHALLENGE, self._challenge, server_proof(self._key, self._challenge, theirs, self._binding)

    def _judge(self, proof: bytes, now_s: float) -> None:
        assert self._key is not None
        self._refuse_if_expired(self._key, now_s)
        if not same(proof, client_proof(self._key, self._theirs, self._challenge, self._binding)):
            raise NotProvenError("the client's token is not one of this cluster; copy it from `rayd token` on its head")
        self.scope = self._key.scope

    @staticmethod
    def _refuse_if_expired(key: Key, now_s: float) -> None:
        if key.expires != NEVER and now_s >= key.expires:
            raise NotProvenError("the client's token has expired; make another with `rayd token` on the head")


class Visitor:
    """The client's side of one connection.

    Args:
        key: of its token.
        challenge: 32 random bytes, for this connection only.
        binding: hash of the certificate that the server showed; b"" without TLS.
    """

    def __init__(self, key: Key, challenge: bytes, binding: bytes) -> None:
        self._key = key
        self._challenge = challenge
        self._binding = binding

    def greeting(self) -> Message:
        """What to say first."""
        return AUTH, PROTOCOL_VERSION, self._key.scope, self._key.expires, self._challenge

    def answer(self, message: Message) -> Message:
        """What to reply to the server's CHALLENGE.

        Raises:
            NotProvenError: who answers there does not know the secret either.
        """
        if message[0] != CHALLENGE or len(message[1]) != CHALLENGE_BYTES:
            raise NotProvenError("who answers there is no rayd daemon")
        theirs: Any = message[1]
        if not same(message[2], server_proof(self._key, theirs, self._challenge, self._binding)):
            raise NotProvenError(
                "who answers there does not know the secret from which this client's token was made: another cluster's"
                " daemon, or somebody in between"
            )
        return PROOF, client_proof(self._key, self._challenge, theirs, self._binding)
