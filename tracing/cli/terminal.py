"""What the commands print: results on stdout, everything else on stderr; colour and progress on a terminal only."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
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


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(json_text(value, indent=1) + "\n")


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Aligned columns; a status is coloured. The last column is not padded."""
    lines = [list(header), *([one_line(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    console = stdout()
    for line in lines:
        text = Text()
        for column, cell in enumerate(line):
            padded = cell if column == len(line) - 1 else cell.ljust(widths[column] + 2)
            text.append(padded, style=_STYLES.get(cell, ""))
        console.print(text)
