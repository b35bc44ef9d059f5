"""A process that compiles one bucket after another, and the handle on it."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path

import torch

from passes import DeadkvError
from tracing.buckets.caches import empty_caches
from tracing.buckets.job import Job, Outcome, bucket_folder
from tracing.buckets.processes import adopt_environment, worker_context
from tracing.collection import collection_paused
from tracing.pipeline import compile_tkg

_STOP_S = 10.0
_STATM = Path("/proc/self/statm")


class Worker:
    """A process. `give` hands it a bucket; `connection` can be read when `take` has its outcome.

    Raises DeadkvError if it cannot be started.
    """

    def __init__(self, number: int, job: Job, root: Path) -> None:
        context = worker_context()
        self.number = number
        self.connection, theirs = context.Pipe()
        arguments = (dict(os.environ), theirs, number, job, root)
        self._process = context.Process(target=_serve, args=arguments, daemon=True)
        try:
            self._process.start()
        except (EOFError, ConnectionError) as error:
            what = "the server that forks it has ended, usually because memory ran out"
            raise DeadkvError(f"cannot start a process for a bucket: {what}") from error
        theirs.close()

    @property
    def alive(self) -> bool:
        return self._process.is_alive()

    def give(self, bucket: int) -> None:
        """Hand it a bucket. A process that is gone already is noticed by `take`."""
        try:
            self.connection.send(bucket)
        except BrokenPipeError:
            self._process.join()

    def take(self, bucket: int) -> Outcome:
        """What came of `bucket`, which may be the end of the process."""
        try:
            outcome: Outcome = self.connection.recv()
            return outcome
        except (EOFError, ConnectionResetError):
            self._process.join()
            return Outcome(bucket, _how_it_ended(self._process.exitcode or 0), worker=self.number)

    def dismiss(self) -> None:
        """Let it end, now that it has nothing to do."""
        self.connection.close()
        self._end()

    def stop(self) -> None:
        """End it, with the compiler it may be running."""
        self._process.terminate()
        self.dismiss()

    def _end(self) -> None:
        self._process.join(_STOP_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _how_it_ended(code: int) -> str:
    if code == -signal.SIGKILL:
        return "its process was killed, usually because memory ran out: use fewer --jobs or a host with more memory"
    what = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
    return f"its process {what}: compile this bucket alone to see more"


def _serve(environment: Mapping[str, str], connection: Connection, number: int, job: Job, root: Path) -> None:
    """Body of the process. It ends, and ends its compiler, on SIGTERM and when the process that made it is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all processes; the parent decides
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    adopt_environment(environment)
    torch.set_num_threads(1)
    for bucket in _received(connection):
        connection.send(_compile(bucket, number, job, root))
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _received(connection: Connection) -> Iterator[int]:
    with suppress(EOFError, ConnectionResetError):
        while True:
            yield connection.recv()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)


@collection_paused()
def _compile(bucket: int, number: int, job: Job, root: Path) -> Outcome:
    try:
        summary, backend = _artefacts(bucket, job, root / bucket_folder(bucket))
        error = None
    except DeadkvError as failure:
        summary, backend, error = None, None, " ".join(str(failure).split())
    except Exception as failure:
        reason = " ".join(f"{type(failure).__name__}: {failure}".split())
        summary, backend, error = None, None, f"unexpected {reason}; compile this bucket alone to see where"
    empty_caches()
    return Outcome(bucket, error, summary, backend, number, _resident_memory())


def _artefacts(bucket: int, job: Job, folder: Path) -> tuple[dict[str, int | None] | None, dict[str, object] | None]:
    built = job.build(bucket)
    result = compile_tkg(
        built.model, built.example_inputs, aliases=built.aliases, passes=job.passes, backend=job.backend,
        target=job.target, frontend=job.frontend, compiler_args=job.compiler_args, timeout_s=job.timeout_s,
        dry_run=job.dry_run, out_dir=folder,
    )  # fmt: skip
    summary = None if result.report is None else dict(result.report.summary)
    return summary, None if result.backend is None else result.backend.to_dict()


def _resident_memory() -> int | None:
    if not _STATM.exists():
        return None
    return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
