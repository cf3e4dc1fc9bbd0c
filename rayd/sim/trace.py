"""What has happened, as one number: equal for equal seeds, on any machine."""

from hashlib import blake2b
from pathlib import Path
from typing import TextIO


class Trace:
    """Every event of a simulation, hashed, and written down if wanted.

    Args:
        path: of the file to write; "" for none.
    """

    def __init__(self, path: str = "") -> None:
        self._hash = blake2b(digest_size=16)
        # Open as long as the run goes on, which closes it.
        self._file: TextIO | None = Path(path).open("w", encoding="utf-8") if path else None  # noqa: SIM115

    def line(self, now: int, who: str, what: str) -> None:
        """Something has happened.

        Args:
            now: virtual time in ns.
            who: where.
            what: in words without any that differ from run to run.
        """
        text = f"{now} {who} {what}\n"
        self._hash.update(text.encode())
        if self._file is not None:
            self._file.write(text)

    def digest(self) -> str:
        """The number, in hex."""
        return self._hash.hexdigest()

    def close(self) -> None:
        """Nothing more is written."""
        if self._file is not None:
            self._file.close()
