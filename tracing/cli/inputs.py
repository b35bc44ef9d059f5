"""The graphs that commands are given: a graph file, an output folder, or an exported program."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from passes import DeadkvError
from tracing.graph import GraphDoc, load
from tracing.graph.natural import natural
from tracing.graph.pt2 import is_archive, load_archive
from tracing.graph.reasons import read_report

Graph = Annotated[
    Path,
    typer.Argument(
        help="A graph file (*.graph.json), an output folder of `deadkv compile`, or a .pt2 of torch.export."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def load_graph(path: Path, which: str) -> GraphDoc:
    """The graph in a file, or the graph `which` ("before" or "after") of an output folder.

    Raises:
        DeadkvError: there is none, or it is not one that deadkv reads.
    """
    if path.is_dir():
        return load(_in_folder(path, which))
    return load_archive(path) if is_archive(path) else load(path)


def _in_folder(folder: Path, which: str) -> Path:
    file = folder / f"{which}.graph.json"
    if file.is_file():
        return file
    buckets = sorted((found.name for found in folder.glob("bucket-*") if found.is_dir()), key=natural)
    if buckets:
        raise DeadkvError(f"{folder} holds {len(buckets)} buckets: name one of them, such as {folder / buckets[0]}")
    raise DeadkvError(f"{folder} holds no graph: there is no {file.name} in it, as deadkv compile writes one")


def report_beside(path: Path) -> dict[str, Any] | None:
    """The report.json of the folder that a graph is in, if it is one of ours. Raises DeadkvError if it is damaged."""
    file = (path if path.is_dir() else path.parent) / "report.json"
    if not file.is_file():
        return None
    try:
        return read_report(file)
    except DeadkvError as error:
        raise DeadkvError(f"{file}: {error}") from error
