"""Variants compute the same step, the cache is written where it should be, random inputs are consistent."""

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

BATCH, BUCKET = 3, 64
BLOCK = PRESETS["tiny"].block_size
SAME_STEP = ("base", "hand-edited", "cache-update", "no-block-tkg", "sliding-window", "opaque-past")
ALONE = [name for name, variant in VARIANTS.items() if variant.tensor_parallel == 1]  # one rank of several cannot run
CTE = [name for name, variant in VARIANTS.items() if not variant.token_generation]


def make(variant: str | Variant = "base", *, qk_norm: bool = False) -> Decoder:
    config = dataclasses.replace(PRESETS["tiny"], qk_norm=qk_norm)
    decoder = build_decoder(config, variant, batch=BATCH, bucket=BUCKET, device="cpu")
    random_weights(decoder, seed=0)
    random_caches(decoder, seed=1)
    return decoder


def named(decoder: Decoder, inputs: tuple[Tensor, ...]) -> dict[str, Tensor]:
    return dict(zip(decoder.input_names, inputs, strict=True))


@pytest.mark.parametrize("qk_norm", [False, True])
@pytest.mark.parametrize("variant", SAME_STEP)
def test_token_generation_variants_agree(variant: str, qk_norm: bool) -> None:
    base, other = make(qk_norm=qk_norm), make(variant, qk_norm=qk_norm)
    inputs = random_inputs(base, 2, padded=False)
    for actual, wanted in zip(other(*inputs), base(*inputs), strict=True):
        torch.testing.assert_close(actual, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("variant", ["base", "cache-update"])
def test_materialization_raises_on_a_padded_table_where_the_edited_source_runs(variant: str) -> None:
    decoder = make(variant)
    inputs = random_inputs(decoder, 2, padded=True)
    with pytest.raises(IndexError):
        decoder(*inputs)
    edited = make(dataclasses.replace(VARIANTS[variant], source_edit=True))
    logits, *_ = edited(*inputs)
    assert logits.isfinite().all()


def test_padding_does_not_change_the_result() -> None:
    """The same context under a table padded with -1 and under one filled up with other sequences' blocks."""
    decoder = make("hand-edited")
    inputs = named(decoder, random_inputs(decoder, 2, padded=True))
    table = inputs["active_block_table"]
    assert (table < 0).any(dim=1).all()
    filled = table.where(table >= 0, torch.arange(table.shape[1], dtype=torch.int32))
    for actual, wanted in zip(decoder(**inputs | {"active_block_table": filled}), decoder(**inputs), strict=True):
        torch.testing.assert_close(actual, wanted)


@pytest.mark.parametrize("variant", ["hand-edited", "no-block-tkg", "cte", "cte-prefix"])
def test_update_writes_the_new_slots_and_leaves_the_pools_alone(variant: str) -> None:
    decoder = make(variant)
    before = [pool.clone() for pool in decoder.aliases()]
    inputs = named(decoder, random_inputs(decoder, 3, padded=True))
    inputs["slot_mapping"][1] = -1
    _, *updated = decoder(**inputs)
    slots = inputs["slot_mapping"]
    reserved = BATCH * BUCKET
    for pool, old, new in zip(decoder.aliases(), before, updated, strict=True):
        assert torch.equal(pool, old)
        changed = (new != old).flatten(2).any(dim=2).flatten().nonzero().flatten().tolist()
        assert changed == sorted({*slots[slots >= 0].tolist(), reserved})


def test_in_kernel_update_writes_the_pools_and_returns_them() -> None:
    decoder = make("cache-update")
    before = [pool.clone() for pool in decoder.aliases()]
    inputs = named(decoder, random_inputs(decoder, 3, padded=False))
    inputs["slot_mapping"][1] = -1
    _, *updated = decoder(**inputs)
    kept = inputs["slot_mapping"].flatten()[[0, 2]].tolist()
    for pool, old, new in zip(decoder.aliases(), before, updated, strict=True):
        assert new is pool
        assert (new != old).flatten(2).any(dim=2).flatten().nonzero().flatten().tolist() == sorted(kept)


def test_token_generation_slots_come_from_the_table_and_not_from_the_slot_mapping() -> None:
    decoder = make("hand-edited")
    inputs = named(decoder, random_inputs(decoder, 3, padded=True))
    other = inputs | {"slot_mapping": torch.zeros_like(inputs["slot_mapping"])}
    for actual, wanted in zip(decoder(**other), decoder(**inputs), strict=True):
        assert torch.equal(actual, wanted)


def test_prefix_is_attended_to_only_as_far_as_it_is_computed() -> None:
    decoder = make("cte-prefix")
    inputs = named(decoder, random_inputs(decoder, 4, padded=True))
    inputs["computed_context_lens"].fill_(BLOCK)
    inputs["attention_mask"].fill_(1)
    blocks = inputs["active_block_table"].copy_(torch.arange(BATCH * BUCKET // BLOCK).reshape(BATCH, -1))
    logits, *_ = decoder(**inputs)
    for column, seen in ((0, True), (1, False)):
        changed = make("cte-prefix")
        for pool in changed.aliases():
            pool[blocks[:, column].long()] += 1
        assert torch.equal(changed(**inputs)[0], logits) is not seen


def test_context_encoding_keeps_its_empty_table_as_an_input() -> None:
    decoder = make("cte")
    inputs = named(decoder, random_inputs(decoder, 4, padded=True))
    other = inputs | {"active_block_table": torch.tensor([12345], dtype=torch.int32)}
    assert torch.equal(decoder(**other)[0], decoder(**inputs)[0])


@pytest.mark.parametrize("variant", CTE)
def test_padding_tokens_do_not_reach_the_logits(variant: str) -> None:
    decoder = make(variant)
    inputs = named(decoder, random_inputs(decoder, 5, padded=True))
    padding = torch.arange(BUCKET) >= inputs["num_queries"]
    assert padding.any()
    other = inputs | {"input_ids": inputs["input_ids"].masked_fill(padding, 0)}
    assert torch.equal(decoder(**other)[0], decoder(**inputs)[0])


@pytest.mark.parametrize("variant, missing", [("cte", "num_queries"), ("cte-prefix", "computed_context_lens")])
def test_a_missing_input_is_named(variant: str, missing: str) -> None:
    decoder = make(variant)
    inputs = named(decoder, random_inputs(decoder, 5, padded=True))
    del inputs[missing]
    with pytest.raises(DeadkvError, match=missing):
        decoder(**inputs)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("variant", [name for name, v in VARIANTS.items() if not v.fused_draft])
def test_random_inputs_are_consistent(variant: str, padded: bool) -> None:
    decoder = make(variant)
    values = random_inputs(decoder, 6, padded=padded)
    assert [(t.shape, t.dtype) for t in values] == [(t.shape, t.dtype) for t in decoder.example_inputs()]
    inputs = named(decoder, values)
    real = inputs["slot_mapping"] >= 0
    assert inputs["slot_mapping"][real].unique().numel() == real.sum()
    if not decoder.variant.reads_cache:
        assert torch.equal(inputs["attention_mask"].sum(1), real.sum(1))
        return
    context = inputs["attention_mask"].sum(1)
    assert torch.equal(inputs["position_ids"][:, 0], context)
    if not decoder.variant.prefix:
        assert torch.equal(inputs["slot_mapping"] // BUCKET, torch.arange(BATCH).unsqueeze(1))
        return
    table = inputs["active_block_table"]
    rows, columns = real.nonzero()[:, 0], (inputs["position_ids"] // BLOCK)[real]
    assert torch.equal(table[rows, columns], inputs["slot_mapping"][real] // BLOCK)
    used = torch.arange(table.shape[1]) < ((context + real.sum(1) + BLOCK - 1) // BLOCK).unsqueeze(1)
    assert table[used].unique().numel() == used.sum()
    assert (table[used] >= 0).all()
    if padded:
        assert (~used).any(dim=1).all()
        assert (table[~used] == decoder.variant.table_padding).all()
    else:
        assert table.unique().numel() == table.numel()


def test_random_inputs_are_ragged_and_follow_their_seed() -> None:
    decoder = make()
    first, again, other = (random_inputs(decoder, seed, padded=True) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    assert named(decoder, first)["position_ids"].unique().numel() > 1


@pytest.mark.parametrize("variant", ALONE)
@pytest.mark.parametrize("padded", [False, True])
def test_random_inputs_fit_a_bucket_of_one_block(variant: str, padded: bool) -> None:
    decoder = build_decoder("tiny", variant, batch=2, bucket=BLOCK, device="cpu")
    logits, *_ = decoder(*random_inputs(decoder, 0, padded=padded))
    assert logits.isfinite().all()


@pytest.mark.parametrize("variant", ALONE)
def test_example_inputs_run(variant: str) -> None:
    decoder = make(variant)
    logits, *_ = decoder(*decoder.example_inputs())
    assert logits.isfinite().all()


def test_bfloat16_runs_close_to_float32() -> None:
    """One token of a bfloat16 decoder against the float32 decoder with the same rounded weights and caches."""
    half = build_decoder("tiny", batch=BATCH, bucket=BUCKET, dtype=torch.bfloat16, device="cpu")
    random_weights(half, seed=0)
    random_caches(half, seed=1)
    wide = make()
    wide.load_state_dict(half.state_dict())
    inputs = random_inputs(half, 2, padded=False)
    logits, *caches = half(*inputs)
    wanted, *_ = wide(*inputs)
    assert logits.dtype == torch.float32
    assert {cache.dtype for cache in caches} == {torch.bfloat16}
    assert (logits - wanted).norm() / wanted.norm() < 0.05
