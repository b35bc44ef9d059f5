"""Calls whose result may share memory with their operand, and calls that look like it."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch.fx import Node

from tests.fuzz.draft import Draft, UnfitError

aten = torch.ops.aten
View = Callable[[Draft, Node, int, int], Node]
"""Makes a view of a value of some rank, at one of its dimensions."""


def view(draft: Draft) -> None:
    """A view of any value but a number."""
    source = draft.pick(lambda value: value.dim() > 0 and value.numel() > 0)
    rank = source.meta["val"].dim()
    draft.add(draft.choose.one_of(_VIEWS)(draft, source, rank, draft.choose.number(0, rank - 1)))


def _permute(draft: Draft, source: Node, rank: int, dim: int) -> Node:
    turned = [*range(dim, rank), *range(dim)]
    if draft.choose.number(0, 1):
        return draft.call("permute", source, *turned)
    return draft.spell([aten.permute.default, torch.permute, "permute"], source, turned)


def _basic(draft: Draft, source: Node, rank: int, dim: int) -> Node:
    keys: tuple[Any, ...] = (0, -1, slice(0, 1), (..., 0), None, (slice(None), None))
    return draft.call(operator.getitem, source, draft.choose.one_of(keys))


def _expand(draft: Draft, source: Node, rank: int, dim: int) -> Node:
    outer = draft.spell([aten.unsqueeze.default, torch.unsqueeze, "unsqueeze"], source, 0)
    return draft.spell([aten.expand.default, "expand"], outer, [2, *source.meta["val"].shape])


def _flat(draft: Draft, source: Node, rank: int, dim: int) -> Node:
    """A view with one dimension. FakeTensor yields one also where torch refuses it; the meta device does not."""
    value = source.meta["val"]
    try:
        torch.empty_strided(value.shape, value.stride(), device="meta").view(-1)
    except RuntimeError as error:
        raise UnfitError from error
    return draft.spell([aten.view.default, "view", aten._unsafe_view.default], source, [-1])


def _attribute(draft: Draft, source: Node, rank: int, dim: int) -> Node:
    return draft.call(getattr, source, draft.choose.one_of(["data", "real", "mT"]))


_VIEWS: tuple[View, ...] = (
    _permute, _permute, _basic, _basic, _expand, _attribute,
    lambda d, s, rank, dim: d.spell([aten.transpose.int, torch.transpose, "transpose"], s, dim, rank - 1),
    lambda d, s, rank, dim: d.spell([aten.select.int, torch.select, "select"], s, dim, 0),
    lambda d, s, rank, dim: d.call(aten.slice.Tensor, s, dim, 0, 1),
    lambda d, s, rank, dim: d.spell([aten.narrow.default, torch.narrow, "narrow"], s, dim, 0, 1),
    lambda d, s, rank, dim: d.spell([aten.unsqueeze.default, torch.unsqueeze, "unsqueeze"], s, dim),
    lambda d, s, rank, dim: d.spell([aten.squeeze.default, torch.squeeze, "squeeze"], s),
    lambda d, s, rank, dim: d.spell([aten.reshape.default, torch.reshape, "reshape"], s, [-1]),
    _flat,
    lambda d, s, rank, dim: d.spell([aten.flatten.using_ints, torch.flatten, "flatten"], s, 0, dim),
    lambda d, s, rank, dim: d.spell([aten.contiguous.default, "contiguous"], s),
    lambda d, s, rank, dim: d.spell([aten.detach.default, torch.detach, "detach", aten.alias.default], s),
    lambda d, s, rank, dim: d.spell([torch.movedim, "movedim"], s, dim, 0),
    lambda d, s, rank, dim: d.spell([aten.diagonal.default, torch.diagonal], s) if rank > 1 else d.call("detach", s),
    lambda d, s, rank, dim: d.call(aten.as_strided.default, d.call("contiguous", s), [s.meta["val"].numel()], [1]),
)  # fmt: skip


def split(draft: Draft) -> None:
    """Several views at once, some of which are taken."""
    source = draft.pick(lambda value: value.dim() > 0 and value.shape[0] > 1)
    parts = draft.choose.one_of(_SPLITS)(draft, source)
    for index in draft.choose.some_of(range(len(parts.meta["val"])), 2):
        draft.add(draft.call(operator.getitem, parts, index))


_SPLITS: tuple[Callable[[Draft, Node], Node], ...] = (
    lambda d, s: d.spell([aten.split.Tensor, torch.split, "split"], s, 1),
    lambda d, s: d.spell([aten.chunk.default, torch.chunk, "chunk"], s, 2),
    lambda d, s: d.spell([aten.unbind.int, torch.unbind, "unbind"], s),
    lambda d, s: d.call(aten.unsafe_split.Tensor, s, 1),
)

STEPS = (view, view, view, view, view, split)
