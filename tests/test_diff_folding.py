"""Chains on one line, equal layers once, and what the pass's report adds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import fx

from passes import PrunePrefixCache, register_contract
from passes.errors import DeadkvError
from tests.support.graphs import Builder, aten, decoder, gather
from tracing.graph import diff, document, render_text
from tracing.graph.chains import fold, ranges, span
from tracing.graph.document import Node, TensorType
from tracing.graph.layers import layer_rows
from tracing.graph.reasons import reasons
from tracing.graph.sizes import bytes_text, nbytes
from tracing.graph.view import chain_rows, change_rows, short_op

FOLDED = """\
nodes 179 -> 99 (-80)
  aten.view.default 32 -> 0 (-32)
  aten.index_select.default 16 -> 0 (-16)
  aten.permute.default 16 -> 0 (-16)
  get_attr 48 -> 32 (-16)
interface unchanged: 2 inputs, 1 output, 32 parameters
removed: 80 nodes in 16 chains
  16 x the same, shown once: layers.{0-15}.k_cache
  - get_attr -> index_select -> view -> permute (+1 for its operands)   f32[2, 8, 8] strides(64, 1, 8)   512 B
      nodes   layers_0_k_cache, view_default, index_select_default, view_default_1, permute_default
      reads   block_table
      read by attention_block_tkg_default
rewired operands: 16 nodes
  16 x the same, shown once: attention_block_tkg_default, attention_block_tkg_default_1, \
attention_block_tkg_default_2, attention_block_tkg_default_3, attention_block_tkg_default_4, \
attention_block_tkg_default_5 and 10 more
  ~ attention_block_tkg_default (attention_block_tkg)
      K_prior: permute_default -> None
