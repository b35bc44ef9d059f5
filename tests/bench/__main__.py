"""`python -m tests.bench [NAME ...]`: measures, and writes docs/benchmarks.md."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from passes.errors import DeadkvError
from tests.bench.figures import can_draw
from tests.bench.page import markdown, parts_of, update
from tests.bench.progress import Shown
from tests.bench.registry import PLACES, chosen
from tests.bench.runner import Run
from tests.bench.store import dumps
from tracing.cli.signals import Stopped, stoppable
from tracing.cli.terminal import error_line, print_table, stderr, stdout

FAILED, USAGE_ERROR = 1, 2
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def bench(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help=f"{', '.join(PLACES)}; all.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the rows; a run goes on with what is there.")] = Path(
        "out/bench"
    ),
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure again what is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the rows as one JSON document.")] = False,
    listing: Annotated[bool, typer.Option("--list", help="Name the benchmarks and stop.")] = False,
    page: Annotated[bool, typer.Option(help="Write docs/benchmarks.md, .json and the figures.")] = True,
) -> None:
    """Measure the cost of the pass, what it sees, and what pruning buys.

    Rows that are measured already, by the same versions and sources, are not measured again. Exit code 1: a row failed.
    """
    benchmarks = chosen(names or ())
    if listing:
        print_table(("name", "rows", "what"), [(b.name, str(len(b.keys())), b.title) for b in benchmarks])
        return
    run = Run(benchmarks, out)
    if fresh:
        run.forget()
    failed = _measure(run)
    stdout().print(dumps(run.results()) if as_json else markdown(parts_of(run.results())), end="")
    if page and not failed:
        written = update(run.results())
        stderr().print(f"wrote {len(written)} files: {', '.join(path.name for path in written)}")
        if not can_draw():
            stderr().print("the figures are as they were: drawing needs matplotlib, pip install 'deadkv[bench]'")
    for line in failed:
        error_line(line)
    raise typer.Exit(FAILED if failed else 0)


def _measure(run: Run) -> list[str]:
    jobs, failed = run.jobs(), []
    try:
        with stoppable(), Shown(sum(len(job.keys) for job in jobs)) as shown:
            for job in jobs:
                shown.begin(job)
                failed += run.measure(job, shown.done)
    except Stopped as stop:
        left = sum(len(job.keys) for job in run.jobs())
        error_line(f"stopped by {stop.name}: {left} rows are left in {run.out}; the same command goes on with them")
        raise typer.Exit(stop.exit_code) from None
    return failed


def main() -> None:
    """Runs the command line. A DeadkvError is one line on stderr and exit code 2."""
    try:
        app()
    except DeadkvError as error:
        error_line(str(error))
        sys.exit(USAGE_ERROR)


if __name__ == "__main__":
    main()
