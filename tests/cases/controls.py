"""Rows that are mostly controls: what must stay, however dead it looks."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.cases.case import case
from tests.cases.sites import embedded, indexed, site

ops_c10d = torch.ops._c10d_functional
GROUP = "0"
"""Name of the default process group."""
SHRINK = {"shrink_inputs": True}


# value_neutral: multiplied by zero, but NaN and Inf would come through.
@case("value_neutral", "twin_times_zero", goes=False)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return x + site(past_key_values_0, block_table) * 0


@case("value_neutral", "twin_element_times_zero", goes=False)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return x + indexed(past_key_values_0, block_table)[0, 0, 0, 0] * 0


@case("value_neutral", "keep_alive_of_table", goes=True)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    site(past_key_values_0, block_table)
    return x + block_table[0, 0] * 0


@case("value_neutral", "twin_difference_with_itself", goes=False)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    prior = embedded(past_key_values_0, block_table)
    return x + (prior - prior)


@case("value_neutral", "keep_alive_of_pool", goes=True)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    indexed(past_key_values_0, block_table)
    return x + past_key_values_0[0, 0, 0, 0] * 0


@case("value_neutral", "itself_dead", goes=True)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    embedded(past_key_values_0, block_table) * 0
    return x + 1


# collective: every rank must send what the others wait for.
@case("collective", "beside", goes=True)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    site(past_key_values_0, block_table)
    return ops_c10d.wait_tensor(ops_c10d.all_reduce(x, "sum", GROUP)) + 1


@case("collective", "before_it", goes=True)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    total = ops_c10d.wait_tensor(ops_c10d.all_reduce(x, "sum", GROUP))
    total.add(embedded(past_key_values_0, block_table)).mul(2)
    return total


@case("collective", "of_the_pool", goes=True)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    summed = ops_c10d.wait_tensor(ops_c10d.all_reduce(past_key_values_0.sum(), "sum", GROUP))
    indexed(past_key_values_0, block_table).add(summed)
    return x + summed


@case("collective", "twin_all_reduce", goes=False)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    ops_c10d.wait_tensor(ops_c10d.all_reduce(site(past_key_values_0, block_table), "sum", GROUP))
    return x + 1


@case("collective", "twin_all_gather", goes=False)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    prior = indexed(past_key_values_0, block_table).contiguous()
    ops_c10d.wait_tensor(ops_c10d.all_gather_into_tensor(prior, 2, GROUP))
    return x + 1


@case("collective", "twin_waited_for_later", goes=False)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    sent = ops_c10d.reduce_scatter_tensor(embedded(past_key_values_0, block_table)[:2].mul(2), "sum", 2, GROUP)
    y = x + 1
    ops_c10d.wait_tensor(sent)
    return y


# dead_inputs: inputs that lose their last use stay in the signature, unless the caller asks for less.
@case("dead_inputs", "table_and_pool", goes=True, inputs=1, options=SHRINK)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    site(past_key_values_0, block_table)
    return x + 1


@case("dead_inputs", "pool_only", goes=True, inputs=2, options=SHRINK)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    indexed(past_key_values_0, block_table)
    return x + block_table[0, 0]


@case("dead_inputs", "behind_index_arithmetic", goes=True, inputs=1, options=SHRINK)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    embedded(past_key_values_0.detach(), torch.where(block_table < 0, 0, block_table))
    return x + 1


@case("dead_inputs", "twin_interface_untouched", goes=True)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    site(past_key_values_0, block_table)
    return x + 1


@case("dead_inputs", "twin_kept_alive", goes=True, options=SHRINK)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    site(past_key_values_0, block_table)
    return x + block_table[0, 0] * 0 + past_key_values_0[0, 0, 0, 0] * 0


@case("dead_inputs", "twin_read", goes=False, options=SHRINK)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return x + site(past_key_values_0, block_table)
