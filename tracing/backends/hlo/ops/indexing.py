"""Gathers and scatters by index tensors.

Where torch raises an IndexError, a compiled graph cannot: a read through an index out of range is clamped to the
nearest valid one, and a write through it is dropped. That is what XLA's gather and scatter do, so a -1 in a block table
reads block 0. `index`, `index_put` and `index_fill` count a negative index from the end first, as torch does;
`index_select`, `gather`, `embedding`, `scatter`, `index_copy` and `index_add` do not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jax import lax

from tracing.backends.hlo.arrays import (
    BOOL,
    INT32,
    Array,
    UnsupportedUseError,
    as_array,
    broadcast,
    cast,
    dimension,
    expand,
    full,
    iota,
)
from tracing.backends.hlo.dtypes import Number
from tracing.backends.hlo.ops.views import slice_bounds

aten = torch.ops.aten
_CLAMP, _DROP = lax.GatherScatterMode.CLIP, lax.GatherScatterMode.FILL_OR_DROP


def take(x: Array, index: Array, dim: int) -> Array:
    """Slices of `x` along `dim`: the result has the index's dimensions in place of `dim`."""
    return _read(x, {dim: index}, dim)


def _read(x: Array, indices: dict[int, Array], position: int) -> Array:
    """One gather with an index for each of some dimensions; their shape replaces them at `position`."""
    coordinates, shape = _coordinates(indices)
    numbers = lax.GatherDimensionNumbers(_window(x.ndim, indices, position, len(shape)), tuple(indices), tuple(indices))
    sizes = tuple(1 if i in indices else s for i, s in enumerate(x.shape))
    return lax.gather(x, coordinates, numbers, sizes, mode=_CLAMP)


def _coordinates(indices: dict[int, Array]) -> tuple[Array, tuple[int, ...]]:
    """The index tensors side by side in a new last dimension."""
    columns = broadcast(*(cast(index, INT32) for index in indices.values()))
    shape = columns[0].shape
    return lax.concatenate([lax.expand_dims(c, (len(shape),)) for c in columns], len(shape)), shape


def _window(rank: int, indices: dict[int, Array], position: int, index_rank: int) -> tuple[int, ...]:
    """Where the dimensions that are not indexed stand in the result."""
    kept = rank - len(indices)
    return tuple(i if i < position else i + index_rank for i in range(kept))


def _write(x: Array, indices: dict[int, Array], values: Array, position: int, scatter: Callable[..., Array]) -> Array:
    coordinates, shape = _coordinates(indices)
    window = _window(x.ndim, indices, position, len(shape))
    result = [s for i, s in enumerate(x.shape) if i not in indices]
    result[position:position] = shape
    numbers = lax.ScatterDimensionNumbers(window, tuple(indices), tuple(indices))
    return scatter(x, coordinates, expand(cast(values, x.dtype), result), numbers, mode=_DROP)


def _index_select(x: Array, dim: int, index: Array) -> Array:
    if x.ndim == 0:
        return x
    return take(x, lax.reshape(index, (index.size,)), dimension(dim, x.ndim))


def _embedding(weight: Array, indices: Array, *_: Any, **__: Any) -> Array:
    return take(weight, indices, 0)


def _pointwise(x: Array, dim: int, index: Array) -> dict[int, Array]:
    """Full coordinates of each element of `index`: itself along `dim`, its own place elsewhere."""
    axis = dimension(dim, x.ndim)
    return {i: index if i == axis else iota(index.shape, i) for i in range(x.ndim)}


def _gather(x: Array, dim: int, index: Array, *, sparse_grad: bool = False) -> Array:
    del sparse_grad
    if x.ndim == 0:
        return expand(x, index.shape)
    return _read(x, _pointwise(x, dim, index), 0)


def _scatter_sum(x: Array, *args: Any, **kwargs: Any) -> Array:
    """`lax.scatter_add`. Truth values add up to whether one of them is true."""
    return lax.scatter_max(x, *args, **kwargs) if x.dtype == BOOL else lax.scatter_add(x, *args, **kwargs)


def _scatter(scatter: Callable[..., Array]) -> Callable[..., Array]:
    def lowered(x: Array, dim: int, index: Array, source: Array | Number) -> Array:
        values = as_array(source, x.dtype)
        if x.ndim == 0:
            rows = lax.reshape(index, (index.size,))
            return lax.reshape(lowered(lax.reshape(x, (1,)), 0, rows, expand(values, rows.shape)), ())
        if values.ndim:
            values = lax.slice(values, (0,) * values.ndim, index.shape)
        return _write(x, _pointwise(x, dim, index), values, 0, scatter)

    return lowered


def _scatter_product(x: Array, *args: Any, **kwargs: Any) -> Array:
    return lax.scatter_min(x, *args, **kwargs) if x.dtype == BOOL else lax.scatter_mul(x, *args, **kwargs)


_REDUCTIONS: Mapping[str, Callable[..., Array]] = {
    "sum": _scatter_sum,
    "prod": _scatter_product,
    "amax": lax.scatter_max,
    "amin": lax.scatter_min,
}


