"""Reductions and running reductions. Half precision is summed in float32 and rounded once, as torch does."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from jax import lax

from tracing.backends.hlo.arrays import (
    INT32,
    Array,
    cast,
    dimension,
    dimensions,
    expand,
    full,
    is_float,
    truth,
    widen,
)
from tracing.backends.hlo.dtypes import Number, to_xla

aten = torch.ops.aten
Dims: TypeAlias = int | Sequence[int] | None
_Reduce: TypeAlias = Callable[[Array, tuple[int, ...]], Array]


def _keep(reduced: Array, x: Array, dims: tuple[int, ...], keepdim: bool) -> Array:
    if not keepdim:
        return reduced
    return lax.reshape(reduced, tuple(1 if i in dims else s for i, s in enumerate(x.shape)))


def reduced(fn: _Reduce, x: Array, dim: Dims, keepdim: bool) -> Array:
    dims = dimensions(dim, x.ndim)
    return _keep(fn(x, dims), x, dims, keepdim)


def _accumulated(x: Array, dtype: torch.dtype | None) -> tuple[Array, np.dtype[Any]]:
    """`x` in the type to add up in, and the result's type: integers and bools add up as int64, here int32."""
    result = to_xla(dtype) if dtype is not None else np.dtype(x.dtype) if is_float(x) else INT32
    return widen(cast(x, result)), result


def _sum(x: Array, dim: Dims = None, keepdim: bool = False, *, dtype: torch.dtype | None = None) -> Array:
    value, result = _accumulated(x, dtype)
    return cast(reduced(lax.reduce_sum, value, dim, keepdim), result)


def _prod(x: Array, dim: Dims = None, keepdim: bool = False, *, dtype: torch.dtype | None = None) -> Array:
    value, result = _accumulated(x, dtype)
    return cast(reduced(lax.reduce_prod, value, dim, keepdim), result)


def _mean(x: Array, dim: Dims = None, keepdim: bool = False, *, dtype: torch.dtype | None = None) -> Array:
    value, result = _accumulated(x, dtype)
    total = reduced(lax.reduce_sum, value, dim, keepdim)
    return cast(lax.div(total, full(total.shape, _count(x, dim), total.dtype)), result)


def _count(x: Array, dim: Dims) -> int:
    return math.prod(x.shape[d] for d in dimensions(dim, x.ndim))


def var_mean(x: Array, dim: Dims, correction: Number | None, keepdim: bool) -> tuple[Array, Array]:
    value = widen(x)
    count = _count(x, dim)
    mean = _mean(value, dim, keepdim=True)
    centred = lax.sub(value, expand(mean, value.shape))
    total = reduced(lax.reduce_sum, lax.mul(centred, centred), dim, keepdim)
    divisor = max(count - (1 if correction is None else correction), 0)
    variance = lax.div(total, full(total.shape, divisor, total.dtype))
    return cast(variance, x.dtype), cast(lax.reshape(mean, variance.shape), x.dtype)


def _var(x: Array, dim: Dims = None, *, correction: Number | None = None, keepdim: bool = False) -> Array:
    return var_mean(x, dim, correction, keepdim)[0]


def _var_and_mean(
    x: Array, dim: Dims = None, *, correction: Number | None = None, keepdim: bool = False
) -> tuple[Array, Array]:
    return var_mean(x, dim, correction, keepdim)


def _extreme(fn: _Reduce) -> Callable[..., Array]:
    def lowered(x: Array, dim: Dims = (), keepdim: bool = False) -> Array:
        return reduced(fn, x, dim, keepdim)

    return lowered


def _truth_reduction(fn: _Reduce) -> Callable[..., Array]:
    def lowered(x: Array, dim: Dims = None, keepdim: bool = False) -> Array:
        return reduced(fn, truth(x), dim, keepdim)

    return lowered


def _arg_extreme(fn: Callable[..., Array]) -> Callable[..., Array]:
    """The first index of the extreme value; without `dim`, in the flattened array."""

    def lowered(x: Array, dim: int | None = None, keepdim: bool = False) -> Array:
        if x.ndim == 0:
            return full((), 0, INT32)
        if dim is None:
            index = fn(lax.reshape(x, (x.size,)), 0, INT32)
            return lax.reshape(index, (1,) * x.ndim) if keepdim else index
        axis = dimension(dim, x.ndim)
        return _keep(fn(x, axis, INT32), x, (axis,), keepdim)

    return lowered


def _extreme_and_index(reduce: _Reduce, argument: Callable[..., Array]) -> Callable[..., tuple[Array, Array]]:
    index = _arg_extreme(argument)

    def lowered(x: Array, dim: int, keepdim: bool = False) -> tuple[Array, Array]:
        return reduced(reduce, x, dim, keepdim), index(x, dim, keepdim)

    return lowered


def _scan(combine: Callable[[Array, Array], Array], start: Number) -> Callable[..., Array]:
    """A running reduction as one reduce-window over everything up to each element, as torch_xla lowers it."""

    def lowered(x: Array, dim: int, *, dtype: torch.dtype | None = None) -> Array:
        value, result = _accumulated(x, dtype)
        if x.ndim == 0:
            return cast(value, result)
        axis = dimension(dim, x.ndim)
        window = tuple(max(s, 1) if i == axis else 1 for i, s in enumerate(x.shape))
        padding = [(size - 1, 0) for size in window]
        scanned = lax.reduce_window(value, full((), start, value.dtype), combine, window, (1,) * x.ndim, padding)
        return cast(scanned, result)

    return lowered


def _extreme_of_all(fn: _Reduce) -> Callable[[Array], Array]:
    return lambda x: reduced(fn, x, None, False)


LOWERINGS: dict[Any, Callable[..., Any]] = {
    aten.sum.default: _sum,
    aten.sum.dim_IntList: _sum,
    aten.prod.default: _prod,
    aten.prod.dim_int: _prod,
    aten.mean.default: _mean,
    aten.mean.dim: _mean,
    aten.var.correction: _var,
    aten.var_mean.correction: _var_and_mean,
    aten.amax.default: _extreme(lax.reduce_max),
    aten.amin.default: _extreme(lax.reduce_min),
    aten.max.default: _extreme_of_all(lax.reduce_max),
    aten.min.default: _extreme_of_all(lax.reduce_min),
    aten.max.dim: _extreme_and_index(lax.reduce_max, lax.argmax),
    aten.min.dim: _extreme_and_index(lax.reduce_min, lax.argmin),
    aten.argmax.default: _arg_extreme(lax.argmax),
    aten.argmin.default: _arg_extreme(lax.argmin),
    aten.any.default: _truth_reduction(lax.reduce_or),
    aten.any.dim: _truth_reduction(lax.reduce_or),
    aten.any.dims: _truth_reduction(lax.reduce_or),
    aten.all.default: _truth_reduction(lax.reduce_and),
    aten.all.dim: _truth_reduction(lax.reduce_and),
    aten.all.dims: _truth_reduction(lax.reduce_and),
    aten.cumsum.default: _scan(lax.add, 0),
    aten.cumprod.default: _scan(lax.mul, 1),
}
