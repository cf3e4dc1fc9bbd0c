"""TLS for connections that leave the machine: certificates made on the spot, and a socket that threads may share.

Who the other side is, is not proven by its certificate but by ``rayd.wire.auth``, whose proofs cover the certificate's
hash: so every daemon draws a key and signs its own certificate when it starts, nothing has to be handed out or renewed,
and somebody in between is found out all the same.
"""

import datetime as dt
import hashlib
import os
import select
import socket
import ssl
import threading
from typing import Final

_YEARS: Final = 100  # nobody looks at the date: a certificate ends with its daemon


def server_context() -> tuple[ssl.SSLContext, bytes]:
    """A context with a fresh certificate, and the certificate's hash."""
    from cryptography import x509  # only daemons that listen beyond their machine pay for it
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "rayd")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=365 * _YEARS))
        .sign(key, hashes.SHA256())
    )
    context = _hardened(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    context.num_tickets = 0  # a ticket would look like data to who polls the socket
    pem = certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    # The ssl module reads certificates from files only; this one has no name and never touches a disk.
    descriptor = os.memfd_create("rayd-certificate", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, pem)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
    return context, hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).digest()


def client_context() -> ssl.SSLContext:
    """A context that takes any certificate: see the head of this file."""
    context = _hardened(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def binding_of(connection: ssl.SSLSocket | ssl.SSLObject) -> bytes:
    """Hash of the certificate that the other side has shown."""
    return hashlib.sha256(connection.getpeercert(binary_form=True) or b"").digest()


def _hardened(context: ssl.SSLContext) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


class TlsSocket:
    """The client's end of a TLS connection, with as much of a socket's face as the SDK uses.

    One thread may send while another receives: an OpenSSL connection does not allow that by itself, so each step is
    taken under a lock, and nobody waits for the network while holding it.

    Args:
        sock: connected; taken over.
        timeout_s: how long the handshake may take, in seconds.

    Raises:
        OSError: no TLS handshake, or not in time.

    Attributes:
        binding: hash of the certificate that the server has shown.
    """

    def __init__(self, sock: socket.socket, timeout_s: float) -> None:
        sock.settimeout(timeout_s)
        self._tls = client_context().wrap_socket(sock)
        self._tls.setblocking(False)
        self._lock = threading.Lock()
        self._timeout_ms: float | None = None
        self.binding = binding_of(self._tls)

    def fileno(self) -> int:
        return self._tls.fileno()

    def setblocking(self, blocking: bool) -> None:
        """Blocking is all there is."""
        self._timeout_ms = None

    def settimeout(self, seconds: float | None) -> None:
        """How long ``recv`` and ``sendall`` wait each time the network keeps them waiting; None for ever."""
        self._timeout_ms = None if seconds is None else seconds * 1000

    def recv(self, size: int) -> bytes:
        """What has arrived, at least one byte unless the other side has ended. All that was decrypted on the way is
        handed out, since who polls the descriptor cannot see it: the result may be longer than ``size``.
        """
        while True:
            with self._lock:
                try:
                    data = self._tls.recv(size)
                    while self._tls.pending():
                        data += self._tls.recv(self._tls.pending())
                    return data
                except ssl.SSLWantReadError:
                    event = select.POLLIN
                except ssl.SSLWantWriteError:
                    event = select.POLLOUT
                except ssl.SSLEOFError:
                    return b""
            self._await(event)

    def sendall(self, data: bytes) -> None:
        """Send everything."""
        rest = memoryview(data)
        while rest:
            with self._lock:
                try:
                    rest = rest[self._tls.send(rest) :]
                    continue
                except ssl.SSLWantReadError:
                    event = select.POLLIN
                except ssl.SSLWantWriteError:
                    event = select.POLLOUT
            self._await(event)

    def _await(self, event: int) -> None:
        poll = select.poll()
        poll.register(self._tls, event)
        if not poll.poll(self._timeout_ms):
            raise TimeoutError("the other side does not answer")

    def shutdown(self, how: int) -> None:
        # Not that of the TLS socket: it forgets the keys, and another thread would take what still arrives as it is.
        socket.socket.shutdown(self._tls, how)

    def close(self) -> None:
        self._tls.close()
