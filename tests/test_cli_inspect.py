"""`deadkv diff`, `explain` and `dump` on files and folders: what they print, and what they refuse."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from passes.report import GateReport, PruneReport, SiteReport
from tests.support.commands import Run
from tests.support.graphs import decoder
from tests.test_diff_render import Page
from tracing.cli import main
from tracing.explain_html import render_explain
from tracing.graph import document, dumps, load, text

SMALL = ("--model", "tiny", "--layers", "2", "--batch", "2", "--bucket", "64", "--frontend", "dynamo")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of one variant whose sites go, `base`, and one whose sites stay, `live`."""
    root = tmp_path_factory.mktemp("inspect")
    with pytest.MonkeyPatch.context() as patch:
        for name, variant in (("base", "base"), ("live", "no-block-tkg")):
            out = ("--out", str(root / name))
            patch.setattr(sys, "argv", ["deadkv", "compile", *SMALL, "--variant", variant, *out])
            with pytest.raises(SystemExit) as stopped:
                main()
            assert not stopped.value.code
    return root


Captured = pytest.CaptureFixture[str]


def test_diff_of_a_folder_is_of_its_two_graphs(deadkv: Run, compiled: Path, capsys: Captured) -> None:
    assert deadkv("diff", compiled / "base") == 1
    printed = capsys.readouterr()
    assert printed.out == (compiled / "base" / "diff.txt").read_text() and printed.err == ""
    assert printed.out.startswith("gathers 4 -> 0 · nodes")
    assert "4 x the same, shown once" in printed.out and "reason  nothing uses it" in printed.out
    assert deadkv("verify", compiled / "base") == 0


def test_diff_shows_source_lines_on_request(deadkv: Run, compiled: Path, capsys: Captured) -> None:
    assert deadkv("diff", compiled / "base", "--source") == 1
    shown = capsys.readouterr().out
    assert re.search(r"source  \w+\.py:\d+: ", shown)
    assert "source" not in (compiled / "base" / "diff.txt").read_text()


def test_sites_that_stay_are_told_although_the_graphs_are_the_same(
    deadkv: Run, compiled: Path, capsys: Captured
) -> None:
    assert deadkv("diff", compiled / "live") == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith("the same graph: gathers 4 -> 4") and shown[1] == "kept sites: 4"
    assert any("layer 0 K" in line and ", live, " in line for line in shown)
    assert any(line.strip().startswith("pinned by ") and line.endswith("-> output") for line in shown)


def test_the_json_of_a_diff_has_what_is_documented(deadkv: Run, compiled: Path, capsys: Captured) -> None:
    assert deadkv("diff", compiled / "base", "--json") == 1
    found = json.loads(capsys.readouterr().out)
    docs = (Path(__file__).parents[1] / "docs" / "diff.md").read_text(encoding="utf-8")
    documented = {name for row in re.findall(r"^\| (`.*?`) \|", docs, re.M) for name in re.findall(r"`(\w+)`", row)}
    assert found.keys() <= documented
    (fold,) = found["removed"]
    assert fold["count"] == 4 and fold["chains"][0].keys() <= documented
    assert found["summary"]["gathers_after"] == 0 and found["warning"] is None
    assert fold["chains"][0]["reasons"] == ["nothing uses it"]


def test_graphs_of_different_models_are_compared_with_a_warning(
    deadkv: Run, compiled: Path, tmp_path: Path, capsys: Captured
) -> None:
    (tmp_path / "other.graph.json").write_text(dumps(document(decoder(3))))
    arguments = ("diff", compiled / "base" / "before.graph.json", tmp_path / "other.graph.json")
    assert deadkv(*arguments) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith("deadkv: warning: these look like graphs of different models")
    assert printed.out.startswith("nodes ")
    assert deadkv(*arguments, "--json") == 1
    assert "different models" in json.loads(capsys.readouterr().out)["warning"]


