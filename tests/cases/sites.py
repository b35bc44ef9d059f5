"""Spellings of one site: of a pool `[10, 4, 2, 8]` by a block table `[3, 4]` to BHSD, `[3, 2, 16, 8]`."""

from __future__ import annotations

import torch
from torch import Tensor


def site(pool: Tensor, table: Tensor) -> Tensor:
    """The chain of NxDI's block cache manager: index_select, reshape, permute."""
    return pool.index_select(0, table.reshape(-1)).reshape(3, -1, 2, 8).permute(0, 2, 1, 3)


def indexed(pool: Tensor, table: Tensor) -> Tensor:
    """The same by advanced indexing with the table itself."""
    return pool[table].flatten(1, 2).transpose(1, 2)


def embedded(pool: Tensor, table: Tensor) -> Tensor:
    """The same as a lookup of flattened blocks."""
    rows = torch.nn.functional.embedding(table, pool.reshape(10, -1))
    return rows.reshape(3, 16, 2, 8).permute(0, 2, 1, 3).contiguous()


def along(pool: Tensor, table: Tensor) -> Tensor:
    """The same by take_along_dim."""
    index = table.reshape(-1).long().view(-1, 1, 1, 1).expand(-1, 4, 2, 8)
    return torch.take_along_dim(pool, index, 0).view(3, 16, 2, 8).permute(0, 2, 1, 3)
