"""Presets carry the published models, and what cannot be built is refused in one clear line."""

import dataclasses

import pytest
import torch

from passes.errors import DeadkvError
from tracing.decoder import PRESETS, VARIANTS, DecoderConfig, RopeScaling, Variant, build_decoder

# Parameter counts that the Hugging Face hub shows for each checkpoint.
PUBLISHED_PARAMETERS = {
    "llama-3.2-1b": 1_235_814_400,
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.1-70b": 70_553_706_496,
    "llama-3.1-405b": 405_853_388_800,
    "qwen3-8b": 8_190_735_360,
}


@pytest.mark.parametrize("preset, published", PUBLISHED_PARAMETERS.items())
def test_preset_has_the_published_number_of_parameters(preset: str, published: int) -> None:
    decoder = build_decoder(preset)
    pools = set(decoder.aliases())
    assert sum(p.numel() for p in decoder.parameters() if p not in pools) == published
    assert {p.dtype for p in decoder.parameters()} == {torch.bfloat16}
    assert all(p.is_meta for p in decoder.parameters())


@pytest.mark.parametrize("variant", [name for name, v in VARIANTS.items() if not v.fused_draft])
@pytest.mark.parametrize("preset", PRESETS)
def test_every_variant_of_every_preset_runs_on_meta(preset: str, variant: str) -> None:
    decoder = build_decoder(preset, variant, layers=1, batch=2, bucket=64)
    logits, *caches = decoder(*decoder.example_inputs())
    assert logits.is_meta
    assert logits.dtype == torch.float32
    assert logits.shape == (2, decoder.variant.active_tokens, decoder.config.vocab_size)
    assert [(c.shape, c.dtype) for c in caches] == [(p.shape, p.dtype) for p in decoder.aliases()]


def test_pools() -> None:
    decoder = build_decoder("llama-3.2-1b", layers=3, batch=2, bucket=128)
    pools = {name: p for name, p in decoder.named_parameters() if name.startswith("kv_mgr.")}
    assert list(pools) == [f"kv_mgr.past_key_values.{index}" for index in range(6)]
    assert {tuple(pool.shape) for pool in pools.values()} == {(2 * 128 // 32 + 1, 32, 8, 64)}
    assert not any(p.requires_grad for p in decoder.parameters())
    assert [decoder.aliases()[pool] for pool in pools.values()] == [1, 2, 3, 4, 5, 6]


TKG_SHAPES = {
    "input_ids": (3, 1),
    "attention_mask": (3, 64),
    "position_ids": (3, 1),
    "slot_mapping": (3, 1),
    "active_block_table": (3, 8),
}
CTE_SHAPES = TKG_SHAPES | {
    "input_ids": (3, 64),
    "position_ids": (3, 64),
    "slot_mapping": (3, 64),
    "active_block_table": (1,),
    "num_queries": (3, 1),
}
CTE_PREFIX_SHAPES = CTE_SHAPES | {"active_block_table": (3, 8), "computed_context_lens": (3, 1)}
SHAPES = dict.fromkeys(VARIANTS, TKG_SHAPES) | {
    "cte": CTE_SHAPES,
    "cte-prefix": CTE_PREFIX_SHAPES,
    "chunked-prefill": CTE_PREFIX_SHAPES,
    "seq-id-mask": TKG_SHAPES | {"seq_ids": (3,)},
    "speculation": TKG_SHAPES | dict.fromkeys(("input_ids", "position_ids", "slot_mapping"), (3, 4)),
    "flat-cache": TKG_SHAPES | {"active_block_table": (1,)},
    "fused-draft-target": TKG_SHAPES | {"slot_mapping": (3, 4)},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_inputs(variant: str) -> None:
    decoder = build_decoder("tiny", variant, batch=3, bucket=64)
    inputs = decoder.example_inputs()
    assert {name: tuple(t.shape) for name, t in zip(decoder.input_names, inputs, strict=True)} == SHAPES[variant]
    assert {(t.dtype, t.device.type) for t in inputs} == {(torch.int32, "meta")}


def test_layers_and_dtype_override_the_preset() -> None:
    decoder = build_decoder("llama-3.2-1b", layers=2, dtype=torch.float32)
    assert len(decoder.layers) == 2
    assert {p.dtype for p in decoder.parameters()} == {torch.float32}


def test_a_config_is_as_good_as_a_preset() -> None:
    config = dataclasses.replace(PRESETS["tiny"], vocab_size=11)
    assert build_decoder(config).embed_tokens.weight.shape == (11, 64)


def test_allocated_decoder_starts_at_zero() -> None:
    decoder = build_decoder("tiny", device="cpu")
    assert not any(p.any() for p in decoder.parameters())
    assert not decoder.training


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"preset": "llama-4"}, "unknown model preset 'llama-4': choose one of tiny, llama-3.2-1b, "),
        ({"variant": "fast"}, "unknown model variant 'fast': choose one of base, hand-edited, "),
        ({"bucket": 100}, "bucket 100 is not a positive multiple of the block size 8 tokens"),
        ({"bucket": 0}, "bucket 0 is not a positive multiple"),
        ({"batch": 0}, "batch must be at least 1, not 0"),
        ({"layers": -1}, "decoder config: layers must be at least 1, not -1"),
        ({"dtype": torch.int32}, "decoder config: dtype torch.int32 is not a floating-point type"),
        ({"device": "abacus"}, "the decoder cannot be allocated on device 'abacus': "),
    ],
)
def test_what_cannot_be_built_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(DeadkvError) as refusal:
        build_decoder(**{"preset": "tiny"} | arguments)
    assert str(refusal.value).startswith(message)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"kv_heads": 3}, "q_heads 4 is not a multiple of kv_heads 3"),
        ({"head_dim": 15}, "head_dim 15 must be even"),
        ({"vocab_size": 0}, "vocab_size must be at least 1"),
    ],
)
def test_impossible_dimensions_are_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(DeadkvError, match=message):
        dataclasses.replace(PRESETS["tiny"], **change)


