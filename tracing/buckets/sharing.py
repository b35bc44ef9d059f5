"""Artefacts by content: the same bytes are written to disk once, however many buckets have them."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


class SharedArtefacts:
    """Files by the SHA-256 of what is in them; a later file with the same bytes becomes a hard link to the first.

    Where the file system has no hard links, or no more for one file, the copy stays.
    """

    def __init__(self) -> None:
        self._first: dict[str, Path] = {}

    def add(self, folder: Path) -> dict[str, str]:
        """Shares the files of a folder. Returns the digest of each by its path in the folder, in order of the paths."""
        files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
        return {path.relative_to(folder).as_posix(): self._add(path) for path in files}

    def _add(self, path: Path) -> str:
        with path.open("rb") as file:
            digest = hashlib.sha256()
            while chunk := file.read(1 << 20):
                digest.update(chunk)
        first = self._first.setdefault(digest.hexdigest(), path)
        if first is not path:
            _link(first, path)
        return digest.hexdigest()


def _link(first: Path, path: Path) -> None:
    link = path.with_name(f"{path.name}.link")
    try:
        os.link(first, link)
    except OSError:
        return
    link.replace(path)
