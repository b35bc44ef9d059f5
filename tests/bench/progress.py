"""How far a run is: a bar on a terminal, a line for each row elsewhere, both on stderr."""

from __future__ import annotations

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.bench.benchmark import Row
from tests.bench.runner import Job
from tracing.cli.terminal import stderr


class Shown:
    """Shows a run of `total` rows while it is entered."""

    def __init__(self, total: int) -> None:
        self.console = stderr()
        columns = BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}")
        self._bar = Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal)
        self._task = self._bar.add_task("", total=total)
        self._name = ""

    def begin(self, job: Job) -> None:
        """A process starts to measure these rows."""
        self._name = job.benchmark.name
        self._bar.update(self._task, description=f"{self._name} {job.keys[0]}")

    def done(self, row: Row) -> None:
        """A row was measured, or skipped."""
        self.console.print(f"{self._name} {row.key}: {row.skipped or f'{row.seconds:.1f} s'}")
        self._bar.advance(self._task)

    def __enter__(self) -> Shown:
        self._bar.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._bar.stop()
