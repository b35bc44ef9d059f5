"""Runs a long command: its output goes to a file and line by line to a callback, and a time limit ends all of it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

_POLL_S = 0.05
_CHUNK = 64 * 1024


class ProcessStartError(Exception):
    """The command cannot be started."""


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
    environment: Mapping[str, str] | None = None,
) -> tuple[int, tuple[str, ...]]:
    """Run `command` in `cwd`. Returns its exit code (negative: the signal that ended it) and its last `keep` lines.

    `environment` is the command's whole environment, by default that of this process.

    The command writes standard output and error straight to `log_file`, and `log` is given each line as it comes; no
    more than about 64 KiB of it is in memory at once, and longer lines come in pieces. The command is over when its
    first process is: whatever it left running in its process group is killed then, and all of it whenever something
    cuts the wait short.

    Raises:
        ProcessStartError: the command cannot be started.
        ProcessTimeoutError: it did not end within `timeout_s` seconds.
        OSError: `log_file` cannot be written.
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    with log_file.open("wb") as sink, log_file.open("rb") as source:
        lines = _Follower(source, log, keep)
        with _started(command, cwd, sink, environment) as process:
            while not _has_ended(process):
                if deadline is not None and time.monotonic() >= deadline:
                    raise ProcessTimeoutError
                if not lines.read():
                    time.sleep(_POLL_S)
        lines.finish()
    return process.returncode, tuple(lines.tail)


@contextmanager
def _started(
    command: Sequence[str], cwd: Path, sink: BinaryIO, environment: Mapping[str, str] | None
) -> Iterator[subprocess.Popen[bytes]]:
    """The command in a process group of its own, which does not outlive the block."""
    try:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        raise ProcessStartError(error.strerror or str(error)) from error
    try:
        yield process
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # nobody has waited for it yet, so the number is still its own
        process.wait()


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None


class _Follower:
    """Gives on the lines that are appended to a file, and remembers the last ones."""

    def __init__(self, source: BinaryIO, log: Callable[[str], None], keep: int) -> None:
        self.tail: deque[str] = deque(maxlen=keep)
        self._source = source
        self._log = log
        self._rest = b""

    def read(self) -> bool:
        """The next lines, if there is anything new. A line without an end waits for it, unless it is long."""
        chunk = self._source.read(_CHUNK)
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            self._give(line)
        if len(self._rest) >= _CHUNK:
            self._give_rest()
        return bool(chunk)

    def finish(self) -> None:
        """What is left of the file as it is now, and its last line if that has no end."""
        size = os.fstat(self._source.fileno()).st_size
        while self._source.tell() < size and self.read():
            pass
        if self._rest:
            self._give_rest()

    def _give_rest(self) -> None:
        self._give(self._rest)
        self._rest = b""

    def _give(self, line: bytes) -> None:
        """Of a line that was overwritten with carriage returns, what a terminal shows in the end."""
        text = line.rstrip(b"\r").rpartition(b"\r")[2].decode("utf-8", errors="replace")
        self.tail.append(text)
        self._log(text)
