"""What the pass finds and does in each variant of the decoder, on each frontend and under each policy.

Where a variant has a source-level twin that skips the materialization, the pruned graph is the twin's graph.
"""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

from passes import PrunePrefixCache, PruneReport, TkgContext
from tests.support.captures import tiny_decoder, tiny_graph
from tests.support.prunes import after_plain_dce, check_prune
from tracing import capture
from tracing.decoder import VARIANTS, Decoder, Variant, build_decoder, random_inputs
from tracing.graph import diff, document, render_text, text

FRONTENDS = ("make_fx", "export", "dynamo")
GONE, WINDOWED, QUANTIZED = "pruned", "kept: chunked_or_windowed_attention", "kept: kv_cache_quantization"

# What becomes of each layer's K and V site: under the conservative policy, under liveness.
FOUND = {
    "seq-id-mask": ([GONE, GONE], [GONE, GONE]),
    "speculation": ([GONE, GONE], [GONE, GONE]),
    "opaque-past": ([GONE, GONE], [GONE, GONE]),
    "fp8": ([QUANTIZED, QUANTIZED], [GONE, GONE]),
    "sliding-window": (["live", WINDOWED], ["live", GONE]),
    "tiled": (["live", "live"], ["live", "live"]),
    "chunked-prefill": (["live", "live"], ["live", "live"]),
    "flat-cache": ([], []),
}
POLICIES = ("conservative", "liveness")


def captured(built: Decoder, frontend: str) -> GraphModule:
    return capture(built, built.example_inputs(), frontend=frontend, aliases=built.aliases())


def verdicts(report: PruneReport) -> list[str]:
    """What became of each layer; K and V share it."""
    found: dict[int, set[str]] = {}
    for site in report.sites:
        found.setdefault(site.layer, set()).add(site.status if site.held_by is None else f"kept: {site.held_by}")
    assert [(site.layer, site.role) for site in report.sites] == [(layer, role) for layer in found for role in "KV"]
    return [verdict for (verdict,) in found.values()]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("frontend", FRONTENDS)
@pytest.mark.parametrize("variant", FOUND)
def test_sites(variant: str, frontend: str, policy: str) -> None:
    """Also that the pruned graph verifies and computes and writes the same bits."""
    inputs = random_inputs(tiny_decoder(variant), 2, padded=False)
    report = check_prune(tiny_graph(variant, frontend), inputs, policy=policy).report
    wanted = FOUND[variant][POLICIES.index(policy)]
    assert verdicts(report) == wanted
    assert report.summary["gathers_before"] == 2 * len(wanted)
    assert report.summary["gathers_after"] == 2 * sum(verdict != GONE for verdict in wanted)
    for gate in report.gates:
        assert gate.passed == (not any(gate.name in verdict for verdict in wanted)), gate


READERS = {"tiled": "cat", "chunked-prefill": "cat", "sliding-window": "attention_block_tkg"}


@pytest.mark.parametrize("frontend", FRONTENDS)
@pytest.mark.parametrize("variant, reader", READERS.items())
def test_a_live_site_is_pinned_by_what_reads_the_prefix(variant: str, reader: str, frontend: str) -> None:
    report = PrunePrefixCache(policy="liveness").explain(tiny_graph(variant, frontend))
    live = [site for site in report.sites if site.status == "live"]
    assert live
    for site in live:
        assert site.reason.startswith("read by %") and reader in site.reason
        assert site.pinned_by


@pytest.mark.parametrize("frontend", FRONTENDS)
def test_a_flat_cache_has_no_site_and_the_report_says_why(frontend: str) -> None:
    report = PrunePrefixCache().explain(tiny_graph("flat-cache", frontend))
    assert report.notes == ("no pool is gathered by the block table",)


TWINS = {name: variant for name, variant in VARIANTS.items() if name in FOUND and variant.block_tkg and variant.prefix}


@pytest.mark.parametrize("frontend", FRONTENDS)
@pytest.mark.parametrize("variant", TWINS)
def test_the_pruned_graph_is_that_of_the_edited_source(variant: str, frontend: str) -> None:
    edited = build_decoder("tiny", dataclasses.replace(TWINS[variant], source_edit=True), batch=2, bucket=64)
    twin = captured(edited, frontend)
    pruned = PrunePrefixCache(policy="liveness")(tiny_graph(variant, frontend)).graph_module
    if (variant, frontend) == ("fp8", "export"):
        pruned, twin = without_metadata_asserts(pruned), without_metadata_asserts(twin)
    found = diff(document(pruned), document(twin))
    assert found.same, render_text(found, color=False)


