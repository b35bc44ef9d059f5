"""The paged KV cache: pools of blocks, the gather of a prefix and the scatter of new tokens."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tracing.decoder.attention_reference import token_rows
from tracing.decoder.config import DecoderConfig
from tracing.decoder.variants import Variant

KeyValue = tuple[Tensor, Tensor]


class LayerCache(NamedTuple):
    """A layer's raw pools, its prefix in BHSD layout where it has one at hand, and the scales of quantized pools.

    gather: makes the prefix, where the layer itself has to.
    """

    pools: KeyValue
    past: KeyValue | None
    scales: KeyValue | None = None
    gather: Callable[[], KeyValue] | None = None


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


def scatter_or_drop(cache: Tensor, dim: int, index: Tensor, values: Tensor) -> Tensor:
    """`cache` with `values` at `index` along `dim`; the index one past the end writes nothing."""
    extended = torch.cat([cache, cache.narrow(dim, 0, 1)], dim)
    return torch.scatter(extended, dim, index, values).narrow(dim, 0, cache.shape[dim])


class KVCacheManager(nn.Module, ABC):
    """Owns each layer's K and V cache, `past_key_values.{2l}` and `past_key_values.{2l + 1}`, of one shape."""

    def __init__(self, config: DecoderConfig, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        super().__init__()
        self.config = config
        self.past_key_values = nn.ParameterList(
            nn.Parameter(torch.empty(shape, dtype=dtype), requires_grad=False) for _ in range(2 * config.layers)
        )

    def pools(self) -> list[KeyValue]:
        """Each layer's raw K and V pool."""
        return in_pairs(list(self.past_key_values))

    def reset_constants(self) -> None:
        """Fill what is neither a weight nor a cache, after allocation."""

    @abstractmethod
    def layer_caches(self, active_block_table: Tensor, variant: Variant) -> list[LayerCache]:
        """What each layer is given; its prefix is gathered here if the variant says so."""

    @abstractmethod
    def update_cache(self, new_key_values: list[KeyValue], slots: Tensor) -> list[Tensor]:
        """The pools with the new tokens in them, in pool order; the pools themselves stay as they are.

        new_key_values: each layer's new K and V, `[B, kv_heads, S, head_dim]`.
        slots: `[B, S]` integer, where each token goes; -1 for a token that is not stored.
        """


def in_pairs(tensors: list[Tensor]) -> list[KeyValue]:
    """Each layer's K and V out of K0, V0, K1, V1, ..."""
    return list(zip(tensors[::2], tensors[1::2], strict=True))


class BlockKVCacheManager(KVCacheManager):
    """Pools of blocks, `[num_blocks + 1, block_size, kv_heads, head_dim]`, shared by all sequences.

    The last block of a pool is reserved: tokens without a slot are written there. Slots are flat,
    `block * block_size + offset`.
    """

    def __init__(self, config: DecoderConfig, num_blocks: int, blocks_per_sequence: int) -> None:
        self.num_blocks, self.blocks_per_sequence = num_blocks, blocks_per_sequence
        super().__init__(config, self._shape(config), self._dtype(config))

    def layer_caches(self, active_block_table: Tensor, variant: Variant) -> list[LayerCache]:
        """What each layer is given. active_block_table: `[B, blocks]`, or rank 1 without prefix."""
        gathers = [
            partial(self._prefix, layer, active_block_table) if variant.materializes(layer) else None
            for layer in range(self.config.layers)
        ]
        if variant.marked:
            return [LayerCache(pools, None, gather=gather) for pools, gather in zip(self.pools(), gathers, strict=True)]
        past = [None if gather is None else gather() for gather in gathers]
        return [LayerCache(pools, prefix) for pools, prefix in zip(self.pools(), past, strict=True)]

    def update_cache(self, new_key_values: list[KeyValue], slots: Tensor) -> list[Tensor]:
        """The pools with the new tokens in them, in pool order."""
        reserved_slot = self.num_blocks * self.config.block_size
        target = slots.masked_fill(slots < 0, reserved_slot).reshape(-1, 1).to(torch.int64)
        index = target.expand(-1, self.config.kv_heads * self.config.head_dim)
        new = [tensor for key_value in new_key_values for tensor in key_value]
        return [self._scatter(pool, index, bhsd) for pool, bhsd in zip(self.past_key_values, new, strict=True)]

    def _prefix(self, layer: int, active_block_table: Tensor) -> KeyValue:
        key = self._gather(self._readable(2 * layer), active_block_table)
        value = self._gather(self._readable(2 * layer + 1), active_block_table)
        return key, value

    def _readable(self, index: int) -> Tensor:
        """A pool in the dtype of the model."""
        pool: Tensor = self.past_key_values[index]
        return pool

    def _shape(self, config: DecoderConfig) -> tuple[int, ...]:
        return (self.num_blocks + 1, config.block_size, config.kv_heads, config.head_dim)

    def _dtype(self, config: DecoderConfig) -> torch.dtype:
        return config.dtype

    def _gather(self, cache: Tensor, active_block_table: Tensor) -> Tensor:
        """A pool's prefix of each sequence, `[B, kv_heads, blocks * block_size, head_dim]`."""
        indices = active_block_table.reshape(-1)
        blocks = cache.index_select(0, indices)
        sequences = blocks.reshape(active_block_table.shape[0], -1, *cache.shape[2:])
        return sequences.permute(0, 2, 1, 3)

    def _scatter(self, cache: Tensor, index: Tensor, bhsd: Tensor) -> Tensor:
        """`cache` with one row for each token, written at the rows that `index` names."""
        flat = cache.reshape(-1, index.shape[1])
        return torch.scatter(flat, 0, index, token_rows(bhsd)).reshape(cache.shape)
