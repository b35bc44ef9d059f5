"""Layers between markers, in shared regions and in a scan: what they compute, what the pass makes of their graphs."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from torch import Tensor
from torch.fx import GraphModule

from passes import PrunePrefixCache
from passes.errors import DeadkvError
from tests.support.captures import tiny_decoder, tiny_graph
from tests.support.prunes import after_plain_dce, check_prune
from tests.support.releases import DYNAMO_TRACES_SCAN, skip_what_torch_cannot_trace
from tracing.backends.hlo.execute import execute
from tracing.capture import FRONTENDS, capture
from tracing.decoder import PRESETS, VARIANTS, Decoder, Variant, build_decoder, random_caches, random_inputs
from tracing.decoder.weights import random_weights
from tracing.graph import diff, document, dumps, graph_module, text
from tracing.graph.jsonfile import loads

LAYERS, BUCKET = 2, 64
STRUCTURES = ("boundary-markers", "regional", "scan")
BODIES = {"boundary-markers": 0, "regional": 1, "scan": 1}

every_structure = pytest.mark.parametrize("structure", STRUCTURES)
every_frontend = pytest.mark.parametrize("frontend", FRONTENDS)


def make(variant: str | Variant, *, qk_norm: bool = False) -> Decoder:
    """A decoder whose weights and pools are the base variant's."""
    config = dataclasses.replace(PRESETS["tiny"], qk_norm=qk_norm, layers=LAYERS)
    decoder = build_decoder(config, variant, batch=2, bucket=BUCKET, device="cpu")
    random_weights(decoder, seed=0)
    if not decoder.variant.scan:
        random_caches(decoder, seed=1)
        return decoder
    for pool, stack in zip(decoder.aliases(), stacked(list(make("base", qk_norm=qk_norm).aliases())), strict=True):
        pool.copy_(stack)
    return decoder


def stacked(pools: list[Tensor]) -> list[Tensor]:
    """The pools K0, V0, K1, ... as two, with the layers along a leading dimension."""
    return [torch.stack(pools[::2]), torch.stack(pools[1::2])]


def captured(variant: str | Variant, frontend: str) -> GraphModule:
    decoder = make(variant)
    skip_what_torch_cannot_trace(decoder.variant, frontend)
    return capture(decoder, decoder.example_inputs(), frontend=frontend, aliases=decoder.aliases())


def with_flags(structure: str, **flags: object) -> Variant:
    return Variant(**vars(VARIANTS[structure]) | flags)


def bodies(module: GraphModule) -> list[GraphModule]:
    return [child for child in module.modules() if isinstance(child, GraphModule) and child is not module]


def gathers(module: GraphModule) -> int:
    """Gathers in the graph and in all its regions."""
    every = (node for part in (module, *bodies(module)) for node in part.graph.nodes)
    return sum("index_select" in str(node.target) for node in every)


@pytest.mark.parametrize("flags", [{}, {"opaque_past": True}, {"block_tkg": False}, {"active_tokens": 3}], ids=str)
@pytest.mark.parametrize("qk_norm", [False, True])
@every_structure
def test_a_structure_computes_what_layers_in_a_row_do(structure: str, qk_norm: bool, flags: dict[str, object]) -> None:
    base, other = make(Variant(**flags), qk_norm=qk_norm), make(with_flags(structure, **flags), qk_norm=qk_norm)
    inputs = random_inputs(base, 2, padded=False)
    logits, *pools = base(*inputs)
    wanted = [logits, *(stacked(pools) if other.variant.scan else pools)]
    for actual, expected in zip(other(*inputs), wanted, strict=True):
        assert torch.equal(actual, expected)


def test_context_encoding_can_be_scanned_too() -> None:
    base, other = make("cte-prefix"), make(with_flags("scan", phase="cte", block_tkg=False))
    inputs = random_inputs(base, 2, padded=True)
    logits, *pools = base(*inputs)
    for actual, expected in zip(other(*inputs), [logits, *stacked(pools)], strict=True):
        assert torch.equal(actual, expected)


