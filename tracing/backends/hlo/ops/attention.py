"""Scaled-dot-product attention as torch's CPU dispatch leaves it in a traced graph."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from jax import lax

from tracing.backends.hlo.arrays import FLOAT32, Array, UnsupportedUseError, cast, expand, full, iota, widen, zero

aten = torch.ops.aten


def _flash_attention(
    query: Array,
    key: Array,
    value: Array,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    attn_mask: Array | None = None,
    scale: float | None = None,
) -> tuple[Array, Array]:
    """Attention in float32 and the log-sum-exp of each query's scores, `[B, H, S]`.

    query `[B, H, S, D]`, key and value `[B, H_kv, T, D]` with H a multiple of H_kv, attn_mask additive and
    broadcastable to `[B, H, S, T]`. A query that sees no key attends to nothing and yields zeros, as in torch's
    kernel (aten/src/ATen/native/cpu/FlashAttentionKernel.cpp); an idle row of a padded batch is one.
    """
    if dropout_p:
        raise UnsupportedUseError("dropout is random")
    if is_causal:
        key, value = (lax.slice_in_dim(x, 0, min(query.shape[2], x.shape[2]), 1, 2) for x in (key, value))
    keys, values = (_per_query_head(x, query.shape[1]) for x in (key, value))
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    scores = lax.dot_general(widen(query), widen(keys), (((3,), (3,)), ((0, 1), (0, 1))))
    scores = lax.mul(scores, full(scores.shape, factor, scores.dtype))
    if attn_mask is not None:
        scores = lax.add(scores, expand(cast(attn_mask, scores.dtype), scores.shape))
    if is_causal:
        scores = _causal(scores)
    peak = lax.expand_dims(lax.reduce_max(scores, (3,)), (3,))
    sees_nothing = lax.eq(peak, full(peak.shape, -math.inf, peak.dtype))
    powers = lax.exp(lax.sub(scores, expand(lax.select(sees_nothing, zero(peak), peak), scores.shape)))
    total = lax.expand_dims(lax.reduce_sum(powers, (3,)), (3,))
    divisor = lax.select(sees_nothing, full(total.shape, 1, total.dtype), total)
    weights = lax.div(powers, expand(divisor, scores.shape))
    attended = lax.dot_general(weights, widen(values), (((3,), (2,)), ((0, 1), (0, 1))))
    return cast(attended, query.dtype), lax.squeeze(lax.add(lax.log(total), peak), (3,))


def _per_query_head(x: Array, heads: int) -> Array:
    batch, kv_heads, tokens, size = x.shape
    groups = lax.broadcast_in_dim(x, (batch, kv_heads, heads // kv_heads, tokens, size), (0, 1, 3, 4))
    return lax.reshape(groups, (batch, heads, tokens, size))


def _causal(scores: Array) -> Array:
    """Query i sees keys up to i."""
    seen = lax.ge(iota(scores.shape, 2), iota(scores.shape, 3))
    return lax.select(seen, scores, full(scores.shape, -math.inf, FLOAT32))


LOWERINGS: dict[Any, Callable[..., Any]] = {aten._scaled_dot_product_flash_attention_for_cpu.default: _flash_attention}
