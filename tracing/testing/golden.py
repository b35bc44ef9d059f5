"""Golden files: the canonical text of a graph, checked in beside a test."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import unified_diff
from itertools import islice
from pathlib import Path

from torch.fx import GraphModule

from tracing.graph import GraphDoc, document, text
from tracing.output import write_whole

UPDATE_FLAG = "--deadkv-update-goldens"
_SHOWN = 60  # lines of a difference
_NUMBER = re.compile(r"%\d+")


class GoldenMismatch(AssertionError):  # noqa: N818 - it is an assertion about a graph
    """A graph is not the one in its golden file."""


def check_golden(graph: GraphModule | GraphDoc, path: str | Path, *, update: bool = False) -> None:
    """Holds the canonical text of `graph` against the file at `path`, or writes the file if `update`.

    The text is the same in every process and on every machine; where torch releases trace differently, keep a file
    for each.

    Raises:
        GoldenMismatch: the file is not there, or holds another text; the message shows the first changed lines.
        DeadkvError: the file cannot be written.
    """
    file = Path(path)
    found = text(document(graph) if isinstance(graph, GraphModule) else graph)
    if update:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, found)
        return
    if not file.is_file():
        raise GoldenMismatch(f"{file} is not there yet: run pytest {UPDATE_FLAG} and check it in")
    expected = file.read_text(encoding="utf-8")
    if found != expected:
        raise GoldenMismatch(
            f"the graph is not that of {file}; if it was meant to change, run pytest {UPDATE_FLAG}\n"
            + "\n".join(islice(_changes(expected, found), _SHOWN))
        )


def _changes(expected: str, found: str) -> Iterator[str]:
    """Changed lines without SSA numbers, which all move when one node comes or goes; with them if that is all."""
    old, new = (_NUMBER.sub("%", content) for content in (expected, found))
    if old == new:
        old, new = expected, found
    yield from islice(unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=1), 2, None)
