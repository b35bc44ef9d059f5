"""What the layers of one step share, computed once: cosines and sines, the mask and the slots."""

from typing import NamedTuple

from torch import Tensor

from tracing.decoder.config import DecoderConfig
from tracing.decoder.forward_inputs import DecoderInputs
from tracing.decoder.kv_cache import token_generation_slots
from tracing.decoder.masks import in_window, key_mask
from tracing.decoder.variants import Variant


class Step(NamedTuple):
    """Per-step tensors. T = keys a query may see.

    Block TKG: cos, sin `[head_dim / 2, B, S]`, mask `[S_ctx, B, q_heads, S]`.
    Otherwise: cos, sin `[B, 1, S, head_dim / 2]`, mask `[B, 1, 1, S, T]`.
    window_mask: the mask of windowed layers, laid out alike.
    slots `[B, S]` integer. positions, block_table, seq_ids: as given.
    """

    cos: Tensor
    sin: Tensor
    mask: Tensor
    window_mask: Tensor
    slots: Tensor
    positions: Tensor
    block_table: Tensor
    seq_ids: Tensor | None


def prepare_step(config: DecoderConfig, variant: Variant, inputs: DecoderInputs, cos: Tensor, sin: Tensor) -> Step:
    """Lay out cos and sin `[B, S, head_dim / 2]`, and build masks and slots."""
    seen = key_mask(variant, inputs)
    slots = _slots(config, variant, inputs)
    if variant.block_tkg:
        cos, sin = cos.permute(2, 0, 1), sin.permute(2, 0, 1)
    else:
        cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
    mask = window_mask = _laid_out(config, variant, seen)
    if variant.sliding_window is not None:
        window_mask = _laid_out(config, variant, seen & in_window(variant, inputs, variant.sliding_window))
    return Step(cos, sin, mask, window_mask, slots, inputs.position_ids, inputs.active_block_table, inputs.seq_ids)


def _laid_out(config: DecoderConfig, variant: Variant, mask: Tensor) -> Tensor:
    if variant.block_tkg:
        return mask.permute(2, 0, 1).unsqueeze(2).expand(-1, -1, config.q_heads, -1)
    return mask.unsqueeze(1).unsqueeze(1)


def _slots(config: DecoderConfig, variant: Variant, inputs: DecoderInputs) -> Tensor:
    """Where the new tokens go. As in NxDI, under speculation the caller has computed it."""
    if variant.flat_layout:
        return inputs.position_ids.masked_fill(inputs.slot_mapping < 0, -1)
    if variant.speculation or not variant.token_generation:
        return inputs.slot_mapping
    return token_generation_slots(
        inputs.position_ids, inputs.slot_mapping, inputs.active_block_table, config.block_size
    )