def copied(module: GraphModule) -> GraphModule:
    duplicate = GraphModule(module, copy.deepcopy(module.graph))
    duplicate.meta.update(module.meta)
    return duplicate


def without_metadata_asserts(module: GraphModule) -> GraphModule:
    """torch.export asserts the dtype of what each cast is given, here of the pools, whether the cast stays or not."""
    module = copied(module)
    for node in module.graph.find_nodes(op="call_function", target=torch.ops.aten._assert_tensor_metadata.default):
        module.graph.erase_node(node)
    module.graph.eliminate_dead_code()
    return module


@pytest.mark.parametrize("frontend", FRONTENDS)
def test_an_opaque_past_is_what_plain_dead_code_elimination_cannot_remove(frontend: str) -> None:
    module = after_plain_dce(tiny_graph("opaque-past", frontend))
    assert verdicts(PrunePrefixCache().explain(module)) == ["dead", "dead"]


@pytest.mark.parametrize("frontend", FRONTENDS)
def test_a_float8_pool_is_dequantized_as_a_whole_and_that_goes_too(frontend: str) -> None:
    result = PrunePrefixCache(policy="liveness")(tiny_graph("fp8", frontend))
    for module, readers in ((tiny_graph("fp8", frontend), 3), (result.graph_module, 2)):
        scales = [n for n in module.graph.find_nodes(op="get_attr") if "kv_mgr.scales" in n.target]
        assert len(scales) == 4 * readers  # quantization of the new tokens and the attention op keep theirs


CONTEXT = TkgContext(seq_ids_mask_cache_update=True)


@pytest.mark.parametrize("frontend", FRONTENDS)
def test_a_static_trace_hides_the_seq_id_mask_and_a_context_tells_of_it(frontend: str) -> None:
    report = PrunePrefixCache(context=CONTEXT)(tiny_graph("seq-id-mask", frontend)).report
    assert verdicts(report) == ["kept: seq_ids_mask_cache_update"] * 2
    (gate,) = [gate for gate in report.gates if not gate.passed]
    assert gate.detail == (
        "graph and context disagree: seq-id mask with in-kernel cache update: graph says no, context yes"
    )


def test_with_symbolic_sizes_the_graph_shows_the_seq_id_mask() -> None:
    """Only V's length is asked for, so only the V sites are held; liveness takes the length from the inputs' sizes."""
    built = tiny_decoder("seq-id-mask")
    state = dict(built.named_parameters()) | dict(built.named_buffers())
    inputs = random_inputs(built, 2, padded=False)

    def run(state: dict[str, torch.Tensor], *inputs: torch.Tensor) -> list[torch.Tensor]:
        return torch.func.functional_call(built, state, inputs)

    module = make_fx(run, tracing_mode="symbolic")(state, *inputs)
    by_role = {(s.role, s.status, s.held_by) for s in PrunePrefixCache().explain(module).sites}
    assert by_role == {("K", "dead", None), ("V", "kept", "seq_ids_mask_cache_update")}
    result = check_prune(module, None, policy="liveness")
    assert verdicts(result.report) == [GONE, GONE]
    before, after = (m(copy.deepcopy(state), *inputs) for m in (module, result.graph_module))
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))


@pytest.mark.parametrize("flags", [{"layout": "tiled"}, {"layout": "chunked"}], ids=["tiled", "chunked"])
def test_a_context_keeps_a_live_site_live(flags: dict[str, str]) -> None:
    """No gate is asked where a site is live: a policy can only keep more."""
    built = build_decoder("tiny", Variant(block_tkg=False, **flags), batch=2, bucket=64)
    for context in (None, TkgContext(block_cache_manager=True), TkgContext(block_kv_layout=False)):
        report = PrunePrefixCache(policy="liveness", context=context)(captured(built, "make_fx")).report
        assert verdicts(report) == ["live", "live"] and report.gates == ()


@pytest.mark.parametrize("gate", ["token_generation", "prefix_caching", "block_kv_layout", "block_cache_manager"])
@pytest.mark.parametrize("variant", ["speculation", "opaque-past"])
def test_a_gate_that_only_the_configuration_shows_holds_the_sites(variant: str, gate: str) -> None:
    context = TkgContext(**{gate: False})
    report = PrunePrefixCache(context=context)(tiny_graph(variant, "make_fx")).report
    assert verdicts(report) == [f"kept: {gate}"] * 2
    assert [found.name for found in report.gates if not found.passed] == [gate]


def test_the_index_arithmetic_of_a_tiled_pool_is_part_of_its_graph() -> None:
    lines = text(document(tiny_graph("tiled", "make_fx")))
    assert "kv_mgr.tile_offsets" in lines and "aten.add.Tensor" in lines and "aten.mul.Tensor" in lines
