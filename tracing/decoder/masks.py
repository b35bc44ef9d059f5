"""Which keys each query sees: the cached tokens, then the new ones in causal order, and of these a window."""

import torch
from torch import Tensor

from tracing.decoder.forward_inputs import DecoderInputs, needed
from tracing.decoder.variants import Variant


def key_mask(variant: Variant, inputs: DecoderInputs) -> Tensor:
    """Which keys each query sees, `[B, S, T]` boolean: the cached ones, then the new ones in causal order."""
    positions = inputs.position_ids
    causal = positions.unsqueeze(1) <= positions.unsqueeze(2)
    if not variant.reads_cache:
        return causal & inputs.attention_mask.to(torch.bool).unsqueeze(1)
    cached = _cached_mask(variant, inputs).unsqueeze(1).expand(-1, positions.shape[1], -1)
    return torch.cat([cached, causal], dim=-1)


def in_window(variant: Variant, inputs: DecoderInputs, window: int) -> Tensor:
    """Which keys are among the last `window` tokens up to each query, its own included, `[B, S, T]` boolean."""
    positions = inputs.position_ids
    keys = positions
    if variant.reads_cache:
        # The cached tokens fill the first columns, so a cached token's column is how many stand before it.
        columns = inputs.attention_mask.cumsum(1, dtype=torch.int32) - 1
        keys = torch.cat([_prior(variant, inputs, columns), positions], dim=-1)
    return keys.unsqueeze(1) > positions.unsqueeze(2) - window


def _cached_mask(variant: Variant, inputs: DecoderInputs) -> Tensor:
    cached = inputs.attention_mask.to(torch.bool)
    if variant.token_generation:
        return _prior(variant, inputs, cached)
    computed = needed(inputs.computed_context_lens, "computed_context_lens")
    return cached & (inputs.attention_mask.cumsum(1, dtype=torch.int32) <= computed)


def _prior(variant: Variant, inputs: DecoderInputs, columns: Tensor) -> Tensor:
    """`columns [B, bucket]` without the last S, in whose place the block-TKG op has the new tokens."""
    return columns[:, : -inputs.position_ids.shape[1]] if variant.block_tkg else columns
