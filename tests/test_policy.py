"""The conservative policy: each gate of pull request 155, tripped alone, from the graph and from the context."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.fx import GraphModule, Node

from passes import DeadkvError, PrunePrefixCache, TkgContext
from passes.policy import GATES
from tests.cases import ops
from tests.support.builder import GraphBuilder

aten = torch.ops.aten

AGREEING = TkgContext(
    token_generation=True, prefix_caching=True, block_kv_layout=True, block_tkg_attention=True,
    kv_cache_quantization=False, chunked_or_windowed_attention=False, seq_ids_mask_cache_update=False,
    block_cache_manager=True,
)  # fmt: skip


def tkg_graph(*, tokens: int = 1, convert: bool = False, attend: bool = True, table_rank: int = 2,
              narrow: bool = False, flat: bool = False, shape_read: bool = False) -> GraphModule:  # fmt: skip
    """A token-generation step with block-TKG attention and one dead site; each argument breaks one gate."""
    build = GraphBuilder()
    x = build.input("X", 3, tokens, 64)
    table = build.input("active_block_table", *((3, 4) if table_rank == 2 else (4,)), dtype=torch.int32)
    pool = build.parameter("past_key_values.0", 10, 4, 2, 8, dtype=torch.float8_e4m3fn if narrow else torch.float32)
    source = build.call(aten.mul.Tensor, pool, 2.0) if convert else pool
    gathered = build.call(aten.index_select.default, source, 0, build.call(aten.view.default, table, [-1]))
    result: Any = x
    if shape_read:
        zeros = build.call(aten.sum.default, build.call(aten.zeros_like.default, gathered))
        result = build.call(aten.add.Tensor, x, zeros)
    if attend:
        cache = build.parameter("past_key_values.0", 10, 4, 2, 8, dtype=pool.meta["val"].dtype)
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


@pytest.mark.parametrize(
    ("gate", "broken"),
    [
        ("token_generation", {"tokens": 9}),
        ("block_tkg_attention", {"attend": False}),
        ("block_table", {"table_rank": 1}),
        ("kv_cache_quantization", {"convert": True}),
        ("kv_cache_quantization", {"narrow": True}),
        ("chunked_or_windowed_attention", {"flat": True}),
        ("seq_ids_mask_cache_update", {"shape_read": True}),
    ],
)
def test_a_gate_that_the_graph_trips_keeps_the_site(gate: str, broken: dict[str, Any]) -> None:
    module = tkg_graph(**broken)
    site, gates = run(module)
    assert site.status == "kept" and site.held_by == gate
    assert [name for name, found in gates.items() if not found.passed] == [gate]
    assert f"held by gate {gate}" in site.reason and "policy liveness would remove it" in site.reason
    assert PrunePrefixCache(policy="liveness")(module).modified


@pytest.mark.parametrize("gate", [gate for gate in GATES if gate.name != "block_table"], ids=lambda gate: gate.name)
def test_a_gate_that_the_context_trips_keeps_the_site(gate: Any) -> None:
    context = TkgContext(**{**vars(AGREEING), gate.name: not gate.wanted})
    site, gates = run(tkg_graph(), context)
    assert site.status == "kept" and site.held_by == gate.name
    found = gates[gate.name]
    assert found.context is (not gate.wanted) and found.held == 1
    if found.graph is not None:
        assert "disagree" in found.detail


def test_a_context_cannot_open_a_gate_that_the_graph_trips() -> None:
    site, gates = run(tkg_graph(convert=True), AGREEING)
    assert site.held_by == "kv_cache_quantization"
    assert gates["kv_cache_quantization"].detail == (
        "graph and context disagree: the KV cache is quantized: graph says yes, context no"
    )


def test_a_context_that_names_a_missing_table_is_refused() -> None:
    with pytest.raises(DeadkvError, match="names the block table 'table'"):
        run(tkg_graph(), TkgContext(block_table="table"))
