"""The layers as one scan: weights and pools are stacked along a leading layer dimension, the body is one layer."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._higher_order_ops.scan import scan, scan_op

from tracing.decoder.config import DecoderConfig
from tracing.decoder.kv_cache import KeyValue, KVCacheManager, LayerCache
from tracing.decoder.layer import DecoderLayer
from tracing.decoder.operands import flat_tensors
from tracing.decoder.step import Step
from tracing.decoder.variants import Variant


class StackedLayers(DecoderLayer):
    """One layer whose parameters have a leading dimension, `[layers, ...]`. Iterating gives the layers, as views."""

    def __init__(self, config: DecoderConfig, variant: Variant) -> None:
        super().__init__(config, variant, layer=0)
        self.config, self.variant = config, variant
        for name, parameter in list(self.named_parameters()):
            stack = torch.empty(config.layers, *parameter.shape, dtype=parameter.dtype)
            _set_parameter(self, name, stack)

    def __iter__(self) -> Iterator[DecoderLayer]:
        for index in range(self.config.layers):
            with torch.device("meta"):
                layer = DecoderLayer(self.config, self.variant, index)
            for name, stack in self.named_parameters():
                _set_parameter(layer, name, stack.detach()[index])
            yield layer


def _set_parameter(module: nn.Module, name: str, value: Tensor) -> None:
    owner, _, attribute = name.rpartition(".")
    setattr(module.get_submodule(owner), attribute, nn.Parameter(value, requires_grad=False))


class StackedKVCacheManager(KVCacheManager):
    """All layers' K blocks in one pool, all V blocks in another: `[layers, num_blocks + 1, block_size, heads, d]`.

    As in `BlockKVCacheManager`, the last block is reserved for tokens without a slot.
    """

    def __init__(self, config: DecoderConfig, num_blocks: int) -> None:
        self.layers, self.num_blocks = config.layers, num_blocks
        shape = (config.layers, num_blocks + 1, config.block_size, config.kv_heads, config.head_dim)
        super().__init__(dataclasses.replace(config, layers=1), shape, config.dtype)

    def layer_caches(self, active_block_table: Tensor, variant: Variant) -> list[LayerCache]:
        """The stacked pools and the stacked prefix, `[layers, B, kv_heads, S, d]`, as the cache of one layer."""
        (pools,) = self.pools()
        if not variant.materializes_prefix:
            return [LayerCache(pools, None)]
        key, value = (self._gather(pool, active_block_table) for pool in pools)
        return [LayerCache(pools, (key, value))]

    def update_cache(self, new_key_values: list[KeyValue], slots: Tensor) -> list[Tensor]:
        """The stacked pools with the new tokens, `[layers, B, kv_heads, S, d]` of K and of V, in them."""
        reserved_slot = self.num_blocks * self.config.block_size
        target = slots.masked_fill(slots < 0, reserved_slot).reshape(1, -1, 1).to(torch.int64)
        index = target.expand(self.layers, -1, self.config.kv_heads * self.config.head_dim)
        ((key, value),) = new_key_values
        return [self._scatter(pool, index, new) for pool, new in zip(self.past_key_values, (key, value), strict=True)]

    def _gather(self, pool: Tensor, active_block_table: Tensor) -> Tensor:
        blocks = pool.index_select(1, active_block_table.reshape(-1))
        sequences = blocks.reshape(self.layers, active_block_table.shape[0], -1, *pool.shape[3:])
        return sequences.permute(0, 1, 3, 2, 4)

    @staticmethod
    def _scatter(pool: Tensor, index: Tensor, new: Tensor) -> Tensor:
        rows = new.permute(0, 1, 3, 2, 4).reshape(index.shape)
        return torch.scatter(pool.reshape(pool.shape[0], -1, index.shape[2]), 1, index, rows).reshape(pool.shape)


def run_scan(
    layers: nn.Module, hidden: Tensor, step: Step, caches: Sequence[LayerCache]
) -> tuple[Tensor, list[KeyValue]]:
    """The hidden state `[B, S, H]` after all layers, and all layers' new K and V, `[layers, B, kv_heads, S, d]`."""
    (cache,) = caches
    stacked = (dict(layers.named_parameters()), cache.pools, cache.past or ())
    if torch.compiler.is_dynamo_compiling():
        out, (key, value) = scan(lambda carry, xs: _layer(layers, carry, step, xs), hidden, stacked)
    else:
        out, key, value = _scan_flat(layers, hidden, step, stacked)
    return out, [(key, value)]


def _scan_flat(layers: nn.Module, hidden: Tensor, step: Step, stacked: Any) -> Any:
    """The operator itself, since `scan` would first run Dynamo, whatever the tracer."""
    xs, unstacked = flat_tensors(stacked)
    shared, shared_step = flat_tensors(step)

    def body(carry: Tensor, *tensors: Tensor) -> list[Tensor]:
        slices, rest = tensors[: len(xs)], tensors[len(xs) :]
        out, (key, value) = _layer(layers, carry, shared_step(rest), unstacked(slices))
        return [out, key, value]

    return scan_op(body, [hidden], xs, tuple(shared))


def _layer(layers: nn.Module, hidden: Tensor, step: Step, slices: Any) -> tuple[Tensor, KeyValue]:
    weights, pools, past = slices
    out: tuple[Tensor, KeyValue] = torch.func.functional_call(
        layers, weights, (hidden, step, LayerCache(pools, past or None))
    )
    return out
