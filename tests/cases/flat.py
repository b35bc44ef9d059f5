"""Rows of the straight line: a site without a use, its index arithmetic, its dequantization."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.cases import ops
from tests.cases.case import case
from tests.cases.sites import along, embedded, indexed, site


# zero_user: nothing uses the site.
@case("zero_user", "index_select", goes=True)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    site(past_key_values_0, block_table)
    return x + 1


@case("zero_user", "advanced_index", goes=True)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    indexed(past_key_values_0, block_table)
    return x + 1


@case("zero_user", "embedding_contiguous", goes=True)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    embedded(past_key_values_0, block_table)
    return x + 1


@case("zero_user", "take_along_dim", goes=True)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    along(past_key_values_0, block_table)
    return x + 1


@case("zero_user", "dead_attention_math", goes=True)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    torch.softmax(x @ site(past_key_values_0, block_table).transpose(2, 3), -1)
    return x + 1


@case("zero_user", "twin_output", goes=False)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return x + 1, site(past_key_values_0, block_table)


@case("zero_user", "twin_read", goes=False)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return x + indexed(past_key_values_0, block_table)


# index_chain: index arithmetic that only the site uses, as with a tiled pool.
@case("index_chain", "tiled", goes=True)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    tiled = past_key_values_0.reshape(-1, 2, 2, 8)
    index = (block_table.reshape(-1) * 2).unsqueeze(-1) + torch.arange(2)
    tiled.index_select(0, index.reshape(-1)).reshape(3, -1, 2, 8).permute(0, 2, 1, 3)
    return x + 1


@case("index_chain", "clamped", goes=True)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    indexed(past_key_values_0, torch.where(block_table < 0, 0, block_table).to(torch.int64))
    return x + 1


@case("index_chain", "shared_arithmetic", goes=True)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    flat = block_table.reshape(-1)
    past_key_values_0.index_select(0, flat).reshape(3, -1, 2, 8).permute(0, 2, 1, 3)
    return x + (flat * 4).sum()


@case("index_chain", "twin_read", goes=False)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    index = (block_table.reshape(-1) * 2).unsqueeze(-1) + torch.arange(2)
    tiled = past_key_values_0.reshape(-1, 2, 2, 8).index_select(0, index.reshape(-1))
    return x + tiled.reshape(3, -1, 2, 8).permute(0, 2, 1, 3)


# dequantize: cast and scale of the whole pool before the gather.
@case("dequantize", "scaled", goes=True)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    site(past_key_values_0.to(torch.float64) * 0.5, block_table)
    return x + 1


@case("dequantize", "cast_after", goes=True, plain={"export": 1})
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    site(past_key_values_0.double(), block_table).to(torch.float32)
    return x + 1


@case("dequantize", "block_tkg_liveness", goes=True)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    site(past_key_values_0.to(torch.float64) * 0.5, block_table)
    return ops.attention_block_tkg(x, past_key_values_0, past_key_values_0, block_table)


@case("dequantize", "twin_conservative", goes=False, policy="conservative", plain={"*": 0})
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    site(past_key_values_0.to(torch.float64) * 0.5, block_table)
    return ops.attention_block_tkg(x, past_key_values_0, past_key_values_0, block_table)
