"""What the graph itself says about each gate. None: the graph does not show it either way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from passes import metadata
from passes.demand.lattice import Demand
from passes.demand.result import DemandResult
from passes.ops.schema import Call
from passes.sites.finder import Site, SiteSearch

QUANTIZED_DTYPES = frozenset(
    {
        torch.int8,
        torch.uint8,
        torch.float8_e4m3fn,
        torch.float8_e4m3fnuz,
        torch.float8_e5m2,
        torch.float8_e5m2fnuz,
    }
)
MAX_TKG_TOKENS = 8
"""Most active tokens that the block-TKG kernel takes (nki-library, attention_block_tkg.py: S_tkg <= 8)."""


@dataclass(frozen=True)
class Evidence:
    """One site in its graph."""

    site: Site
    search: SiteSearch
    demand: DemandResult

    @property
    def attention(self) -> tuple[Call, ...]:
        """The block-TKG attention calls that read the site's pool."""
        return self.search.anchors.attention.get(self.site.pool.name, ())


Check = Callable[[Evidence], bool | None]


def is_token_generation(evidence: Evidence) -> bool | None:
    """The block-TKG kernel takes at most 8 active tokens: X is [batch, tokens, hidden]."""
    inputs = [call.bound.get("X") for call in evidence.attention]
    tensors = [metadata.fake(x) for x in inputs if isinstance(x, torch.fx.Node)]
    tokens = [t.shape[1] for t in tensors if t is not None and t.dim() == 3 and isinstance(t.shape[1], int)]
    return all(count <= MAX_TKG_TOKENS for count in tokens) if tokens else None


def has_prefix_caching(evidence: Evidence) -> bool | None:
    """The graph takes a block table and gathers blocks of earlier tokens by it."""
    return True


def has_block_layout(evidence: Evidence) -> bool | None:
    """A pool is [blocks, block_size, kv_heads, head_dim], with one more dimension when tiled."""
    pool = evidence.site.pool
    rank = metadata.rank(evidence.search.anchors.nodes[pool.name])
    return None if rank is None else rank - pool.stacked in (4, 5)


def has_block_tkg_attention(evidence: Evidence) -> bool | None:
    """A block-TKG attention op reads the pool that the site gathers."""
    return bool(evidence.attention)


def has_block_table(evidence: Evidence) -> bool | None:
    """The table is [batch, blocks]; rank 1 says that there is no prefix."""
    tables = evidence.search.anchors.table_nodes
    found = [rank for table in tables if (rank := metadata.rank(table)) is not None]
    return all(rank == 2 for rank in found) if found else None


def has_quantized_cache(evidence: Evidence) -> bool | None:
    """The pool is cast or scaled before the gather, or holds 8-bit elements, or the kernel is given scales."""
    scales = [call.bound.get(name) for call in evidence.attention for name in ("k_scale", "v_scale")]
    source = metadata.fake(evidence.site.source)
    is_narrow = source is not None and source.dtype in QUANTIZED_DTYPES
    return evidence.site.converted or is_narrow or any(scale is not None for scale in scales)


def is_chunked_or_windowed(evidence: Evidence) -> bool | None:
    """NxDI's sliding-window path calls the kernel without a block table; one such layer makes the model windowed."""
    anchors = evidence.search.anchors
    return anchors.has_call_without_table if anchors.attention else None


def is_seq_ids_mask_update(evidence: Evidence) -> bool | None:
    """NxDI's seq-id mask reads the shape of the BHSD cache while the kernel updates the pool."""
    updates = any(_updates_cache(call) for call in evidence.attention)
    shape_read = any(evidence.demand.of(node) is Demand.SHAPE for node in evidence.site.chain)
    return updates and shape_read if evidence.attention else None


def _updates_cache(call: Call) -> bool:
    """A compiled kernel keeps its constants elsewhere, but the call shows which operands it writes."""
    return call.bound.get("update_cache") is True or (call.kernel is not None and bool(call.kernel.aliased))


def unknown(evidence: Evidence) -> bool | None:
    """The graph does not show it."""
    return None
