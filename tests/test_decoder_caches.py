"""What each kind of cache holds and computes, against the block cache: same step, same logits, same stored tokens."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from passes.errors import DeadkvError
from tracing.decoder import (
    PRESETS,
    VARIANTS,
    Decoder,
    Variant,
    build_decoder,
    random_caches,
    random_inputs,
    random_weights,
)
from tracing.decoder.quantization import dequantize, quantize

BATCH, BUCKET = 3, 64
BLOCK = PRESETS["tiny"].block_size
BLOCKS = BATCH * BUCKET // BLOCK

Inputs = dict[str, Tensor]


def make(variant: str | Variant) -> Decoder:
    decoder = build_decoder("tiny", variant, batch=BATCH, bucket=BUCKET, device="cpu")
    random_weights(decoder, seed=0)
    random_caches(decoder, seed=1)
    return decoder


def inputs_of(decoder: Decoder, *, padded: bool = False) -> Inputs:
    return dict(zip(decoder.input_names, random_inputs(decoder, 2, padded=padded), strict=True))


def fill(decoder: Decoder, pools: list[Tensor]) -> None:
    """Write other values into the decoder's pools."""
    for pool, values in zip(decoder.aliases(), pools, strict=True):
        pool.copy_(values)


def close(actual: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(actual, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("speculating", ["speculation", Variant(active_tokens=8, kernel_updates_cache=True)])
def test_speculation_is_single_steps_one_after_another(speculating: str | Variant) -> None:
    many, one = make(speculating), make("base")
    inputs = inputs_of(many)
    logits, *caches = many(**inputs)
    for token in range(many.variant.active_tokens):
        names = ("input_ids", "position_ids", "slot_mapping")
        step = inputs | {name: inputs[name][:, token : token + 1] for name in names}
        step["attention_mask"] = (torch.arange(BUCKET) < step["position_ids"]).to(torch.int32)
        single, *pools = one(**step)
        close(logits[:, token : token + 1], single)
        fill(one, pools)
    for cache, pool in zip(caches, one.aliases(), strict=True):
        close(cache, pool)


def test_seq_id_mask_leaves_idle_rows_unwritten() -> None:
    masked, plain = make("seq-id-mask"), make("cache-update")
    inputs = inputs_of(masked)
    inputs["seq_ids"][1] = -1
    slots = {"slot_mapping": inputs["slot_mapping"].clone()}
    slots["slot_mapping"][1] = -1
    wanted = plain(**{name: inputs[name] for name in plain.input_names} | slots)
    for actual, expected in zip(masked(**inputs), wanted, strict=True):
        assert torch.equal(actual, expected)


def test_seq_id_mask_with_all_rows_active_is_the_plain_update() -> None:
    masked, plain = make("seq-id-mask"), make("cache-update")
    inputs = inputs_of(masked)
    for actual, wanted in zip(masked(**inputs), plain(**{n: inputs[n] for n in plain.input_names}), strict=True):
        assert torch.equal(actual, wanted)


def test_a_tiled_pool_is_the_block_pool_in_tiles() -> None:
    tiled, base = make("tiled"), make("no-block-tkg")
    assert {tuple(pool.shape) for pool in tiled.aliases()} == {(BLOCKS + 1, 8, 1, 2, 16)}
    fill(tiled, [pool.view(BLOCKS + 1, 8, 1, 2, 16) for pool in base.aliases()])
    inputs = inputs_of(base, padded=True)
    logits, *caches = base(**inputs)
    tiled_logits, *tiled_caches = tiled(**inputs)
    assert torch.equal(tiled_logits, logits)
    for actual, wanted in zip(tiled_caches, caches, strict=True):
        assert torch.equal(actual.flatten(1, 2), wanted)


@pytest.mark.parametrize(
    "bucket, tiles", [(32, 32), (256, 16), (1024, 4), (2048, 2), (4096, 1), (8192, 1), (96, 32), (224, 32)]
)
def test_blocks_are_tiled_until_a_sequence_gathers_128_rows(bucket: int, tiles: int) -> None:
    decoder = build_decoder("llama-3.2-1b", "tiled", layers=1, batch=1, bucket=bucket)
    pool = next(iter(decoder.aliases()))
    assert pool.shape == (bucket // 32 + 1, tiles, 32 // tiles, 8, 64)


def calibrated(decoder: Decoder) -> Decoder:
    """With another scale for each pool, and pools that hold what these scales make of noise."""
    generator = torch.Generator().manual_seed(4)
    for pool, scale in zip(decoder.aliases(), decoder.kv_mgr.scales, strict=True):
        scale.copy_(8.0 + 50 * torch.rand(1, 1, generator=generator))
        pool.copy_(quantize(torch.randn(pool.shape, generator=generator), scale))
    return decoder


@pytest.mark.parametrize("plain", ["base", "cache-update", "no-block-tkg"])
def test_float8_pools_compute_what_their_dequantized_values_do(plain: str) -> None:
    float8 = calibrated(make(dataclasses.replace(VARIANTS[plain], quantized_cache=True)))
    base = make(plain)
    scales = list(float8.kv_mgr.scales)
    fill(base, [dequantize(p, s, torch.float32) for p, s in zip(float8.aliases(), scales, strict=True)])
    old = [pool.clone() for pool in float8.aliases()]
    inputs = inputs_of(base)
    slots = inputs["slot_mapping"].flatten().long()
    logits, *caches = base(**inputs)
    float8_logits, *float8_caches = float8(**inputs)
    close(float8_logits, logits)
    for actual, wanted, before, scale in zip(float8_caches, caches, old, scales, strict=True):
        assert actual.dtype == torch.float8_e4m3fn
        stored = quantize(wanted, scale).float().flatten(0, 1)
        torch.testing.assert_close(actual.float().flatten(0, 1)[slots], stored[slots], rtol=2**-3, atol=2**-8)
        changed = (actual.float() != before.float()).flatten(2).any(2).flatten().nonzero().flatten()
        assert changed.tolist() == sorted(slots.tolist())


def test_float8_scales_are_one_until_calibrated() -> None:
    decoder = build_decoder("tiny", "fp8", device="cpu")
    assert [scale.item() for scale in decoder.kv_mgr.scales] == [1.0] * 4


def test_chunked_prefill_blocks_have_their_heads_outside_and_no_reserved_block() -> None:
    chunked, base = make("chunked-prefill"), make("cte-prefix")
    assert {tuple(pool.shape) for pool in chunked.aliases()} == {(BLOCKS, 2, BLOCK, 16)}
    fill(chunked, [pool[:-1].transpose(1, 2) for pool in base.aliases()])
    inputs = inputs_of(base, padded=True)
    assert (inputs["slot_mapping"] < 0).any()
    logits, *caches = base(**inputs)
    chunked_logits, *chunked_caches = chunked(**inputs)
    assert torch.equal(chunked_logits, logits)
    for actual, wanted in zip(chunked_caches, caches, strict=True):
        assert torch.equal(actual.transpose(1, 2), wanted[:-1])


@pytest.mark.parametrize("flags", [{}, {"active_tokens": 4}, {"block_tkg": False}], ids=["tkg", "speculation", "torch"])
def test_a_flat_cache_is_each_sequence_s_gathered_prefix(flags: dict[str, object]) -> None:
    flat = make(dataclasses.replace(VARIANTS["flat-cache"], **flags))
    base = make(dataclasses.replace(VARIANTS["base"], **flags))
    inputs = inputs_of(base)
    table, positions = inputs["active_block_table"], inputs["position_ids"]

    def rows(pool: Tensor) -> Tensor:
        return pool[table.long()].flatten(1, 2).transpose(1, 2)

    fill(flat, [rows(pool) for pool in base.aliases()])
    inputs["slot_mapping"][1] = -1
    before = [pool.clone() for pool in flat.aliases()]
    logits, *caches = base(**inputs)
    flat_logits, *flat_caches = flat(**inputs | {"active_block_table": torch.zeros(1, dtype=torch.int32)})
    close(flat_logits, logits)
    for actual, wanted, old in zip(flat_caches, caches, before, strict=True):
        close(actual, rows(wanted))
        written = (actual != old).any(3).any(1)
        assert torch.equal(written[[0, 2]].nonzero()[:, 1], positions[[0, 2]].flatten())
        assert not written[1].any()


def test_context_encoding_fills_a_flat_cache() -> None:
    flat = make(Variant(phase="cte", block_tkg=False, prefix=False, layout="flat"))
    base = make("cte")
    inputs = inputs_of(flat, padded=True)
    logits, *caches = base(**inputs)
    flat_logits, *flat_caches = flat(**inputs)
    assert torch.equal(flat_logits, logits)
    real = (inputs["slot_mapping"] >= 0).unsqueeze(1).unsqueeze(-1)
    for actual, wanted, old in zip(flat_caches, caches, flat.aliases(), strict=True):
        rows = wanted[:-1].reshape(BATCH, BUCKET, 2, 16).transpose(1, 2)
        assert torch.equal(actual, torch.where(real, rows, old))


def test_an_opaque_past_changes_nothing() -> None:
    opaque, base = make("opaque-past"), make("base")
    inputs = inputs_of(base)
    for actual, wanted in zip(opaque(**inputs), base(**inputs), strict=True):
        assert torch.equal(actual, wanted)


@pytest.mark.parametrize("variant", [Variant(sliding_window=12), Variant(sliding_window=12, full_attention_every=2)])
def test_a_windowed_layer_does_not_see_beyond_its_window(variant: Variant) -> None:
    """Each token before the window is changed in the pools of each layer in turn: only a full layer's output moves."""
    decoder = make(variant)
    inputs = inputs_of(decoder)
    logits = decoder(**inputs)[0]
    rows = inputs["active_block_table"].long()
    for layer, pools in enumerate(decoder.kv_mgr.pools()):
        for distance, seen in ((12, not variant.windowed(layer)), (11, True)):
            positions = (inputs["position_ids"] - distance).long()
            assert (positions >= 0).all()
            slots = (rows.gather(1, positions // BLOCK), positions % BLOCK)
            saved = [pool.clone() for pool in pools]
            for pool in pools:
                pool[slots] += 1
            assert torch.equal(decoder(**inputs)[0], logits) is not seen
            for pool, old in zip(pools, saved, strict=True):
                pool.copy_(old)


def test_a_missing_seq_id_is_named() -> None:
    decoder = make("seq-id-mask")
    inputs = inputs_of(decoder)
    with pytest.raises(DeadkvError, match="needs the input seq_ids"):
        decoder(**inputs | {"seq_ids": None})
