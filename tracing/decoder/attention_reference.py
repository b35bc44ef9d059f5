"""What the block-TKG attention op computes, in plain functional torch that any tracer and backend can inline.

Operand names and layouts are those of the NKI kernel `attention_block_tkg` (nki-library,
experimental/transformer/attention_block_tkg.py), in a subset: contiguous rotary halves, no post-rope norm, no
sink, no quantized weights, output projection always on. The kernel serves one KV head a core; this op serves any
number, so that `K_tkg` and `V_tkg` have a head dimension. With one head they hold the kernel's values in the
kernel's order.
"""

# ruff: noqa: N815 - the operand names are the kernel's
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tracing.decoder.functional import grouped_query_attention, rms_norm, rotate, split_qkv
from tracing.decoder.quantization import dequantize, quantize, raw_bytes


@dataclass(frozen=True)
class AttentionOperands:
    """The op's operands, in schema order. d = head_dim, S_ctx = context bucket, S_tkg = active tokens.

    X: `[B, S_tkg, H]`, the hidden state before the norm; its dtype is the output's.
    rmsnorm_X_gamma: `[H]`.
    W_qkv: `[H, (q_heads + 2 * kv_heads) * d]`, all q heads, then k, then v. bias_qkv: as W_qkv without H.
    rmsnorm_QK_pre_rope_W_Q, rmsnorm_QK_pre_rope_W_K: `[d]`, applied to each head.
    cos, sin: `[d/2, B, S_tkg]`.
    active_blocks_table: `[B, S_ctx / block_len]` integer, -1 for no block; None for flat mode.
    K_cache, V_cache: `[num_blocks, block_len, kv_heads, d]`, read in block mode only.
    attention_mask: `[S_ctx, B, q_heads, S_tkg]` boolean; the last S_tkg rows are for the active tokens, which
    stand where the last S_tkg context positions would.
    update_cache: whether the new tokens are written into the caches (overload `cache_update` only).
    kv_cache_update_idx: `[B, S_tkg]` integer flat slots (block * block_len + offset), -1 to skip.
    W_out: `[q_heads * d, H]`. bias_out: `[H]`. softmax_scale: `d ** -0.5` when None.
    k_prior, v_prior: `[B, kv_heads, S_ctx, d]` (BHSD), read in flat mode only.
    k_scale, v_scale: `[1, 1]` float32, given where the caches are float8: they hold the values times these.
    """

    X: Tensor
    rmsnorm_X_enabled: bool
    rmsnorm_X_eps: float
    rmsnorm_X_gamma: Tensor | None
    W_qkv: Tensor
    bias_qkv: Tensor | None
    rmsnorm_QK_pre_rope_enabled: bool
    rmsnorm_QK_pre_rope_eps: float
    rmsnorm_QK_pre_rope_W_Q: Tensor | None
    rmsnorm_QK_pre_rope_W_K: Tensor | None
    cos: Tensor
    sin: Tensor
    active_blocks_table: Tensor | None
    K_cache: Tensor
    V_cache: Tensor
    attention_mask: Tensor
    update_cache: bool
    kv_cache_update_idx: Tensor | None
    W_out: Tensor
    bias_out: Tensor | None
    softmax_scale: float | None = None
    k_prior: Tensor | None = None
    v_prior: Tensor | None = None
    k_scale: Tensor | None = None
    v_scale: Tensor | None = None

    @property
    def head_dim(self) -> int:
        return 2 * self.cos.shape[0]

    @property
    def q_heads(self) -> int:
        return self.W_out.shape[0] // self.head_dim

    @property
    def kv_heads(self) -> int:
        return (self.W_qkv.shape[1] // self.head_dim - self.q_heads) // 2

    @property
    def prior_tokens(self) -> int:
        return self.attention_mask.shape[0] - self.X.shape[1]


def attention_block_tkg_reference(**operands: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Attention of the active tokens over the cached prefix and themselves; operands as in AttentionOperands.

    Returns X_out `[B * S_tkg, H]`, K_tkg `[d, B, kv_heads, S_tkg]` and V_tkg `[B, kv_heads, S_tkg, d]` in X's
    dtype. Projections multiply in X's dtype; norm, rotation, scores and softmax are float32. What a table entry
    of -1 would gather never reaches the result. Raises ValueError for an absent operand that is needed.
    """
    op = AttentionOperands(**operands)
    q, k, v = _project(op)
    k_prior, v_prior, mask = _prior(op)
    attended = grouped_query_attention(
        q,
        torch.cat([k_prior, k], dim=2),
        torch.cat([v_prior, v], dim=2),
        mask.reshape(mask.shape[0], op.kv_heads, -1, *mask.shape[2:]),
        op.head_dim**-0.5 if op.softmax_scale is None else op.softmax_scale,
    )
    x_out = torch.matmul(token_rows(attended), op.W_out)
    return x_out if op.bias_out is None else x_out + op.bias_out, k.permute(3, 0, 1, 2), v


def attention_block_tkg_cache_update_reference(**operands: Any) -> tuple[Tensor, Tensor, Tensor]:
    """The `cache_update` overload without its side effect: returns X_out, K_cache_updated, V_cache_updated.

    The caches keep their shape and dtype. A slot of -1 writes nothing; the last slot of a pool is never a real
    token's (it lies in the reserved block), so a skipped token rewrites it with what it holds.
    """
    op = AttentionOperands(**operands)
    x_out, k_tkg, v_tkg = attention_block_tkg_reference(**operands)
    if not op.update_cache:
        return x_out, op.K_cache, op.V_cache
    slots = needed_operand(op.kv_cache_update_idx, "kv_cache_update_idx").reshape(-1)
    return (
        x_out,
        _write(op.K_cache, slots, stored_rows(op.K_cache, k_tkg.permute(1, 2, 3, 0), op.k_scale)),
        _write(op.V_cache, slots, stored_rows(op.V_cache, v_tkg, op.v_scale)),
    )


def token_rows(bhsd: Tensor) -> Tensor:
    """Bring `[B, heads, S, d]` to one row a token, `[B * S, heads * d]`."""
    batch, heads, tokens, head_dim = bhsd.shape
    return bhsd.permute(0, 2, 1, 3).reshape(batch * tokens, heads * head_dim)


def stored_rows(pool: Tensor, bhsd: Tensor, scale: Tensor | None) -> Tensor:
    """One row a token, `[B * S, heads * d]`, as `pool` stores it; for a float8 pool the bytes."""
    if scale is None:
        return token_rows(bhsd).to(pool.dtype)
    return raw_bytes(quantize(token_rows(bhsd), scale))


def _write(pool: Tensor, slots: Tensor, rows: Tensor) -> Tensor:
    flat = (pool if pool.dtype == rows.dtype else pool.view(rows.dtype)).reshape(-1, rows.shape[1])
    last = flat.shape[0] - 1
    kept = (slots < 0).unsqueeze(-1)
    target = slots.masked_fill(slots < 0, last).to(torch.int64).unsqueeze(-1).expand_as(rows)
    written = flat.scatter(0, target, torch.where(kept, flat[last:], rows)).reshape(pool.shape)
    return written if written.dtype == pool.dtype else written.view(pool.dtype)


def _project(op: AttentionOperands) -> tuple[Tensor, Tensor, Tensor]:
    x = op.X
    if op.rmsnorm_X_enabled:
        x = rms_norm(x, needed_operand(op.rmsnorm_X_gamma, "rmsnorm_X_gamma"), op.rmsnorm_X_eps)
    qkv = torch.matmul(x, op.W_qkv)
    q, k, v = split_qkv(qkv if op.bias_qkv is None else qkv + op.bias_qkv, op.q_heads, op.kv_heads)
    if op.rmsnorm_QK_pre_rope_enabled:
        eps = op.rmsnorm_QK_pre_rope_eps
        q = rms_norm(q, needed_operand(op.rmsnorm_QK_pre_rope_W_Q, "rmsnorm_QK_pre_rope_W_Q"), eps)
        k = rms_norm(k, needed_operand(op.rmsnorm_QK_pre_rope_W_K, "rmsnorm_QK_pre_rope_W_K"), eps)
    cos, sin = (table.permute(1, 2, 0).unsqueeze(1) for table in (op.cos, op.sin))
    return rotate(q, cos, sin), rotate(k, cos, sin), v


def _prior(op: AttentionOperands) -> tuple[Tensor, Tensor, Tensor]:
    """Prefix K and V, `[B, kv_heads, S_ctx - S_tkg, d]`, and the mask as `[B, q_heads, S_tkg, S_ctx]`."""
    mask = op.attention_mask.permute(1, 2, 3, 0)
    if op.active_blocks_table is None:
        k_prior, v_prior = needed_operand(op.k_prior, "k_prior"), needed_operand(op.v_prior, "v_prior")
        return k_prior[:, :, : op.prior_tokens], v_prior[:, :, : op.prior_tokens], mask
    table = op.active_blocks_table
    present = (table >= 0).unsqueeze(-1).expand(-1, -1, op.K_cache.shape[1]).flatten(1)[:, : op.prior_tokens]
    seen, active = torch.split(mask, [op.prior_tokens, op.X.shape[1]], dim=-1)
    mask = torch.cat([seen & present[:, None, None], active], dim=-1)
    k_prior = _gather(op.K_cache, table, present, op.k_scale, op.X.dtype)
    v_prior = _gather(op.V_cache, table, present, op.v_scale, op.X.dtype)
    return k_prior, v_prior, mask


def _gather(cache: Tensor, table: Tensor, present: Tensor, scale: Tensor | None, dtype: torch.dtype) -> Tensor:
    blocks = cache.index_select(0, table.clamp(min=0).reshape(-1))
    if scale is not None:
        blocks = dequantize(blocks, scale, dtype)
    prior = blocks.reshape(table.shape[0], -1, *cache.shape[2:])[:, : present.shape[1]]
    return prior.masked_fill(~present[:, :, None, None], 0).permute(0, 2, 1, 3)


def needed_operand(operand: Tensor | None, name: str) -> Tensor:
    """The operand, or ValueError where the arguments make the op read one that is absent."""
    if operand is None:
        raise ValueError(f"attention_block_tkg: {name} is None, but the op reads it with these arguments")
    return operand
