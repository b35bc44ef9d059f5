"""Writes in place, through whatever view was drawn, and calls that write by an option."""

from __future__ import annotations

import operator
from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812
from torch.fx import Node

from tests.fuzz.draft import Draft, UnfitError, is_float, is_number

aten = torch.ops.aten
Write = Callable[[Draft, Node, Node], Node]
"""Writes a value, given a target and a number."""


def write(draft: Draft) -> None:
    """A write whose result, which is its target, may be used like any other value."""
    target = draft.pick_target()
    with draft.lane(target in draft.side):
        number = draft.call(aten.sum.default, draft.pick())
        number = draft.call("to", number, target.meta["val"].dtype)
        writes = (*_COPIES, *_UPDATES, *_UPDATES) if is_number(target.meta["val"]) else _COPIES
        made = draft.choose.one_of(writes)(draft, target, number)
        if draft.choose.chance(2) and made.meta["val"] is not None:
            draft.add(made)


def _copy(draft: Draft, target: Node, number: Node) -> Node:
    shape = target.meta["val"].shape
    source = draft.call(aten.clone.default, draft.pick(lambda value: value.shape == shape))
    return draft.spell([aten.copy_.default, "copy_"], target, source)


def _out(draft: Draft, target: Node, number: Node) -> Node:
    shape, dtype = target.meta["val"].shape, target.meta["val"].dtype
    source = draft.call(aten.clone.default, draft.pick(lambda value: value.shape == shape and value.dtype == dtype))
    return draft.spell([aten.add.out, torch.add], source, source, out=target)


def _rows(draft: Draft, target: Node, number: Node) -> Node:
    if not target.meta["val"].dim():
        raise UnfitError
    row = draft.call(aten.zeros.default, [1], dtype=torch.int64)
    if draft.choose.number(0, 1):
        return draft.spell([aten.index_fill_.int_Scalar, "index_fill_"], target, 0, row, 2)
    return draft.spell([aten.index_put_.default, "index_put_"], target, [row], number)


_COPIES: tuple[Write, ...] = (
    _copy, _copy, _out, _rows,
    lambda d, t, n: d.spell([aten.copy_.default, "copy_"], t, n),
    lambda d, t, n: d.spell([aten.fill_.Tensor, "fill_"], t, n),
    lambda d, t, n: d.spell([aten.fill_.Scalar, "fill_"], t, 3),
    lambda d, t, n: d.spell([aten.zero_.default, "zero_"], t),
    lambda d, t, n: d.spell([aten.masked_fill_.Scalar, "masked_fill_"], t, d.call("isnan", t), 0),
    lambda d, t, n: d.call(operator.setitem, t, d.choose.one_of([0, slice(None), ...]), n),
    lambda d, t, n: d.call(aten.detach.default, d.call(F.silu, d.pick(is_float), inplace=False)),
)  # fmt: skip
_UPDATES: tuple[Write, ...] = (
    lambda d, t, n: d.spell([aten.add_.Tensor, "add_", operator.iadd], t, n),
    lambda d, t, n: d.spell([aten.mul_.Tensor, "mul_", operator.imul], t, n),
    lambda d, t, n: d.spell([aten.sub_.Tensor, "sub_"], t, 1),
    lambda d, t, n: d.spell([aten.neg_.default, torch.neg_, "neg_"], t),
    lambda d, t, n: d.spell([aten.abs_.default, torch.abs_, "abs_"], t),
    lambda d, t, n: d.call(F.relu, t, True),
)
"""Writes of numbers only, by numbers of the target's dtype."""

STEPS = (write, write, write)
