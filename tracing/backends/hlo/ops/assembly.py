"""Tensors put together, padded, repeated, turned, masked or converted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jax import lax

from tracing.backends.hlo.arrays import (
    Array,
    cast_torch,
    dimension,
    expand,
    full,
    iota,
    promote,
    result_dtype,
)
from tracing.backends.hlo.arrays import cast as cast_to
from tracing.backends.hlo.dtypes import Number
from tracing.backends.hlo.ops.views import slice_view, unsqueeze

aten = torch.ops.aten


def _to_copy(x: Array, *, dtype: torch.dtype | None = None, **_: Any) -> Array:
    return cast_torch(x, dtype)


def _copy(x: Array, src: Array, non_blocking: bool = False) -> Array:
    del non_blocking
    return expand(cast_to(src, x.dtype), x.shape)


def _cat(tensors: Sequence[Array], dim: int = 0) -> Array:
    dtype = result_dtype(*tensors)
    legacy_empty = [x for x in tensors if x.shape == (0,)]
    kept = [x for x in tensors if x.shape != (0,)] or legacy_empty
    return lax.concatenate([cast_to(x, dtype) for x in kept], dimension(dim, kept[0].ndim))


def _stack(tensors: Sequence[Array], dim: int = 0) -> Array:
    return _cat([unsqueeze(x, dim) for x in promote(*tensors)], dimension(dim, tensors[0].ndim + 1))


def _pad(x: Array, pad: Sequence[int], value: Number = 0) -> Array:
    """`pad` lists (before, after) pairs from the last dimension on; a negative amount crops."""
    amounts = [(0, 0, 0)] * x.ndim
    for i in range(len(pad) // 2):
        amounts[x.ndim - 1 - i] = (pad[2 * i], pad[2 * i + 1], 0)
    return lax.pad(x, full((), value, x.dtype), amounts)


def _flip(x: Array, dims: Sequence[int]) -> Array:
    return lax.rev(x, tuple(dimension(dim, x.ndim) for dim in dims))


def _repeat(x: Array, repeats: Sequence[int]) -> Array:
    """Each dimension of size s becomes (repeat, s), broadcast and folded back."""
    shape = (1,) * (len(repeats) - x.ndim) + x.shape
    tiled = tuple(n for pair in zip(repeats, shape, strict=True) for n in pair)
    axes = tuple(2 * i + 1 for i in range(len(shape)))
    wide = lax.broadcast_in_dim(lax.reshape(x, shape), tiled, axes)
    return lax.reshape(wide, tuple(r * s for r, s in zip(repeats, shape, strict=True)))


def _roll(x: Array, shifts: Sequence[int], dims: Sequence[int] = ()) -> Array:
    if not dims:
        return lax.reshape(_roll(lax.reshape(x, (x.size,)), shifts, (0,)), x.shape)
    for shift, dim in zip(shifts, dims, strict=True):
        axis = dimension(dim, x.ndim)
        cut = -shift % max(x.shape[axis], 1)
        x = lax.concatenate([slice_view(x, axis, cut), slice_view(x, axis, 0, cut)], axis)
    return x


def _triangle(keep: Callable[[Array, Array], Array]) -> Callable[..., Array]:
    def lowered(x: Array, diagonal: int = 0) -> Array:
        rows, columns = iota(x.shape, x.ndim - 2), iota(x.shape, x.ndim - 1)
        inside = keep(lax.sub(columns, rows), full(x.shape, diagonal, rows.dtype))
        return lax.select(inside, x, full(x.shape, 0, x.dtype))

    return lowered


LOWERINGS: dict[Any, Callable[..., Any]] = {
    aten._to_copy.default: _to_copy,
    aten.copy.default: _copy,
    aten.cat.default: _cat,
    aten.stack.default: _stack,
    aten.constant_pad_nd.default: _pad,
    aten.flip.default: _flip,
    aten.repeat.default: _repeat,
    aten.roll.default: _roll,
    aten.tril.default: _triangle(lax.le),
    aten.triu.default: _triangle(lax.ge),
}
