"""TkgContext.from_neuron_config: NxD Inference's flags, what they say about the gates, and what NxDI refuses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from passes import DeadkvError, PrunePrefixCache, TkgContext
from passes.neuron_config import CONSTRAINTS, GATE_FACTS
from passes.neuron_flags import FLAGS
from tests.test_policy import tkg_graph

VALID: Mapping[str, Any] = {
    "is_prefix_caching": True, "is_block_kv_layout": True, "pa_num_blocks": 512, "pa_block_size": 32,
    "is_chunked_prefill": False, "chunked_prefill_config": None, "attn_block_tkg_nki_kernel_enabled": True,
    "attn_tkg_nki_kernel_enabled": False, "attn_tkg_builtin_kernel_enabled": False,
    "attn_block_tkg_nki_kernel_cache_update": True, "attn_block_tkg_nki_kernel_cascaded_attention": True,
    "qkv_kernel_enabled": True, "qkv_nki_kernel_enabled": False, "apply_seq_ids_mask": False,
    "kv_quant_config": None, "kv_cache_quant": False, "flash_decoding_enabled": False, "k_cache_transposed": False,
    "attention_dp_degree": 1, "tp_degree": 8, "tkg_batch_size": 4, "kv_cache_tiling": False,
    "kv_cache_update_with_kernel": False, "is_continuous_batching": True, "enable_fused_speculation": False,
    "sliding_window": None, "attention_chunk_size": None, "windowed_context_encoding_size": None,
    "token_generation_batches": None,
}  # fmt: skip
"""A configuration for block token generation with prefix caching, as NeuronConfig would hold it."""


def test_the_table_of_flags_is_the_valid_configuration() -> None:
    assert set(VALID) == set(FLAGS)


@pytest.mark.parametrize("form", [dict, lambda flags: SimpleNamespace(**flags)], ids=["mapping", "object"])
def test_a_full_configuration_answers_every_gate(form: Any) -> None:
    context = TkgContext.from_neuron_config(form(VALID), pools=("k",), block_table="table", token_generation=True)
    assert context == TkgContext(
        pools=("k",), block_table="table", token_generation=True, prefix_caching=True, block_kv_layout=True,
        block_tkg_attention=True, kv_cache_quantization=False, chunked_or_windowed_attention=False,
        seq_ids_mask_cache_update=False, block_cache_manager=True,
    )  # fmt: skip


def test_it_opens_the_gates_of_a_graph_that_agrees() -> None:
    context = TkgContext.from_neuron_config(VALID, token_generation=True)
    result = PrunePrefixCache(context=context)(tkg_graph())
    assert result.report.summary["gathers_after"] == 0
    assert all(gate.context for gate in result.report.gates if gate.name == "prefix_caching")


@pytest.mark.parametrize(
    ("change", "gate", "answer"),
    [
        ({"is_prefix_caching": False}, "prefix_caching", False),
        ({"attn_block_tkg_nki_kernel_enabled": False, "attn_block_tkg_nki_kernel_cache_update": False,
          "attn_block_tkg_nki_kernel_cascaded_attention": False}, "block_tkg_attention", False),
        ({"attn_block_tkg_nki_kernel_enabled": False, "attn_tkg_nki_kernel_enabled": True},
         "block_tkg_attention", True),
        ({"attn_block_tkg_nki_kernel_enabled": False, "attn_tkg_builtin_kernel_enabled": True},
         "block_tkg_attention", True),
        ({"kv_cache_quant": True}, "kv_cache_quantization", True),
        ({"kv_quant_config": {"dtype": "fp8"}}, "kv_cache_quantization", True),
        ({"sliding_window": 128}, "chunked_or_windowed_attention", True),
        ({"attention_chunk_size": 8192}, "chunked_or_windowed_attention", True),
        ({"windowed_context_encoding_size": 1024}, "chunked_or_windowed_attention", True),
        ({"apply_seq_ids_mask": True}, "seq_ids_mask_cache_update", True),
        ({"apply_seq_ids_mask": True, "attn_block_tkg_nki_kernel_cache_update": False},
         "seq_ids_mask_cache_update", False),
        ({"attention_dp_degree": 2, "kv_cache_update_with_kernel": True}, "block_cache_manager", False),
    ],
)  # fmt: skip
def test_each_flag_moves_its_gate_and_no_other(change: dict[str, Any], gate: str, answer: bool) -> None:
    context = vars(TkgContext.from_neuron_config({**VALID, **change}))
    usual = vars(TkgContext.from_neuron_config(VALID))
    assert context.pop(gate) is answer
    del usual[gate]
    assert context == usual


@pytest.mark.parametrize("name", sorted(FLAGS))
def test_a_missing_flag_is_unknown_and_violates_nothing(name: str) -> None:
    left = {key: value for key, value in VALID.items() if key != name}
    context, usual = (vars(TkgContext.from_neuron_config(flags)) for flags in (left, VALID))
    assert all(context[gate] in (None, usual[gate]) for gate in GATE_FACTS)


def test_one_flag_alone_answers_its_own_gate() -> None:
    assert TkgContext.from_neuron_config({"is_prefix_caching": True}) == TkgContext(prefix_caching=True)
    alone = TkgContext.from_neuron_config({"is_block_kv_layout": False})
    assert alone == TkgContext(block_kv_layout=False, block_cache_manager=False)


VIOLATIONS: Mapping[str, dict[str, Any]] = {
    "is_prefix_caching needs is_block_kv_layout": {"is_block_kv_layout": False},
    "chunked prefill needs is_block_kv_layout": {
        "is_chunked_prefill": True, "chunked_prefill_config": {"max_num_seqs": 8}, "is_block_kv_layout": False,
        "is_prefix_caching": False,
    },
    "is_chunked_prefill needs chunked_prefill_config": {"is_chunked_prefill": True},
    "chunked_prefill_config turns is_chunked_prefill on": {"chunked_prefill_config": {"max_num_seqs": 8}},
    "pa_num_blocks and pa_block_size must both be set": {"pa_block_size": None},
    "is_block_kv_layout excludes k_cache_transposed": {"k_cache_transposed": True},
    "is_block_kv_layout excludes token_generation_batches": {"token_generation_batches": [1, 2]},
    "is_prefix_caching excludes token_generation_batches": {"token_generation_batches": (1,)},
    "attn_block_tkg_nki_kernel_enabled needs qkv_kernel_enabled or qkv_nki_kernel_enabled": {
        "qkv_kernel_enabled": False
    },
    "attn_block_tkg_nki_kernel_enabled excludes flash_decoding_enabled": {"flash_decoding_enabled": True},
    "attn_block_tkg_nki_kernel_enabled excludes chunked prefill": {
        "is_chunked_prefill": True, "chunked_prefill_config": {"max_num_seqs": 8},
    },
    "attn_block_tkg_nki_kernel_cache_update needs attn_block_tkg_nki_kernel_enabled": {
        "attn_block_tkg_nki_kernel_enabled": False, "attn_block_tkg_nki_kernel_cascaded_attention": False,
    },
    "attn_block_tkg_nki_kernel_cache_update turns kv_cache_tiling off": {"kv_cache_tiling": True},
    "attn_block_tkg_nki_kernel_cache_update with attention_dp_degree above 1 needs kv_cache_update_with_kernel": {
        "attention_dp_degree": 2
    },
    "attn_block_tkg_nki_kernel_cascaded_attention needs attn_block_tkg_nki_kernel_enabled": {
        "attn_block_tkg_nki_kernel_enabled": False, "attn_block_tkg_nki_kernel_cache_update": False,
    },
    "fused speculation with a sliding window needs block-TKG attention": {
        "enable_fused_speculation": True, "sliding_window": 128, "attn_block_tkg_nki_kernel_enabled": False,
        "attn_block_tkg_nki_kernel_cache_update": False, "attn_block_tkg_nki_kernel_cascaded_attention": False,
    },
    "fused speculation with a sliding window needs attn_block_tkg_nki_kernel_cascaded_attention": {
        "enable_fused_speculation": True, "sliding_window": 128,
        "attn_block_tkg_nki_kernel_cascaded_attention": False,
    },
    "attention_dp_degree must divide tp_degree": {"attention_dp_degree": 3, "tkg_batch_size": 3},
    "attention_dp_degree must divide tkg_batch_size": {"attention_dp_degree": 2, "tkg_batch_size": 3},
    "attention_dp_degree above 1 needs is_continuous_batching": {
        "attention_dp_degree": 2, "kv_cache_update_with_kernel": True, "is_continuous_batching": False,
    },
}  # fmt: skip


def test_every_constraint_has_a_violation() -> None:
    assert list(VIOLATIONS) == [constraint for constraint, _ in CONSTRAINTS]


@pytest.mark.parametrize("constraint", VIOLATIONS)
def test_a_violated_constraint_is_named(constraint: str) -> None:
    flags = {**VALID, **VIOLATIONS[constraint]}
    if constraint.startswith("is_prefix_caching excludes"):
        del flags["is_block_kv_layout"]
    if constraint.startswith("attention_dp_degree must"):
        flags["kv_cache_update_with_kernel"] = True
    with pytest.raises(DeadkvError, match=f"^neuron config: {constraint} \\(NxD Inference") as refused:
        TkgContext.from_neuron_config(flags)
    assert "\n" not in str(refused.value)


def test_a_deprecated_flag_bypasses_the_need_of_a_qkv_kernel() -> None:
    flags = {**VALID, "qkv_kernel_enabled": False, "attn_tkg_nki_kernel_enabled": True}
    assert TkgContext.from_neuron_config(flags).block_tkg_attention is True


@dataclass
class InferenceConfig:
    """The form of NxDI's: the model's attributes beside a NeuronConfig."""

    neuron_config: Any
    sliding_window: int | None = None


def test_a_configuration_around_one_is_looked_through() -> None:
    neuron = SimpleNamespace(**{k: v for k, v in VALID.items() if k not in ("sliding_window", "attention_chunk_size")})
    assert TkgContext.from_neuron_config(neuron).chunked_or_windowed_attention is None
    assert TkgContext.from_neuron_config(InferenceConfig(neuron, 4096)).chunked_or_windowed_attention is True
    neuron.config = SimpleNamespace(sliding_window=None, attention_chunk_size=None)
    for config in (neuron, InferenceConfig(neuron)):
        assert TkgContext.from_neuron_config(config).chunked_or_windowed_attention is False
    neuron.config.attention_chunk_size = 8192
    for config in (neuron, InferenceConfig(neuron), {"neuron_config": vars(neuron)}):
        assert TkgContext.from_neuron_config(config).chunked_or_windowed_attention is True


def test_a_model_configuration_says_nothing_but_the_window() -> None:
    config = {"is_prefix_caching": True, "config": {"is_block_kv_layout": False, "tp_degree": "x"}}
    assert TkgContext.from_neuron_config(config) == TkgContext(prefix_caching=True)


def test_two_values_of_one_flag_are_refused() -> None:
    config = InferenceConfig({**VALID, "sliding_window": 128}, sliding_window=4096)
    with pytest.raises(DeadkvError, match=r"sliding_window is 4096, but neuron_config\.sliding_window is 128"):
        TkgContext.from_neuron_config(config)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("is_prefix_caching", "true"), ("is_prefix_caching", 1), ("pa_block_size", 32.0), ("pa_block_size", -1),
        ("sliding_window", True), ("token_generation_batches", 4), ("token_generation_batches", ["1"]),
        ("kv_quant_config", "fp8"), ("chunked_prefill_config", 3),
    ],
)  # fmt: skip
def test_a_value_of_an_unknown_type_is_refused(name: str, value: object) -> None:
    with pytest.raises(DeadkvError, match=f"neuron config: {name} is {value!r}, which is not ".replace("[", r"\[")):
        TkgContext.from_neuron_config({**VALID, name: value})


@pytest.mark.parametrize("config", [None, 3, "tkg", [True], {}, {"is_prefix": True}, object(), SimpleNamespace()])
def test_what_is_no_configuration_is_refused(config: object) -> None:
    with pytest.raises(DeadkvError, match="expected a NeuronConfig or a mapping with its flags, got"):
        TkgContext.from_neuron_config(config)
