"""Sites in nested graphs: under which names, how often, and how many bytes they move."""

from __future__ import annotations

import pytest
import torch
from torch.fx import GraphModule, Node

from passes import PrunePrefixCache
from passes.report import SiteReport
from tests.cases import ops
from tests.support.regions import RegionBuilder

aten = torch.ops.aten
X, POOL, LAYERS = (3, 2, 16, 8), (10, 4, 2, 8), 5
ONE_GATHER = 2 * 12 * 4 * 2 * 8 * 4


class Layers(RegionBuilder):
    """Inputs `x`, `active_block_table` and the pools of five layers in one parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.x = self.input("x", *X)
        self.table = self.input("active_block_table", 3, 4, dtype=torch.int32)
        self.pool = self.parameter("past_key_values.0", *POOL)

    def layer(self) -> tuple[RegionBuilder, Node, Node, Node]:
        inner = self.nested()
        return inner, inner.input("x", *X), inner.input("pool", *POOL), inner.input("table", 3, 4, dtype=torch.int32)


def sites(module: GraphModule) -> tuple[SiteReport, ...]:
    return PrunePrefixCache(policy="liveness").explain(module).sites


def gathering(build: Layers, name: str) -> str:
    inner, x, pool, table = build.layer()
    return build.body(name, inner.returning((inner.call(aten.add.Tensor, x, inner.site(pool, table)),)))


def test_a_gather_in_a_called_graph_is_named_by_its_calls_and_runs_once_a_call() -> None:
    build = Layers()
    layer = gathering(build, "layer")
    first = build.invoke(build.graph_of(layer), "layer", build.x, build.pool, build.table)
    second = build.invoke(build.graph_of(layer), "layer", build.item(first, 0), build.pool, build.table)
    found = sites(build.returning((build.item(second, 0),)))
    assert [site.gather for site in found] == ["invoke_subgraph/index_select", "invoke_subgraph_1/index_select"]
    assert [site.bytes for site in found] == [ONE_GATHER, ONE_GATHER]
    assert [site.cache for site in found] == ["past_key_values.0"] * 2


def test_a_gather_in_a_branch_names_the_branch() -> None:
    build = Layers()
    predicate = build.call(aten.gt.Scalar, build.call(aten.sum.default, build.x), 0)
    branches = [gathering(build, name) for name in ("one", "other")]
    call = build.cond(predicate, branches[0], branches[1], build.x, build.pool, build.table)
    found = sites(build.returning((build.item(call, 0),)))
    assert [site.gather for site in found] == ["cond.one/index_select", "cond.other/index_select"]
    assert [site.bytes for site in found] == [ONE_GATHER, ONE_GATHER]


def attended(inner: RegionBuilder, x: Node, pool: Node, table: Node) -> Node:
    """Attention that reads the pool itself, which shows that the pool is a slice of all pools."""
    return inner.call(ops.attention_block_tkg, x, pool, pool, table)


def scanned(build: Layers, body: RegionBuilder, result: Node) -> GraphModule:
    combine = build.body("combine", body.returning((result,)))
    call = build.scan(combine, [build.x], [build.parameter("pools", LAYERS, *POOL)], build.table)
    return build.returning((build.item(call, 0),))


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_gather_in_a_scan_over_layers_runs_once_a_layer(wrapped: bool) -> None:
    build = Layers()
    inner, x, pool, table = build.layer()
    hidden = attended(inner, x, pool, table)
    if wrapped:
        inner.body("layer", build.root.get_submodule(gathering(build, "wrapped")))
        after = inner.item(inner.call_module("layer", hidden, pool, table), 0)
    else:
        after = inner.call(aten.add.Tensor, hidden, inner.site(pool, table))
    (site,) = sites(scanned(build, inner, after))
    assert site.bytes == LAYERS * ONE_GATHER
    assert site.gather == ("scan/layer/index_select" if wrapped else "scan/index_select")
    assert site.cache == "pools"


def test_a_scan_that_was_not_traced_moves_an_unknown_number_of_bytes() -> None:
    build = Layers()
    inner, x, pool, table = build.layer()
    hidden = attended(inner, x, pool, table)
    module = scanned(build, inner, inner.call(aten.add.Tensor, hidden, inner.site(pool, table)))
    (pools,) = (node for node in module.graph.find_nodes(op="get_attr") if node.target == "pools")
    del pools.meta["val"]
    (site,) = sites(module)
    assert site.bytes is None


def test_in_a_scan_over_layers_the_first_dimension_of_a_slice_numbers_the_blocks() -> None:
    build = Layers()
    inner, x, pool, table = build.layer()
    hidden = attended(inner, x, pool, table)
    rows = inner.call(aten.index_select.default, pool, 1, inner.call(aten.view.default, table, [-1]))
    module = scanned(build, inner, inner.call(aten.add.Tensor, hidden, inner.call(aten.sum.default, rows)))
    assert sites(module) == ()


def test_a_gather_in_a_loop_without_known_end_moves_an_unknown_number_of_bytes() -> None:
    build = Layers()
    inner, x, _, _ = build.layer()
    build.body("condition", inner.returning(inner.call(aten.gt.Scalar, inner.call(aten.sum.default, x), 0)))
    call = build.while_loop("condition", gathering(build, "step"), [build.x], build.pool, build.table)
    (site,) = sites(build.returning((build.item(call, 0),)))
    assert (site.gather, site.bytes) == ("while_loop.step/index_select", None)


@pytest.mark.parametrize(("dim", "found"), [(0, 0), (1, 1)])
def test_outside_the_loop_the_second_dimension_of_all_pools_numbers_the_blocks(dim: int, found: int) -> None:
    build = Layers()
    inner, x, pool, table = build.layer()
    index = build.call(aten.view.default, build.table, [-1])
    build.call(aten.index_select.default, build.parameter("pools", LAYERS, *POOL), dim, index)
    assert len(sites(scanned(build, inner, attended(inner, x, pool, table)))) == found


def test_a_pool_of_a_nested_graph_is_named_by_its_path() -> None:
    build = Layers()
    inner = build.nested()
    x, table = inner.input("x", *X), inner.input("table", 3, 4, dtype=torch.int32)
    gathered = inner.site(inner.parameter("past_key_values.4", *POOL), table)
    build.body("layer", inner.returning((inner.call(aten.add.Tensor, x, gathered),)))
    call = build.call_module("layer", build.x, build.table)
    (site,) = sites(build.returning((build.item(call, 0),)))
    assert (site.cache, site.layer, site.gather) == ("layer.past_key_values.4", 2, "layer/index_select")
