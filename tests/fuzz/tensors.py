"""Calls that compute new tensors: arithmetic, comparisons, casts, reductions and random numbers, in three spellings."""

from __future__ import annotations

import operator
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

from tests.fuzz.draft import Draft, is_float, is_number

aten = torch.ops.aten
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.int32, torch.int8, torch.bool)


def spellings(name: str, overload: str = "default") -> tuple[Any, ...]:
    """An operator's overload, and the torch function and the tensor method of its name."""
    return getattr(getattr(aten, name), overload), getattr(torch, name), name


_UNARY = (*map(spellings, "relu neg abs clone sign isnan".split()), (F.relu,), (operator.neg,))
_OF_FLOATS = (*map(spellings, "exp log floor cos rsqrt".split()), (F.silu,))
_BINARY = (
    *((*spellings(name, "Tensor"), getattr(operator, python)) for name, python in (("add", "add"), ("mul", "mul"))),
    spellings("sub", "Tensor"),
    (*spellings("div", "Tensor"), operator.truediv),
    spellings("maximum"),
)
_COMPARE = tuple(spellings(name, "Tensor") for name in ("eq", "lt", "ge"))


def unary(draft: Draft) -> None:
    draft.add(draft.spell(draft.choose.one_of(_UNARY), draft.pick(is_number)))


def of_float(draft: Draft) -> None:
    draft.add(draft.spell(draft.choose.one_of(_OF_FLOATS), draft.pick(is_float)))


def binary(draft: Draft) -> None:
    """Two tensors that broadcast: one is of the other's shape, or a number that was summed up."""
    left = draft.pick(is_number)
    shape = left.meta["val"].shape
    right = draft.pick(lambda value: is_number(value) and value.shape == shape)
    if draft.choose.number(0, 1):
        right = draft.call(aten.sum.default, draft.pick())
    draft.add(draft.spell(draft.choose.one_of(_BINARY), left, right))


def with_constant(draft: Draft) -> None:
    constant = draft.choose.one_of([2, 0, 0.5, 1])
    draft.add(draft.spell(draft.choose.one_of(_BINARY[:3]), draft.pick(is_number), constant))


def compare(draft: Draft) -> None:
    left = draft.pick(is_number)
    draft.add(draft.spell(draft.choose.one_of(_COMPARE), left, draft.call("sum", draft.pick())))


def logic(draft: Draft) -> None:
    mask = draft.pick(lambda value: value.dtype is torch.bool)
    draft.add(draft.spell([*spellings("logical_not"), operator.invert], mask))


def where(draft: Draft) -> None:
    mask = draft.pick(lambda value: value.dtype is torch.bool)
    shape = mask.meta["val"].shape
    value = draft.pick(lambda value: value.shape == shape)
    draft.add(draft.spell([aten.where.self, torch.where], mask, value, draft.call("sum", draft.pick())))


def cast(draft: Draft) -> None:
    value, dtype = draft.pick(), draft.choose.one_of(DTYPES)
    if draft.choose.number(0, 2):
        draft.add(draft.spell([aten._to_copy.default, aten.to.dtype, "to"], value, dtype=dtype))
    else:
        draft.add(draft.spell(["float", "double", "int", "long", "bool"], value))


def reduce(draft: Draft) -> None:
    value = draft.pick()
    rank = value.meta["val"].dim()
    dim = draft.choose.number(0, max(rank - 1, 0))
    if draft.choose.number(0, 1):
        draft.add(draft.spell(spellings("sum"), value))
    else:
        draft.add(draft.spell(spellings("amax"), value, [dim], draft.choose.chance(2)))


def topk(draft: Draft) -> None:
    """A call with two results, either of which may be taken."""
    value = draft.pick(lambda value: value.dim() > 0 and is_float(value))
    both = draft.spell([aten.max.dim, torch.max, "max"], value, 0)
    for index in draft.choose.some_of([0, 1], 2):
        draft.add(draft.call(operator.getitem, both, index))


def concatenate(draft: Draft) -> None:
    first = draft.pick(lambda value: value.dim() > 0)
    like = first.meta["val"]
    second = draft.pick(lambda value: value.dim() > 0 and value.shape[1:] == like.shape[1:])
    draft.add(draft.spell([aten.cat.default, torch.cat], [first, second]))


def random(draft: Draft) -> None:
    draft.add(draft.spell([aten.rand_like.default, torch.rand_like], draft.pick(is_float)))


def dropout(draft: Draft) -> None:
    value = draft.pick(is_float)
    draft.add(draft.spell([F.dropout, torch.dropout], value, 0.5, draft.choose.chance(3)))


STEPS = (
    unary, unary, of_float, binary, binary, binary, with_constant, compare, logic, where, cast, reduce, topk,
    concatenate, random, dropout,
)  # fmt: skip
