"""`deadkv compile` with more than one bucket."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.progress import Progress

from passes import DeadkvError
from passes.report import readable_bytes
from tracing.buckets import BucketsResult, Outcome
from tracing.cli.terminal import error_line, print_json, stderr, stdout


def parse_buckets(text: str) -> tuple[int, ...]:
    """`256,512` as numbers of tokens.

    Raises:
        DeadkvError: something in it is no whole number.
    """
    return tuple(_bucket(part.strip()) for part in text.split(","))


def _bucket(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise DeadkvError(
            f"--bucket: {text!r} is not a number of tokens; give one, or several separated by commas"
        ) from None


@contextmanager
def bucket_progress(total: int) -> Iterator[Callable[[Outcome], None]]:
    """A bar on a terminal; nothing elsewhere."""
    console = stderr()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("deadkv compile", total=total)
        yield lambda outcome: bar.update(task, advance=1, description=f"bucket {outcome.bucket} done")


def print_buckets(result: BucketsResult, as_json: bool) -> None:
    """A line a bucket and one for all on stdout, and a line on stderr for each that failed."""
    if as_json:
        print_json({"out": str(result.out_dir), "report": result.report})
    else:
        _print_lines(result)
    for outcome in result.failed:
        error_line(f"bucket {outcome.bucket}: {outcome.error}")


def _print_lines(result: BucketsResult) -> None:
    console = stdout()
    for entry in result.report["buckets"]:
        if entry["summary"] is not None:
            console.print(f"bucket {entry['bucket']}: {_headline(entry['summary'])}: {entry['backend']['message']}")
    total = result.report["summary"]
    console.print(f"{total['compiled']} of {total['buckets']} buckets compiled: {_headline(total)} over all")
    console.print(
        f"wrote {result.out_dir}: {total['artefacts']} files, {total['distinct_artefacts']} of them different"
    )


def _headline(summary: Mapping[str, Any]) -> str:
    moved = f"{readable_bytes(summary['bytes_before'])} a step -> {readable_bytes(summary['bytes_after'])}"
    return (
        f"gathers {summary['gathers_before']} -> {summary['gathers_after']} · "
        f"nodes {summary['nodes_before']} -> {summary['nodes_after']} · {moved}"
    )
