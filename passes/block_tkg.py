"""The contract of the NKI kernel attention_block_tkg, which every block-TKG graph holds in some namespace."""

from __future__ import annotations

from collections.abc import Mapping

from passes.contracts import Bound, Contract

# An operand of the NKI kernel attention_block_tkg that is unread while a static switch is off
# (nki-library, attention_block_tkg.py: each block is guarded by the switch named here).
_SWITCHED_OPERANDS: Mapping[str, str] = {
    "kv_cache_update_idx": "update_cache",
    "rmsnorm_X_gamma": "rmsnorm_X_enabled",
    "rmsnorm_QK_pre_rope_W_Q": "rmsnorm_QK_pre_rope_enabled",
    "rmsnorm_QK_pre_rope_W_K": "rmsnorm_QK_pre_rope_enabled",
    "rmsnorm_QK_post_rope_W_Q": "rmsnorm_QK_post_rope_enabled",
    "rmsnorm_QK_post_rope_W_K": "rmsnorm_QK_post_rope_enabled",
}


def _block_tkg_reads(bound: Bound) -> frozenset[str]:
    switched_off = {name for name, switch in _SWITCHED_OPERANDS.items() if bound.get(switch) is False}
    return frozenset(bound.keys() - switched_off)


def _block_tkg_writes(bound: Bound) -> frozenset[str]:
    if bound.get("update_cache") is False:
        return frozenset()
    return frozenset({"K_cache", "V_cache"} & bound.keys())


ATTENTION_BLOCK_TKG = "attention_block_tkg"
"""Name of the block-TKG attention kernel in nki-library, whose operands are known by name in every namespace."""

BLOCK_TKG = Contract(f"*::{ATTENTION_BLOCK_TKG}", _block_tkg_reads, _block_tkg_writes)
