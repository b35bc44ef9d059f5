"""The block-TKG attention op: plain HLO where the kernel cannot run, a visible custom call where it can."""

import base64
import json
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.fx import GraphModule

from passes import PrunePrefixCache
from passes.errors import DeadkvError
from tests.test_hlo_proto import instructions
from tracing.backends.base import BackendRequest
from tracing.backends.hlo.artefacts import lower_request
from tracing.backends.hlo.execute import execute
from tracing.backends.hlo.lower import Lowered
from tracing.backends.hlo.proto import alias_pairs, kernel_stand_ins, parse_module
from tracing.capture import capture
from tracing.decoder import Decoder, build_decoder, random_caches, random_inputs, random_weights

LAYERS = 2


def tiny(variant: str, device: str = "meta") -> Decoder:
    decoder = build_decoder("tiny", variant, batch=2, bucket=32, device=device)
    if device == "cpu":
        random_weights(decoder, 0)
        random_caches(decoder, 1)
    return decoder


def captured(decoder: Decoder, frontend: str = "make_fx") -> GraphModule:
    return capture(decoder, decoder.example_inputs(), frontend=frontend, aliases=decoder.aliases())


@cache
def tiny_graph(variant: str) -> GraphModule:
    """Without values."""
    return captured(tiny(variant))


def lower_pair(before: GraphModule, after: GraphModule, decoder: Decoder, target: str) -> dict[str, Lowered]:
    aliases = before.meta["capture"].aliases
    return lower_request(BackendRequest(before, after, decoder.example_inputs(), aliases, target, Path()))


def opcodes(lowered: Lowered) -> Counter[str]:
    return Counter(i.opcode for i in instructions(lowered.hlo))


def kernel_calls(lowered: Lowered) -> list[Any]:
    return [i for i in instructions(lowered.hlo) if i.opcode == "custom-call"]


@pytest.mark.parametrize("variant", ["base", "cache-update"])
@pytest.mark.parametrize(("target", "calls"), [("inf2", 0), ("trn1", 0), ("trn2", LAYERS)])
def test_only_targets_with_the_kernel_get_a_custom_call(variant: str, target: str, calls: int) -> None:
    decoder, graph = tiny(variant), tiny_graph(variant)
    lowered = lower_pair(graph, graph, decoder, target)["after"]
    assert kernel_stand_ins(lowered.hlo) == calls
    assert opcodes(lowered)["custom-call"] == calls


def test_the_custom_call_shows_every_tensor_operand_and_says_what_it_is() -> None:
    decoder, graph = tiny("base"), tiny_graph("base")
    call = kernel_calls(lower_pair(graph, graph, decoder, "trn2")["after"])[0]
    config = json.loads(base64.b64decode(call.backend_config))
    assert config["kernel"] == "attention_block_tkg"
    assert len(call.operand_ids) == len(config["operands"])
    assert {"X", "W_qkv", "K_cache", "V_cache", "active_blocks_table", "attention_mask"} <= set(config["operands"])
    assert config["constants"]["update_cache"] is False
    assert "no compiled kernel" in config["stand_in"]


def test_a_cache_written_by_the_kernel_is_aliased_through_the_call() -> None:
    decoder, graph = tiny("cache-update"), tiny_graph("cache-update")
    lowered = lower_pair(graph, graph, decoder, "trn2")["after"]
    call = kernel_calls(lowered)[0]
    names = json.loads(base64.b64decode(call.backend_config))["operands"]
    k_position, v_position = names.index("K_cache"), names.index("V_cache")
    stablehlo = lowered.stablehlo
    assert f"output_tuple_indices = [1], operand_index = {k_position}" in stablehlo
    assert f"output_tuple_indices = [2], operand_index = {v_position}" in stablehlo
    number = {p.name: p.number for p in lowered.parameters}
    pools = {number[f"kv_mgr.past_key_values.{i}"]: i + 1 for i in range(2 * LAYERS)}
    assert alias_pairs(parse_module(lowered.hlo)) == pools


def test_layers_of_one_shape_share_one_trace_of_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    from tracing.backends.kernels import Kernel

    traced: list[str] = []
    load = Kernel.load_reference
    monkeypatch.setattr(Kernel, "load_reference", lambda self: traced.append(self.name) or load(self))
    decoder, graph = tiny("base"), tiny_graph("base")
    lower_pair(graph, graph, decoder, "inf2")
    assert traced == ["attention_block_tkg"]


@pytest.mark.parametrize(
    ("variant", "frontend"),
    [
        *((variant, "make_fx") for variant in ("base", "cache-update", "no-block-tkg", "cte-prefix", "cte")),
        *((variant, frontend) for variant in ("base", "cache-update") for frontend in ("export", "dynamo")),
    ],
)
def test_running_the_hlo_equals_torch(variant: str, frontend: str) -> None:
    decoder = tiny(variant, "cpu")
    graph = captured(decoder, frontend)
    pools = {name: pool.clone() for name, pool in decoder.named_parameters() if "past_key_values" in name}
    inputs = random_inputs(decoder, 3, padded=False)
    result = execute(graph, inputs)
    assert all(torch.equal(pool, pools[name]) for name, pool in decoder.named_parameters() if name in pools)
    with torch.no_grad():
        expected = decoder(*inputs)
    for ours, theirs, old in zip(result.outputs, expected, [None, *pools.values()], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
        if old is not None:
            untouched = theirs == old
            assert untouched.any() and torch.equal(ours[untouched], old[untouched])


def test_a_padded_block_table_runs_where_torch_cannot() -> None:
    """The unpruned graph gathers by -1: torch raises, HLO clamps; what is attended to is the same after pruning."""
    decoder = tiny("base", "cpu")
    before = captured(decoder)
    after = PrunePrefixCache()(before).graph_module
    inputs = random_inputs(decoder, 3, padded=True)
    with pytest.raises(IndexError):
        before(*inputs)
    expected = after(*inputs)
    for graph in (before, after):
        for ours, theirs in zip(execute(graph, inputs).outputs, expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_values_given_by_name_replace_the_modules() -> None:
    decoder = tiny("base", "cpu")
    values = {name: tensor.clone() for name, tensor in [*decoder.named_parameters(), *decoder.named_buffers()]}
    inputs = random_inputs(decoder, 3, padded=False)
    expected = decoder(*inputs)[0]
    graph = tiny_graph("base")
    torch.testing.assert_close(execute(graph, inputs, values).outputs[0], expected, rtol=1e-5, atol=1e-5)


def test_weights_without_values_cannot_run() -> None:
    decoder = tiny("base")
    inputs = tuple(torch.zeros(t.shape, dtype=t.dtype) for t in decoder.example_inputs())
    with pytest.raises(DeadkvError, match=r"has no values .*load the weights first"):
        execute(tiny_graph("base"), inputs)


def test_a_kernel_cannot_run_on_the_cpu() -> None:
    decoder = tiny("base", "cpu")
    with pytest.raises(DeadkvError, match=r"attention_block_tkg \(node \w+\) is a Neuron kernel on trn2"):
        execute(captured(decoder), decoder.example_inputs(), target="trn2")
