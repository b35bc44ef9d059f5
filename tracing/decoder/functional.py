"""The arithmetic that the model's own attention and the reference of the attention op share."""

import torch
from torch import Tensor


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Root-mean-square norm over the last dimension, in float32 (Zhang and Sennrich, arXiv:1910.07467).

    x `[..., n]`, weight `[n]`; the result has x's shape and dtype.
    """
    x32 = x.to(torch.float32)
    variance = x32.pow(2).mean(-1, keepdim=True)
    return (x32 * torch.rsqrt(variance + eps)).to(x.dtype) * weight


def split_qkv(qkv: Tensor, q_heads: int, kv_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Cut `[B, S, (q_heads + 2 * kv_heads) * d]` into q, k and v, each `[B, heads, S, d]`."""
    batch, tokens, width = qkv.shape
    heads = qkv.reshape(batch, tokens, q_heads + 2 * kv_heads, width // (q_heads + 2 * kv_heads))
    q, k, v = torch.split(heads.permute(0, 2, 1, 3), [q_heads, kv_heads, kv_heads], dim=1)
    return q, k, v


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding in float32, first half of the head paired with the second half (arXiv:2104.09864).

    x `[B, heads, S, d]`, cos and sin `[B, 1, S, d/2]`; the result has x's shape and dtype.
    """
    first, second = x.to(torch.float32).chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1).to(x.dtype)


def grouped_query_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float) -> Tensor:
    """Softmax attention in float32 where each KV head serves a group of query heads (arXiv:2305.13245).

    q `[B, q_heads, S, d]`, k and v `[B, kv_heads, T, d]`, mask boolean and broadcastable to
    `[B, kv_heads, q_heads / kv_heads, S, T]`; the result has q's shape and dtype. A query that the mask
    leaves without any key gets the mean of v, which is finite.
    """
    batch, q_heads, tokens, head_dim = q.shape
    kv_heads = k.shape[1]
    grouped = q.to(torch.float32).reshape(batch, kv_heads, -1, head_dim)
    scores = torch.matmul(grouped, k.to(torch.float32).transpose(-1, -2)) * scale
    scores = scores.reshape(batch, kv_heads, q_heads // kv_heads, tokens, -1)
    scores = scores.masked_fill(~mask, torch.finfo(torch.float32).min)
    weights = scores.softmax(dim=-1).reshape(batch, kv_heads, q_heads // kv_heads * tokens, -1)
    return torch.matmul(weights, v.to(torch.float32)).reshape(q.shape).to(q.dtype)