def test_explain_prints_a_table_on_a_terminal_and_columns_in_a_pipe(
    deadkv: Run, compiled: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert deadkv("explain", compiled / "live") == 0
    plain = capsys.readouterr().out
    assert "layer  role  cache" in plain and "─" not in plain and "\x1b" not in plain
    for color, escape in (("1", False), ("", True)):
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("NO_COLOR", color)
        monkeypatch.setenv("COLUMNS", "100")
        assert deadkv("explain", compiled / "live") == 0
        table = capsys.readouterr().out
        assert "─" in table and ("\x1b[31m" in table) == escape
        assert all(len(re.sub(r"\x1b\[[0-9;]*m", "", line)) <= 100 for line in table.splitlines()[2:])


def test_explain_writes_a_self_contained_page(deadkv: Run, compiled: Path, tmp_path: Path, capsys: Captured) -> None:
    assert deadkv("explain", compiled / "live", "--html", tmp_path / "e.html") == 0
    page = Page((tmp_path / "e.html").read_text())
    assert "gathers 4 -> 4" in page.words and "kv_mgr.past_key_values.3" in page.words
    assert "4 live: something reads it" in page.words
    assert "script" not in page.tags and not {"href", "src"} & {name for name, _ in page.attributes}
    assert "prefers-color-scheme: dark" in (tmp_path / "e.html").read_text()


def test_what_explain_shows_is_escaped() -> None:
    bad = "<img src=x onerror=alert(1)>\u202e"
    site = SiteReport(0, bad, bad, "live", bad, (bad, "output"), 8, bad, (bad,), source=bad)
    gate = GateReport(bad, False, None, None, bad, 1)
    summary = dict.fromkeys(("gathers_before", "gathers_after", "nodes_before", "nodes_after"), 1)
    report = PruneReport(bad, {**summary, "bytes_before": 8, "bytes_after": None}, (gate,), (site,), notes=(bad,))
    page = Page(render_explain(report, bad))
    assert "img" not in page.tags and page.words.count("<img src=x onerror=alert(1)>\\u202e") == 11


def test_dump_prints_each_form(deadkv: Run, compiled: Path, tmp_path: Path, capsys: Captured) -> None:
    after = load(compiled / "base" / "after.graph.json")
    assert deadkv("dump", compiled / "base") == 0
    assert capsys.readouterr().out == text(after)
    assert deadkv("dump", compiled / "base", "--before", "--source") == 0
    assert capsys.readouterr().out == text(load(compiled / "base" / "before.graph.json"), source=True)
    assert deadkv("dump", compiled / "base" / "after.graph.json", "--json") == 0
    assert capsys.readouterr().out == (compiled / "base" / "after.graph.json").read_text()
    assert deadkv("dump", compiled / "base", "--table") == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].split()[:5] == ["node", "name", "op", "target", "operands"]
    assert len(table) == len(after.nodes) + 1 and table[1].startswith("%0 ")
    assert deadkv("dump", compiled / "base", "--dot") == 0
    dot = capsys.readouterr().out
    assert dot.startswith("digraph") and dot.count(" [label=") == len(after.nodes)
    assert deadkv("dump", compiled / "base", "--dot", "--table") == 2
    assert "give one of them" in capsys.readouterr().err


def _buckets(folder: Path) -> None:
    (folder / "bucket-64").mkdir()
    (folder / "bucket-128").mkdir()


BAD: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "empty folder": ("", lambda folder: None, "holds no graph: there is no"),
    "folder of buckets": ("", _buckets, "holds 2 buckets: name one of them, such as"),
    "other JSON": ("g.json", lambda folder: (folder / "g.json").write_text("[1]"), "not a deadkv graph"),
    "no JSON": ("g.json", lambda folder: (folder / "g.json").write_text("graph"), "not JSON"),
    "another schema": (
        "g.json", lambda folder: (folder / "g.json").write_text('{"schema": "deadkv.graph/2"}'), "this deadkv reads",
    ),
    "cut short": ("g.json", lambda folder: (folder / "g.json").write_text('{"schema": "dead'), "cut short"),
    "absent": ("g.json", lambda folder: None, "No such file"),
}  # fmt: skip


@pytest.mark.parametrize("command", ["diff", "explain", "dump", "verify"])
@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_one_line(what: str, command: str, deadkv: Run, tmp_path: Path, capsys: Captured) -> None:
    name, make, message = BAD[what]
    make(tmp_path)
    path = tmp_path / name
    assert deadkv(command, path, *((path,) if command in ("diff", "verify") else ())) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1 and printed.err.startswith("deadkv: ")
    assert message in printed.err


def test_one_file_alone_is_no_diff(deadkv: Run, compiled: Path, capsys: Captured) -> None:
    for command in ("diff", "verify"):
        assert deadkv(command, compiled / "base" / "before.graph.json") == 2
        assert "is one graph: name a second one, or an output folder" in capsys.readouterr().err


def test_a_cut_graph_in_a_folder_is_named(deadkv: Run, compiled: Path, tmp_path: Path, capsys: Captured) -> None:
    shutil.copytree(compiled / "base", tmp_path / "cut")
    file = tmp_path / "cut" / "after.graph.json"
    file.write_bytes(file.read_bytes()[:1000])
    assert deadkv("diff", tmp_path / "cut") == 2
    assert str(file) in capsys.readouterr().err


def test_looking_at_graphs_does_not_import_dynamo(compiled: Path) -> None:
    """Dynamo takes longer to import than the diff of a 126-layer graph to compute."""
    script = (
        "import sys; from tracing.cli import main\n"
        f"sys.argv = ['deadkv', 'diff', {str(compiled / 'base')!r}]\n"
        "try: main()\n"
        "finally: print('torch._dynamo' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr == "False\n"
