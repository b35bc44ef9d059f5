"""Runs a long command: its output goes line by line to a file and to a callback, and a timeout ends all of it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event, Timer


class ProcessTimeoutError(Exception):
    """The command did not end in time; it and its children have been killed."""


def run_logged(
    command: Sequence[str],
    cwd: Path,
    log_file: Path,
    log: Callable[[str], None],
    timeout_s: float | None,
    *,
    keep: int,
) -> tuple[int, tuple[str, ...]]:
    """Run `command` in `cwd`. Returns its exit code (negative: the signal that ended it) and its last `keep` lines.

    Standard output and error go to `log_file` and `log` as they come. Raises ProcessTimeoutError after `timeout_s`
    seconds, and OSError if the command cannot be started. Whatever cuts the wait short, its process group is killed.
    """
    tail: deque[str] = deque(maxlen=keep)
    expired = Event()
    with log_file.open("w", encoding="utf-8") as file, _started(command, cwd) as process:
        timer = Timer(timeout_s or 0, _expire, (expired, process))
        try:
            if timeout_s is not None:
                timer.start()
            for line in process.stdout or ():
                file.write(line)
                tail.append(line.rstrip("\n"))
                log(line.rstrip("\n"))
            code = process.wait()
        finally:
            timer.cancel()
            _kill_group(process)
    if expired.is_set():
        raise ProcessTimeoutError
    return code, tuple(tail)


def _started(command: Sequence[str], cwd: Path) -> subprocess.Popen[str]:
    """The command in a process group of its own."""
    return subprocess.Popen(
        command,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )


def _expire(expired: Event, process: subprocess.Popen[str]) -> None:
    expired.set()
    _kill_group(process)


def _kill_group(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
