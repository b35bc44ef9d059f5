"""The conservative policy: each gate of pull request 155, tripped alone, from the graph and from the context."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.fx import GraphModule, Node

from passes import DeadkvError, DedupPrefixCache, PrunePrefixCache, TkgContext
from passes.policy import GATES, Gate
from tests.cases import ops
from tests.support.builder import GraphBuilder, decode_graph

aten = torch.ops.aten

AGREEING = TkgContext(
    token_generation=True, prefix_caching=True, block_kv_layout=True, block_tkg_attention=True,
    kv_cache_quantization=False, chunked_or_windowed_attention=False, seq_ids_mask_cache_update=False,
    block_cache_manager=True, prefix_in_table=True,
)  # fmt: skip


def tkg_graph(*, tokens: int = 1, convert: bool = False, attend: bool = True, table_rank: int = 2,
              narrow: bool = False, flat: bool = False, shape_read: bool = False,
              pool_shape: tuple[int, ...] = (10, 4, 2, 8), other_pool: bool = False,
              more: bool = False) -> GraphModule:  # fmt: skip
    """A token-generation step with block-TKG attention and one dead site; each argument breaks one gate."""
    build = GraphBuilder()
    x = build.input("X", 3, tokens, 64)
    table = build.input("active_block_table", *((3, 4) if table_rank == 2 else (4,)), dtype=torch.int32)
    pool = build.parameter("past_key_values.0", *pool_shape, dtype=torch.float8_e4m3fn if narrow else torch.float32)
    source = build.call(aten.mul.Tensor, pool, 2.0) if convert else pool
    gathered = build.call(aten.index_select.default, source, 0, build.call(aten.view.default, table, [-1]))
    result: Any = x
    if more:
        slots = build.input("slots", 3, 4, dtype=torch.int32)
        weight = build.parameter("weight", 64)
        result = build.call(
            aten.mul.Tensor, x, build.call(aten.add.Tensor, weight, build.call(aten.sum.default, slots))
        )
    if shape_read:
        zeros = build.call(aten.sum.default, build.call(aten.zeros_like.default, gathered))
        result = build.call(aten.add.Tensor, x, zeros)
    if attend:
        name = f"past_key_values.{2 if other_pool else 0}"
        cache = build.parameter(name, *pool_shape, dtype=pool.meta["val"].dtype)
        given: Node | None = None if flat else table
        result = build.call(ops.attention_block_tkg, result, cache, cache, given, update_cache=shape_read)
    return build.module(result)


def run(module: GraphModule, context: TkgContext | None = None) -> Any:
    result = PrunePrefixCache(context=context)(module)
    (site,) = result.report.sites
    return site, {gate.name: gate for gate in result.report.gates}


def test_with_every_gate_open_the_site_goes() -> None:
    for context in (None, AGREEING):
        site, gates = run(tkg_graph(), context)
        assert site.status == "pruned"
        assert list(gates) == [gate.name for gate in GATES]
        assert all(gate.passed for gate in gates.values())


TRIPPED_BY_GRAPH = [
    ("token_generation", {"tokens": 9}),
    ("block_kv_layout", {"pool_shape": (10, 4, 16)}),
    ("block_tkg_attention", {"attend": False}),
    ("block_table", {"table_rank": 1}),
    ("kv_cache_quantization", {"convert": True}),
    ("kv_cache_quantization", {"narrow": True}),
    ("chunked_or_windowed_attention", {"flat": True}),
    ("seq_ids_mask_cache_update", {"shape_read": True}),
]
ONLY_BY_CONTEXT = {
    "prefix_caching": "a graph with a gather by the block table has a prefix cache",
    "block_cache_manager": "a graph does not show which class manages its caches",
}
"""Gates that no graph with a site can trip."""

CONTEXT_FIELD = {"block_table": "prefix_in_table"}
"""Field of TkgContext behind a gate, where it is not the gate's own name."""


def against(gate: Gate) -> TkgContext:
    """A context that trips only `gate`."""
    return replace(AGREEING, **{CONTEXT_FIELD.get(gate.name, gate.name): not gate.wanted})


def tripped(gates: dict[str, Any]) -> list[str]:
    return [name for name, found in gates.items() if not found.passed]


def test_every_gate_is_tripped_from_the_graph_or_cannot_be() -> None:
    assert {gate for gate, _ in TRIPPED_BY_GRAPH} | set(ONLY_BY_CONTEXT) == {gate.name for gate in GATES}


@pytest.mark.parametrize(("gate", "broken"), TRIPPED_BY_GRAPH)
def test_a_gate_that_the_graph_trips_keeps_the_site(gate: str, broken: dict[str, Any]) -> None:
    module = tkg_graph(**broken)
    site, gates = run(module)
    assert site.status == "kept" and site.held_by == gate
    assert tripped(gates) == [gate] and gates[gate].context is None and gates[gate].held == 1
    assert f"held by gate {gate}" in site.reason and "policy liveness would remove it" in site.reason
    assert PrunePrefixCache(policy="liveness")(module).modified


