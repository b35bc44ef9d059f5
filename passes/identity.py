"""A hash of this package's sources, so that a cache keyed by it never serves the result of an older pass."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path


def source_hash(options: str) -> str:
    """Hex SHA-256 of every source file of `passes` and of `options`."""
    return hashlib.sha256(f"{_sources_hash()} {options}".encode()).hexdigest()


@lru_cache(maxsize=1)
def _sources_hash() -> str:
    digest = hashlib.sha256()
    root = Path(__file__).parent
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()
