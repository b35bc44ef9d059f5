"""`deadkv compile` on nested graphs, two decoders in one graph and one rank of several."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.commands import run_deadkv

SMALL = ("--model", "tiny", "--batch", "2", "--bucket", "64", "--json")
RUNNABLE = ("boundary-markers", "regional", "scan", "fused-draft-target")


@pytest.mark.parametrize("variant", RUNNABLE)
def test_compile_run_and_compare_with_the_edited_source(
    variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / variant
    assert run_deadkv(monkeypatch, "compile", *SMALL, "--variant", variant, "--run", "--out", out) == 0
    printed = json.loads(capsys.readouterr().out)
    summary = printed["report"]["summary"]
    assert summary["gathers_before"] > summary["gathers_after"] == 0
    assert printed["run"]["passed"] and printed["run"]["pruned_equal"]
    assert {path.suffix for path in out.glob("after.*")} == {".json", ".txt", ".pb", ".mlir"}
    graphs = out / "before.graph.json", out / "after.graph.json"
    assert run_deadkv(monkeypatch, "diff", *graphs) == 1
    assert run_deadkv(monkeypatch, "diff", graphs[1], graphs[1]) == 0
    assert run_deadkv(monkeypatch, "verify", *graphs) == 0
    assert run_deadkv(monkeypatch, "explain", graphs[0]) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--run",), "one rank of a tensor-parallel decoder does not run alone: leave out --run and --weights"),
        (("--backend", "hlo"), "_c10d_functional.all_reduce.default (node all_reduce) has no HLO lowering"),
    ],
)
def test_what_a_rank_cannot_do_is_one_line(
    options: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "rank"
    code = run_deadkv(monkeypatch, "compile", *SMALL, "--variant", "tensor-parallel", *options, "--out", out)
    error = capsys.readouterr().err
    assert code == 2
    assert message in error
    assert error.count("\n") == 1
    assert not out.exists()
