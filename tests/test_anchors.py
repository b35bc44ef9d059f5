"""Which layer and role a pool has, by whatever it was found; how a refused context is told."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.fx import GraphModule, Node

from passes import DeadkvError, PrunePrefixCache, TkgContext
from tests.cases import ops
from tests.support.builder import GraphBuilder, decode_graph
from tests.support.regions import RegionBuilder

aten = torch.ops.aten
X, POOL = (3, 2, 16, 8), (10, 4, 2, 8)


def layers_and_roles(module: GraphModule, context: TkgContext | None = None) -> list[tuple[int, str]]:
    report = PrunePrefixCache(policy="liveness", context=context).explain(module)
    return [(site.layer, site.role) for site in report.sites]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("past_key_values.0", (0, "K")),
        ("past_key_values.1", (0, "V")),
        ("model.past_key_values_6", (3, "K")),
        ("past_key_values_parameters.7", (3, "V")),
        ("past_key_values_13_", (6, "V")),
    ],
)
def test_by_name_pools_alternate_between_key_and_value(name: str, expected: tuple[int, str]) -> None:
    assert layers_and_roles(decode_graph(name)) == [expected]


@pytest.mark.parametrize("name", ["past_key_values", "past_key_values.x", "past_key_values.0.scale"])
def test_another_name_is_no_pool(name: str) -> None:
    assert layers_and_roles(decode_graph(name)) == []


def attending(names: list[str], reads: list[tuple[str, str]]) -> GraphModule:
    """Sites of all pools, and attention calls that each read a pair of them."""
    build = GraphBuilder()
    x = build.input("X", *X)
    table = build.input("blocks", 3, 4, dtype=torch.int32)
    pools = {name: build.parameter(name, *POOL) for name in names}
    for pool in pools.values():
        build.site(pool, table)
    for key, value in reads:
        x = build.call(ops.attention_block_tkg, x, pools[key], pools[value], table)
    return build.module(x)


def test_the_attention_calls_number_layers_whose_names_do_not() -> None:
    module = attending(["b", "a", "d", "c"], [("a", "b"), ("c", "d")])
    assert layers_and_roles(module) == [(0, "V"), (0, "K"), (1, "V"), (1, "K")]


def test_a_name_tells_the_layer_better_than_the_number_of_the_call() -> None:
    names = ["past_key_values.6", "past_key_values.7"]
    assert layers_and_roles(attending(names, [(names[0], names[1])])) == [(3, "K"), (3, "V")]


def test_a_context_lists_pools_layer_by_layer() -> None:
    module = attending(["a", "b", "c", "d"], [("a", "b"), ("c", "d")])
    context = TkgContext(pools=("a", "b", "c", "d"))
    assert layers_and_roles(module, context) == [(0, "K"), (0, "V"), (1, "K"), (1, "V")]


def test_the_first_three_caches_of_attention_are_listed() -> None:
    names = ["a", "b", "c", "d"]
    three, four = attending(names, [("a", "b"), ("c", "c")]), attending(names, [("a", "b"), ("c", "d")])
    for module, listed in ((three, "'a', 'b', 'c'"), (four, r"'a', 'b', 'c', \.\.\.")):
        module.register_buffer("other", torch.zeros(1))
        with pytest.raises(DeadkvError, match=f"attention reads: {listed}$"):
            layers_and_roles(module, TkgContext(pools=("other",)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.complex64])
def test_a_block_table_that_holds_no_integers_is_refused(dtype: torch.dtype) -> None:
    build = GraphBuilder()
    x, table = build.input("x", 3, dtype=dtype), build.input("table", 3, 4, dtype=torch.int64)
    build.site(build.parameter("past_key_values.0", *POOL), table)
    module = build.module(x)
    with pytest.raises(DeadkvError, match="a block table holds integers"):
        layers_and_roles(module, TkgContext(block_table="x"))
    assert layers_and_roles(module, TkgContext(block_table="table")) == [(0, "K")]


def test_only_inputs_are_block_tables_by_name() -> None:
    build = GraphBuilder()
    x = build.input("x", *X)
    build.site(build.parameter("past_key_values.0", *POOL), build.parameter("block_table", 3, 4, dtype=torch.int32))
    report = PrunePrefixCache(policy="liveness").explain(build.module(x))
    assert report.sites == () and "no block table found" in report.notes[0]


def cast(build: GraphBuilder, pool: Node) -> Node:
    return build.call(aten._to_copy.default, pool, dtype=torch.float16)


def scaled(build: GraphBuilder, pool: Node) -> Node:
    return build.call(aten.mul.Tensor, pool, build.parameter("scale", 1))


def transposed(build: GraphBuilder, pool: Node) -> Node:
    return build.call(aten.transpose.int, pool, 0, 1)


def permuted(build: GraphBuilder, pool: Node) -> Node:
    return build.call(aten.permute.default, pool, [1, 0, 2, 3])


def identically_permuted(build: GraphBuilder, pool: Node) -> Node:
    return build.call(aten.permute.default, pool, [0, 1, 2, 3])


def exponential(build: GraphBuilder, pool: Node) -> Node:
    return build.call(aten.exp.default, pool)


def in_halves(build: GraphBuilder, pool: Node) -> Node:
    return build.call(aten.view.default, pool, [10, 4, 2, 8])


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (cast, 1),
        (scaled, 1),
        (identically_permuted, 1),
        (in_halves, 1),
        (transposed, 0),
        (permuted, 0),
        (exponential, 0),
    ],
)
def test_a_pool_is_seen_through_casts_scales_and_views_that_keep_its_blocks(
    change: Callable[[GraphBuilder, Node], Node], found: int
) -> None:
    build = GraphBuilder()
    x, table = build.input("x", *X), build.input("block_table", 3, 4, dtype=torch.int32)
    pool = change(build, build.parameter("past_key_values.0", *POOL))
    build.call(aten.index_select.default, pool, 0, build.call(aten.view.default, table, [-1]))
    assert len(layers_and_roles(build.module(x))) == found


@pytest.mark.parametrize(("other", "found"), [("constant", 1), ("size", 1), ("parameter", 1), ("input", 0)])
def test_an_index_may_be_computed_from_the_table_and_constants_only(other: str, found: int) -> None:
    build = GraphBuilder()
    x, table = build.input("x", *X), build.input("block_table", 3, 4, dtype=torch.int32)
    given = {
        "constant": lambda: build.call(aten.arange.default, 4, dtype=torch.int32),
        "size": lambda: build.call(aten.sym_size.int, x, 0),
        "parameter": lambda: build.parameter("offsets", 4, dtype=torch.int32),
        "input": lambda: build.input("offsets", 4, dtype=torch.int32),
    }[other]()
    index = build.call(aten.view.default, build.call(aten.add.Tensor, table, given), [-1])
    build.call(aten.index_select.default, build.parameter("past_key_values.0", *POOL), 0, index)
    assert len(layers_and_roles(build.module(x))) == found


def test_an_index_that_no_table_is_part_of_is_no_site() -> None:
    build = GraphBuilder()
    x, _ = build.input("x", *X), build.input("block_table", 3, 4, dtype=torch.int32)
    index = build.call(aten.arange.default, 4)
    build.call(aten.index_select.default, build.parameter("past_key_values.0", *POOL), 0, index)
    assert layers_and_roles(build.module(x)) == []


@pytest.mark.parametrize(("lane", "found"), [(0, 1), (1, 0)])
def test_pool_and_table_are_seen_through_a_marker_lane_by_lane(lane: int, found: int) -> None:
    build = RegionBuilder()
    x, table = build.input("x", *POOL), build.input("block_table", 3, 4, dtype=torch.int32)
    marked = build.call(ops.mark, [build.parameter("past_key_values.0", *POOL), x], 1)
    build.site(build.item(marked, lane), table)
    assert len(layers_and_roles(build.module(x))) == found


def test_the_bytes_of_a_site_are_those_of_the_gather_and_of_the_copies_behind_it() -> None:
    build = GraphBuilder()
    x, table = build.input("x", *X), build.input("block_table", 3, 4, dtype=torch.int32)
    prior = build.site(build.parameter("past_key_values.0", *POOL), table)
    halved = build.call(aten._to_copy.default, build.call(aten.clone.default, prior), dtype=torch.float16)
    build.call(aten.permute.default, halved, [0, 2, 1, 3])
    (site,) = PrunePrefixCache(policy="liveness").explain(build.module(x)).sites
    elements = 12 * 4 * 2 * 8
    assert site.bytes == elements * (4 + 4) + elements * (4 + 4) + elements * (4 + 2)


def test_a_result_of_a_loop_is_not_the_operand_that_it_began_as() -> None:
    build = RegionBuilder()
    x, table = build.input("x", *X), build.input("block_table", 3, 4, dtype=torch.int32)
    inner = build.nested()
    carried, _ = inner.input("carried", *POOL), inner.input("row", *X[1:])
    build.body("combine", inner.returning((inner.call(aten.exp.default, carried),)))
    loop = build.scan("combine", [build.parameter("past_key_values.0", *POOL)], [x])
    gathered = build.site(build.item(loop, 0), table)
    assert layers_and_roles(build.module(x, gathered)) == []
