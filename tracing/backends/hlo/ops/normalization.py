"""Softmax and layer norm, in float32 for half precision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jax import lax

from tracing.backends.hlo.arrays import (
    FLOAT32,
    Array,
    cast,
    dimension,
    expand,
    full,
    widen,
)
from tracing.backends.hlo.ops.reductions import reduced, var_mean

aten = torch.ops.aten


def exponentials(x: Array, axis: int) -> tuple[Array, Array, Array]:
    """x minus its maximum along `axis`, the exponentials of that, and their sum."""
    shifted = lax.sub(x, expand(reduced(lax.reduce_max, x, axis, True), x.shape))
    powers = lax.exp(shifted)
    return shifted, powers, expand(reduced(lax.reduce_sum, powers, axis, True), x.shape)


def _softmax(x: Array, dim: int, half_to_float: bool = False) -> Array:
    if x.ndim == 0:
        return full((), 1, x.dtype)
    _, powers, total = exponentials(widen(x), dimension(dim, x.ndim))
    return cast(lax.div(powers, total), FLOAT32 if half_to_float else x.dtype)


def _log_softmax(x: Array, dim: int, half_to_float: bool = False) -> Array:
    if x.ndim == 0:
        return full((), 0, x.dtype)
    shifted, _, total = exponentials(widen(x), dimension(dim, x.ndim))
    return cast(lax.sub(shifted, lax.log(total)), FLOAT32 if half_to_float else x.dtype)


def _layer_norm(
    x: Array, normalized_shape: Sequence[int], weight: Array | None, bias: Array | None, eps: float
) -> tuple[Array, Array, Array]:
    """The normalized value, and the mean and reciprocal deviation of each row.

    Both are in the input's type unless the parameters are float32 (aten/src/ATen/native/cpu/mixed_data_type.h).
    """
    dims = tuple(range(x.ndim - len(normalized_shape), x.ndim))
    value = widen(x)
    variance, mean = var_mean(value, dims, 0, True)
    deviation = lax.rsqrt(lax.add(variance, full(variance.shape, eps, variance.dtype)))
    normal = lax.mul(lax.sub(value, expand(mean, value.shape)), expand(deviation, value.shape))
    for operand, combine in ((weight, lax.mul), (bias, lax.add)):
        if operand is not None:
            normal = combine(normal, expand(cast(operand, value.dtype), value.shape))
    is_mixed = any(operand is not None and operand.dtype == FLOAT32 for operand in (weight, bias))
    statistics = FLOAT32 if is_mixed else x.dtype
    return cast(normal, x.dtype), cast(mean, statistics), cast(deviation, statistics)


LOWERINGS: dict[Any, Callable[..., Any]] = {
    aten._softmax.default: _softmax,
    aten._log_softmax.default: _log_softmax,
    aten.native_layer_norm.default: _layer_norm,
}