@pytest.mark.parametrize(
    "flags, message",
    [
        ({"block_tkg": False, "source_edit": True}, "model variant: source_edit needs block_tkg"),
        ({"block_tkg": False, "kernel_updates_cache": True}, "kernel_updates_cache needs block_tkg"),
        ({"phase": "cte"}, "block_tkg needs token_generation"),
        ({"block_tkg": False, "prefix": False}, "token_generation needs prefix or flat_layout"),
        ({"seq_ids_mask": True}, "seq_ids_mask needs kernel_updates_cache"),
        ({"block_tkg": False, "opaque_past": True}, "opaque_past needs block_tkg"),
        ({"layout": "tiled"}, "block_tkg needs block_layout or flat_layout"),
        ({"layout": "flat"}, "flat_layout excludes prefix"),
        ({"layout": "flat", "prefix": False, "kernel_updates_cache": True}, "kernel_updates_cache needs block_layout"),
        ({"layout": "flat", "prefix": False, "source_edit": True}, "source_edit needs prefix"),
        ({"layout": "tiled", "block_tkg": False, "quantized_cache": True}, "quantized_cache needs block_layout"),
        ({"phase": "cte", "block_tkg": False, "active_tokens": 2}, "speculation needs token_generation"),
        ({"active_tokens": 9}, "active_tokens is 1 to 8, not 9"),
        ({"active_tokens": 0}, "active_tokens is 1 to 8, not 0"),
        ({"sliding_window": 0}, "sliding_window must be at least 1, not 0"),
        ({"full_attention_every": 2}, "full_attention_every needs sliding_window"),
    ],
)
def test_contradictory_flags_are_refused(flags: dict[str, object], message: str) -> None:
    with pytest.raises(DeadkvError, match=message):
        Variant(**flags)


def test_rope_scaling_bounds_are_ordered() -> None:
    with pytest.raises(DeadkvError, match="low_freq_factor"):
        RopeScaling(factor=8.0, low_freq_factor=4.0, high_freq_factor=4.0)


def test_configs_are_values() -> None:
    assert DecoderConfig(**vars(PRESETS["tiny"])) == PRESETS["tiny"]
    assert hash(PRESETS["tiny"]) == hash(DecoderConfig(**vars(PRESETS["tiny"])))
