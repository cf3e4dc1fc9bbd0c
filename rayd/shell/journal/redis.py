"""The journal in a Redis server: a hash, changed by transactions of one head at a time.

``redis://[user:password@]host[:port][/db][?cluster=NAME]``, or ``rediss://`` for TLS. A head that begins writes its own
mark; a former one that still runs somewhere can write nothing any more from then on.
"""

import secrets
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit, urlunsplit

from rayd.shell.journal.store import JournalError, Row, TakenError, unpack

if TYPE_CHECKING:
    from redis import Redis

_TIMEOUT_S: Final = 10.0
# One transaction: nothing is changed unless the mark is still this head's.
_WRITE: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return redis.error_reply('NOTOURS') end
for i = 2, #ARGV, 3 do
  if ARGV[i] == '+' then redis.call('HSET', KEYS[2], ARGV[i + 1], ARGV[i + 2])
  else redis.call('HDEL', KEYS[2], ARGV[i + 1]) end
end
"""


class RedisJournal:
    """Rows in a Redis server.

    Args:
        url: where it is, and optionally the cluster's name there (default "default").

    Raises:
        JournalError: it cannot be reached, does not let us in, or keeps nothing on disk.
    """

    def __init__(self, url: str) -> None:
        try:
            import redis
        except ImportError:
            raise JournalError(
                f"the journal {_shown(url)} takes the package redis, which is not installed; run"
                " `pip install 'rayd[redis]'`"
            ) from None
        self._errors = redis.RedisError
        self.name = _shown(url)
        parts = urlsplit(url)
        cluster = parse_qs(parts.query).get("cluster", ["default"])[0]
        self._mark_key = f"rayd:{cluster}:head"
        self._rows_key = f"rayd:{cluster}:journal"
        self._mark = secrets.token_hex(16)
        try:
            bare = urlunsplit(parts._replace(query=""))
            self._redis: Redis = redis.Redis.from_url(bare, socket_timeout=_TIMEOUT_S)
            self._write = self._redis.register_script(_WRITE)
            self._redis.set(self._mark_key, self._mark)
            appends = self._redis.config_get("appendonly", "appendfsync")
        except (redis.RedisError, ValueError) as error:
            raise JournalError(f"the journal {self.name} cannot be used: {error}; see that the server runs") from None
        if appends.get("appendonly") != "yes" or appends.get("appendfsync") != "always":
            self.close()
            raise JournalError(
                f"the Redis server of the journal {self.name} answers before its data are on disk; start it with"
                " `--appendonly yes --appendfsync always`"
            )

    def load(self) -> list[tuple[str, bytes, Any]]:
        """All rows."""
        try:
            rows: dict[bytes, bytes] = self._redis.hgetall(self._rows_key)  # type: ignore[assignment]
            found = [(*field.split(b":", 1), unpack(value)) for field, value in rows.items()]
        except (self._errors, ValueError) as error:
            raise JournalError(f"the journal {self.name} cannot be read: {error}") from None
        return [(kind.decode(), key, value) for kind, key, value in sorted(found, key=lambda row: row[:2])]

    def write(self, rows: list[Row]) -> None:
        """All rows in one script, which Redis runs as a whole or not at all."""
        arguments: list[bytes | str] = [self._mark]
        for kind, key, value in rows:
            arguments += [b"-" if value is None else b"+", kind.encode() + b":" + key, value or b""]
        try:
            self._write(keys=[self._mark_key, self._rows_key], args=arguments)
        except self._errors as error:
            if "NOTOURS" in str(error):
                raise TakenError("another head has taken it over") from None
            raise JournalError(str(error)) from None

    def clear(self) -> None:
        """Remove the cluster's rows."""
        try:
            self._redis.delete(self._rows_key, self._mark_key)
        except self._errors as error:
            raise JournalError(f"the journal {self.name} cannot be emptied: {error}") from None
        finally:
            self.close()

    def close(self) -> None:
        """End the connection."""
        self._redis.close()


def _shown(url: str) -> str:
    """The address without what only those may know who have it."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=host))