@every_frontend
@every_structure
def test_the_captured_graph_computes_what_the_decoder_does(structure: str, frontend: str) -> None:
    decoder, module = tiny_decoder(structure), tiny_graph(structure, frontend)
    inputs = random_inputs(decoder, 2, padded=False)
    for actual, expected in zip(module(*inputs), decoder(*inputs), strict=True):
        assert torch.equal(actual, expected)


@pytest.mark.skipif(DYNAMO_TRACES_SCAN, reason="this torch can trace it")
def test_a_scan_that_dynamo_cannot_trace_is_one_clear_error() -> None:
    decoder = make("scan")
    with pytest.raises(DeadkvError) as refused:
        capture(decoder, decoder.example_inputs(), frontend="dynamo")
    wanted = "Dynamo in this torch release cannot trace the body of the scan; use the frontend make_fx or export"
    assert wanted in str(refused.value)
    assert "\n" not in str(refused.value)


@every_frontend
@every_structure
def test_all_layers_share_one_body(structure: str, frontend: str) -> None:
    module = tiny_graph(structure, frontend)
    assert len(bodies(module)) == BODIES[structure]
    attention = [node for part in (module, *bodies(module)) for node in part.graph.nodes if "block_tkg" in node.name]
    assert len(attention) == (LAYERS if structure == "boundary-markers" else 1)
    wanted = 2 if structure == "scan" else 2 * LAYERS
    assert gathers(module) == wanted
    kept = structure != "regional" or frontend != "dynamo"  # Dynamo hands a region only what its body uses
    assert gathers(after_plain_dce(module)) == (wanted if kept else 0)


@every_frontend
@every_structure
def test_every_gather_goes_and_the_rest_is_the_edited_source(structure: str, frontend: str) -> None:
    """Also that the pruned graph verifies and computes the same bits."""
    result = check_prune(tiny_graph(structure, frontend), random_inputs(tiny_decoder(structure), 2, padded=False))
    assert {site.status for site in result.report.sites} == {"pruned"}
    assert gathers(result.graph_module) == 0
    twin = document(captured(with_flags(structure, source_edit=True), frontend))
    assert text(document(result.graph_module)) == text(twin)
    assert diff(document(result.graph_module), twin).same


@every_frontend
@every_structure
def test_an_opaque_operand_inside_the_structure_goes_too(structure: str, frontend: str) -> None:
    """The prefix is an operand of the attention op, which the body hands on: on Dynamo's graph too."""
    module = captured(with_flags(structure, opaque_past=True), frontend)
    assert gathers(after_plain_dce(module)) == gathers(module) > 0
    result = check_prune(module, random_inputs(tiny_decoder(structure), 2, padded=False))
    assert gathers(result.graph_module) == 0


@every_frontend
@every_structure
def test_a_prefix_that_is_read_stays(structure: str, frontend: str) -> None:
    module = captured(with_flags(structure, block_tkg=False), frontend)
    for policy in ("conservative", "liveness"):
        result = PrunePrefixCache(policy=policy)(module)
        assert not result.modified
        # Without the op that reads them, nothing says that dimension 1 of stacked pools counts blocks: no site.
        assert [site.status for site in result.report.sites] == ["live"] * (0 if structure == "scan" else 2 * LAYERS)


@every_frontend
@pytest.mark.parametrize("structure", ["regional", "scan"])
def test_llama_1b_ends_with_no_gather_in_any_region(structure: str, frontend: str) -> None:
    decoder = build_decoder("llama-3.2-1b", structure, batch=4, bucket=1024)
    skip_what_torch_cannot_trace(decoder.variant, frontend)
    module = capture(decoder, decoder.example_inputs(), frontend=frontend, aliases=decoder.aliases())
    result = PrunePrefixCache()(module)
    assert gathers(module) == (2 if structure == "scan" else 32)
    assert gathers(result.graph_module) == 0
    # K and V x layers x batch x bucket x kv_heads x head_dim x 2 bytes, read and written, in 32 gathers or in 2.
    assert result.report.summary["bytes_before"] == 2 * 16 * 4 * 1024 * 8 * 64 * 2 * 2
    assert result.report.summary["bytes_after"] == 0


