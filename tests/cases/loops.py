"""Rows of loops: carries, and what is scanned over, of which nothing outside the loop uses anything."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tests.cases import ops
from tests.cases.case import NOT_FX, case
from tests.cases.regions import scan, while_loop
from tests.cases.sites import embedded, indexed, site


def counter() -> Tensor:
    return torch.zeros((), dtype=torch.int64)


def first_is_below_three(i: Tensor, *rest: Tensor) -> Tensor:
    return i < 3


# scan_carry: a carry, or what is scanned over, that feeds only itself.
@case("scan_carry", "feeds_itself", goes=True, levels=NOT_FX)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return scan(lambda h, k, row: (h + row, k * 2, row * 2), (x[0], site(past_key_values_0, block_table)), (x,))[0]


@case("scan_carry", "carried_unchanged", goes=True, levels=NOT_FX)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    def body(k: Tensor, h: Tensor, row: Tensor) -> tuple[Tensor, ...]:
        return k.clone(), h * row, h.sum()

    results = scan(body, (indexed(past_key_values_0, block_table).double(), x[0]), (x,))
    return results[1], results[2]


@case("scan_carry", "scanned_over", goes=True, levels=NOT_FX)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return scan(lambda h, row, prior: (h + row, row.clone()), (x[0],), (x, site(past_key_values_0, block_table)))[0]


@case("scan_carry", "scanned_into_unused_rows", goes=True, levels=NOT_FX)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return scan(lambda h, row, prior: (h + row, prior * 2), (x[0],), (x, embedded(past_key_values_0, block_table)))[0]


@case("scan_carry", "constant_of_the_loop", goes=True, levels=NOT_FX)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    def body(h: Tensor, row: Tensor, *shared: Tensor) -> tuple[Tensor, ...]:
        return ops.attend(h, *shared) + row, h * 2

    return scan(body, (x[0],), (x,), (past_key_values_0, block_table, indexed(past_key_values_0, block_table)))[0]


@case("scan_carry", "carry_into_an_unused_carry", goes=True, levels=NOT_FX)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    def body(k: Tensor, total: Tensor, h: Tensor, row: Tensor) -> tuple[Tensor, ...]:
        return k * 2, total + k.sum(), h + row, total.clone()

    return scan(body, (site(past_key_values_0, block_table), x.sum(), x[0]), (x,))[2]


@case("scan_carry", "gathered_inside", goes=True, levels=NOT_FX)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    def body(h: Tensor, row: Tensor, pool: Tensor, table: Tensor) -> tuple[Tensor, ...]:
        return h + row, site(pool, table) * 2

    return scan(body, (x[0],), (x,), (past_key_values_0, block_table))[0]


@case("scan_carry", "loop_in_loop", goes=True, levels=NOT_FX)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    def body(h: Tensor, k: Tensor, row: Tensor) -> tuple[Tensor, ...]:
        inner = scan(lambda a, b, step: (a + step, b * 2, a * 2), (h[0], k), (row,))
        return h + inner[0], inner[1], row * 2

    return scan(body, (x[0], site(past_key_values_0, block_table)), (x,))[0]


@case("scan_carry", "twin_feeds_another_carry", goes=False, levels=NOT_FX)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return scan(lambda h, k, row: (h + k.sum(), k * 2, row * 2), (x[0], site(past_key_values_0, block_table)), (x,))[0]


@case("scan_carry", "twin_swap", goes=False, levels=NOT_FX)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return scan(lambda h, k, row: (k * 2, h + row, row * 2), (x, embedded(past_key_values_0, block_table)), (x,))[0]


@case("scan_carry", "twin_rows_used", goes=False, levels=NOT_FX)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return scan(lambda h, row, prior: (h + row, prior * 2), (x[0],), (x, site(past_key_values_0, block_table)))


@case("scan_carry", "twin_number_of_rounds", goes=False, levels=NOT_FX)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return scan(lambda h, prior: (h + 1, h * 2), (x[0],), (site(past_key_values_0, block_table),))[0]


# while_carry: the same of while_loop.
@case("while_carry", "feeds_itself", goes=True, levels=NOT_FX)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    carried = (counter(), x, site(past_key_values_0, block_table))
    return while_loop(first_is_below_three, lambda i, h, k: (i + 1, h * 2, k + 1), carried)[1]


@case("while_carry", "carried_unchanged", goes=True, levels=NOT_FX)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    carried = (counter(), indexed(past_key_values_0, block_table).double(), x)
    return while_loop(first_is_below_three, lambda i, k, h: (i + 1, k.clone(), h - 1), carried)[2]


@case("while_carry", "constant_of_the_loop", goes=True, levels=NOT_FX)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    def body(i: Tensor, h: Tensor, *shared: Tensor) -> tuple[Tensor, ...]:
        return i + 1, ops.attend(h, *shared)

    shared = (past_key_values_0, block_table, embedded(past_key_values_0, block_table))
    return while_loop(first_is_below_three, body, (counter(), x), shared)[1]


@case("while_carry", "carries_that_feed_each_other", goes=True, levels=NOT_FX)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    def body(i: Tensor, k: Tensor, v: Tensor, h: Tensor) -> tuple[Tensor, ...]:
        return i + 1, v * 2, k + 1, h * 2

    prior = site(past_key_values_0, block_table)
    return while_loop(first_is_below_three, body, (counter(), prior, prior.clone(), x))[3]


@case("while_carry", "gathered_inside", goes=True, levels=NOT_FX)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    def body(i: Tensor, h: Tensor, k: Tensor, pool: Tensor, table: Tensor) -> tuple[Tensor, ...]:
        return i + 1, h * 2, k + site(pool, table)

    return while_loop(lambda i, *rest: i < 3, body, (counter(), x, x.clone()), (past_key_values_0, block_table))[1]


@case("while_carry", "twin_feeds_the_condition", goes=False, levels=NOT_FX)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    def condition(i: Tensor, h: Tensor, k: Tensor) -> Any:
        return (i < 3) & (k[0, 0, 0, 0] < 100)

    carried = (counter(), x, site(past_key_values_0, block_table))
    return while_loop(condition, lambda i, h, k: (i + 1, h * 2, k + 1), carried)[1]


@case("while_carry", "twin_feeds_another_carry", goes=False, levels=NOT_FX)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    carried = (counter(), x, site(past_key_values_0, block_table))
    return while_loop(first_is_below_three, lambda i, h, k: (i + 1, h + k, k + 1), carried)[1]


@case("while_carry", "twin_swap", goes=False, levels=NOT_FX)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    carried = (counter(), x, site(past_key_values_0, block_table).contiguous())
    return while_loop(first_is_below_three, lambda i, h, k: (i + 1, k * 2, h + 1), carried)[1]
