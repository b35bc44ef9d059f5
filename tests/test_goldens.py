"""Golden graphs: the canonical text before and after pruning, and the report, for every variant and frontend.

`make golden` rewrites them. A golden that differs or that no test uses fails the run.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion
from syrupy.extensions.single_file import SingleFileSnapshotExtension, WriteMode

from passes import PrunePrefixCache
from tests.support.captures import tiny_graph
from tracing.graph import document, text

# By the policy under which there is something to see.
VARIANTS = {
    "base": "conservative",
    "cache-update": "conservative",
    "no-block-tkg": "conservative",
    "cte-prefix": "conservative",
    "seq-id-mask": "conservative",
    "speculation": "conservative",
    "tiled": "conservative",
    "fp8": "liveness",
    "sliding-window": "liveness",
    "chunked-prefill": "conservative",
    "flat-cache": "conservative",
    "opaque-past": "conservative",
    "boundary-markers": "conservative",
    "regional": "conservative",
    "scan": "conservative",
    "fused-draft-target": "conservative",
    "tensor-parallel": "conservative",
}
FRONTENDS = ("make_fx", "export", "dynamo")


class TextFile(SingleFileSnapshotExtension):
    """One plain text file for each golden, named after its case."""

    _write_mode = WriteMode.TEXT
    file_extension = "txt"


@pytest.fixture
def golden(snapshot: SnapshotAssertion) -> SnapshotAssertion:
    return snapshot.use_extension(TextFile)


@pytest.mark.parametrize("frontend", FRONTENDS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_golden(variant: str, frontend: str, golden: SnapshotAssertion) -> None:
    before = tiny_graph(variant, frontend)
    result = PrunePrefixCache(policy=VARIANTS[variant])(before)
    assert text(document(before)) == golden(name="before")
    assert text(document(result.graph_module)) == golden(name="after")
    assert without_lines(json.dumps(result.report.to_dict(), indent=1, ensure_ascii=False)) == golden(name="report")


def without_lines(report: str) -> str:
    """A report without line numbers: an edit of the decoder's source is no other report."""
    return re.sub(r"(\w+\.py):\d+", r"\1", report) + "\n"


def test_no_golden_is_left_over() -> None:
    cases = [f"{variant}-{frontend}" for variant in VARIANTS for frontend in FRONTENDS]
    wanted = {f"test_golden[{case}][{kind}].txt" for case in cases for kind in ("before", "after", "report")}
    folder = Path(__file__).parent / "__snapshots__" / "test_goldens"
    assert {path.name for path in folder.iterdir()} == wanted