@every_frontend
@every_structure
def test_documents_survive_json_and_rebuilding(structure: str, frontend: str) -> None:
    found = document(tiny_graph(structure, frontend))
    assert loads(dumps(found)) == found
    assert diff(found, document(graph_module(found))).same
    json.dumps(diff(found, document(PrunePrefixCache()(tiny_graph(structure, frontend)).graph_module)).to_dict())


@every_frontend
@every_structure
def test_the_hlo_computes_what_torch_does(structure: str, frontend: str) -> None:
    decoder = tiny_decoder(structure)
    inputs = random_inputs(decoder, 2, padded=False)
    for ours, expected in zip(execute(tiny_graph(structure, frontend), inputs).outputs, decoder(*inputs), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)


@every_structure
def test_the_pruned_hlo_computes_the_same_bits(structure: str) -> None:
    inputs = random_inputs(tiny_decoder(structure), 2, padded=False)
    before = tiny_graph(structure, "make_fx")
    after = PrunePrefixCache()(before).graph_module
    for one, other in zip(execute(before, inputs).outputs, execute(after, inputs).outputs, strict=True):
        assert torch.equal(one, other)


def test_the_stack_hands_out_its_layers_as_views() -> None:
    decoder, base = make("scan"), make("base")
    for mine, theirs in zip(decoder.layers, base.layers, strict=True):
        for (name, one), (other_name, other) in zip(mine.named_parameters(), theirs.named_parameters(), strict=True):
            assert name == other_name
            assert torch.equal(one, other)
            assert one.untyped_storage().data_ptr() == decoder.layers.get_parameter(name).untyped_storage().data_ptr()


def test_the_marker_op_is_a_sound_custom_op() -> None:
    marker = torch.ops.deadkv.module_marker.default
    lanes = [torch.rand(2, 3), torch.rand(2, 2, 4).permute(2, 0, 1)]
    torch.library.opcheck(marker, (lanes, "layers.0.end"))
    for lane, copy in zip(lanes, marker(lanes, "layers.0.end"), strict=True):
        assert torch.equal(lane, copy)
        assert lane.untyped_storage().data_ptr() != copy.untyped_storage().data_ptr()


def test_markers_stand_around_every_layer() -> None:
    marks = tiny_graph("boundary-markers", "make_fx").graph.find_nodes(
        op="call_function", target=torch.ops.deadkv.module_marker.default
    )
    assert [node.args[1] for node in marks] == [f"layers.{i}.{end}" for i in range(LAYERS) for end in ("start", "end")]
    assert [len(node.args[0]) for node in marks] == [1, 5] * LAYERS
    pruned = PrunePrefixCache()(tiny_graph("boundary-markers", "make_fx")).graph_module
    left = pruned.graph.find_nodes(op="call_function", target=torch.ops.deadkv.module_marker.default)
    assert [len(node.args[0]) for node in left] == [1, 3] * LAYERS


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"structure": "scan", "kernel_updates_cache": True}, "scan excludes kernel_updates_cache"),
        ({"structure": "regional", "kernel_updates_cache": True}, "regional excludes kernel_updates_cache"),
        ({"structure": "scan", "block_tkg": False, "layout": "tiled"}, "scan needs block_layout"),
        ({"structure": "scan", "sliding_window": 8, "full_attention_every": 2}, "scan excludes full_attention_every"),
        ({"structure": "marked", "quantized_cache": True}, "marked excludes quantized_cache"),
    ],
)
def test_flags_that_a_structure_cannot_have(flags: dict[str, object], message: str) -> None:
    with pytest.raises(DeadkvError, match=f"^model variant: {message}$"):
        Variant(**flags)
