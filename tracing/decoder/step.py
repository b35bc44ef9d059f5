"""What the layers of one step share, computed once: cosines and sines, the mask and the slots."""

from typing import NamedTuple

import torch
from torch import Tensor

from passes.errors import DeadkvError
from tracing.decoder.config import DecoderConfig
from tracing.decoder.kv_cache import token_generation_slots
from tracing.decoder.variants import Variant


class DecoderInputs(NamedTuple):
    """The decoder's forward arguments, by name (shapes in `Decoder.forward`)."""

    input_ids: Tensor
    attention_mask: Tensor
    position_ids: Tensor
    slot_mapping: Tensor
    active_block_table: Tensor
    num_queries: Tensor | None = None
    computed_context_lens: Tensor | None = None


class Step(NamedTuple):
    """Per-step tensors. T = keys a query may see.

    Block TKG: cos, sin `[head_dim / 2, B, S]`, mask `[S_ctx, B, q_heads, S]`.
    Otherwise: cos, sin `[B, 1, S, head_dim / 2]`, mask `[B, 1, 1, S, T]`.
    slots `[B, S]` integer, block_table as given.
    """

    cos: Tensor
    sin: Tensor
    mask: Tensor
    slots: Tensor
    block_table: Tensor


def prepare_step(config: DecoderConfig, variant: Variant, inputs: DecoderInputs, cos: Tensor, sin: Tensor) -> Step:
    """Lay out cos and sin `[B, S, head_dim / 2]`, and build mask and slots."""
    mask = _key_mask(variant, inputs)
    slots = _slots(config, variant, inputs)
    if variant.block_tkg:
        cos, sin = cos.permute(2, 0, 1), sin.permute(2, 0, 1)
        mask = mask.permute(2, 0, 1).unsqueeze(2).expand(-1, -1, config.q_heads, -1)
    else:
        cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
        mask = mask.unsqueeze(1).unsqueeze(1)
    return Step(cos, sin, mask, slots, inputs.active_block_table)


def _slots(config: DecoderConfig, variant: Variant, inputs: DecoderInputs) -> Tensor:
    if not variant.token_generation:
        return inputs.slot_mapping
    return token_generation_slots(
        inputs.position_ids, inputs.slot_mapping, inputs.active_block_table, config.block_size
    )


def _key_mask(variant: Variant, inputs: DecoderInputs) -> Tensor:
    """Which keys each query sees, `[B, S, T]` boolean: the cached ones, then the new ones in causal order."""
    positions = inputs.position_ids
    causal = positions.unsqueeze(1) <= positions.unsqueeze(2)
    if not variant.prefix:
        return causal & inputs.attention_mask.to(torch.bool).unsqueeze(1)
    cached = _cached_mask(variant, inputs).unsqueeze(1).expand(-1, positions.shape[1], -1)
    return torch.cat([cached, causal], dim=-1)


def _cached_mask(variant: Variant, inputs: DecoderInputs) -> Tensor:
    cached = inputs.attention_mask.to(torch.bool)
    if variant.block_tkg:
        return cached[:, : -inputs.position_ids.shape[1]]
    if variant.token_generation:
        return cached
    computed = needed(inputs.computed_context_lens, "computed_context_lens")
    return cached & (inputs.attention_mask.cumsum(1, dtype=torch.int32) <= computed)


def needed(tensor: Tensor | None, name: str) -> Tensor:
    """The tensor, or DeadkvError where the caller left out an input that the variant reads."""
    if tensor is None:
        raise DeadkvError(f"this decoder variant needs the input {name}: pass all of Decoder.input_names")
    return tensor
