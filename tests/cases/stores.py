"""Rows of writes: into the gathered copy, which may go, and into the pool, which must stay."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.cases import ops
from tests.cases.case import NOT_FX, TORCH_LEVEL, case
from tests.cases.sites import embedded, indexed, site


# dead_store: in-place writes into the gathered copy that nothing reads.
@case("dead_store", "copy_", goes=True, plain={"make_fx": 1, "export": 1})
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    site(past_key_values_0, block_table).copy_(x)
    return x + 1


@case("dead_store", "setitem", goes=True, plain={"*": 1}, levels=NOT_FX)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    prior = site(past_key_values_0, block_table)
    prior[:, :, -1] = x[:, :, 0]
    return x + 1


@case("dead_store", "through_views", goes=True, plain={"make_fx": 1, "export": 1})
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    prior = site(past_key_values_0, block_table)
    prior[0].mul_(2).add_(x[0])
    prior.transpose(0, 1).zero_()
    return x + 1


@case("dead_store", "into_scratch", goes=True, plain={"make_fx": 1, "export": 1}, levels=NOT_FX)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    scratch = torch.zeros(3, 2, 16, 8)
    scratch.copy_(site(past_key_values_0, block_table))
    return x + 1


@case("dead_store", "twin_view_of_pool", goes=False, plain=dict.fromkeys(TORCH_LEVEL, 0), unsound=TORCH_LEVEL)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    past_key_values_0[:9].view(3, 3, 4, 2, 8)[:, 0].copy_(
        site(past_key_values_0, block_table)[:, :, :4].transpose(1, 2)
    )
    return x + 1


@case("dead_store", "twin_copy_read_later", goes=False, levels=NOT_FX)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    prior = site(past_key_values_0, block_table)
    prior[:, :, -1] = x[:, :, 0]
    return x + prior


@case("dead_store", "twin_alias_read_later", goes=False, unsound=TORCH_LEVEL)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    prior = site(past_key_values_0, block_table)
    alias = prior.transpose(0, 1)[1]
    prior.add_(x)
    return x[:, 0] + alias[:, :1].sum()


@case("dead_store", "twin_scratch_returned", goes=False, plain={"dynamo": 0}, unsound=("dynamo",), levels=NOT_FX)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    scratch = torch.zeros(3, 2, 16, 8)
    scratch.copy_(site(past_key_values_0, block_table))
    return scratch


# cache_write: the live write stays; the dead gather beside it goes.
@case("cache_write", "index_copy_", goes=True, unsound=TORCH_LEVEL)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    site(past_key_values_0, block_table)
    past_key_values_0.index_copy_(0, block_table[:, 0].long(), x[:, :, :4].transpose(1, 2))
    return x + 1


@case("cache_write", "copy_", goes=True, unsound=TORCH_LEVEL)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    past_key_values_0[:3].copy_(x[:, :, :4].transpose(1, 2))
    site(past_key_values_0, block_table)
    return x + 1


@case("cache_write", "setitem", goes=True, levels=NOT_FX)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    past_key_values_0[block_table[:, 0]] = x[:, :, :4].transpose(1, 2)
    indexed(past_key_values_0, block_table)
    return x + 1


@case("cache_write", "twin_write_back", goes=False, plain=dict.fromkeys(TORCH_LEVEL, 0), unsound=TORCH_LEVEL)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    past_key_values_0[:3].copy_(site(past_key_values_0, block_table)[:, :, :4].transpose(1, 2))
    return x + 1


# dead_custom_store: a mutating kernel whose contract says what it writes, on the gathered copy.
@case("dead_custom_store", "fill", goes=True)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    ops.fill(site(past_key_values_0, block_table), x)
    return x + 1


@case("dead_custom_store", "fill_a_view", goes=True)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    prior = embedded(past_key_values_0, block_table)
    ops.fill(prior.transpose(0, 1)[1], x[:, 0])
    return x + 1


@case("dead_custom_store", "unused_result", goes=True, static=True)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    ops.count(indexed(past_key_values_0, block_table).double(), x.double())
    return x + 1


@case("dead_custom_store", "from_the_copy_into_scratch", goes=True)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    scratch = x.clone()
    ops.fill(scratch, site(past_key_values_0, block_table))
    return x + 1


@case("dead_custom_store", "twin_on_the_pool", goes=False)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    ops.fill(past_key_values_0[:3], site(past_key_values_0, block_table)[:, :, :4].transpose(1, 2))
    return x + 1


@case("dead_custom_store", "twin_no_contract", goes=False)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    ops.fill_unknown(site(past_key_values_0, block_table), x)
    return x + 1


@case("dead_custom_store", "twin_read_later", goes=False)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    prior = site(past_key_values_0, block_table)
    ops.fill(prior[:, :, -1], x[:, :, 0])
    return x + prior


@case("dead_custom_store", "twin_result_used", goes=False)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return ops.count(x.clone(), x + site(past_key_values_0, block_table))
