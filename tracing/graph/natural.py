"""Natural order of dotted names."""

from __future__ import annotations

import re


def natural(name: str) -> tuple[tuple[str, int], ...]:
    """Sort key under which `layers.2` comes before `layers.10`."""
    return tuple([(text, int(number or 0)) for text, number in _PARTS.findall(name)])


_PARTS = re.compile(r"(\D*)(\d*)")
