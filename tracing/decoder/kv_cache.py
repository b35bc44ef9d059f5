"""The paged KV cache: pools of blocks, the gather of a prefix and the scatter of new tokens."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from tracing.decoder.attention_reference import token_rows
from tracing.decoder.config import DecoderConfig

KeyValue = tuple[Tensor, Tensor]


class LayerCache(NamedTuple):
    """A layer's raw pools, and its prefix in BHSD layout where that was gathered before the layers."""

    pools: KeyValue
    past: KeyValue | None


def token_generation_slots(
    position_ids: Tensor, slot_mapping: Tensor, active_block_table: Tensor, block_size: int
) -> Tensor:
    """Flat slots of the tokens being generated, from where the block table puts their positions.

    All integer: position_ids and slot_mapping `[B, S]`, active_block_table `[B, blocks]`; the result is
    `[B, S]` in the table's dtype. A slot that slot_mapping gives as -1 stays -1.
    """
    column = (position_ids // block_size).to(torch.int64)
    slots = active_block_table.gather(1, column) * block_size + position_ids % block_size
    return slots.masked_fill(slot_mapping < 0, -1)


class BlockKVCacheManager(nn.Module):
    """Owns each layer's K and V pool, `[num_blocks + 1, block_size, kv_heads, head_dim]`, K before V.

    The last block of a pool is reserved: tokens without a slot are written there.
    """

    def __init__(self, config: DecoderConfig, num_blocks: int) -> None:
        super().__init__()
        shape = (num_blocks + 1, config.block_size, config.kv_heads, config.head_dim)
        self.reserved_slot = num_blocks * config.block_size
        self.past_key_values = nn.ParameterList(
            nn.Parameter(torch.empty(shape, dtype=config.dtype), requires_grad=False) for _ in range(2 * config.layers)
        )

    def pools(self) -> list[KeyValue]:
        """Each layer's raw K and V pool."""
        pools = list(self.past_key_values)
        return list(zip(pools[::2], pools[1::2], strict=True))

    def get_cache(self, active_block_table: Tensor) -> list[KeyValue]:
        """Each layer's prefix in BHSD layout, gathered by `active_block_table [B, blocks]`."""
        return [
            (self._gather(key, active_block_table), self._gather(value, active_block_table))
            for key, value in self.pools()
        ]

    def update_cache(self, new_key_values: list[KeyValue], slots: Tensor) -> list[Tensor]:
        """The pools with the new tokens in them, in pool order; the pools themselves stay as they are.

        new_key_values: each layer's new K and V, `[B, kv_heads, S, head_dim]`.
        slots: `[B, S]` integer flat slots, -1 for a token that goes to the reserved block.
        """
        target = slots.masked_fill(slots < 0, self.reserved_slot).reshape(-1, 1).to(torch.int64)
        width = self.past_key_values[0].shape[2:].numel()
        index = target.expand(-1, width)
        new = [tensor for key_value in new_key_values for tensor in key_value]
        return [self._scatter(pool, index, bhsd) for pool, bhsd in zip(self.past_key_values, new, strict=True)]

    @staticmethod
    def _gather(cache: Tensor, active_block_table: Tensor) -> Tensor:
        indices = active_block_table.reshape(-1)
        blocks = cache.index_select(0, indices)
        sequences = blocks.reshape(active_block_table.shape[0], -1, *cache.shape[2:])
        return sequences.permute(0, 2, 1, 3)

    @staticmethod
    def _scatter(cache: Tensor, index: Tensor, bhsd: Tensor) -> Tensor:
        flat = cache.reshape(-1, index.shape[1])
        return torch.scatter(flat, 0, index, token_rows(bhsd)).reshape(cache.shape)
