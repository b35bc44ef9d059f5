"""Rows of nested graphs that are called once a place: submodules, regions and branches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from tests.cases import ops
from tests.cases.case import NOT_FX, Body, case
from tests.cases.regions import cond, region
from tests.cases.sites import embedded, indexed, site

DYNAMO_LIFTS_LESS = {"dynamo": 0}
"""Dynamo gives a nested graph only what its body uses, so that the site has no use at all."""


@region
def ignores(x: Tensor, prior: Tensor) -> tuple[Tensor]:
    return (x + 1,)


@region
def passes_on(x: Tensor, prior: Tensor) -> tuple[Tensor]:
    return (ignores(x, prior.float() * 2)[0] - 1,)


@region
def computes(x: Tensor, prior: Tensor) -> tuple[Tensor, Tensor]:
    return x + 1, prior * 2


@region
def gathers(x: Tensor, pool: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
    return x + 1, site(pool, table).contiguous()


@region
def marks(x: Tensor, prior: Tensor) -> tuple[Tensor, Tensor]:
    lanes = ops.mark([x, prior], 0)
    return lanes[0] + 1, lanes[1] * 2


@region
def attends(x: Tensor, pool: Tensor, table: Tensor, prior: Tensor) -> tuple[Tensor]:
    return (ops.attend(x, pool, table, prior),)


@region
def attends_unknown(x: Tensor, pool: Tensor, table: Tensor, prior: Tensor) -> tuple[Tensor]:
    return (ops.attend_unknown(x, pool, table, prior),)


@region
def reads_deep_down(x: Tensor, prior: Tensor) -> tuple[Tensor]:
    return (ignores(x, prior)[0] + computes(x, prior)[1],)


def nested(form: str, *, goes: bool, **options: Any) -> Callable[[Body], Body]:
    """Adds a function to two rows: its regions are submodules under symbolic_trace, `invoke_subgraph` elsewhere."""

    def add(body: Body) -> Body:
        case("submodule_operand", form, goes=goes, levels=("fx",), **options)(body)
        return case("invoke_subgraph", form, goes=goes, levels=NOT_FX, **options)(body)

    return add


# submodule_operand, invoke_subgraph: operand of a nested graph that does not need it.
@nested("ignored", goes=True, plain=DYNAMO_LIFTS_LESS)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return ignores(x, site(past_key_values_0, block_table))[0]


@nested("region_in_region", goes=True)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return passes_on(x, indexed(past_key_values_0, block_table))[0]


@case("submodule_operand", "keyword", goes=True, levels=("fx",))
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return ignores(prior=site(past_key_values_0, block_table), x=x)[0]


@nested("unread_by_the_kernel_inside", goes=True)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return attends(x, past_key_values_0, block_table, embedded(past_key_values_0, block_table))[0]


@nested("once_per_layer", goes=True, before=3)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    for _layer in range(3):
        x = attends(x, past_key_values_0, block_table, site(past_key_values_0, block_table))[0]
    return x


@nested("gathered_inside", goes=True, before=2, plain={"dynamo": 0, "dynamo@2.9": 2})
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    x = gathers(x, past_key_values_0, block_table)[0]
    return gathers(x, past_key_values_0, block_table)[0]


@nested("marker_inside", goes=True)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return marks(x, site(past_key_values_0, block_table))[0]


@nested("callers_with_different_needs", goes=True, before=3, after=1)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    first = computes(x, site(past_key_values_0, block_table))
    second = computes(first[0], site(past_key_values_0, block_table))
    third = computes(second[0], site(past_key_values_0, block_table))
    return third[0], second[1]


@nested("gathered_inside_for_one_caller", goes=True, before=2, after=1)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    first = gathers(x, past_key_values_0, block_table)
    return gathers(first[0], past_key_values_0, block_table)[0], first[1]


@nested("twin_read_deep_down", goes=False)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return reads_deep_down(x, site(past_key_values_0, block_table))[0]


@nested("twin_unknown_kernel_inside", goes=False)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return attends_unknown(x, past_key_values_0, block_table, site(past_key_values_0, block_table))[0]


@nested("twin_every_caller_needs_it", goes=False, before=2)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    first = computes(x, site(past_key_values_0, block_table))
    second = computes(first[0], site(past_key_values_0, block_table))
    return first[1] + second[1]


# cond: operand of a branch.
@case("cond", "ignored", goes=True, plain=DYNAMO_LIFTS_LESS, levels=NOT_FX)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return cond(
        x.sum() > 0, lambda x, prior: (x + 1,), lambda x, prior: (x - 1,), (x, site(past_key_values_0, block_table))
    )[0]


@case("cond", "result_unused", goes=True, levels=NOT_FX)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    operands = (x, indexed(past_key_values_0, block_table))
    return cond(x.sum() > 0, lambda x, prior: (prior * 2, x + 1), lambda x, prior: (prior + 2, x - 1), operands)[1]


@case("cond", "unread_by_the_kernels", goes=True, levels=NOT_FX)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    operands = (x, past_key_values_0, block_table, embedded(past_key_values_0, block_table))
    return cond(x.sum() > 0, lambda *a: (ops.attend(*a),), lambda *a: (ops.attend(*a) * 2,), operands)[0]


@case("cond", "branch_in_branch", goes=True, levels=NOT_FX)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    def inner(x: Tensor, prior: Tensor) -> Any:
        return cond(x.max() > 1, lambda x, prior: (x + 1,), lambda x, prior: (x * 2,), (x, prior * 2))

    return cond(x.sum() > 0, inner, lambda x, prior: (x - 1,), (x, site(past_key_values_0, block_table).double()))[0]


@case("cond", "gathered_in_the_branches", goes=True, before=2, levels=NOT_FX)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    def branch(x: Tensor, pool: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
        return x + 1, site(pool, table).mul(2)

    return cond(x.sum() > 0, branch, branch, (x, past_key_values_0, block_table))[0]


@case("cond", "twin_one_branch_reads", goes=False, levels=NOT_FX)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    operands = (x, site(past_key_values_0, block_table))
    return cond(x.sum() > 0, lambda x, prior: (x + 1,), lambda x, prior: (x - prior,), operands)[0]


@case("cond", "twin_steers", goes=False, levels=NOT_FX)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    prior = site(past_key_values_0, block_table)
    return cond(prior[0, 0, 0, 0] > 0, lambda x, prior: (x + 1,), lambda x, prior: (x - 1,), (x, prior))[0]


@case("cond", "twin_result_used", goes=False, levels=NOT_FX)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    operands = (x, site(past_key_values_0, block_table).contiguous())
    results = cond(x.sum() > 0, lambda x, prior: (prior * 2, x + 1), lambda x, prior: (prior + x, x - 1), operands)
    return results[0] + results[1]
