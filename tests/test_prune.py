"""The pass on single graphs: what it removes, what it leaves, what it reports."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from passes import DeadkvError, PrunePrefixCache, TkgContext
from tests.cases import ops
from tests.support.builder import GraphBuilder, decode_graph, decode_inputs
from tests.support.prunes import assert_same_interface, check_prune

aten = torch.ops.aten
LIVENESS = PrunePrefixCache(policy="liveness")


def test_the_input_graph_is_untouched_and_parameters_are_shared() -> None:
    module = decode_graph()
    before = module.code
    result = check_prune(module, decode_inputs(), policy="liveness")
    assert module.code == before
    assert result.graph_module is not module
    assert_same_interface(module, result.graph_module)


def test_a_pool_that_loses_its_last_use_keeps_its_parameter() -> None:
    result = LIVENESS(decode_graph())
    assert not result.graph_module.graph.find_nodes(op="get_attr")
    assert [name for name, _ in result.graph_module.named_parameters()] == ["kv_mgr.past_key_values.0"]


def test_inplace_edits_the_given_module() -> None:
    module = decode_graph()
    result = PrunePrefixCache(policy="liveness", inplace=True)(module)
    assert result.graph_module is module and result.modified
    assert len(module.graph.nodes) == 4
    module(*decode_inputs())


def test_nothing_to_do_returns_the_given_module() -> None:
    module = LIVENESS(decode_graph()).graph_module
    result = LIVENESS(module)
    assert result.graph_module is module and not result.modified


def test_unrelated_dead_nodes_stay() -> None:
    build = GraphBuilder()
    x = build.input("x", 3, 8)
    table = build.input("active_block_table", 3, 4, dtype=torch.int32)
    build.call(aten.relu.default, x)
    build.site(build.parameter("past_key_values.0", 10, 4, 2, 8), table)
    result = LIVENESS(build.module(x))
    assert [node.name for node in result.graph_module.graph.nodes] == ["x", "active_block_table", "relu", "output"]


def test_the_report_of_a_pruned_site() -> None:
    report = LIVENESS(decode_graph("layers.past_key_values.5")).report
    (site,) = report.sites
    assert (site.layer, site.role, site.cache, site.status) == (2, "V", "layers.past_key_values.5", "pruned")
    gathered = 12 * 4 * 2 * 8 * 4
    assert site.bytes == 2 * gathered
    assert report.removed == ("layers_past_key_values_5", "view", "index_select", "view_1", "permute")
    assert report.unused_inputs == ("active_block_table",)
    assert report.summary == {
        "gathers_before": 1, "gathers_after": 0, "nodes_before": 9, "nodes_after": 4,
        "bytes_before": 2 * gathered, "bytes_after": 0,
    }  # fmt: skip
    assert report.headline == "gathers 1 -> 0 · nodes 9 -> 4 · 6.14 kB a step -> 0"
    assert json.loads(json.dumps(report.to_dict()))["sites"][0]["pinned_by"] == []


def test_explain_reports_without_editing() -> None:
    module = decode_graph()
    report = LIVENESS.explain(module)
    assert [site.status for site in report.sites] == ["dead"]
    assert report.summary["gathers_after"] == 1 and report.removed == ()
    assert len(module.graph.nodes) == 9


def test_a_live_site_names_the_shortest_path_to_what_keeps_it() -> None:
    build = GraphBuilder()
    x = build.input("x", 3, 2, 16, 8)
    table = build.input("active_block_table", 3, 4, dtype=torch.int32)
    prior = build.site(build.parameter("past_key_values.0", 10, 4, 2, 8), table)
    long_way = build.call(aten.exp.default, build.call(aten.relu.default, prior))
    short_way = build.call(aten.sum.default, prior)
    (site,) = LIVENESS(build.module(x, long_way, short_way)).report.sites
    assert site.pinned_by == ("view_1", "permute", "sum_1", "output")
    assert site.reason == "read by %sum_1 (aten.sum.default), which reaches output 2"


def test_metadata_and_names_of_kept_nodes_stay() -> None:
    module = decode_graph()
    for index, node in enumerate(module.graph.nodes):
        node.meta["note"] = index
    after = LIVENESS(module).graph_module
    old = {node.name: node.meta for node in module.graph.nodes}
    assert all(node.meta == old[node.name] for node in after.graph.nodes)


@pytest.mark.parametrize(
    ("name", "table", "missing"),
    [("cache", "active_block_table", "no pool found"), ("past_key_values.0", "indices", "no block table found")],
)
def test_without_anchors_there_is_no_site_and_the_report_says_why(name: str, table: str, missing: str) -> None:
    report = LIVENESS(decode_graph(name, table)).report
    assert not report.sites
    assert missing in report.notes[0]


def test_a_context_names_pools_and_table_of_a_graph_with_opaque_names() -> None:
    module = decode_graph("_param_constant1", "arg12_1")
    context = TkgContext(pools=("_param_constant0", "_param_constant1"), block_table="arg12_1")
    with pytest.raises(DeadkvError, match="names the pool '_param_constant0'"):
        PrunePrefixCache(policy="liveness", context=context)(module)
    context = TkgContext(pools=("_param_constant1",), block_table="arg12_1")
    result = PrunePrefixCache(policy="liveness", context=context)(module)
    assert result.report.summary["gathers_after"] == 0


def test_a_gather_by_anything_else_than_the_table_is_no_site() -> None:
    build = GraphBuilder()
    table = build.input("active_block_table", 3, 4, dtype=torch.int32)
    slots = build.input("slots", 3, 4, dtype=torch.int32)
    pool = build.parameter("past_key_values.0", 10, 4, 2, 8)
    mixed = build.call(aten.add.Tensor, table, slots)
    build.call(aten.index.Tensor, pool, [mixed])
    build.call(aten.index_select.default, pool, 1, build.call(aten.view.default, table, [-1]))
    module = build.module(slots)
    assert not LIVENESS(module).report.sites


def test_a_graph_that_does_not_lint_is_refused_and_untouched() -> None:
    module = decode_graph()
    nodes = list(module.graph.nodes)
    nodes[-2].append(nodes[0])
    order = [node.name for node in module.graph.nodes]
    with pytest.raises(DeadkvError, match="not well formed"):
        LIVENESS(module)
    assert [node.name for node in module.graph.nodes] == order


def test_something_else_than_a_graph_module_is_refused() -> None:
    with pytest.raises(DeadkvError, match=r"expected a torch\.fx GraphModule, got Linear"):
        LIVENESS(nn.Linear(1, 1))  # type: ignore[arg-type]


def test_an_unknown_policy_lists_the_known_ones() -> None:
    with pytest.raises(DeadkvError, match="unknown policy 'brave': choose one of conservative, liveness"):
        PrunePrefixCache(policy="brave")


@pytest.mark.usefixtures("own_contracts")
def test_uuid_covers_the_options() -> None:
    assert PrunePrefixCache().uuid() == PrunePrefixCache().uuid()
    assert PrunePrefixCache().uuid() != LIVENESS.uuid()


def test_a_dead_write_into_a_kernels_result_keeps_the_site() -> None:
    """Found by fuzzing: nobody knows what the kernel does with the storage that it returned."""
    build = GraphBuilder()
    x = build.input("x", 3, 2, 16, 8)
    table = build.input("active_block_table", 3, 4, dtype=torch.int32)
    pool = build.parameter("past_key_values.0", 10, 4, 2, 8)
    made = build.call(ops.attend, x, pool, table)
    build.call(aten.copy_.default, made, build.site(pool, table))
    (site,) = LIVENESS(build.module(x)).report.sites
    assert site.status == "live"


def test_a_dead_write_into_storage_that_the_graph_still_uses_keeps_the_site() -> None:
    """Found by fuzzing: the write is dead, but it is not the site's, and a source edit would leave it."""
    build = GraphBuilder()
    x = build.input("x", 3, 2, 16, 8)
    table = build.input("active_block_table", 3, 4, dtype=torch.int32)
    made = build.call(aten.relu.default, x)
    kept = build.call(aten.neg.default, made)
    build.call(aten.copy_.default, made, build.site(build.parameter("past_key_values.0", 10, 4, 2, 8), table))
    result = check_prune(build.module(kept), decode_inputs(), policy="liveness")
    (site,) = result.report.sites
    assert site.status == "live" and "storage that the graph still uses" in site.reason
