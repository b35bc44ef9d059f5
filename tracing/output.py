"""The output folder: whole or absent. Files go to a folder beside it, which is renamed at the end."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from passes.errors import DeadkvError


@contextmanager
def output_folder(target: Path) -> Iterator[Path]:
    """Yields an empty folder that becomes `target` when the block ends well and vanishes when it does not.

    Raises:
        DeadkvError: `target` exists, or its parent cannot be written.
    """
    check_output_folder(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise DeadkvError(f"cannot write the output folder {target}: {error.strerror or error}") from error
    try:
        yield scratch
        scratch.chmod(0o755)
        scratch.rename(target)
    except OSError as error:
        raise DeadkvError(f"cannot write the output folder {target}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def check_output_folder(target: Path) -> None:
    """Refuses, before any work is done, a folder that could not be written at the end."""
    if target.exists() or target.is_symlink():
        raise DeadkvError(f"the output folder {target} exists already: remove it or name another with --out")
    parent = next(folder for folder in target.absolute().parents if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise DeadkvError(f"cannot write the output folder {target}: {parent} is not a writable folder")
