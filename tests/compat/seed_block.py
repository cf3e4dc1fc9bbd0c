"""A program printed in a seed document: where it stands, and what the document's layout left out.

The documents are not part of this repository. A block is found by a text that occurs in it once (`anchor`) and by the
lines with which it begins and ends; what is taken from there runs as it stands. Where printing has damaged a program,
the completion stands here beside its reason: lines that go before or after it, the indentation of each line that lost
it, and edits of single lines.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

FENCE = "```"


@dataclass(frozen=True)
class Block:
    """One program of a document.

    Attributes:
        name: what the tests call it.
        document: the number with which the name of the document's file begins.
        anchor: a text that occurs in exactly one line of the document, within the block.
        first, last: how the block's first and last line begin; the nearest such lines around the anchor count. Fences
            themselves are left out.
        before, after: lines that the document does not have and the program needs.
        levels: the indentation of each line, one digit per line, where the document lost it.
        cut: the beginning of the prose that runs into the last line; it is taken off.
        edits: texts to be replaced, each of which must occur.
        reason: why there are `before`, `after`, `levels`, `cut` or `edits`.
        check: an assertion about the outcome, run at the end of the program.
        printed: a regular expression that the program's output matches.
        limit_s: seconds that the program may take.
        needs: a module without which the program cannot run.
        beyond_ray: why upstream is not asked to run it.
    """

    name: str
    document: str
    anchor: str
    first: str = FENCE
    last: str = FENCE
    before: str = ""
    after: str = ""
    levels: str = ""
    cut: str = ""
    edits: tuple[tuple[str, str], ...] = ()
    reason: str = ""
    check: str = ""
    printed: str = ""
    limit_s: float = 60.0
    needs: str = ""
    beyond_ray: str = ""

    def text(self, folder: Path) -> str:
        """The block as it stands in its document."""
        (path,) = folder.glob(f"{self.document}_*.txt")
        lines = path.read_text().splitlines()
        (at,) = [number for number, line in enumerate(lines) if self.anchor in line]
        start = max(number for number in range(at + 1) if lines[number].startswith(self.first))
        stop = min(number for number in range(at, len(lines)) if lines[number].startswith(self.last))
        if self.first == FENCE:
            return "\n".join(lines[start + 1 : stop])
        return "\n".join(lines[start : stop + 1])

    def program(self, folder: Path) -> str:
        """The block with its completion and its check."""
        text = self.text(folder)
        if self.cut:
            text, prose, _ = text.partition(self.cut)
            assert prose, f"{self.name}: the document does not contain {self.cut!r} any more"
        for old, new in self.edits:
            assert old in text, f"{self.name}: the document does not contain {old!r} any more"
            text = text.replace(old, new)
        if self.levels:
            text = indented(text, self.levels)
        return "\n".join(part for part in (self.before, text, self.after, self.check) if part) + "\n"


def indented(text: str, levels: str) -> str:
    """Give each line the indentation that its digit in `levels` says."""
    lines = text.splitlines()
    assert len(lines) == len(levels), f"{len(lines)} lines, {len(levels)} levels:\n{text}"
    return "\n".join("    " * int(level) + line.strip() for line, level in zip(lines, levels, strict=True))


def words(pattern: str) -> str:
    """A regular expression in which a space stands for any white space."""
    return re.sub(" ", r"\\s+", pattern)
