"""Other layouts of a KV cache: tiled blocks, the blocks of chunked prefill, and one contiguous row a sequence."""

import torch
from torch import Tensor

from tracing.decoder.attention_reference import token_rows
from tracing.decoder.config import DecoderConfig
from tracing.decoder.kv_cache import (
    BlockKVCacheManager,
    KeyValue,
    KVCacheManager,
    LayerCache,
    scatter_or_drop,
)
from tracing.decoder.variants import Variant

MIN_GATHERED_ROWS = 128
"""Rows that NxDI's gather of one sequence has at least: it tiles the blocks of a pool where there are fewer."""


class TiledKVCacheManager(BlockKVCacheManager):
    """Blocks cut into tiles, `[num_blocks + 1, tiles, block_size / tiles, kv_heads, head_dim]`, gathered by tile."""

    tile_offsets: Tensor

    def __init__(self, config: DecoderConfig, num_blocks: int, blocks_per_sequence: int) -> None:
        self.tiles = _tiles(config.block_size, blocks_per_sequence)
        super().__init__(config, num_blocks, blocks_per_sequence)
        # A buffer, since a tracer bakes the device into an arange.
        self.register_buffer("tile_offsets", torch.empty(self.tiles, dtype=torch.int32), persistent=False)

    def reset_constants(self) -> None:
        """Number the tiles of a block."""
        self.tile_offsets.copy_(torch.arange(self.tiles, device="cpu"))

    def _shape(self, config: DecoderConfig) -> tuple[int, ...]:
        tile = config.block_size // self.tiles
        return (self.num_blocks + 1, self.tiles, tile, config.kv_heads, config.head_dim)

    def _gather(self, cache: Tensor, active_block_table: Tensor) -> Tensor:
        first_tiles = active_block_table.reshape(-1, 1) * self.tiles
        tiles = cache.reshape(-1, *cache.shape[2:]).index_select(0, (first_tiles + self.tile_offsets).reshape(-1))
        return tiles.reshape(active_block_table.shape[0], -1, *cache.shape[3:]).permute(0, 2, 1, 3)


def _tiles(block_size: int, blocks: int) -> int:
    """How many tiles a block is cut into: as few as give MIN_GATHERED_ROWS rows, at most one a token."""
    divisors = (tiles for tiles in range(1, block_size + 1) if block_size % tiles == 0)
    return next((tiles for tiles in divisors if tiles * blocks >= MIN_GATHERED_ROWS), block_size)


class ChunkedPrefillKVCacheManager(BlockKVCacheManager):
    """Blocks with the heads outside, `[num_blocks, kv_heads, block_size, head_dim]`, and no reserved block."""

    def _shape(self, config: DecoderConfig) -> tuple[int, ...]:
        return (self.num_blocks, config.kv_heads, config.block_size, config.head_dim)

    def _gather(self, cache: Tensor, active_block_table: Tensor) -> Tensor:
        blocks = cache.index_select(0, active_block_table.reshape(-1))
        sequences = blocks.reshape(active_block_table.shape[0], -1, *cache.shape[1:])
        return sequences.permute(0, 2, 1, 3, 4).flatten(2, 3)

    def _scatter(self, cache: Tensor, index: Tensor, bhsd: Tensor) -> Tensor:
        by_token = cache.permute(0, 2, 1, 3)
        flat = by_token.reshape(-1, index.shape[1])
        written = scatter_or_drop(flat, 0, index, token_rows(bhsd))
        return written.reshape(by_token.shape).permute(0, 2, 1, 3).contiguous()


class FlatKVCacheManager(KVCacheManager):
    """One contiguous row for each sequence, `[batch, kv_heads, bucket, head_dim]`. Slots are positions in the row."""

    def __init__(self, config: DecoderConfig, batch: int, bucket: int) -> None:
        super().__init__(config, (batch, config.kv_heads, bucket, config.head_dim), config.dtype)
        self.bucket = bucket

    def layer_caches(self, active_block_table: Tensor, variant: Variant) -> list[LayerCache]:
        """What each layer is given: the cache itself is the prefix."""
        return [LayerCache(pair, pair if variant.reads_cache else None) for pair in self.pools()]

    def update_cache(self, new_key_values: list[KeyValue], slots: Tensor) -> list[Tensor]:
        """The caches with the new tokens in them, in order."""
        columns = slots.masked_fill(slots < 0, self.bucket).to(torch.int64).unsqueeze(1).unsqueeze(-1)
        index = columns.expand(-1, self.config.kv_heads, -1, self.config.head_dim)
        new = [tensor for key_value in new_key_values for tensor in key_value]
        pairs = zip(self.past_key_values, new, strict=True)
        return [scatter_or_drop(cache, 2, index, bhsd).contiguous() for cache, bhsd in pairs]
