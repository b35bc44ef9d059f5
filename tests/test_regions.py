"""What pruning makes of a call and its nested graphs: names, sharing, signatures, recorded values, reasons."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.fx import GraphModule, Node

from passes import PrunePrefixCache, PruneReport, verify_prune
from tests.support.builder import decode_inputs
from tests.support.prunes import check_prune
from tests.support.regions import RegionBuilder

aten = torch.ops.aten
X = (3, 2, 16, 8)


class Decode(RegionBuilder):
    """A graph with inputs `x`, `active_block_table` and a pool; `prior` is its materialized prefix."""

    def __init__(self) -> None:
        super().__init__()
        self.x = self.input("x", *X)
        self.table = self.input("active_block_table", 3, 4, dtype=torch.int32)
        self.pool = self.parameter("kv_mgr.past_key_values.0", 10, 4, 2, 8)
        self.prior = self.site(self.pool, self.table)

    def layer(self, *, reads: bool = False) -> GraphModule:
        """A region `(x, prior) -> (x + 1, prior * 2)`, or one whose first result reads the prefix."""
        inner = self.nested()
        x, prior = inner.input("x", *X), inner.input("prior", *X)
        first = inner.call(aten.add.Tensor, x, prior if reads else 1)
        return inner.returning((first, inner.call(aten.mul.Tensor, prior, 2)))


def pruned(module: GraphModule) -> tuple[GraphModule, PruneReport]:
    result = check_prune(module, decode_inputs(), policy="liveness")
    return result.graph_module, result.report


def graph_at(module: GraphModule, path: str) -> GraphModule:
    found = module.get_submodule(path)
    assert isinstance(found, GraphModule)
    return found


def calls_of(module: GraphModule, name: str) -> list[Node]:
    return [node for node in module.graph.nodes if name in str(node.target) and node.op.startswith("call_")]


def three_layers(build: Decode, *, last_needs_all: bool) -> GraphModule:
    build.body("layer", build.layer())
    hidden = build.x
    for _ in range(2):
        hidden = build.item(build.invoke(build.graph_of("layer"), "layer", hidden, build.prior), 0)
    last = build.invoke(build.graph_of("layer"), "layer", hidden, hidden if last_needs_all else build.prior)
    results = [build.item(last, index) for index in range(2 if last_needs_all else 1)]
    return build.returning(tuple(results))


def test_a_region_that_all_callers_share_keeps_its_name_and_identifier() -> None:
    build = Decode()
    module = three_layers(build, last_needs_all=False)
    after, report = pruned(module)
    assert report.summary["gathers_after"] == 0
    assert [name for name, _ in after.named_children()] == ["kv_mgr", "layer"]
    first, second, last = calls_of(after, "invoke_subgraph")
    assert [len(call.args) for call in (first, second, last)] == [3, 3, 3]
    assert {call.args[1] for call in (first, second, last)} == {"layer"}


def test_a_region_is_copied_where_callers_differ_and_shared_where_they_agree() -> None:
    after, report = pruned(three_layers(Decode(), last_needs_all=True))
    first, second, last = calls_of(after, "invoke_subgraph")
    assert [call.args[0].target for call in (first, second, last)] == ["layer_pruned", "layer_pruned", "layer"]  # type: ignore[union-attr]
    assert [call.args[1] for call in (first, second, last)] == ["layer_pruned", "layer_pruned", "layer"]
    assert len(graph_at(after, "layer_pruned").graph.nodes) == 3
    assert [region.becomes for region in report.regions] == ["layer_pruned", "layer_pruned"]
    assert report.regions[0].operands == ("prior",) and report.regions[0].results == (1,)


def test_an_unshared_dead_operand_leaves_the_identifier_alone() -> None:
    build = Decode()
    build.body("layer", build.layer())
    call = build.invoke(build.graph_of("layer"), "layer", build.x, build.prior)
    after, _ = pruned(build.returning((build.item(call, 0),)))
    (call,) = calls_of(after, "invoke_subgraph")
    assert call.args[0].target == "layer" and call.args[1] == "layer"  # type: ignore[union-attr]
    assert [node.name for node in graph_at(after, "layer").graph.find_nodes(op="placeholder")] == ["x"]
    assert len(call.meta["val"]) == 1


def test_copies_of_one_region_under_one_identifier_stay_equal() -> None:
    """make_fx without a tracing context records a copy of the body for each call, all under one identifier."""
    build = Decode()
    hidden = build.x
    for index in range(2):
        build.body(f"layer{index}", build.layer())
        hidden = build.item(build.invoke(build.graph_of(f"layer{index}"), "layer", hidden, build.prior), 0)
    after, _ = pruned(build.returning((hidden,)))
    assert [call.args[1] for call in calls_of(after, "invoke_subgraph")] == ["layer", "layer"]


def test_copies_under_one_identifier_that_now_differ_get_identifiers_of_their_own() -> None:
    build = Decode()
    calls = []
    for index in range(2):
        build.body(f"layer{index}", build.layer())
        calls.append(
            build.invoke(build.graph_of(f"layer{index}"), "layer", build.x, build.prior if not index else build.x)
        )
    module = build.returning((build.item(calls[0], 0), build.item(calls[1], 0), build.item(calls[1], 1)))
    after, _ = pruned(module)
    assert [call.args[1] for call in calls_of(after, "invoke_subgraph")] == ["layer_pruned", "layer"]


def test_an_identifier_is_told_apart_at_any_depth() -> None:
    """Two modules hold a region under one identifier, and only one of them loses an operand."""
    build = Decode()
    blocks = []
    for name, needed in (("one", 1), ("two", 2)):
        block = build.nested()
        block.body("layer", build.layer())
        x, prior = block.input("x", *X), block.input("prior", *X)
        call = block.invoke(block.graph_of("layer"), "layer", x, prior)
        build.body(name, block.returning(tuple(block.item(call, index) for index in range(needed))))
        blocks.append(build.call_module(name, build.x, build.prior if needed == 1 else build.x))
    module = build.returning((build.item(blocks[0], 0), build.item(blocks[1], 1)))
    after, _ = pruned(module)
    identifiers = [calls_of(graph_at(after, name), "invoke_subgraph")[0].args[1] for name in ("one", "two")]
    assert identifiers == ["layer_pruned", "layer"]


def test_a_graph_that_an_unknown_operator_reads_too_stays_where_it_is() -> None:
    build = Decode()
    layer = build.layer()
    build.body("layer", layer)
    read = build.graph_of("layer")
    call = build.invoke(read, "layer", build.x, build.prior)
    other = build.graph.call_function(torch.ops.higher_order.wrap, (read, build.x, build.x))
    other.meta["val"] = call.meta["val"]
    module = build.returning((build.item(call, 0), build.item(other, 1)))
    result = PrunePrefixCache(policy="liveness")(module)
    verify_prune(module, result.graph_module, result.report)
    assert result.report.sites[0].status == "pruned"
    assert result.graph_module.get_submodule("layer") is layer
    assert calls_of(result.graph_module, "wrap")[0].args[0].target == "layer"  # type: ignore[union-attr]


def test_a_graph_inside_a_submodule_that_is_called_itself_is_not_replaced_there() -> None:
    build = Decode()
    block = build.nested()
    inner = build.layer()
    block.body("layer", inner)
    x, prior = block.input("x", *X), block.input("prior", *X)
    call = block.call_module("layer", x, prior)
    build.body("block", block.returning((block.item(call, 0), block.item(call, 1))))
    whole = build.call_module("block", build.x, build.x)
    part = build.call_module("block.layer", build.x, build.prior)
    module = build.returning((build.item(whole, 1), build.item(part, 0)))
    after, report = pruned(module)
    assert report.sites[0].status == "pruned"
    assert [call.target for call in calls_of(after, "block")] == ["block", "block.layer_pruned"]


def test_keyword_operands_and_dict_results_of_a_submodule() -> None:
    build = Decode()
    inner = build.nested()
    x, prior = inner.input("x", *X), inner.input("prior", *X)
    doubled = inner.call(aten.mul.Tensor, prior, 2)
    build.body("sub", inner.returning({"hidden": inner.call(aten.add.Tensor, x, 1), "cache": (doubled, x)}))
    call = build.call_module("sub", prior=build.prior, x=build.x)
    cache = build.item(call, "cache")
    module = build.returning((build.item(call, "hidden"), build.item(cache, 1)))
    after, _ = pruned(module)
    (call,) = calls_of(after, "sub")
    assert list(call.kwargs) == ["x"]
    assert set(call.meta["val"]) == {"hidden", "cache"} and len(call.meta["val"]["cache"]) == 1
    assert [node.args[1] for node in after.graph.nodes if node.name.startswith("getitem")] == [
        "cache",
        "hidden",
        0,
    ] or [node.args[1] for node in calls_of(after, "getitem")] == ["cache", "hidden", 0]


def test_a_submodule_deep_in_containers_is_replaced_without_touching_the_original() -> None:
    build = Decode()
    layer = build.layer()
    holder = nn.Module()
    holder.add_module("inner", nn.Module())
    holder.get_submodule("inner").add_module("layer", layer)
    build.root.add_module("holder", holder)
    call = build.call_module("holder.inner.layer", build.x, build.prior)
    module = build.returning((build.item(call, 0),))
    after, _ = pruned(module)
    assert graph_at(module, "holder.inner.layer") is layer and len(layer.graph.nodes) == 5
    assert len(graph_at(after, "holder.inner.layer").graph.nodes) == 3
    assert calls_of(after, "holder")[0].target == "holder.inner.layer"


def test_in_place_pruning_replaces_nested_graphs_and_leaves_the_old_ones_whole() -> None:
    build = Decode()
    layer = build.layer()
    build.body("layer", layer)
    call = build.invoke(build.graph_of("layer"), "layer", build.x, build.prior)
    module = build.returning((build.item(call, 0),))
    result = PrunePrefixCache(policy="liveness", inplace=True)(module)
    assert result.graph_module is module
    assert len(layer.graph.nodes) == 5 and len(graph_at(module, "layer").graph.nodes) == 3
    x, table = decode_inputs()
    torch.testing.assert_close(module(x, table)[0], x + 1)


def test_parameters_of_a_nested_graph_are_the_same_objects() -> None:
    build = Decode()
    inner = build.nested()
    x, prior = inner.input("x", *X), inner.input("prior", *X)
    weight = inner.parameter("weight", 8)
    build.body("sub", inner.returning((inner.call(aten.mul.Tensor, x, weight), prior)))
    module = build.returning((build.item(build.call_module("sub", build.x, build.prior), 0),))
    after, _ = pruned(module)
    assert graph_at(after, "sub") is not graph_at(module, "sub")
    assert graph_at(after, "sub").weight is graph_at(module, "sub").weight
    assert list(dict(after.named_parameters())) == list(dict(module.named_parameters()))


def test_a_region_in_a_region() -> None:
    build = Decode()
    middle = build.nested()
    middle.body("layer", build.layer())
    x, prior = middle.input("x", *X), middle.input("prior", *X)
    call = middle.invoke(middle.graph_of("layer"), "layer", x, prior)
    build.body("block", middle.returning((middle.item(call, 0), middle.item(call, 1))))
    module = build.returning((build.item(build.invoke(build.graph_of("block"), "block", build.x, build.prior), 0),))
    after, report = pruned(module)
    assert [region.call for region in report.regions] == ["invoke_subgraph", "invoke_subgraph/invoke_subgraph"]
    assert len(graph_at(after, "block.layer").graph.nodes) == 3


def test_a_gather_inside_a_region_is_a_site_of_each_caller() -> None:
    build = Decode()
    inner = build.nested()
    x, pool = inner.input("x", *X), inner.input("pool", 10, 4, 2, 8)
    table = inner.input("table", 3, 4, dtype=torch.int32)
    build.body("sub", inner.returning((inner.call(aten.add.Tensor, x, 1), inner.site(pool, table))))
    calls = [build.invoke(build.graph_of("sub"), "sub", build.x, build.pool, build.table) for _ in range(2)]
    module = build.returning((build.item(calls[0], 0), build.item(calls[1], 0), build.item(calls[1], 1)))
    after, report = pruned(module)
    assert [(site.gather, site.status) for site in report.sites] == [
        ("index_select", "pruned"),
        ("invoke_subgraph/index_select", "pruned"),
        ("invoke_subgraph_1/index_select", "live"),
    ]
    assert [len(call.args) for call in calls_of(after, "invoke_subgraph")] == [3, 5]
    assert report.sites[2].pinned_by[-1] == "output"


def test_a_pin_path_goes_into_a_region_and_out_again() -> None:
    build = Decode()
    build.body("layer", build.layer(reads=True))
    call = build.invoke(build.graph_of("layer"), "layer", build.x, build.prior)
    module = build.returning((build.call(aten.neg.default, build.item(call, 0)),))
    _, report = pruned(module)
    (site,) = report.sites
    assert site.pinned_by == ("view_1", "permute", "invoke_subgraph", "invoke_subgraph/add", "getitem", "neg", "output")
    assert site.reason == "read by %invoke_subgraph/add (aten.add.Tensor), which reaches output 0"


def test_a_pin_path_ends_in_a_region_that_writes() -> None:
    build = Decode()
    inner = build.nested()
    pool, prior = inner.input("pool", 10, 4, 2, 8), inner.input("prior", *X)
    total = inner.call(aten.sum.default, prior)
    inner.call(aten.add_.Tensor, pool, total)
    build.body("sub", inner.returning((total,)))
    build.invoke(build.graph_of("sub"), "sub", build.pool, build.prior)
    _, report = pruned(build.returning((build.x,)))
    (site,) = report.sites
    assert site.status == "live"
    assert site.pinned_by[-1] == "invoke_subgraph/add_"
    assert "writes storage that outlives the graph" in site.reason


def test_sizes_recorded_in_a_region_are_not_believed_for_another_layout() -> None:
    build = Decode()
    inner = build.nested()
    x, prior = inner.input("x", *X), inner.input("prior", 5, 5)
    size = inner.call(aten.sym_size.int, prior, 0)
    build.body("sub", inner.returning((inner.call(aten.mul.Tensor, x, size),)))
    call = build.call_module("sub", build.x, build.prior)
    _, report = pruned(build.returning((build.item(call, 0),)))
    assert report.sites[0].status == "live"


def test_a_size_read_inside_a_region_is_folded_and_the_operand_goes() -> None:
    build = Decode()
    inner = build.nested()
    x, prior = inner.input("x", *X), inner.input("prior", *X)
    size = inner.call(aten.sym_size.int, prior, 2)
    build.body("sub", inner.returning((inner.call(aten.mul.Tensor, x, size),)))
    module = build.returning((build.item(build.call_module("sub", build.x, build.prior), 0),))
    after, report = pruned(module)
    assert report.regions[0].rewritten[0].rule == "shape_only"
    assert "16" in graph_at(after, "sub").code


@pytest.mark.parametrize("takes", [0, 1, "all"])
def test_a_whole_tuple_handed_on_keeps_every_result(takes: int | str) -> None:
    build = Decode()
    build.body("layer", build.layer())
    call = build.invoke(build.graph_of("layer"), "layer", build.x, build.prior)
    module = build.returning(call if takes == "all" else (build.item(call, takes),))
    _, report = pruned(module)
    assert report.sites[0].status == ("pruned" if takes == 0 else "live")


def swapped_carries(build: Decode, *, wanted: int) -> GraphModule:
    """A loop of two rounds that swaps its carries: each result depends on both."""
    inner = build.nested()
    a, b, row = inner.input("a", *X), inner.input("b", *X), inner.input("row", *X)
    results = (inner.call(aten.clone.default, b), inner.call(aten.clone.default, a), inner.call(aten.neg.default, row))
    build.body("combine", inner.returning(results))
    rows = build.call(aten.stack.default, [build.x, build.x])
    loop = build.scan("combine", [build.x, build.prior], [rows])
    return build.returning((build.item(loop, wanted),))


@pytest.mark.parametrize(("wanted", "status"), [(0, "live"), (1, "live"), (2, "pruned")])
def test_a_swap_of_carries_keeps_both_and_neither_if_only_the_rows_are_wanted(wanted: int, status: str) -> None:
    after, report = pruned(swapped_carries(Decode(), wanted=wanted))
    assert report.sites[0].status == status
    (loop,) = calls_of(after, "scan")
    assert [len(loop.args[index]) for index in (1, 2)] == ([2, 1] if status == "live" else [0, 1])  # type: ignore[arg-type]


@pytest.mark.parametrize(("wanted", "status"), [(0, "live"), (1, "live"), (2, "live"), (3, "pruned")])
def test_carries_that_take_turns_are_all_kept_for_the_result_of_one(wanted: int, status: str) -> None:
    """The first result is the third carry only after two rounds."""
    build = Decode()
    inner = build.nested()
    a, b, c, row = (inner.input(name, *X) for name in ("a", "b", "c", "row"))
    build.body("combine", inner.returning(tuple(inner.call(aten.neg.default, value) for value in (b, c, a, row))))
    rows = build.call(aten.stack.default, [build.x] * 3)
    loop = build.scan("combine", [build.x, build.x, build.prior], [rows])
    _, report = pruned(build.returning((build.item(loop, wanted),)))
    assert report.sites[0].status == status


def test_the_last_thing_scanned_over_stays() -> None:
    """Its length is the number of rounds, even if no round reads it."""
    build = Decode()
    inner = build.nested()
    carry, _ = inner.input("carry", *X), inner.input("row", 2, 16, 8)
    build.body("combine", inner.returning((inner.call(aten.mul.Tensor, carry, 2),)))
    loop = build.scan("combine", [build.x], [build.prior])
    _, report = pruned(build.returning((build.item(loop, 0),)))
    (site,) = report.sites
    assert site.status == "live" and "number of rounds" in site.reason


def test_a_scan_over_a_free_value_loses_the_site() -> None:
    build = Decode()
    inner = build.nested()
    carry, _, _ = inner.input("carry", *X), inner.input("a", 2, 16, 8), inner.input("b", 2, 16, 8)
    build.body("combine", inner.returning((inner.call(aten.mul.Tensor, carry, 2),)))
    loop = build.scan("combine", [build.x], [build.prior, build.x])
    after, report = pruned(build.returning((build.item(loop, 0),)))
    assert report.sites[0].status == "pruned"
    assert len(calls_of(after, "scan")[0].args[2]) == 1  # type: ignore[arg-type]


def test_a_loop_whose_results_are_unused_is_not_removed_but_loses_its_dead_carry() -> None:
    """It may not end, so running it can be seen."""
    build = Decode()

    def graph(results: Any) -> GraphModule:
        inner = build.nested()
        count, prior = inner.input("count", dtype=torch.int64), inner.input("prior", *X)
        return inner.returning(results(inner, count, prior))

    build.body("cond", graph(lambda g, count, prior: g.call(aten.lt.Scalar, count, 3)))
    build.body(
        "step",
        graph(lambda g, count, prior: (g.call(aten.add.Tensor, count, 1), g.call(aten.mul.Tensor, prior, 2))),
    )
    zero = build.call(aten.zeros.default, [], dtype=torch.int64)
    build.while_loop("cond", "step", [zero, build.prior])
    after, report = pruned(build.returning((build.x,)))
    assert report.sites[0].status == "pruned"
    (loop,) = calls_of(after, "while_loop")
    assert len(loop.args[2]) == 1  # type: ignore[arg-type]


def test_the_report_of_a_nested_graph_is_the_same_every_time() -> None:
    reports = [
        PrunePrefixCache(policy="liveness")(three_layers(Decode(), last_needs_all=True)).report for _ in range(2)
    ]
    assert reports[0] == reports[1]


def test_work_grows_with_the_number_of_calls() -> None:
    """A graph that many callers share is analysed once for each set of results that they need."""
    from passes.demand.analysis import analyze
    from passes.facts import graph_facts
    from passes.registration import DEFAULT_CONTRACTS

    build = Decode()
    build.body("layer", build.layer())
    hidden: Any = build.x
    for _ in range(20):
        hidden = build.item(build.invoke(build.graph_of("layer"), "layer", hidden, build.prior), 0)
    found = analyze(graph_facts(build.returning((hidden,)), DEFAULT_CONTRACTS))
    bodies = {id(region.bodies[0]) for region in found.regions.values()}
    assert len(found.regions) == 20 and len(bodies) == 1


def test_a_dead_site_says_which_call_does_not_need_it() -> None:
    build = Decode()
    build.body("layer", build.layer())
    call = build.invoke(build.graph_of("layer"), "layer", build.x, build.prior)
    _, report = pruned(build.returning((build.item(call, 0),)))
    assert report.sites[0].reason == "region layer does not read its input prior"


def test_a_dead_site_inside_a_region_says_that_no_caller_takes_it() -> None:
    build = Decode()
    inner = build.nested()
    pool, table = inner.input("pool", 10, 4, 2, 8), inner.input("table", 3, 4, dtype=torch.int32)
    build.body("sub", inner.returning((inner.call(aten.neg.default, pool), inner.site(pool, table))))
    call = build.call_module("sub", build.pool, build.table)
    _, report = pruned(build.returning((build.item(call, 0),)))
    assert report.sites[1].reason == "nothing takes that result of sub"


def slice_of_results(build: Decode, results: Node) -> None:
    build.graph.call_function(operator.getitem, (results, slice(0, 2)))


def negative_index(build: Decode, results: Node) -> None:
    build.item(results, -1)


def whole(build: Decode, results: Node) -> None:
    build.graph.call_function(aten.stack.default, (results,))


@pytest.mark.parametrize("dead_user", [slice_of_results, negative_index, whole])
def test_a_dead_user_of_many_results_goes_with_a_dropped_one(dead_user: Callable[[Decode, Node], None]) -> None:
    build = Decode()
    build.body("layer", build.layer())
    call = build.invoke(build.graph_of("layer"), "layer", build.x, build.prior)
    dead_user(build, call)
    after, report = pruned(build.returning((build.item(call, 0),)))
    assert report.sites[0].status == "pruned"
    assert len(calls_of(after, "invoke_subgraph")[0].users) == 1


def test_a_bare_result_of_a_call_that_must_stay() -> None:
    build = Decode()
    inner = build.nested()
    pool, prior = inner.input("pool", 10, 4, 2, 8), inner.input("prior", *X)
    inner.call(aten.add_.Tensor, pool, 1)
    build.body("layer", inner.returning(inner.call(aten.neg.default, prior)))
    call = build.call_module("layer", build.pool, build.prior)
    build.call(aten.sum.default, call)
    after, report = pruned(build.returning((build.x,)))
    assert report.sites[0].status == "pruned"
    assert not calls_of(after, "sum") and len(calls_of(after, "layer")) == 1