"""


def test_sixteen_equal_layers_are_shown_once() -> None:
    found = diff(document(decoder(16, prior="operand")), document(decoder(16, prior="none")))
    assert render_text(found, color=False) == FOLDED


def test_a_layer_that_differs_is_shown_by_itself() -> None:
    before, after = decoder(6), decoder(6, prior="none")
    permutes = before.graph.find_nodes(op="call_function", target=aten.permute.default)
    permutes[2].update_arg(1, [1, 0, 2])
    found = diff(document(before), document(after))
    rows = chain_rows(found, found.before, found.removed_folds)
    assert [(row.count, row.where) for row in rows] == [(5, "layers.{0-1, 3-5}.k_cache"), (1, "layers.2.k_cache")]
    assert [(row.layers, row.nodes) for row in layer_rows(found)] == [("0-5", 5)]


def test_keys_and_values_fold_apart_unless_only_numbers_tell_them_apart() -> None:
    def graph(names: tuple[str, str], prior: bool) -> fx.GraphModule:
        b = Builder()
        table = b.input("block_table", 2, 4, dtype=torch.int32)
        for layer in range(2):
            for name in names if prior else ():
                gather(b, layer, table, name)
        return b.finish(table)

    for names, expected in ((("k", "v"), [2, 2]), (("past.0", "past.1"), [4])):
        found = diff(document(graph(names, True)), document(graph(names, False)))
        rows = chain_rows(found, found.before, found.removed_folds)
        assert [row.count for row in rows] == expected


def test_index_arithmetic_shared_by_sites_is_a_chain_of_its_own() -> None:
    def graph(prior: bool) -> fx.GraphModule:
        b = Builder()
        table = b.input("block_table", 2, 4, dtype=torch.int32)
        cache = b.parameter("layers.0.k", 9, 2, 8)
        if prior:
            index = b.call(aten.add.Tensor, b.call(aten.view.default, table, [-1]), 1)
            for _ in range(2):
                b.call(aten.view.default, b.call(aten.index_select.default, cache, 0, index), [2, 8, 8])
        return b.finish(cache)

    found = diff(document(graph(True)), document(graph(False)))
    rows = chain_rows(found, found.before, found.removed_folds)
    assert [(row.count, row.line) for row in rows] == [(1, "view -> add"), (2, "index_select -> view")]
    assert rows[0].users == ("index_select_default", "index_select_default_1")
    assert rows[1].reads == ("layers_0_k", "add_tensor")


def test_chain_sizes_leave_out_what_is_only_stored() -> None:
    doc = document(decoder(1))
    (folded,) = fold(doc, [n.name for n in doc.nodes if n.name in ("layers_0_k_cache", "index_select_default")])
    (chain,) = folded.chains
    assert chain.spine == ("layers_0_k_cache", "index_select_default")
    assert chain.bytes == 8 * 2 * 8 * 4
    (stored,) = fold(doc, ["layers_0_w"])
    assert stored.chains[0].bytes is None


@pytest.mark.parametrize(
    ("names", "written"),
    [
        (["layers.0.k", "layers.1.k", "layers.2.k"], "layers.{0-2}.k"),
        (["layers.0.k", "layers.1.k", "layers.5.k"], "layers.{0-1, 5}.k"),
        (["layers.10.k.3", "layers.2.k.3"], "layers.{2, 10}.k.3"),
        (["a.0.b.1", "a.1.b.2"], "a.0.b.1, a.1.b.2"),
        (["k"], "k"),
        (["k", "v"], "k, v"),
        (["a", "b", "c", "d", "e"], "a, b, ..., e"),
        (["7x", "8x"], "{7-8}x"),
        (["v01.a.1", "v01.a.2"], "v01.a.{1-2}"),
    ],
)
def test_names_that_differ_in_one_number_are_one_span(names: list[str], written: str) -> None:
    assert span(names) == written


def test_ranges() -> None:
    assert ranges([3, 1, 2, 9, 7, 7]) == "1-3, 7, 9"
    assert ranges([]) == ""


@pytest.mark.parametrize(
    ("size", "written"),
    [(0, "0 B"), (999, "999 B"), (8192, "8.19 kB"), (268435456, "268 MB"), (99_950_000_000, "100.0 GB")],
)
def test_bytes_are_decimal(size: int, written: str) -> None:
    assert bytes_text(size) == written


def test_bytes_of_types() -> None:
    assert nbytes(TensorType("bfloat16", (4, 8))) == 64
    assert nbytes((TensorType("bool", (3,)), TensorType("float64", ()))) == 11
    assert nbytes(TensorType("bfloat16", (4, "s0"))) is None
    assert nbytes(None) is None


def test_short_names_of_operators() -> None:
    def short(op: str, target: str) -> str:
        return short_op(Node("n", op, target))

    assert short("call_function", "aten.index_select.default") == "index_select"
    assert short("call_function", "deadkv.attention_block_tkg") == "attention_block_tkg"
    assert short("call_function", "torch.nn.functional.linear") == "linear"
    assert short("call_function", "operator.add") == "add"
    assert short("call_function", "hop.cond") == "cond"
    assert short("call_method", "Tensor.permute") == "permute"
    assert short("call_module", "module:layers.0") == "module:layers.0"
    assert short("get_attr", "layers.0.w") == "get_attr"


# The report of the pass.


@pytest.fixture(scope="module")
def pruned() -> tuple[fx.GraphModule, fx.GraphModule, dict[str, Any]]:
    before = decoder(3, prior="operand")
    with register_contract("deadkv_graph_test::attention_block_tkg", reads=lambda bound: set(bound) - {"K_prior"}):
        result = PrunePrefixCache(policy="liveness")(before)
    return before, result.graph_module, result.report.to_dict()


def test_removed_nodes_are_those_of_the_report_with_its_reason(pruned: Any) -> None:
    before, after, report = pruned
    found = diff(document(before), document(after), report)
    assert set(found.differences.removed) == set(report["removed"])
    (row,) = chain_rows(found, found.before, found.removed_folds)
    assert row.reasons == (report["sites"][0]["reason"],)
    (change,) = change_rows(found, found.differences.rewired)
    assert (change.count, change.rule) == (3, report["rewritten"][0]["rule"])
    lines = render_text(found, color=False).splitlines()
    assert lines[0].startswith("gathers 3 -> 0 · nodes 36 -> 21 (-15) · ")
    assert f"      reason  {report['sites'][0]['reason']}" in lines


def test_kept_sites_show_what_pins_them() -> None:
    report = {
        "summary": {"gathers_before": 2, "gathers_after": 2, "bytes_before": 0, "bytes_after": None},
        "sites": [
            {"layer": 0, "role": "K", "cache": "k", "status": "live", "reason": "an output reads it", "bytes": 2048,
             "pinned_by": ["view", "output"], "nodes": ["index_select_default"]},
            {"layer": 1, "role": "V", "cache": "v", "status": "kept", "reason": "gate x", "pinned_by": [], "nodes": []},
        ],
    }  # fmt: skip
    doc = document(decoder(2))
    found = diff(doc, document(decoder(3)), report)
    text = render_text(found, color=False)
    assert text.splitlines()[0] == "gathers 2 -> 2 · nodes 25 -> 36 (+11)"
    assert (
        "kept sites: 2\n  = layer 0 K (k), live, 2.05 kB a step: an output reads it\n      pinned by view -> output\n"
        in text
    )
    assert "  = layer 1 V (v), kept: gate x\n" in text
    assert found.reasons.by_node() == {}
    assert [site["pinned_by"] for site in found.to_dict()["kept_sites"]] == ["view -> output", ""]


def test_a_report_about_other_graphs_is_left_out(pruned: Any) -> None:
    before, after, report = pruned
    found = diff(document(after), document(before), report)
    assert found.reasons.sites == ()
    assert render_text(found, color=False).startswith("nodes 21 -> 36 (+15)\n")


@pytest.mark.parametrize(
    ("report", "message"),
    [
        ([], "report: expected an object"),
        ({"sites": {}}, r"report\.sites: expected list, found dict"),
        ({"sites": [1]}, r"report\.sites\[0\]: expected an object"),
        ({"sites": [{"layer": "one"}]}, r"report\.sites\[0\]\.layer: expected int, found str"),
        ({"sites": [{"nodes": [1]}]}, r"report\.sites\[0\]\.nodes: expected an array of node names"),
        ({"sites": [{"pinned_by": {}}]}, r"report\.sites\[0\]\.pinned_by: expected"),
        ({"rewritten": [{"node": 3}]}, r"report\.rewritten\[0\]\.node: expected str, found int"),
    ],
)
def test_reports_that_are_none_say_so(report: Any, message: str) -> None:
    with pytest.raises(DeadkvError, match=message):
        reasons(report)
