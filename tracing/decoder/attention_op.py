"""`deadkv::attention_block_tkg`, the opaque attention leaf of a traced token-generation graph, and its read set.

Two overloads. The default is functional: it returns X_out, K_tkg and V_tkg and takes update_cache=False only.
`cache_update` returns X_out and, with update_cache=True, writes the new tokens into K_cache and V_cache in place.
Operands, shapes and dtypes are those of `attention_reference.AttentionOperands`. Both overloads run wherever
torch does, by way of the reference.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from tracing.decoder.attention_reference import (
    AttentionOperands,
    attention_block_tkg_reference,
    needed_operand,
    stored_rows,
)

_NAME = "deadkv::attention_block_tkg"
_UPDATE_NAME = f"{_NAME}.cache_update"

_OPERANDS = (
    "(Tensor X, bool rmsnorm_X_enabled, float rmsnorm_X_eps, Tensor? rmsnorm_X_gamma, "
    "Tensor W_qkv, Tensor? bias_qkv, bool rmsnorm_QK_pre_rope_enabled, float rmsnorm_QK_pre_rope_eps, "
    "Tensor? rmsnorm_QK_pre_rope_W_Q, Tensor? rmsnorm_QK_pre_rope_W_K, Tensor cos, Tensor sin, "
    "Tensor? active_blocks_table, Tensor{k} K_cache, Tensor{v} V_cache, Tensor attention_mask, "
    "bool update_cache, Tensor? kv_cache_update_idx, Tensor W_out, Tensor? bias_out, "
    "float? softmax_scale=None, Tensor? k_prior=None, Tensor? v_prior=None, "
    "Tensor? k_scale=None, Tensor? v_scale=None)"
)
_TAGS = (torch.Tag.pt2_compliant_tag,)

torch.library.define(_NAME, _OPERANDS.format(k="", v="") + " -> (Tensor, Tensor, Tensor)", tags=_TAGS)
torch.library.define(_UPDATE_NAME, _OPERANDS.format(k="(a!)", v="(b!)") + " -> Tensor", tags=_TAGS)


def _attend(*args: Any, **kwargs: Any) -> tuple[Tensor, Tensor, Tensor]:
    op = AttentionOperands(*args, **kwargs)
    _refuse_update(op)
    x_out, k_tkg, v_tkg = attention_block_tkg_reference(**vars(op))
    return x_out, _dense(k_tkg), _dense(v_tkg)


def _attend_fake(*args: Any, **kwargs: Any) -> tuple[Tensor, Tensor, Tensor]:
    op = AttentionOperands(*args, **kwargs)
    _refuse_update(op)
    batch, tokens = op.X.shape[:2]
    return (
        op.X.new_empty(batch * tokens, op.W_out.shape[1]),
        op.X.new_empty(op.head_dim, batch, op.kv_heads, tokens),
        op.X.new_empty(batch, op.kv_heads, tokens, op.head_dim),
    )


def _attend_and_update(*args: Any, **kwargs: Any) -> Tensor:
    op = AttentionOperands(*args, **kwargs)
    x_out, k_tkg, v_tkg = attention_block_tkg_reference(**vars(op))
    if op.update_cache:
        slots = needed_operand(op.kv_cache_update_idx, "kv_cache_update_idx").reshape(-1)
        _store(op.K_cache, slots, stored_rows(op.K_cache, k_tkg.permute(1, 2, 3, 0), op.k_scale))
        _store(op.V_cache, slots, stored_rows(op.V_cache, v_tkg, op.v_scale))
    return x_out


def _attend_and_update_fake(*args: Any, **kwargs: Any) -> Tensor:
    op = AttentionOperands(*args, **kwargs)
    return op.X.new_empty(op.X.shape[0] * op.X.shape[1], op.W_out.shape[1])


def _refuse_update(op: AttentionOperands) -> None:
    if op.update_cache:
        raise ValueError(f"{_NAME} is functional: call its overload cache_update for update_cache=True")


def _dense(tensor: Tensor) -> Tensor:
    return tensor.clone(memory_format=torch.contiguous_format)


def _store(pool: Tensor, slots: Tensor, rows: Tensor) -> None:
    written = slots >= 0
    flat = pool.view(rows.dtype).view(-1, rows.shape[1])
    flat.index_copy_(0, slots[written].to(torch.int64), rows[written])


torch.library.impl(_NAME, "default", _attend)
torch.library.impl(_UPDATE_NAME, "default", _attend_and_update)
torch.library.register_fake(_NAME, _attend_fake)
torch.library.register_fake(_UPDATE_NAME, _attend_and_update_fake)

Bound = Mapping[str, object]


def _always(_: Bound) -> bool:
    return True


def _block_mode(bound: Bound) -> bool:
    return bound["active_blocks_table"] is not None


def _flat_mode(bound: Bound) -> bool:
    return bound["active_blocks_table"] is None


def _block_mode_or_update(bound: Bound) -> bool:
    return _block_mode(bound) or bool(bound["update_cache"])


def _when(flag: str) -> Callable[[Bound], bool]:
    return lambda bound: bool(bound[flag])


_READ_WHEN: Mapping[str, Callable[[Bound], bool]] = MappingProxyType(
    {
        "X": _always,
        "rmsnorm_X_gamma": _when("rmsnorm_X_enabled"),
        "W_qkv": _always,
        "bias_qkv": _always,
        "rmsnorm_QK_pre_rope_W_Q": _when("rmsnorm_QK_pre_rope_enabled"),
        "rmsnorm_QK_pre_rope_W_K": _when("rmsnorm_QK_pre_rope_enabled"),
        "cos": _always,
        "sin": _always,
        "active_blocks_table": _always,
        "K_cache": _block_mode,
        "V_cache": _block_mode,
        "attention_mask": _always,
        "kv_cache_update_idx": _when("update_cache"),
        "W_out": _always,
        "bias_out": _always,
        "k_prior": _flat_mode,
        "v_prior": _flat_mode,
        "k_scale": _block_mode_or_update,
        "v_scale": _block_mode_or_update,
    }
)


def operands_read(bound: Bound) -> set[str]:
    """Which tensor operands of either overload the op reads the data of.

    bound: every argument by name, defaults filled in: None for an absent tensor, constants for the static
    arguments, anything else for a tensor. A static argument that is no constant counts as set, so the answer
    only ever errs towards read.
    """
    return {name for name, read in _READ_WHEN.items() if bound[name] is not None and read(bound)}


def operands_written(bound: Bound) -> set[str]:
    """Which operands the overload `cache_update` writes in place; the default overload writes none."""
    return {"K_cache", "V_cache"} if bound["update_cache"] else set()
