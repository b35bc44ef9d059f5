"""Reductions, scans and sorts. Half precision is summed in float32 and rounded once, as torch does."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from jax import lax

from tracing.backends.hlo.arrays import (
    FLOAT32,
    INT32,
    Array,
    cast,
    dimension,
    dimensions,
    expand,
    full,
    iota,
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


def _reduced(fn: _Reduce, x: Array, dim: Dims, keepdim: bool) -> Array:
    dims = dimensions(dim, x.ndim)
    return _keep(fn(x, dims), x, dims, keepdim)


def _accumulated(x: Array, dtype: torch.dtype | None) -> tuple[Array, np.dtype[Any]]:
    """`x` in the type to add up in, and the result's type: integers and bools add up as int64, here int32."""
    result = to_xla(dtype) if dtype is not None else np.dtype(x.dtype) if is_float(x) else INT32
    return widen(cast(x, result)), result


def _sum(x: Array, dim: Dims = None, keepdim: bool = False, *, dtype: torch.dtype | None = None) -> Array:
    value, result = _accumulated(x, dtype)
    return cast(_reduced(lax.reduce_sum, value, dim, keepdim), result)


def _prod(x: Array, dim: Dims = None, keepdim: bool = False, *, dtype: torch.dtype | None = None) -> Array:
    value, result = _accumulated(x, dtype)
    return cast(_reduced(lax.reduce_prod, value, dim, keepdim), result)


def _mean(x: Array, dim: Dims = None, keepdim: bool = False, *, dtype: torch.dtype | None = None) -> Array:
    value, result = _accumulated(x, dtype)
    total = _reduced(lax.reduce_sum, value, dim, keepdim)
    return cast(lax.div(total, full(total.shape, _count(x, dim), total.dtype)), result)


def _count(x: Array, dim: Dims) -> int:
    return math.prod(x.shape[d] for d in dimensions(dim, x.ndim))


def _var_mean(x: Array, dim: Dims, correction: Number | None, keepdim: bool) -> tuple[Array, Array]:
    value = widen(x)
    count = _count(x, dim)
    mean = _mean(value, dim, keepdim=True)
    centred = lax.sub(value, expand(mean, value.shape))
    total = _reduced(lax.reduce_sum, lax.mul(centred, centred), dim, keepdim)
    divisor = max(count - (1 if correction is None else correction), 0)
    variance = lax.div(total, full(total.shape, divisor, total.dtype))
    return cast(variance, x.dtype), cast(lax.reshape(mean, variance.shape), x.dtype)


def _var(x: Array, dim: Dims = None, *, correction: Number | None = None, keepdim: bool = False) -> Array:
    return _var_mean(x, dim, correction, keepdim)[0]


def _var_and_mean(
    x: Array, dim: Dims = None, *, correction: Number | None = None, keepdim: bool = False
) -> tuple[Array, Array]:
    return _var_mean(x, dim, correction, keepdim)


def _extreme(fn: _Reduce) -> Callable[..., Array]:
    def lowered(x: Array, dim: Dims = (), keepdim: bool = False) -> Array:
        return _reduced(fn, x, dim, keepdim)

    return lowered


def _truth_reduction(fn: _Reduce) -> Callable[..., Array]:
    def lowered(x: Array, dim: Dims = None, keepdim: bool = False) -> Array:
        return _reduced(fn, truth(x), dim, keepdim)

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
        return _reduced(reduce, x, dim, keepdim), index(x, dim, keepdim)

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


def _exponentials(x: Array, axis: int) -> tuple[Array, Array, Array]:
    """x minus its maximum along `axis`, the exponentials of that, and their sum."""
    shifted = lax.sub(x, expand(_reduced(lax.reduce_max, x, axis, True), x.shape))
    powers = lax.exp(shifted)
    return shifted, powers, expand(_reduced(lax.reduce_sum, powers, axis, True), x.shape)


def _softmax(x: Array, dim: int, half_to_float: bool = False) -> Array:
    if x.ndim == 0:
        return full((), 1, x.dtype)
    _, powers, total = _exponentials(widen(x), dimension(dim, x.ndim))
    return cast(lax.div(powers, total), FLOAT32 if half_to_float else x.dtype)


def _log_softmax(x: Array, dim: int, half_to_float: bool = False) -> Array:
    if x.ndim == 0:
        return full((), 0, x.dtype)
    shifted, _, total = _exponentials(widen(x), dimension(dim, x.ndim))
    return cast(lax.sub(shifted, lax.log(total)), FLOAT32 if half_to_float else x.dtype)


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


def _layer_norm(
    x: Array, normalized_shape: Sequence[int], weight: Array | None, bias: Array | None, eps: float
) -> tuple[Array, Array, Array]:
    """The normalized value, and the mean and reciprocal deviation of each row."""
    dims = tuple(range(x.ndim - len(normalized_shape), x.ndim))
    value = widen(x)
    variance, mean = _var_mean(value, dims, 0, True)
    deviation = lax.rsqrt(lax.add(variance, full(variance.shape, eps, variance.dtype)))
    normal = lax.mul(lax.sub(value, expand(mean, value.shape)), expand(deviation, value.shape))
    for operand, combine in ((weight, lax.mul), (bias, lax.add)):
        if operand is not None:
            normal = combine(normal, expand(cast(operand, value.dtype), value.shape))
    return cast(normal, x.dtype), mean, deviation


def _extreme_of_all(fn: _Reduce) -> Callable[[Array], Array]:
    return lambda x: _reduced(fn, x, None, False)


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
    aten._softmax.default: _softmax,
    aten._log_softmax.default: _log_softmax,
    aten.sort.default: _sort,
    aten.sort.stable: _stable_sort,
    aten.topk.default: _topk,
    aten.native_layer_norm.default: _layer_norm,
}
