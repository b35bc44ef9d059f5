"""Stand-ins for NxD Inference: `ModelWrapper` and `DecoderModelInstance`, over the reference decoder.

As the real ones (models/model_wrapper.py): the module is made once a tag, `get` sets the bucket on it and makes the
aliases anew, and the wrapper makes an instance when the builder is made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tests.support.fakes.neuronx_distributed import BaseModelInstance
from tracing.decoder import build_decoder, random_caches, random_inputs, random_weights


class NeuronDecoder(nn.Module):
    """A decoder whose bucket, in tokens, is an attribute that `forward` reads."""

    def __init__(self, variant: str, longest: int) -> None:
        super().__init__()
        device = torch.get_default_device().type  # meta where NxD shards
        decoder = build_decoder("tiny", variant, batch=2, bucket=longest, device=device)
        if device != "meta":
            random_weights(decoder, 0)
            random_caches(decoder, 1)
        self.decoder = decoder
        self.n_positions = 0

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        position_ids: Tensor,
        slot_mapping: Tensor,
        active_block_table: Tensor,
    ) -> list[Tensor]:
        blocks = self.n_positions // self.decoder.config.block_size
        mask, table = attention_mask[:, : self.n_positions], active_block_table[:, :blocks]
        outputs: list[Tensor] = self.decoder(input_ids, mask, position_ids, slot_mapping, table)
        return outputs


class DecoderModelInstance(BaseModelInstance):
    """As NxDI's: `get` sets `n_positions` on the module and makes the aliases anew."""

    def __init__(self, variant: str, buckets: Sequence[int]) -> None:
        super().__init__(lambda: NeuronDecoder(variant, max(buckets)).requires_grad_(False), {})
        self.buckets = tuple(buckets)

    def get(self, bucket_rank: int | None, **kwargs: Any) -> tuple[nn.Module, Mapping[Any, int]]:
        self.module.n_positions = self.buckets[bucket_rank or 0]
        pools = self.module.decoder.kv_mgr.past_key_values
        self.input_output_aliases = {pools[index]: 1 + index for index in range(len(pools))}
        return self.module, self.input_output_aliases


class ModelWrapper:
    """A submodel by its tag, with the buckets it is compiled for."""

    def __init__(self, tag: str, variant: str, buckets: Sequence[int]) -> None:
        self.tag, self.variant, self.buckets = tag, variant, tuple(buckets)

    def get_model_instance(self) -> BaseModelInstance:
        return DecoderModelInstance(self.variant, self.buckets)

    def input_generator(self) -> list[tuple[Tensor, ...]]:
        """Example inputs, one tuple a bucket."""
        decoders = (build_decoder("tiny", self.variant, batch=2, bucket=bucket) for bucket in self.buckets)
        return [random_inputs(decoder, 3, padded=False) for decoder in decoders]


def weights(variant: str, longest: int) -> dict[str, torch.Tensor]:
    """A checkpoint with all weights of the module, and one that no module has."""
    module = NeuronDecoder(variant, longest)
    return {**module.state_dict(), "not.a.weight": torch.zeros(1)}
