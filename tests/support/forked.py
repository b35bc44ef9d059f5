"""Runs `deadkv` in a process of its own that has nothing to import: it is forked off the server of bucket workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tracing.buckets.processes import adopt_environment, worker_context
from tracing.cli import main


class ForkedCommand:
    """One command, with the methods of `subprocess.Popen` that a test of signals needs.

    It starts as a shell would start it: with `environment` as its environment, its own stdout and stderr (files in
    `folder`, which is made) and the default answer to SIGINT.
    """

    def __init__(self, *arguments: object, environment: Mapping[str, str], folder: Path) -> None:
        folder.mkdir()
        self._files = folder / "stdout", folder / "stderr"
        command = ["deadkv", *map(str, arguments)]
        self._process = worker_context().Process(target=_run, args=(command, dict(environment), self._files))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """Its exit code, -N if signal N ended it, or None while it runs."""
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What it has written to stdout and stderr, once it has ended.

        Raises subprocess.TimeoutExpired if it has not ended in time.
        """
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("deadkv", timeout or 0)
        out, error = (path.read_text() for path in self._files)
        return out, error


Command = ForkedCommand | subprocess.Popen[str]


@contextmanager
def killed_at_the_end(process: Command) -> Iterator[None]:
    """Leaves no process behind, whatever a test finds."""
    try:
        yield
    finally:
        process.kill()
        process.communicate()


def _run(command: list[str], environment: Mapping[str, str], files: tuple[Path, Path]) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    adopt_environment(environment)
    for descriptor, path in zip((1, 2), files, strict=True):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
    sys.argv = command
    main()
