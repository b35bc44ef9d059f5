"""Row of the pass `dedup-prefix-cache`: a pool that is gathered twice by the same blocks, both copies live."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tests.cases import ops
from tests.cases.case import DEDUP, NOT_FX, TORCH_LEVEL, Body, case
from tests.cases.sites import along, embedded, indexed, site


def duplicate(form: str, *, goes: bool, before: int = 2, **options: Any) -> Callable[[Body], Body]:
    """Of `before` gathers one is left, or all."""
    after = 1 if goes else before
    return case("duplicate", form, goes=goes, before=before, after=after, pass_name=DEDUP, **options)


# duplicate: gathered once, read twice.
@duplicate("same_chain", goes=True)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return x + site(past_key_values_0, block_table), x - site(past_key_values_0, block_table)


@duplicate("other_layout_behind_the_gather", goes=True)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    flat = past_key_values_0.index_select(0, block_table.reshape(-1)).reshape(3, 16, 16)
    return x * site(past_key_values_0, block_table), flat.sum(1)


@duplicate("three_times", goes=True, before=3)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    for _layer in range(3):
        x = x + embedded(past_key_values_0, block_table)
    return x


@duplicate("advanced_index_on_both_sides_of_a_kernel", goes=True, static=True)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    first = indexed(past_key_values_0, block_table)
    y = ops.attend(x, past_key_values_0, block_table) + first
    return y * indexed(past_key_values_0, block_table)


@duplicate("twin_cache_write_between", goes=False, unsound=TORCH_LEVEL)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    first = site(past_key_values_0, block_table)
    past_key_values_0[:3].copy_(x[:, :, :4].transpose(1, 2))
    return x + first, x - site(past_key_values_0, block_table)


@duplicate("twin_unknown_call_between", goes=False)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    first = along(past_key_values_0, block_table)
    y = ops.attend_unknown(x, past_key_values_0, block_table) + first
    return y + along(past_key_values_0, block_table)


@duplicate("twin_copy_is_written", goes=False, levels=NOT_FX)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    first = site(past_key_values_0, block_table)
    first[:, :, -1] = x[:, :, 0]
    return x + first, x - site(past_key_values_0, block_table)


@duplicate("twin_other_blocks", goes=False)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    others = torch.where(block_table < 1, 0, block_table - 1)
    return x + site(past_key_values_0, block_table), x - site(past_key_values_0, others)
