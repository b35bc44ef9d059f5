"""Measures the rows that are absent, each group of them in a process of its own."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.bench.benchmark import Benchmark, Row
from tests.bench.environment import ROOT
from tests.bench.registry import place_of
from tests.bench.store import Measured, RowFolder


@dataclass(frozen=True)
class Job:
    """Rows that one process measures."""

    benchmark: Benchmark
    keys: tuple[str, ...]


class Run:
    """Measures benchmarks into a folder. What is there already, of the same environment, is not measured again.

    Attributes:
        benchmarks: what to measure.
        out: folder of the rows, and of a log for each benchmark.
    """

    def __init__(self, benchmarks: Sequence[Benchmark], out: Path) -> None:
        self.benchmarks = benchmarks
        self.out = out
        for benchmark in benchmarks:
            self._log(benchmark).unlink(missing_ok=True)
        self._folders = {found.name: RowFolder(out, found) for found in benchmarks}

    def forget(self) -> None:
        """Removes the rows of these benchmarks."""
        for benchmark in self.benchmarks:
            self._folders[benchmark.name].clear(benchmark.keys())

    def rows(self, benchmark: Benchmark) -> dict[str, Row]:
        """The rows that are measured by now."""
        return self._folders[benchmark.name].read(benchmark.keys())

    def results(self) -> dict[str, Measured]:
        """The rows that are measured by now, by name of the benchmark."""
        return {b.name: Measured(self._folders[b.name].environment, self.rows(b)) for b in self.benchmarks}

    def jobs(self) -> list[Job]:
        """What is left to measure, in order."""
        found = []
        for benchmark in self.benchmarks:
            keys, present = benchmark.keys(), self.rows(benchmark)
            absent = tuple(key for key in keys if key not in present)
            groups = [absent] if benchmark.grouped else [(key,) for key in absent]
            found += [Job(benchmark, keys) for keys in groups if keys]
        return found

    def _log(self, benchmark: Benchmark) -> Path:
        return self.out / f"{benchmark.name}.log"

    def measure(self, job: Job, done: Callable[[Row], object]) -> list[str]:
        """Measures the rows of a job; returns a line about each that could not be measured.

        `done` is called with each row when it is written. The process and its children are ended when this returns or
        raises.
        """
        left, changed = list(job.keys), []
        log = self._log(job.benchmark)
        log.parent.mkdir(parents=True, exist_ok=True)
        folder = self._folders[job.benchmark.name]
        with log.open("a") as stderr, _process(self.out, job, stderr) as lines:
            try:
                for key in _in_time(lines, job.benchmark.limit_s):
                    left.remove(key)
                    found = folder.read([key])
                    if found:
                        done(found[key])
                    else:
                        changed.append(f"{job.benchmark.name} {key}: sources or versions changed during the run")
            except TimeoutError:
                return [*changed, _failure(job, left[0], f"no result within {job.benchmark.limit_s:g} s", log)]
        return [*changed, *(_failure(job, key, "failed", log) for key in left)]


def _failure(job: Job, key: str, what: str, log: Path) -> str:
    return f"{job.benchmark.name} {key}: {what}: see the end of {log}"


@contextmanager
def _process(out: Path, job: Job, stderr: IO[str]) -> Iterator[IO[str]]:
    """Yields the stdout of the process that measures, which leads a session of its own: Ctrl-C reaches only us."""
    command = [sys.executable, "-m", "tests.bench.child", str(out.absolute()), place_of(job.benchmark), *job.keys]
    process = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, text=True,
        start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        _end(process)
        process.stdout.close()


def _end(process: subprocess.Popen[str]) -> None:
    """Ends the process and whatever it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _in_time(lines: Iterable[str], limit_s: float) -> Iterator[str]:
    """The lines, stripped. Raises TimeoutError if none comes for `limit_s` seconds."""
    arrived: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        for line in lines:
            arrived.put(line.strip())
        arrived.put(None)

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            line = arrived.get(timeout=limit_s)
        except queue.Empty:
            raise TimeoutError from None
        if line is None:
            return
        yield line
