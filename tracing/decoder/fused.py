"""Fused speculation: a small draft decoder proposes tokens and the target checks them, in one graph."""

import dataclasses

import torch
from torch import Tensor, nn

from tracing.decoder.config import DecoderConfig
from tracing.decoder.forward_inputs import DecoderInputs
from tracing.decoder.model import Decoder
from tracing.decoder.variants import Variant


def draft_config(config: DecoderConfig) -> DecoderConfig:
    """The draft of a target: the same dimensions, a quarter of the layers."""
    return dataclasses.replace(config, layers=max(1, config.layers // 4))


class FusedDecoder(Decoder):
    """The target, and in `draft` a decoder with weights and pools of its own (Leviathan et al., arXiv:2211.17192).

    As in NxDI both share the block table: a block has the same number in the pools of either. Both attention ops
    write their pools in place, so that each step of the draft reads what the step before has written. Checkpoints are
    loaded into each of `decoders()` by itself.
    """

    def __init__(self, config: DecoderConfig, variant: Variant, batch: int, bucket: int) -> None:
        super().__init__(config, variant, batch, bucket)
        one_token = dataclasses.replace(variant, active_tokens=1, fused_draft=False)
        self.draft = Decoder(draft_config(config), one_token, batch, bucket)

    def forward(  # type: ignore[override]  # takes fewer inputs
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        position_ids: Tensor,
        slot_mapping: Tensor,
        active_block_table: Tensor,
    ) -> list[Tensor]:
        """The candidates and what the target makes of them, each `[B, S]` int32, then the draft's and its own pools.

        S is `variant.active_tokens`. Candidate 0 is the given token, the others are the draft's greedy choices; token
        i of the target is its greedy choice after candidates 0 to i. The caller accepts the longest run that agrees.
        input_ids, position_ids: `[B, 1]`. slot_mapping: `[B, S]`. The others are as in `Decoder.forward`.
        """
        candidates, positions, mask = [input_ids], [position_ids], attention_mask
        for index in range(self.variant.active_tokens):
            token, position, slot = candidates[-1], positions[-1], slot_mapping.narrow(1, index, 1)
            logits, *draft_pools = self.draft.decode(DecoderInputs(token, mask, position, slot, active_block_table))
            mask = mask.scatter(1, position.to(torch.int64), 1)
            candidates.append(_greedy(logits))
            positions.append(position + 1)
        # The last proposal is not checked: that step of the draft is there to cache the candidate before it.
        proposed, places = torch.cat(candidates[:-1], dim=1), torch.cat(positions[:-1], dim=1)
        inputs = DecoderInputs(proposed, attention_mask, places, slot_mapping, active_block_table)
        logits, *pools = self.decode(inputs)
        return [proposed, _greedy(logits), *draft_pools, *pools]

    def decoders(self) -> list[Decoder]:
        """The target, then the draft."""
        return [self, self.draft]

    def aliases(self) -> dict[nn.Parameter, int]:
        """Which output replaces which pool: the draft's come first, after the two outputs of tokens."""
        pools = [*self.draft.kv_mgr.past_key_values, *self.kv_mgr.past_key_values]
        return {pool: index for index, pool in enumerate(pools, start=2)}


def _greedy(logits: Tensor) -> Tensor:
    return logits.argmax(-1).to(torch.int32)