def _scatter_reduce(
    x: Array, dim: int, index: Array, source: Array, reduce: str, *, include_self: bool = True
) -> Array:
    if reduce not in _REDUCTIONS or not include_self:
        raise UnsupportedUseError(f"reduce={reduce!r} with include_self={include_self} is not lowered")
    return _scatter(_REDUCTIONS[reduce])(x, dim, index, source)


def _wrapped(index: Array, size: int) -> Array:
    """A negative index counted from the end."""
    if index.dtype == BOOL or index.dtype == np.uint8:
        raise UnsupportedUseError("a mask as index selects a number of elements that is only known at run time")
    index = cast(index, INT32)
    negative = lax.lt(index, full(index.shape, 0, INT32))
    return lax.select(negative, lax.add(index, full(index.shape, size, INT32)), index)


def _advanced(x: Array, indices: Sequence[Array | None]) -> tuple[dict[int, Array], int]:
    """The indexed dimensions and where the result has the index's shape: in place if they are adjacent, else first."""
    given = {i: _wrapped(index, x.shape[i]) for i, index in enumerate(indices) if index is not None}
    dims = list(given)
    return given, dims[0] if dims == list(range(dims[0], dims[-1] + 1)) else 0


def _index(x: Array, indices: Sequence[Array | None]) -> Array:
    return _read(x, *_advanced(x, indices))


def _index_put(x: Array, indices: Sequence[Array | None], values: Array, accumulate: bool = False) -> Array:
    given, position = _advanced(x, indices)
    return _write(x, given, values, position, _scatter_sum if accumulate else lax.scatter)


def _rows(write: Callable[..., Array]) -> Callable[..., Array]:
    """An op that writes whole slices of `x` along `dim`. A scalar is a vector of one."""

    def lowered(x: Array, dim: int, index: Array, source: Array | Number, **options: Any) -> Array:
        values = as_array(source, x.dtype)
        if x.ndim == 0:
            values = lax.reshape(values, (1,)) if values.ndim == 0 and index.ndim else values
            return lax.reshape(lowered(lax.reshape(x, (1,)), 0, index, values, **options), ())
        return write(x, dimension(dim, x.ndim), lax.reshape(index, (index.size,)), values, **options)

    return lowered


def _index_copy(x: Array, axis: int, index: Array, source: Array) -> Array:
    return _write(x, {axis: index}, source, axis, lax.scatter)


def _index_add(x: Array, axis: int, index: Array, source: Array, *, alpha: Number = 1) -> Array:
    scaled = source if alpha == 1 or x.dtype == BOOL else lax.mul(source, full(source.shape, alpha, source.dtype))
    return _write(x, {axis: index}, scaled, axis, _scatter_sum)


def _index_fill(x: Array, axis: int, index: Array, value: Array) -> Array:
    """Negative indices count from the end here, unlike in `index_copy` and `index_add`, which torch refuses."""
    value = lax.reshape(value, ()) if value.ndim else value
    return _write(x, {axis: _wrapped(index, x.shape[axis])}, value, axis, lax.scatter)


def _select_scatter(x: Array, source: Array, dim: int, index: int) -> Array:
    axis = dimension(dim, x.ndim)
    row = lax.expand_dims(cast(source, x.dtype), (axis,))
    return _update(x, row, axis, index % x.shape[axis])


def _slice_scatter(
    x: Array, source: Array, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Array:
    axis = dimension(dim, x.ndim)
    low, high = slice_bounds(x.shape[axis], start, end)
    if step == 1:
        return _update(x, cast(source, x.dtype), axis, low)
    index = np.arange(low, high, step, dtype=INT32)
    return _write(x, {axis: lax.convert_element_type(index, INT32)}, source, axis, lax.scatter)


def _update(x: Array, rows: Array, axis: int, start: int) -> Array:
    """`rows` in place of as many rows of `x`, from `start` on."""
    starts = [np.int32(start if i == axis else 0) for i in range(x.ndim)]
    return lax.dynamic_update_slice(x, rows, starts)


LOWERINGS: dict[Any, Callable[..., Any]] = {
    aten.index_select.default: _index_select,
    aten.embedding.default: _embedding,
    aten.gather.default: _gather,
    aten.index.Tensor: _index,
    aten._unsafe_index.Tensor: _index,
    aten.index_put.default: _index_put,
    aten._unsafe_index_put.default: _index_put,
    aten.index_copy.default: _rows(_index_copy),
    aten.index_add.default: _rows(_index_add),
    aten.index_fill.int_Scalar: _rows(_index_fill),
    aten.index_fill.int_Tensor: _rows(_index_fill),
    aten.scatter.src: _scatter(lax.scatter),
    aten.scatter.value: _scatter(lax.scatter),
    aten.scatter_add.default: _scatter(_scatter_sum),
    aten.scatter_reduce.two: _scatter_reduce,
    aten.select_scatter.default: _select_scatter,
    aten.slice_scatter.default: _slice_scatter,
}
