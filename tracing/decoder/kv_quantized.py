"""Pools that hold float8, as NxDI's KV-cache quantization and the block-TKG kernel keep them."""

import torch
from torch import Tensor, nn

from tracing.decoder.config import DecoderConfig
from tracing.decoder.kv_cache import BlockKVCacheManager, KeyValue, LayerCache, in_pairs
from tracing.decoder.quantization import FLOAT8, dequantize, quantize, raw_bytes
from tracing.decoder.variants import Variant


class QuantizedKVCacheManager(BlockKVCacheManager):
    """Pools of `float8_e4m3fn` and a scale for each, `scales.{2l}` and `scales.{2l + 1}`, `[1, 1]` float32.

    A pool holds what it stores times its scale. As in NxDI, the whole pool is dequantized before the gather.
    """

    def __init__(self, config: DecoderConfig, num_blocks: int, blocks_per_sequence: int) -> None:
        super().__init__(config, num_blocks, blocks_per_sequence)
        self.scales = nn.ParameterList(
            nn.Parameter(torch.empty(1, 1, dtype=torch.float32), requires_grad=False) for _ in self.past_key_values
        )

    def reset_constants(self) -> None:
        """Scale by one until calibrated."""
        for scale in self.scales:
            scale.fill_(1.0)

    def layer_caches(self, active_block_table: Tensor, variant: Variant) -> list[LayerCache]:
        """What each layer is given, scales included."""
        caches = super().layer_caches(active_block_table, variant)
        pairs = zip(caches, in_pairs(list(self.scales)), strict=True)
        return [cache._replace(scales=scales) for cache, scales in pairs]

    def update_cache(self, new_key_values: list[KeyValue], slots: Tensor) -> list[Tensor]:
        """The pools with the new tokens in them, quantized, in pool order."""
        pairs = zip(new_key_values, in_pairs(list(self.scales)), strict=True)
        stored = [(quantize(k, k_scale), quantize(v, v_scale)) for (k, v), (k_scale, v_scale) in pairs]
        return super().update_cache(stored, slots)

    def _readable(self, index: int) -> Tensor:
        return dequantize(self.past_key_values[index], self.scales[index], self.config.dtype)

    def _scatter(self, cache: Tensor, index: Tensor, bhsd: Tensor) -> Tensor:
        return super()._scatter(raw_bytes(cache), index, raw_bytes(bhsd)).view(cache.dtype)

    def _dtype(self, config: DecoderConfig) -> torch.dtype:
        return FLOAT8
