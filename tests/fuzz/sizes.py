"""Shapes as values: sizes and strides in arithmetic and arguments, factories, calls that take another's shape."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.fx import Node

from tests.fuzz.draft import Draft, UnfitError, is_number
from tests.fuzz.tensors import DTYPES

aten = torch.ops.aten


def read_size(draft: Draft) -> None:
    """A number that depends on a value's shape alone."""
    source = draft.pick_unread(lambda value: value.dim() > 0)
    dim = draft.choose.number(0, source.meta["val"].dim() - 1)
    draft.sizes.append(draft.choose.one_of(_READS)(draft, source, dim))


_READS: tuple[Callable[[Draft, Node, int], Node], ...] = (
    lambda d, s, dim: d.spell([aten.sym_size.int, "size"], s, dim),
    lambda d, s, dim: d.call(operator.getitem, d.call(getattr, s, "shape"), dim),
    lambda d, s, dim: d.call(operator.getitem, d.call("size", s), dim),
    lambda d, s, dim: d.spell([aten.sym_numel.default, "numel", torch.numel, "nelement"], s),
    lambda d, s, dim: d.spell([aten.sym_stride.int, "stride"], s, dim),
    lambda d, s, dim: d.spell(["dim", "element_size", "ndimension"], s),
    lambda d, s, dim: d.spell([operator.add, operator.mul, operator.floordiv], d.call("size", s, dim), 2),
)


def use_size(draft: Draft) -> None:
    if not draft.sizes or draft.choose.chance(2):
        read_size(draft)
    draft.add(draft.choose.one_of(_USES)(draft, draft.pick(), draft.latest(draft.sizes)))


def _filled(draft: Draft, value: Node, number: Node) -> Node:
    """A copy filled with a number that its dtype holds."""
    if value.meta["val"].dtype is torch.int8:
        raise UnfitError
    return draft.call("fill_", draft.call("clone", value), number)


_USES: tuple[Callable[[Draft, Node, Node], Node], ...] = (
    lambda d, v, n: d.spell([aten.mul.Tensor, operator.mul, "mul"], v, n),
    lambda d, v, n: d.spell([aten.full.default, torch.full], [n], 1.5),
    lambda d, v, n: d.spell([aten.arange.default, torch.arange], n),
    lambda d, v, n: d.spell([aten.zeros.default, torch.zeros], [n, 2]),
    lambda d, v, n: d.call(aten.slice.Tensor, v, 0, 0, n),
    lambda d, v, n: d.call("expand", d.call("unsqueeze", d.call("sum", v), 0), n),
    lambda d, v, n: d.call("view", d.call("expand", d.call("sum", v), n), n),
    _filled,
)


def use_shape(draft: Draft) -> None:
    """A whole shape as an argument."""
    shape, number = _shape(draft), draft.call(aten.sum.default, draft.pick())
    draft.add(draft.choose.one_of(_USES_OF_SHAPE)(draft, number, shape))


_USES_OF_SHAPE: tuple[Callable[[Draft, Node, Node], Node], ...] = (
    lambda d, n, shape: d.call("expand", n, shape),
    lambda d, n, shape: d.call(torch.zeros, shape),
    lambda d, n, shape: d.call("new_ones", n, shape),
    lambda d, n, shape: d.call(torch.full, shape, 2.0),
)


def _shape(draft: Draft) -> Node:
    source = draft.pick_unread()
    return draft.call("size", source) if draft.choose.number(0, 1) else draft.call(getattr, source, "shape")


def factory(draft: Draft) -> None:
    name = draft.choose.one_of(["zeros_like", "ones_like", "full_like"])
    args: Sequence[Any] = [3] if name == "full_like" else []
    typed: dict[str, Any] = {"dtype": draft.choose.one_of(DTYPES)}
    options = draft.choose.one_of([{}, {}, typed, {"memory_format": torch.contiguous_format}])
    target = draft.choose.one_of([getattr(aten, name).default, getattr(torch, name)])
    draft.add(draft.call(target, draft.pick_unread(), *args, **options))


def new_factory(draft: Draft) -> None:
    name = draft.choose.one_of(["new_zeros", "new_ones", "new_full"])
    fill = [2] if name == "new_full" else []
    draft.add(draft.spell([getattr(aten, name).default, name], draft.pick_unread(), [2, 3], *fill))


def empty(draft: Draft) -> None:
    """Uninitialized memory, which is filled before anything can read it."""
    made = draft.spell([aten.empty_like.default, torch.empty_like], draft.pick_unread(is_number))
    draft.spell([aten.fill_.Scalar, "fill_"], made, 4)
    draft.add(made)


def as_other(draft: Draft) -> None:
    """A call that takes the shape or the dtype of another tensor."""
    other = draft.pick_unread()
    shape, count = other.meta["val"].shape, other.meta["val"].numel()
    name = draft.choose.one_of(["expand_as", "type_as", "view_as", "reshape_as"])
    if name == "expand_as":
        source = draft.call("sum", draft.pick())
    elif name == "type_as":
        source = draft.pick()
    else:
        source = draft.pick(lambda value: value.numel() == count and (name != "view_as" or value.shape == shape))
    draft.add(draft.spell([getattr(aten, name).default, name], source, other))


def assert_metadata(draft: Draft) -> None:
    source = draft.pick_unread()
    draft.call(aten._assert_tensor_metadata.default, source, None, None, source.meta["val"].dtype)


STEPS = (read_size, read_size, use_size, use_size, use_shape, factory, factory, new_factory, empty, as_other, as_other,
         assert_metadata)  # fmt: skip
