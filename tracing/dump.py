"""What each pass did to each graph, written as files: the environment variable DEADKV_DUMP names the folder."""

from __future__ import annotations

import os
import re
from itertools import count
from pathlib import Path

from torch.fx import GraphModule

from passes import DeadkvError
from passes.pipeline import Observer
from tracing.graph import document, dumps
from tracing.graph.python_text import python_text

DUMP = "DEADKV_DUMP"


def graph_dump(folder: str | Path | None, graph: str) -> Observer | None:
    """What writes the graphs before and after each pass that changed the next graph that a pipeline is given.

    Files are `FOLDER/GRAPH/NN.PASS.before.py` and `.graph.json`, and the same `after`; NN counts the passes of the
    pipeline from 01. A second graph of that name goes to `GRAPH-1`. Nothing is written where nothing changed.

    Args:
        folder: where to write; DEADKV_DUMP if None, and nothing if that is not set either.
        graph: what to call the graph, such as `bucket-256`.
    """
    where = folder or os.environ.get(DUMP)
    return _GraphDump(Path(where), re.sub(r"[^\w.-]", "_", graph) or "graph") if where else None


class _GraphDump:
    def __init__(self, root: Path, graph: str) -> None:
        self.root = root
        self.graph = graph
        self.folder: Path | None = None

    def __call__(self, number: int, name: str, before: GraphModule, after: GraphModule) -> None:
        """Writes four files. Raises DeadkvError if they cannot be written."""
        stem = f"{number:02}.{re.sub(r'[^A-Za-z0-9_-]', '_', name)}"
        try:
            self.folder = self.folder or _new_folder(self.root, self.graph)
            for when, gm in (("before", before), ("after", after)):
                title = f"Graph {self.folder.name} {when} pass {name}."
                (self.folder / f"{stem}.{when}.py").write_text(python_text(gm, title), encoding="utf-8")
                (self.folder / f"{stem}.{when}.graph.json").write_text(dumps(document(gm)), encoding="utf-8")
        except OSError as error:
            where = self.folder or self.root / self.graph
            raise DeadkvError(
                f"cannot write the dump of pass {name} to {where}: {error.strerror or error}; "
                f"name a folder that can be written in {DUMP}, or unset it"
            ) from error


def _new_folder(root: Path, name: str) -> Path:
    """The first of NAME, NAME-1, ... that is not there yet."""
    root.mkdir(parents=True, exist_ok=True)
    for number in count():
        folder = root / (f"{name}-{number}" if number else name)
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise AssertionError("unreachable")
