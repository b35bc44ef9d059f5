"""Small random calls of `deadkv::attention_block_tkg`, one for each way in which its switches can stand."""

from collections.abc import Iterator
from itertools import product
from typing import Any

import torch
from torch import Tensor

from tracing.decoder import attention_op as _attention_op  # noqa: F401  (defines the operator)

BATCH, TOKENS, HIDDEN, HEAD_DIM, Q_HEADS, KV_HEADS = 2, 1, 12, 4, 4, 2
BLOCK_LEN, BLOCKS_PER_SEQUENCE, BLOCKS = 4, 3, 7
CONTEXT = BLOCK_LEN * BLOCKS_PER_SEQUENCE


def attention_samples() -> Iterator[tuple[str, dict[str, Any]]]:
    """Overload and arguments of each sample: both overloads, block and flat mode, norms on and off, float8 caches.

    Every optional operand is given, whether the switches let the op read it or not.
    """
    for block, x_norm, qk_norm, quantized in product((True, False), repeat=4):
        for overload, update in (("default", False), ("cache_update", False), ("cache_update", True)):
            yield overload, _arguments(block=block, x_norm=x_norm, qk_norm=qk_norm, update=update, quantized=quantized)


def _arguments(*, block: bool, x_norm: bool, qk_norm: bool, update: bool, quantized: bool) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    width = (Q_HEADS + 2 * KV_HEADS) * HEAD_DIM
    pool, prior = (BLOCKS, BLOCK_LEN, KV_HEADS, HEAD_DIM), (BATCH, KV_HEADS, CONTEXT, HEAD_DIM)
    stored = torch.float8_e4m3fn if quantized else torch.float32
    scale = torch.full((1, 1), 4.0) if quantized else None
    table = torch.tensor([[5, 2, -1], [0, 4, 1]], dtype=torch.int32)
    seen = torch.rand(CONTEXT, BATCH, Q_HEADS, TOKENS, generator=generator) < 0.7
    return {
        "X": normal(BATCH, TOKENS, HIDDEN),
        "rmsnorm_X_enabled": x_norm,
        "rmsnorm_X_eps": 1e-5,
        "rmsnorm_X_gamma": normal(HIDDEN),
        "W_qkv": normal(HIDDEN, width),
        "bias_qkv": normal(width),
        "rmsnorm_QK_pre_rope_enabled": qk_norm,
        "rmsnorm_QK_pre_rope_eps": 1e-6,
        "rmsnorm_QK_pre_rope_W_Q": normal(HEAD_DIM),
        "rmsnorm_QK_pre_rope_W_K": normal(HEAD_DIM),
        "cos": normal(HEAD_DIM // 2, BATCH, TOKENS).cos(),
        "sin": normal(HEAD_DIM // 2, BATCH, TOKENS).sin(),
        "active_blocks_table": table if block else None,
        "K_cache": normal(*pool).to(stored),
        "V_cache": normal(*pool).to(stored),
        "attention_mask": seen,
        "update_cache": update,
        "kv_cache_update_idx": torch.tensor([[9], [-1]], dtype=torch.int32),
        "W_out": normal(Q_HEADS * HEAD_DIM, HIDDEN),
        "bias_out": normal(HIDDEN),
        "k_prior": normal(*prior),
        "v_prior": normal(*prior),
        "k_scale": scale,
        "v_scale": scale,
    }
