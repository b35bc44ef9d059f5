"""Sorts, which also give the indices, and what is a slice of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jax import lax

from tracing.backends.hlo.arrays import (
    INT32,
    Array,
    dimension,
    full,
    iota,
)

aten = torch.ops.aten


def _sorted(x: Array, dim: int, descending: bool) -> tuple[Array, Array]:
    """Sort with the indices as payload. Descending is the ascending order of the reversed array, reversed: stable."""
    axis = dimension(dim, x.ndim)
    indices = iota(x.shape, axis)
    if not descending:
        values, order = lax.sort((x, indices), dimension=axis, is_stable=True, num_keys=1)
        return values, order
    reversed_pair = (lax.rev(x, (axis,)), lax.rev(indices, (axis,)))
    values, order = lax.sort(reversed_pair, dimension=axis, is_stable=True, num_keys=1)
    return lax.rev(values, (axis,)), lax.rev(order, (axis,))


def _sort(x: Array, dim: int = -1, descending: bool = False) -> tuple[Array, Array]:
    return (x, full((), 0, INT32)) if x.ndim == 0 else _sorted(x, dim, descending)


def _stable_sort(
    x: Array, *, stable: bool | None = None, dim: int = -1, descending: bool = False
) -> tuple[Array, Array]:
    del stable
    return _sort(x, dim, descending)


def _topk(
    x: Array,
    k: int,
    dim: int = -1,
    largest: bool = True,
    sorted: bool = True,  # noqa: A002 - torch's name
) -> tuple[Array, Array]:
    del sorted
    values, indices = _sort(x, dim, largest)
    if x.ndim == 0:
        return values, indices
    axis = dimension(dim, x.ndim)
    return lax.slice_in_dim(values, 0, k, 1, axis), lax.slice_in_dim(indices, 0, k, 1, axis)


LOWERINGS: dict[Any, Callable[..., Any]] = {
    aten.sort.default: _sort,
    aten.sort.stable: _stable_sort,
    aten.topk.default: _topk,
}