@pytest.mark.parametrize("gate", GATES, ids=lambda gate: gate.name)
def test_a_gate_that_the_context_trips_keeps_the_site(gate: Gate) -> None:
    site, gates = run(tkg_graph(), against(gate))
    assert site.status == "kept" and site.held_by == gate.name
    assert tripped(gates) == [gate.name]
    assert gates[gate.name].context is (not gate.wanted) and gates[gate.name].held == 1


@pytest.mark.parametrize("gate", GATES, ids=lambda gate: gate.name)
def test_a_context_that_trips_a_gate_which_the_graph_opens_disagrees_with_it(gate: Gate) -> None:
    site, gates = run(tkg_graph(), against(gate))
    found = gates[gate.name]
    if gate.name == "block_cache_manager":
        assert found.graph is None and found.detail == "a block cache manager: no"
    else:
        graph, context = ("yes", "no") if gate.wanted else ("no", "yes")
        reason = f"graph and context disagree: {gate.condition}: graph says {graph}, context {context}"
        assert found.detail == reason and reason in site.reason


@pytest.mark.parametrize(("gate", "broken"), TRIPPED_BY_GRAPH)
def test_a_context_cannot_open_a_gate_that_the_graph_trips(gate: str, broken: dict[str, Any]) -> None:
    site, gates = run(tkg_graph(**broken), AGREEING)
    wanted = next(found.wanted for found in GATES if found.name == gate)
    graph, context = ("no", "yes") if wanted else ("yes", "no")
    assert site.status == "kept" and site.held_by == gate and tripped(gates) == [gate]
    assert f"disagree: {gates[gate].detail.split(': ')[1]}: graph says {graph}, context {context}" in site.reason


def test_attention_must_read_the_pool_that_is_gathered() -> None:
    pools = ("past_key_values.0", "past_key_values.2")
    site, gates = run(tkg_graph(other_pool=True), replace(AGREEING, pools=pools))
    assert site.cache == "past_key_values.0"
    assert site.held_by == "block_tkg_attention" and tripped(gates)[0] == "block_tkg_attention"


# A context that the graph refutes.

POOL = "past_key_values.0"


@pytest.mark.parametrize(
    ("context", "message"),
    [
        (TkgContext(block_table="table"), "the context names the block table 'table', but the graph has no input"),
        (TkgContext(pools=(POOL, "past")), "the context names the pool 'past', but the graph has no input"),
        (TkgContext(pools=(POOL, POOL)), "the context names the same pool twice: 'past_key_values.0'"),
        (
            TkgContext(pools=(POOL, "slots"), block_table="slots"),
            "names one tensor as pool and as block table: 'slots'",
        ),
        (TkgContext(block_table="X"), "names the block table 'X', which holds torch.float32: a block table holds"),
        (TkgContext(block_table="slots"), "'slots', but block-TKG attention is given 'active_block_table'"),
        (TkgContext(pools=(POOL, "X")), "the pool 'X', which is not gathered by the block table and is not among"),
        (TkgContext(pools=("weight",)), "the pool 'weight', which is not gathered .* reads: 'past_key_values.0'"),
    ],
)
@pytest.mark.parametrize("inplace", [False, True])
def test_a_context_that_contradicts_the_graph_is_one_error_and_no_edit(
    context: TkgContext, message: str, inplace: bool
) -> None:
    module = tkg_graph(more=True)
    code, names = module.code, [node.name for node in module.graph.nodes]
    for run_pass in (PrunePrefixCache(context=context, inplace=inplace), DedupPrefixCache(context, inplace=inplace)):
        with pytest.raises(DeadkvError, match=message) as refused:
            run_pass(module)
        assert "\n" not in str(refused.value)
    with pytest.raises(DeadkvError, match=message):
        PrunePrefixCache(context=context).explain(module)
    assert module.code == code and [node.name for node in module.graph.nodes] == names


def test_a_context_that_fits_still_fits_once_the_sites_are_pruned() -> None:
    context = replace(AGREEING, pools=(POOL,), block_table="active_block_table")
    prune = PrunePrefixCache(context=context)
    pruned = prune(tkg_graph()).graph_module
    again = prune(pruned)
    assert not again.modified and again.report.notes == ("no pool is gathered by the block table",)


def test_a_pool_that_nothing_reads_any_more_is_still_a_parameter_of_the_module() -> None:
    context = TkgContext(pools=("kv_mgr.past_key_values.0",))
    prune = PrunePrefixCache(policy="liveness", context=context)
    assert not prune(prune(decode_graph()).graph_module).modified
