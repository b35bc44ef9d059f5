"""Views, and the copies that torch makes of them: in HLO both are values."""

from __future__ import annotations

import math
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
from tracing.backends.hlo.dtypes import Number, to_xla

aten = torch.ops.aten


def _identity(x: Array, **_: Any) -> Array:
    return x


def _view(x: Array, size: Sequence[int]) -> Array:
    known = math.prod(s for s in size if s != -1)
    return lax.reshape(x, tuple(x.size // known if s == -1 else s for s in size))


def _view_dtype(x: Array, dtype: torch.dtype) -> Array:
    """Reinterpret the bits. The last dimension grows or shrinks with the item size, as in torch."""
    target = to_xla(dtype)
    ratio = x.dtype.itemsize / target.itemsize
    if ratio < 1:
        x = lax.reshape(x, (*x.shape[:-1], int(x.shape[-1] * ratio), int(1 / ratio)))
    bits = lax.bitcast_convert_type(x, target)
    return lax.reshape(bits, (*x.shape[:-1], int(x.shape[-1] * ratio))) if ratio > 1 else bits


def _permute(x: Array, dims: Sequence[int]) -> Array:
    return lax.transpose(x, tuple(dimension(dim, x.ndim) for dim in dims))


def _transpose(x: Array, dim0: int, dim1: int) -> Array:
    order = list(range(x.ndim))
    if order:
        a, b = dimension(dim0, x.ndim), dimension(dim1, x.ndim)
        order[a], order[b] = b, a
    return lax.transpose(x, tuple(order))


def _t(x: Array) -> Array:
    return _transpose(x, 0, 1) if x.ndim == 2 else x


def _unsqueeze(x: Array, dim: int) -> Array:
    return lax.expand_dims(x, (dimension(dim, x.ndim + 1),))


def _squeeze(x: Array, dims: int | Sequence[int] | None = None) -> Array:
    listed = range(x.ndim) if dims is None else (dims,) if isinstance(dims, int) else dims
    dropped = {dimension(dim, x.ndim) for dim in listed}
    return lax.reshape(x, tuple(s for i, s in enumerate(x.shape) if not (i in dropped and s == 1)))


def _expand(x: Array, size: Sequence[int], implicit: bool = False) -> Array:
    del implicit
    offset = len(size) - x.ndim
    return expand(x, tuple(x.shape[i - offset] if s == -1 else s for i, s in enumerate(size)))


def slice_bounds(size: int, start: int | None, end: int | None) -> tuple[int, int]:
    """Torch's clamping of slice bounds into [0, size]; `end` is never before `start`."""
    low, high, _ = slice(start, end).indices(size)
    return low, max(low, high)


def _slice(x: Array, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Array:
    axis = dimension(dim, x.ndim)
    low, high = slice_bounds(x.shape[axis], start, end)
    return lax.slice_in_dim(x, low, high, step, axis)


def _select(x: Array, dim: int, index: int) -> Array:
    axis = dimension(dim, x.ndim)
    return lax.squeeze(lax.slice_in_dim(x, index % x.shape[axis], index % x.shape[axis] + 1, 1, axis), (axis,))


def _split(x: Array, split_size: int, dim: int = 0) -> list[Array]:
    size = x.shape[dimension(dim, x.ndim)]
    return [_slice(x, dim, start, start + split_size) for start in range(0, max(size, 1), max(split_size, 1))]


def _split_with_sizes(x: Array, sizes: Sequence[int], dim: int = 0) -> list[Array]:
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return [_slice(x, dim, start, start + size) for start, size in zip(starts, sizes, strict=True)]


def _unbind(x: Array, dim: int = 0) -> list[Array]:
    return [_select(x, dim, i) for i in range(x.shape[dimension(dim, x.ndim)])]


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
    return _cat([_unsqueeze(x, dim) for x in promote(*tensors)], dimension(dim, tensors[0].ndim + 1))


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


def _diagonal(x: Array, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Array:
    """The diagonal of a flattened matrix is every (width + 1)-th element."""
    rows, columns = dimension(dim1, x.ndim), dimension(dim2, x.ndim)
    x = lax.transpose(x, (*(i for i in range(x.ndim) if i not in (rows, columns)), rows, columns))
    *batch, height, width = x.shape
    length = min(height, width - offset) if offset >= 0 else min(height + offset, width)
    start = offset if offset >= 0 else -offset * width
    flat = lax.reshape(x, (*batch, height * width))
    if length <= 0:
        return lax.slice_in_dim(flat, 0, 0, 1, len(batch))
    return lax.slice_in_dim(flat, start, start + (length - 1) * (width + 1) + 1, width + 1, len(batch))


def _roll(x: Array, shifts: Sequence[int], dims: Sequence[int] = ()) -> Array:
    if not dims:
        return lax.reshape(_roll(lax.reshape(x, (x.size,)), shifts, (0,)), x.shape)
    for shift, dim in zip(shifts, dims, strict=True):
        axis = dimension(dim, x.ndim)
        cut = -shift % max(x.shape[axis], 1)
        x = lax.concatenate([_slice(x, axis, cut), _slice(x, axis, 0, cut)], axis)
    return x


def _triangle(keep: Callable[[Array, Array], Array]) -> Callable[..., Array]:
    def lowered(x: Array, diagonal: int = 0) -> Array:
        rows, columns = iota(x.shape, x.ndim - 2), iota(x.shape, x.ndim - 1)
        inside = keep(lax.sub(columns, rows), full(x.shape, diagonal, rows.dtype))
        return lax.select(inside, x, full(x.shape, 0, x.dtype))

    return lowered


# Views, which torch also offers as copies: `aten.select.int` and `aten.select_copy.int`.
_VIEWS: dict[tuple[str, str], Callable[..., Any]] = {
    ("alias", "default"): _identity,
    ("detach", "default"): _identity,
    ("view", "default"): _view,
    ("view", "dtype"): _view_dtype,
    ("permute", "default"): _permute,
    ("transpose", "int"): _transpose,
    ("t", "default"): _t,
    ("unsqueeze", "default"): _unsqueeze,
    ("squeeze", "default"): _squeeze,
    ("squeeze", "dim"): _squeeze,
    ("squeeze", "dims"): _squeeze,
    ("expand", "default"): _expand,
    ("slice", "Tensor"): _slice,
    ("select", "int"): _select,
    ("split", "Tensor"): _split,
    ("split_with_sizes", "default"): _split_with_sizes,
    ("unbind", "int"): _unbind,
    ("diagonal", "default"): _diagonal,
}


def _overload(name: str, overload: str) -> Any:
    return getattr(getattr(aten, name), overload)


LOWERINGS: dict[Any, Callable[..., Any]] = {
    **{_overload(name, overload): fn for (name, overload), fn in _VIEWS.items()},
    **{_overload(f"{name}_copy", overload): fn for (name, overload), fn in _VIEWS.items()},
    aten.clone.default: _identity,
    aten.lift_fresh_copy.default: _identity,
    aten._unsafe_view.default: _view,
    aten._reshape_copy.default: _view,
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
