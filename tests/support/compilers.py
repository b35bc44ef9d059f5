"""Stand-ins for `neuronx-cc` that go wrong."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest


def install_compiler(folder: Path, body: str) -> Path:
    """An executable `neuronx-cc` in `folder` that runs `body`; returns the folder, to be put on the PATH."""
    folder.mkdir(exist_ok=True)
    program = folder / "neuronx-cc"
    program.write_text(f"#!{sys.executable}\nimport os, pathlib, signal, subprocess, sys, time\n{body}\n")
    program.chmod(0o755)
    return folder


def wait_for(path: Path, seconds: float = 240) -> None:
    """Waits until a file is there and not empty."""
    deadline = time.monotonic() + seconds
    while not (path.exists() and path.stat().st_size):
        if time.monotonic() > deadline:
            pytest.fail(f"{path} was not written in {seconds:g} s")
        time.sleep(0.02)


def wait_until_gone(process: int, seconds: float = 20) -> None:
    """Waits until a process has ended, whoever has to collect it."""
    deadline = time.monotonic() + seconds
    while _runs(process):
        if time.monotonic() > deadline:
            pytest.fail(f"process {process} is still running")
        time.sleep(0.02)


def _runs(process: int) -> bool:
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rsplit(")", 1)[1].split()[0] != "Z"
