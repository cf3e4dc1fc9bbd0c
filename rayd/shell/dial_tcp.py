"""Connect to a daemon over TCP, with TLS where the connection leaves the machine; then both sides prove to each other
that they belong to the cluster.
"""

import ipaddress
import secrets
import socket
from typing import Final

from rayd.config import Environment
from rayd.shell import token_file
from rayd.shell.dial import Stream, Target, UnreachableError
from rayd.shell.silence import notice_silence
from rayd.wire import auth
from rayd.wire.frame import Framer, ProtocolError, encode
from rayd.wire.messages import REFUSED, Message
from rayd.wire.secret import CHALLENGE_BYTES, Key

HANDSHAKE_S: Final = 10.0
_UNBOUND: Final = b""


def dial_tcp(target: Target, environment: Environment) -> Stream:
    """Connect and prove; see ``rayd.shell.dial.dial``."""
    try:
        key = token_file.load(environment.token_path())
    except token_file.TokenFileError as error:
        raise UnreachableError(f"cannot prove to {target} that this program belongs to its cluster: {error}") from None
    stream, binding = _connect(target, environment)
    try:
        _prove(stream, target, key, binding)
        stream.settimeout(None)
    except BaseException:
        stream.close()
        raise
    return stream


def _connect(target: Target, environment: Environment) -> tuple[Stream, bytes]:
    """A connection, and the hash of the certificate that it has shown."""
    try:
        sock = socket.create_connection((target.host, target.port), HANDSHAKE_S)
    except socket.gaierror as error:
        raise UnreachableError(f"the host of {target} cannot be found: {error.strerror}") from None
    except TimeoutError:
        raise UnreachableError(f"nothing answers at {target} within {HANDSHAKE_S:g} s") from None
    except OSError as error:
        raise UnreachableError(
            f"cannot connect to {target}: {error.strerror}; start a cluster there with"
            f" `rayd start --head --node-ip-address {target.host} --port {target.port}`"
        ) from None
    notice_silence(sock)
    if is_loopback(sock.getpeername()[0]) or environment.unencrypted:
        return sock, _UNBOUND
    from rayd.shell.tls import TlsSocket

    try:
        stream = TlsSocket(sock, HANDSHAKE_S)
    except OSError as error:
        sock.close()
        raise UnreachableError(f"who answers at {target} does not speak TLS, as rayd does there: {error}") from None
    return stream, stream.binding


def _prove(stream: Stream, target: Target, key: Key, binding: bytes) -> None:
    visitor = auth.Visitor(key, secrets.token_bytes(CHALLENGE_BYTES), binding)
    try:
        stream.sendall(encode(visitor.greeting()))
        answer = _first_message(stream)
        if answer[0] == REFUSED:
            raise UnreachableError(f"the daemon at {target} refuses: {answer[1]['message']}")
        stream.sendall(encode(visitor.answer(answer)))
    except auth.NotProvenError as error:
        raise UnreachableError(f"the connection to {target} was given up: {error}") from None
    except TimeoutError:
        raise UnreachableError(f"who answers at {target} said nothing for {HANDSHAKE_S:g} s") from None
    except ProtocolError as error:
        raise UnreachableError(f"who answers at {target} is no rayd daemon: {error}") from None
    except UnreachableError:
        raise
    except OSError as error:
        raise UnreachableError(f"the connection to {target} broke: {error.strerror or error}") from None


def _first_message(stream: Stream) -> Message:
    framer = Framer()
    while True:
        data = stream.recv(4096)
        if not data:
            raise ProtocolError("it closed the connection without an answer")
        for message in framer.feed(data):
            return message


def is_loopback(host: str) -> bool:
    """Whether an address never leaves the machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
