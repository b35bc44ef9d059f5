"""Passes on the command line: listed, ordered, switched off, and one line each on request."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.support.commands import Run

SMALL = ("compile", "--model", "tiny", "--layers", "1", "--batch", "2", "--bucket", "64", "--backend", "hlo")


def test_the_list_has_options_and_constraints(deadkv: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert deadkv("passes") == 0
    text = capsys.readouterr().out
    assert "prune-prefix-cache{policy=conservative, inplace=False" in text and "    after: prune-prefix-cache\n" in text
    assert deadkv("passes", "--json") == 0
    found = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert found["dedup-prefix-cache"]["constraints"] == {"after": ["prune-prefix-cache"]}
    assert found["prune-prefix-cache"]["constraints"] == {}


def test_verbose_is_one_line_a_pass_on_stderr(deadkv: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert deadkv(*SMALL, "--pass", "dedup-prefix-cache", "-v", "--out", tmp_path / "out") == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert re.fullmatch(r"deadkv: prune-prefix-cache: modified=True \d+\.\d ms", lines[0])
    assert re.fullmatch(r"deadkv: dedup-prefix-cache: modified=False \d+\.\d ms", lines[1])


def test_a_switched_off_pass_is_named_and_the_graph_goes_on_unpruned(
    deadkv: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEADKV_DISABLE", "prune-prefix-cache")
    assert deadkv(*SMALL, "--out", tmp_path / "out") == 0
    assert capsys.readouterr().out.startswith("prune-prefix-cache: disabled by DEADKV_DISABLE\nwrote ")
    before, after = ((tmp_path / "out" / f"{stem}.graph.json").read_bytes() for stem in ("before", "after"))
    assert before == after and not (tmp_path / "out" / "report.json").exists()
    assert deadkv(*SMALL, "--json", "--out", tmp_path / "again") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["report"] is None and printed["further"] == {"prune-prefix-cache": None}


def test_a_name_in_the_switch_that_is_no_pass_is_one_line(
    deadkv: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEADKV_DISABLE", "prune")
    assert deadkv(*SMALL, "--out", tmp_path / "out") == 2
    assert capsys.readouterr().err.startswith("deadkv: DEADKV_DISABLE: unknown pass 'prune': available are dedup")
    assert list(tmp_path.iterdir()) == []
