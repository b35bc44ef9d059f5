"""Whether an optional package is installed, without importing it."""

from __future__ import annotations

from importlib.util import find_spec


def installed(package: str) -> bool:
    """Whether `package`, dotted or not, can be imported. Its parent packages, if any, are imported to find out."""
    try:
        return find_spec(package) is not None
    except (ModuleNotFoundError, ValueError):
        return False
