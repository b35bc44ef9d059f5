"""A layer's attention, as the opaque block-TKG op or in plain torch; both hold the same weights."""

import torch
from torch import Tensor, nn

from tracing.decoder import attention_op as attention_op  # registers the op
from tracing.decoder.attention_reference import token_rows
from tracing.decoder.config import DecoderConfig
from tracing.decoder.forward_inputs import needed
from tracing.decoder.functional import grouped_query_attention, rotate, split_qkv
from tracing.decoder.kv_cache import KeyValue, LayerCache
from tracing.decoder.norm import RMSNorm
from tracing.decoder.step import Step
from tracing.decoder.variants import Variant


class Attention(nn.Module):
    """Weights in the layout of the op: W_qkv `[H, (q_heads + 2 * kv_heads) * d]`, W_out `[q_heads * d, H]`.

    Subclasses are called with the hidden state before its norm, `[B, S, H]`, the norm, the step and the layer's
    cache. They return the attention output `[B, S, H]` and the new K and V in BHSD, or None where the pools
    already hold them.
    """

    def __init__(self, config: DecoderConfig, variant: Variant, layer: int) -> None:
        super().__init__()
        width = config.head_dim * (config.q_heads + 2 * config.kv_heads)
        self.config, self.variant, self.windowed = config, variant, variant.windowed(layer)
        self.W_qkv = nn.Parameter(torch.empty(config.hidden_size, width, dtype=config.dtype))
        self.W_out = nn.Parameter(torch.empty(config.head_dim * config.q_heads, config.hidden_size, dtype=config.dtype))
        self.q_norm = RMSNorm(config.head_dim, config) if config.qk_norm else None
        self.k_norm = RMSNorm(config.head_dim, config) if config.qk_norm else None

    def _mask(self, step: Step) -> Tensor:
        return step.window_mask if self.windowed else step.mask


class TorchAttention(Attention):
    """Attention in plain torch over the materialized prefix, if any, and the new tokens."""

    def forward(self, hidden: Tensor, rmsnorm: RMSNorm, step: Step, cache: LayerCache) -> tuple[Tensor, KeyValue]:
        config = self.config
        qkv = torch.matmul(rmsnorm(hidden), self.W_qkv)
        q, k, v = split_qkv(qkv, config.q_heads, config.kv_heads)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k = rotate(q, step.cos, step.sin), rotate(k, step.cos, step.sin)
        keys, values = k, v
        if cache.past is not None:
            keys, values = torch.cat([cache.past[0], k], dim=2), torch.cat([cache.past[1], v], dim=2)
        attended = grouped_query_attention(q, keys, values, self._mask(step), config.head_dim**-0.5)
        return torch.matmul(token_rows(attended), self.W_out).reshape(hidden.shape), (k, v)


class BlockTkgAttention(Attention):
    """Attention by the functional block-TKG op, which reads the pools by the block table itself.

    As in NxDI, a windowed layer and one with a contiguous cache give it no table: it reads the prefix they hand it.
    """

    def forward(
        self, hidden: Tensor, rmsnorm: RMSNorm, step: Step, cache: LayerCache
    ) -> tuple[Tensor, KeyValue | None]:
        out, k, v = torch.ops.deadkv.attention_block_tkg.default(
            **self._operands(hidden, rmsnorm, step, cache), update_cache=False
        )
        return out.reshape(hidden.shape), (k.permute(1, 2, 3, 0), v)

    def _operands(
        self, hidden: Tensor, rmsnorm: RMSNorm, step: Step, cache: LayerCache
    ) -> dict[str, Tensor | float | None]:
        return {
            "X": hidden,
            "rmsnorm_X_enabled": True,
            "rmsnorm_X_eps": rmsnorm.eps,
            "rmsnorm_X_gamma": rmsnorm.weight,
            "W_qkv": self.W_qkv,
            "bias_qkv": None,
            "rmsnorm_QK_pre_rope_enabled": self.config.qk_norm,
            "rmsnorm_QK_pre_rope_eps": self.config.rms_norm_eps,
            "rmsnorm_QK_pre_rope_W_Q": None if self.q_norm is None else self.q_norm.weight,
            "rmsnorm_QK_pre_rope_W_K": None if self.k_norm is None else self.k_norm.weight,
            "cos": step.cos,
            "sin": step.sin,
            "active_blocks_table": None if self._reads_past else step.block_table,
            "K_cache": cache.pools[0],
            "V_cache": cache.pools[1],
            "attention_mask": self._mask(step),
            "kv_cache_update_idx": self._slots(step, cache),
            "W_out": self.W_out,
            "bias_out": None,
            **self._optional_operands(cache),
        }

    @property
    def _reads_past(self) -> bool:
        return self.windowed or self.variant.flat_layout

    def _optional_operands(self, cache: LayerCache) -> dict[str, Tensor]:
        """The prefix where the op reads it or the variant hands it over all the same, and the scales of the pools."""
        operands: dict[str, Tensor] = {}
        if cache.past is not None and (self._reads_past or self.variant.opaque_past):
            operands |= {"k_prior": cache.past[0], "v_prior": cache.past[1]}
        if cache.scales is not None:
            operands |= {"k_scale": cache.scales[0], "v_scale": cache.scales[1]}
        return operands

    def _slots(self, step: Step, cache: LayerCache) -> Tensor:
        """Where the new tokens go; under the seq-id mask, not those of an idle row, nor those past the prefix."""
        if not self.variant.seq_ids_mask:
            return step.slots
        if cache.past is None:
            prefix_tokens = step.block_table.shape[1] * self.config.block_size
        else:
            prefix_tokens = cache.past[1].shape[2]
        idle = needed(step.seq_ids, "seq_ids").unsqueeze(1) < 0
        return step.slots.masked_fill(idle | (step.positions >= prefix_tokens), -1)


class CacheUpdatingBlockTkgAttention(BlockTkgAttention):
    """Attention by the block-TKG op that also writes the new tokens into the pools."""

    def forward(self, hidden: Tensor, rmsnorm: RMSNorm, step: Step, cache: LayerCache) -> tuple[Tensor, None]:
        out = torch.ops.deadkv.attention_block_tkg.cache_update(
            **self._operands(hidden, rmsnorm, step, cache), update_cache=True
        )
        return out.reshape(hidden.shape), None


def attention_type(variant: Variant) -> type[Attention]:
    """The attention of a variant's layers."""
    if not variant.block_tkg:
        return TorchAttention
    return CacheUpdatingBlockTkgAttention if variant.kernel_updates_cache else BlockTkgAttention
