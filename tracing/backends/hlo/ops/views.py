"""Views of one tensor, and the ops that copy what they view. In HLO both are values."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jax import lax

from tracing.backends.hlo.arrays import (
    Array,
    dimension,
    expand,
)
from tracing.backends.hlo.dtypes import to_xla

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


def unsqueeze(x: Array, dim: int) -> Array:
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


def slice_view(x: Array, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Array:
    axis = dimension(dim, x.ndim)
    low, high = slice_bounds(x.shape[axis], start, end)
    return lax.slice_in_dim(x, low, high, step, axis)


def _select(x: Array, dim: int, index: int) -> Array:
    axis = dimension(dim, x.ndim)
    return lax.squeeze(lax.slice_in_dim(x, index % x.shape[axis], index % x.shape[axis] + 1, 1, axis), (axis,))


def _split(x: Array, split_size: int, dim: int = 0) -> list[Array]:
    size = x.shape[dimension(dim, x.ndim)]
    return [slice_view(x, dim, start, start + split_size) for start in range(0, max(size, 1), max(split_size, 1))]


def _split_with_sizes(x: Array, sizes: Sequence[int], dim: int = 0) -> list[Array]:
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return [slice_view(x, dim, start, start + size) for start, size in zip(starts, sizes, strict=True)]


def _unbind(x: Array, dim: int = 0) -> list[Array]:
    return [_select(x, dim, i) for i in range(x.shape[dimension(dim, x.ndim)])]


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


# A view and the op that copies it: `aten.select.int` and `aten.select_copy.int`.
_VIEWS: dict[tuple[str, str], Callable[..., Any]] = {
    ("alias", "default"): _identity,
    ("detach", "default"): _identity,
    ("view", "default"): _view,
    ("view", "dtype"): _view_dtype,
    ("permute", "default"): _permute,
    ("transpose", "int"): _transpose,
    ("t", "default"): _t,
    ("unsqueeze", "default"): unsqueeze,
    ("squeeze", "default"): _squeeze,
    ("squeeze", "dim"): _squeeze,
    ("squeeze", "dims"): _squeeze,
    ("expand", "default"): _expand,
    ("slice", "Tensor"): slice_view,
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
}
