"""Hands buckets to worker processes. One that dies costs its bucket only: another takes its place."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from itertools import count
from multiprocessing.connection import Connection, wait
from pathlib import Path

from tracing.buckets.job import Job, Outcome
from tracing.buckets.worker import Worker


def compile_all(buckets: Sequence[int], job: Job, root: Path, workers: int) -> Generator[Outcome, None, None]:
    """Compiles `buckets` into folders of `root` by `workers` processes; gives the outcomes as they come."""
    pool = _Pool(buckets, job, root)
    try:
        for _ in range(min(workers, len(buckets))):
            pool.start_worker()
        while pool.busy:
            yield from pool.outcomes()
    finally:
        pool.stop()


class _Pool:
    def __init__(self, buckets: Sequence[int], job: Job, root: Path) -> None:
        self.busy: dict[Connection, tuple[Worker, int]] = {}
        self._waiting = deque(buckets)
        self._job = job
        self._root = root
        self._numbers = count(1)

    def start_worker(self) -> None:
        self._give(Worker(next(self._numbers), self._job, self._root))

    def outcomes(self) -> Iterator[Outcome]:
        """Waits for at least one outcome, and keeps the workers busy."""
        for connection in wait(list(self.busy)):
            worker, bucket = self.busy.pop(connection)  # type: ignore[call-overload]
            outcome = worker.take(bucket)
            self._go_on(worker)
            yield outcome

    def stop(self) -> None:
        for worker, _ in self.busy.values():
            worker.stop()
        self.busy.clear()

    def _go_on(self, worker: Worker) -> None:
        if self._waiting and worker.alive:
            self._give(worker)
            return
        worker.dismiss()
        if self._waiting:
            self.start_worker()

    def _give(self, worker: Worker) -> None:
        bucket = self._waiting.popleft()
        self.busy[worker.connection] = worker, bucket
        worker.give(bucket)
