"""Runs a peer on cases in processes beside this one, which may crash or hang without loss of more than the case."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

CELL_LIMIT_S = 90
"""Seconds for one case, the start of the process among them."""


def run(peer: str, cases: Sequence[str], jobs: int) -> dict[str, Mapping[str, Any]]:
    """The cell of each case, with `jobs` processes at a time."""
    with ThreadPoolExecutor(jobs) as pool:
        parts = pool.map(lambda part: _run(peer, part), [cases[at::jobs] for at in range(jobs)])
        found = {case: cell for part in parts for case, cell in part.items()}
    return {case: found[case] for case in cases}


def _run(peer: str, cases: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    with Worker(peer) as worker:
        return {case: worker.ask(case) for case in cases}


def _ending(code: int) -> str:
    return f"its process was ended by signal {-code}" if code < 0 else f"its process exited with {code}"


class Worker:
    """One process, started again after it has crashed or was ended."""

    def __init__(self, peer: str, limit_s: float = CELL_LIMIT_S) -> None:
        self._command = [sys.executable, "-m", "tests.bench.capability.worker", peer]
        self._limit_s = limit_s
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, case: str) -> Mapping[str, Any]:
        """The cell of a case."""
        process = self._running()
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(f"{case}\n".encode())
        process.stdin.flush()
        if not select.select([process.stdout], [], [], self._limit_s)[0]:
            return self._lost(f"no result within {self._limit_s:g} s")
        line = process.stdout.readline()
        found: Mapping[str, Any] = json.loads(line) if line else self._lost(_ending(process.wait()))
        return found

    def _lost(self, why: str) -> Mapping[str, Any]:
        self._end()
        return {"left": None, "wrong": False, "failed": why}

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            threads = {**os.environ, "OMP_NUM_THREADS": "1"}
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, env=threads
            )
        return self._process

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *raised: object) -> None:
        self._end()
