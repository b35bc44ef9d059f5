"""A diff for other viewers: Graphviz and Google's Model Explorer, and the bytes of all buckets on the page."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from passes import PrunePrefixCache
from passes.errors import DeadkvError
from tests.support.graphs import decoder, renamed
from tests.test_diff_render import HOSTILE, hostile_diff
from tracing.cli import main
from tracing.graph import GraphDiff, diff, document, dumps, render_dot, render_model_explorer, render_svg
from tracing.graph.document import GraphDoc, Node, Ref


def pruned(layers: int = 3) -> GraphDiff:
    return diff(document(decoder(layers, prior="operand")), document(decoder(layers, prior="none")))


# Graphviz


def test_a_folded_drawing_shows_equal_chains_once() -> None:
    drawing = render_dot(pruned(), folded=True)
    names = set(re.findall(r'^  "([^"]*)" \[label', drawing, re.MULTILINE))
    assert names == {
        "layers_0_k_cache", "view_default", "index_select_default", "view_default_1", "permute_default",
        "attention_block_tkg_default", "block_table", "mm_default", "layers_0_k_cache_1", "mul_tensor",
    }  # fmt: skip
    assert 'label="3 x the same, shown once"; style=dashed;' in drawing
    assert "3 x the same" not in render_dot(pruned())


def test_every_class_has_its_colour() -> None:
    found = diff(document(decoder(2, prior="operand")), document(decoder(3, prior="none", scale=2.0)))
    drawing = render_dot(found)
    fills = dict(re.findall(r'^  "([^"]*)" \[label=.*fillcolor="(#\w+)"\];', drawing, re.MULTILINE))
    assert fills["permute_default"] == "#fee4e2" and fills["attention_block_tkg_default"] == "#fef0c7"
    assert fills["mul_tensor"] == "#d1e9ff" and fills["block_table"] == "#ffffff"
    assert [fill for name, fill in fills.items() if name.startswith("+")] == ["#d1fadf"] * 6


@pytest.mark.parametrize("name", ["plain", *HOSTILE])
def test_graphviz_draws_what_it_is_given(name: str) -> None:
    assert shutil.which("dot"), "this test needs Graphviz: install the package graphviz (apt install graphviz)"
    drawing = render_svg(hostile_diff(name))
    root = ElementTree.fromstring(drawing)
    titles = [title.text for title in root.iter("{http://www.w3.org/2000/svg}title")]
    assert len(titles) == len(
        [t for t in ElementTree.fromstring(render_svg(hostile_diff("plain"))).iter() if "title" in t.tag]
    )
    assert "script" not in {element.tag.rpartition("}")[2] for element in root.iter()}


def fake_dot(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = folder / "dot"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/bin:/usr/bin")


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo 'Error: out of ink' >&2; exit 3", r"dot failed with code 3: Error: out of ink$"),
        ("exit 1", r"dot failed with code 1: it says nothing$"),
        ("exec sleep 60", r"dot did not draw the diff in 0.2 s: --html shows one of any size$"),
        ("printf '\\377'", r"cannot run .*dot: "),
    ],
)
def test_graphviz_fails(script: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_dot(tmp_path, script, monkeypatch)
    with pytest.raises(DeadkvError, match=message):
        render_svg(pruned(), time_limit_s=0.2 if "sleep" in script else 60)


def test_without_graphviz_the_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    files = [tmp_path / "before.graph.json", tmp_path / "after.graph.json"]
    for file, doc in zip(files, (pruned().before, pruned().after), strict=True):
        file.write_text(dumps(doc))
    target = tmp_path / "diff.svg"
    assert run("diff", *map(str, files), "--svg", str(target)) == 2
    assert "install the package graphviz" in capsys.readouterr().err
    assert not target.exists()


def run(*arguments: str) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["deadkv", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
    return int(ended.value.code or 0)


# Model Explorer


def collection(found: GraphDiff) -> dict[str, Any]:
    content = render_model_explorer(found)
    assert content.isascii()
    return json.loads(content)


def test_matched_nodes_have_one_id_in_both_graphs() -> None:
    before = decoder(3, prior="operand")
    found = diff(document(before), document(renamed(decoder(4, prior="none"))))
    made = collection(found)
    assert set(made) == {"label", "graphs"}
    old, new = ({node["id"]: node for node in graph["nodes"]} for graph in made["graphs"])
    assert list(old) == [node.name for node in found.before.nodes]
    assert set(old) - set(new) == set(found.differences.removed)
    assert set(new) - set(old) == {f"+{name}" for name in found.differences.added}
    assert len(new) == len(found.after.nodes)
    assert {old[name]["namespace"] for name in ("layers_1_w", "mm_default_1")} == {"layer 1"}


def test_edges_types_and_classes() -> None:
    made = collection(pruned())
    for graph in made["graphs"]:
        ids = {node["id"] for node in graph["nodes"]}
        assert all(edge["sourceNodeId"] in ids for node in graph["nodes"] for edge in node["incomingEdges"])
    node = next(n for n in made["graphs"][0]["nodes"] if n["id"] == "attention_block_tkg_default")
    assert [edge["sourceNodeId"] for edge in node["incomingEdges"]] == [
        "mm_default", "permute_default", "layers_0_k_cache_1", "block_table",
    ]  # fmt: skip
    assert [edge["targetNodeInputId"] for edge in node["incomingEdges"]] == ["0", "1", "2", "3"]
    assert node["outputsMetadata"] == [{"id": "0", "attrs": [{"key": "tensor_shape", "value": "f32[2, 8]"}]}]
    attributes = {entry["key"]: entry["value"] for entry in node["attrs"]}
    assert attributes["status"] == "rewired"
    assert attributes["changed K_prior"] == "permute_default -> None"
    assert node["style"] == {"backgroundColor": "#fef0c7", "borderColor": "#b54708"}


def test_a_live_site_links_to_its_pin_path() -> None:
    before = decoder(2, prior="operand")
    result = PrunePrefixCache(policy="liveness")(before)
    found = diff(document(before), document(result.graph_module), result.report.to_dict())
    node = next(n for n in collection(found)["graphs"][0]["nodes"] if n["id"] == "index_select_default")
    attributes = {entry["key"]: entry["value"] for entry in node["attrs"]}
    assert attributes["site"] == "layer 0 K (layers.0.k_cache): live"
    assert attributes["pinned by"]["type"] == "node_ids"
    assert attributes["pinned by"]["nodeIds"][-1] == "attention_block_tkg_default"


def test_nested_graphs_are_named_by_the_nodes_that_hold_them() -> None:
    inner = document(decoder(1, prior="operand")), document(decoder(1, prior="none"))
    call = Node("y", "call_module", "module:region", (Ref("x"),))
    nodes = (Node("x", "placeholder", "x"), call, Node("output", "output", "output", (Ref("y"),)))
    outer = GraphDoc("M", nodes, subgraphs=(("region", inner[0]),))
    graphs = collection(diff(outer, dataclasses.replace(outer, subgraphs=(("region", inner[1]),))))["graphs"]
    assert [graph["id"] for graph in graphs] == ["before", "after", "before: region", "after: region"]
    assert [graph["nodes"][1]["subgraphIds"] for graph in graphs[:2]] == [["before: region"], ["after: region"]]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_strings_for_model_explorer(name: str) -> None:
    assert collection(hostile_diff(name))["graphs"][0]["nodes"]


def test_the_output_is_the_same_every_time() -> None:
    assert render_model_explorer(pruned()) == render_model_explorer(pruned())


# The bytes of all buckets


@pytest.fixture
def buckets(tmp_path: Path) -> Path:
    """An output folder of two buckets, the second one twice as large."""
    entries = [{"bucket": 64}, {"bucket": 128}, {"bucket": 256}]  # the last one failed, so it has no folder
    (tmp_path / "report.json").write_text(json.dumps({"schema": "deadkv.buckets/1", "buckets": entries}))
    for bucket in (64, 128):
        folder = tmp_path / f"bucket-{bucket}"
        folder.mkdir()
        for stem, doc in (("before", pruned().before), ("after", pruned().after)):
            (folder / f"{stem}.graph.json").write_text(dumps(doc))
        sites = [
            {"layer": layer, "status": "live" if layer == 1 else "pruned", "bytes": bucket * 1000, "nodes": []}
            for layer in (0, 1)
        ]
        (folder / "report.json").write_text(json.dumps({"schema": "deadkv.report/1", "sites": sites}))
    return tmp_path


def page_of(folder: Path, target: Path) -> str:
    run("diff", str(folder), "--html", str(target))
    return target.read_text()


Captured = pytest.CaptureFixture[str]


def test_the_page_has_a_chart_for_each_bucket(buckets: Path, tmp_path: Path) -> None:
    page = page_of(buckets / "bucket-64", tmp_path / "page.html")
    titles = re.findall(r"<strong>(bucket \d+)</strong> · ([^<]*)</span>", page)
    assert titles == [("bucket 64", "128 kB a step -&gt; 64.0 kB"), ("bucket 128", "256 kB a step -&gt; 128 kB")]
    heights = re.findall(r'class="(before|after)" x="[\d.]+" y="[\d.]+" width="[\d.]+" height="([\d.]+)"', page)
    assert heights == [
        ("before", "50.00"), ("after", "0.00"), ("before", "50.00"), ("after", "50.00"),
        ("before", "100.00"), ("after", "0.00"), ("before", "100.00"), ("after", "100.00"),
    ]  # fmt: skip


def _not_ours(parent: Path) -> None:
    (parent / "report.json").write_text('{"schema": "something.else/1", "buckets": [{"bucket": 64}]}')


def _no_json(parent: Path) -> None:
    (parent / "report.json").write_text("{")


def _none(parent: Path) -> None:
    (parent / "report.json").unlink()


@pytest.mark.parametrize("change", [_not_ours, _no_json, _none])
def test_without_a_report_of_buckets_the_chart_is_of_the_graph(
    change: Callable[[Path], None], buckets: Path, tmp_path: Path
) -> None:
    change(buckets)
    page = page_of(buckets / "bucket-64", tmp_path / "page.html")
    assert page.count("<svg") == 1 and "<strong>bucket" not in page


def test_a_damaged_report_of_another_bucket_is_named(buckets: Path, tmp_path: Path, capsys: Captured) -> None:
    (buckets / "bucket-128" / "report.json").write_text('{"schema": "deadkv.report/1", "sites": 3}')
    assert run("diff", str(buckets / "bucket-64"), "--html", str(tmp_path / "page.html")) == 2
    assert "bucket-128/report.json: report.sites: expected list, found int" in capsys.readouterr().err
    assert not (tmp_path / "page.html").exists()
