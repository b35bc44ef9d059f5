"""What the commands print: results on stdout, everything else on stderr; colour and progress on a terminal only."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tracing.graph.escape import json_text, one_line

_STYLES = {"pruned": "green", "dead": "yellow", "kept": "yellow", "live": "red"}


class PlainConsole(Console):
    """A console that prints strings as they are, and escapes what a terminal would act on."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Prints `objects`; a string keeps its line breaks and nothing else that does not print."""
        super().print(*(_escaped(found) if isinstance(found, str) else found for found in objects), **options)


def _escaped(found: str) -> str:
    return "\n".join(map(one_line, found.split("\n")))


def stdout() -> Console:
    """Console for results: no wrapping in a pipe, no colour there or under NO_COLOR."""
    return PlainConsole(soft_wrap=True, highlight=False, markup=False)


def stderr() -> Console:
    """Console for progress and notes."""
    return PlainConsole(stderr=True, soft_wrap=True, highlight=False, markup=False)


def error_line(message: str) -> None:
    """One line on stderr."""
    stderr().print(f"deadkv: {' '.join(message.split())}")


@contextmanager
def passes_logged(wanted: bool) -> Iterator[None]:
    """Shows the log line of each pass on stderr, if wanted."""
    log, handler = logging.getLogger("deadkv"), _Stderr()
    level = log.level
    if wanted:
        log.setLevel(logging.INFO)
        log.addHandler(handler)
    try:
        yield
    finally:
        log.setLevel(level)
        log.removeHandler(handler)


class _Stderr(logging.Handler):
    """Writes to what is stderr when a line comes."""

    def emit(self, record: logging.LogRecord) -> None:
        stderr().print(f"deadkv: {record.getMessage()}")


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(json_text(value, indent=1) + "\n")


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table on a terminal, aligned columns elsewhere; a status is coloured."""
    lines = [[one_line(cell) for cell in row] for row in rows]
    console = stdout()
    if console.is_terminal:
        console.print(_table(header, lines), soft_wrap=False)
    else:
        for line in _aligned([list(header), *lines]):
            console.print(line)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in header:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    return table


def _aligned(lines: Sequence[Sequence[str]]) -> Iterator[Text]:
    """Every column as wide as its widest cell; the last one is not padded."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        padded = [cell.ljust(width + 2) for cell, width in zip(line[:-1], widths, strict=False)]
        yield Text("".join((*padded, line[-1])))
