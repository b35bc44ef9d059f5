"""Text that others wrote, made safe to show: on a terminal, in a file, in a line."""

from __future__ import annotations

import json
from typing import Any


def one_line(found: str) -> str:
    """`found` with everything that does not print (line breaks, control and bidirectional characters) escaped."""
    if found.isprintable():
        return found
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in found)


def quoted(found: str, limit: int = 60) -> str:
    """`found` in quotes, on one line, cut to a readable length."""
    return repr(found if len(found) <= limit else found[: limit - 3] + "...")


def shortened(found: str, limit: int = 200) -> str:
    """`found` on one line; of a long one, the end."""
    return one_line(found if len(found) <= limit else "..." + found[3 - limit :])


def cut(found: str, limit: int = 1_000) -> str:
    """`found` on one line; of a long one, the beginning and how much is left out."""
    if len(found) <= limit:
        return one_line(found)
    return f"{one_line(found[:limit])} ... ({len(found) - limit} characters more)"


def json_text(plain: Any, indent: int | None = None) -> str:
    """`plain` as JSON in printable ASCII: json.dumps leaves the delete character as it is."""
    encoder = _COMPACT if indent is None else json.JSONEncoder(indent=indent)
    return encoder.encode(plain).replace("\x7f", "\\u007f")


_COMPACT = json.JSONEncoder()
