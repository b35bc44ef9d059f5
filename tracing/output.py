"""The output folder: whole or absent. Files go to a folder beside it, which is renamed at the end."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path

from passes.errors import DeadkvError

_PREFIX, _SUFFIX = ".deadkv-", ".tmp"
_ADVICE = {
    errno.ENOSPC: "free some space, or name a folder on another disk with --out",
    errno.EDQUOT: "free some of your quota, or name a folder on another disk with --out",
    errno.ENAMETOOLONG: "name a shorter one with --out",
}
_OTHER_ADVICE = "name a folder that can be written with --out"


@contextmanager
def output_folder(target: Path) -> Iterator[Path]:
    """Yields an empty folder that becomes `target` when the block ends well and vanishes when it does not.

    What a killed run left in the same parent is removed first.

    Raises:
        DeadkvError: `target` exists, or something in the block could not be written.
    """
    check_output_folder(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(target.parent)
        with _scratch_folder(target.parent) as scratch:
            content = scratch / "content"
            content.mkdir()
            yield content
            content.rename(target)
    except OSError as error:
        raise DeadkvError(_cannot_write(target, error)) from error


def check_output_folder(target: Path) -> None:
    """Refuses, before any work is done, a folder that could not be written at the end."""
    try:
        exists = target.exists() or target.is_symlink()
        parent = next(folder for folder in target.absolute().parents if folder.exists())
    except OSError as error:
        raise DeadkvError(_cannot_write(target, error)) from error
    if exists:
        raise DeadkvError(f"the output folder {target} exists already: remove it or name another with --out")
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise DeadkvError(f"cannot write the output folder {target}: {parent} is not a writable folder")


def remove_leftovers(parent: Path) -> None:
    """Removes the scratch folders in `parent` whose runs have ended: a run holds the lock of its own."""
    for folder in _scratch_folders(parent):
        _remove_if_left(folder)


def write_whole(path: Path, content: str) -> None:
    """Writes a file that has either all of `content` or what it had before.

    Raises:
        DeadkvError: it cannot be written.
    """
    try:
        if path.exists() and not path.is_file():  # a terminal or a pipe
            path.write_text(content, encoding="utf-8")
            return
        with _scratch_folder(path.parent) as scratch:
            whole = scratch / "content"
            whole.write_text(content, encoding="utf-8")
            whole.replace(path.resolve())
    except OSError as error:
        raise DeadkvError(f"cannot write {path}: {error.strerror or error}") from error


def _cannot_write(target: Path, error: OSError) -> str:
    advice = _ADVICE.get(error.errno or 0, _OTHER_ADVICE)
    return f"cannot write the output folder {target}: {error.strerror or error}; {advice}"


def _scratch_folders(parent: Path) -> list[Path]:
    try:
        found = [entry.name for entry in os.scandir(parent) if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []
    return [parent / name for name in sorted(found) if name.startswith(_PREFIX) and name.endswith(_SUFFIX)]


@contextmanager
def _scratch_folder(parent: Path) -> Iterator[Path]:
    """A new folder in `parent`, removed at the end, which says by its lock that this run lives."""
    scratch, descriptor = _new_locked(parent)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        os.close(descriptor)


def _new_locked(parent: Path) -> tuple[Path, int]:
    while True:
        scratch = Path(tempfile.mkdtemp(prefix=_PREFIX, suffix=_SUFFIX, dir=parent))
        descriptor = os.open(scratch, os.O_RDONLY | os.O_DIRECTORY)
        if _lock(descriptor) is not _Lock.TAKEN and scratch.exists():
            return scratch, descriptor
        os.close(descriptor)  # another run found it before it was locked, and removes it


def _remove_if_left(folder: Path) -> None:
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return
    try:
        if _lock(descriptor) is _Lock.HELD:
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(descriptor)


class _Lock(Enum):
    HELD = "this process has it, until it closes the file or ends in any way"
    TAKEN = "another run has it"
    UNKNOWN = "the file system has no locks"


def _lock(descriptor: int) -> _Lock:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return _Lock.TAKEN
    except OSError:
        return _Lock.UNKNOWN
    return _Lock.HELD
