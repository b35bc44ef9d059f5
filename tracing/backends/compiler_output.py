"""What a compiler said, in one line for a person."""

from __future__ import annotations

from collections.abc import Iterable

LAST_LINES = 10
_LINE_LENGTH = 400


def one_line(lines: Iterable[str]) -> str:
    """The lines that are not blank, each cut at its beginning, without what would move a terminal's cursor."""
    return " | ".join(_shown(line) for line in lines if line.strip()) or "none"


def _shown(line: str) -> str:
    printable = "".join(character if character.isprintable() else " " for character in line)
    return printable if len(printable) <= _LINE_LENGTH else f"...{printable[-_LINE_LENGTH:]}"
