"""The file in which a user keeps a cluster's token: read by who connects, made by the first daemon that listens.

Nobody but its owner may read it; a file that others can read is refused, for what it holds may have been read. It never
travels in arguments or in the environment, which other processes can see.
"""

import os
import secrets

from rayd.wire.secret import JOIN, SECRET_BYTES, Key, TokenError, key_of, parse

_TOKEN_BYTES_MAX = 1024


class TokenFileError(Exception):
    """The token cannot be had; the text says why and what to do."""


def load(path: str) -> Key:
    """The key in a token's file.

    Raises:
        TokenFileError: it is not there, is not private, or holds something else.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise TokenFileError(
            f"there is no token in {path}: copy the file ~/.rayd/token of the cluster's head to it (or, for less than"
            " all rights, what `rayd token --scope submit` prints there), or name another file with RAYD_TOKEN_FILE"
        ) from None
    except OSError as error:
        raise TokenFileError(f"the token in {path} cannot be read: {error.strerror}") from None
    with open(descriptor, "rb") as file:
        there = os.fstat(file.fileno())
        if there.st_uid != os.getuid():
            raise TokenFileError(f"the token in {path} belongs to user id {there.st_uid}, not to {os.getuid()}")
        if there.st_mode & 0o077:
            raise TokenFileError(f"the token in {path} can be read by others; if they may know it, `chmod 600 {path}`")
        text = file.read(_TOKEN_BYTES_MAX).decode("ascii", "replace").strip()
    try:
        return parse(text)
    except TokenError as error:
        raise TokenFileError(f"in {path}: {error}") from None


def secret_of_cluster(path: str) -> bytes:
    """The secret of the cluster to which this user's daemons belong; drawn and written down the first time.

    Raises:
        TokenFileError: the file holds something else, or cannot be written.
    """
    if not os.path.lexists(path):
        replace(path, secrets.token_bytes(SECRET_BYTES), first=True)
    key = load(path)
    if key.scope != JOIN:
        raise TokenFileError(
            f"the token in {path} has the scope {key.scope!r}, with which no daemon can run; it takes the head's own"
        )
    return key.value


def replace(path: str, secret: bytes, *, first: bool = False) -> None:
    """Write down a secret.

    Args:
        path: of the file; its folder is made if need be.
        secret: 32 bytes.
        first: do nothing if somebody was quicker.

    Raises:
        TokenFileError: it cannot be written.
    """
    temporary = f"{path}.{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(path) or ".", mode=0o700, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(descriptor, "w", encoding="ascii") as file:
                file.write(key_of(secret).token() + "\n")
                file.flush()
                os.fsync(file.fileno())
            if first:
                os.link(temporary, path)
            else:
                os.replace(temporary, path)
        except FileExistsError:
            pass
        finally:
            if os.path.exists(temporary):
                os.unlink(temporary)
    except OSError as error:
        raise TokenFileError(f"the token cannot be written to {path}: {error.strerror}") from None
