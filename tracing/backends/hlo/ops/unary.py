"""One operand, element by element: functions, roundings, activations, tests."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from jax import lax

from tracing.backends.hlo.arrays import (
    BOOL,
    Array,
    cast,
    full,
    is_float,
    promote_to_float,
    truth,
    widen,
    zero,
)
from tracing.backends.hlo.dtypes import Number

aten = torch.ops.aten


def _float_unary(fn: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """Integers and bools are taken to float32 first."""
    return lambda x: fn(promote_to_float(x)[0])


def _wide_unary(fn: Callable[..., Array]) -> Callable[..., Array]:
    """A formula of several steps: computed in float32 for half precision, rounded once."""

    def lowered(x: Array, *args: Any, **kwargs: Any) -> Array:
        x = promote_to_float(x)[0]
        return cast(fn(widen(x), *args, **kwargs), x.dtype)

    return lowered


def _abs(x: Array) -> Array:
    return x if x.dtype.kind in "ub" else lax.abs(x)


def _sign(x: Array) -> Array:
    """NaN has the sign 0, as in torch."""
    if x.dtype == BOOL:
        return x
    return lax.select(lax.ne(x, x), zero(x), lax.sign(x)) if is_float(x) else lax.sign(x)


def truncate(x: Array) -> Array:
    return lax.select(lax.lt(x, zero(x)), lax.ceil(x), lax.floor(x)) if is_float(x) else x


def _round(x: Array, decimals: int = 0) -> Array:
    if not is_float(x):
        return x
    scale = full(x.shape, 10.0**decimals, x.dtype)
    even = lax.RoundingMethod.TO_NEAREST_EVEN
    return lax.div(lax.round(lax.mul(x, scale), even), scale) if decimals else lax.round(x, even)


def _rounding(fn: Callable[[Array], Array]) -> Callable[[Array], Array]:
    return lambda x: fn(x) if is_float(x) else x


def _relu(x: Array) -> Array:
    return lax.max(x, zero(x))


def _leaky_relu(x: Array, negative_slope: Number = 0.01) -> Array:
    return lax.select(lax.gt(x, zero(x)), x, lax.mul(x, full(x.shape, negative_slope, x.dtype)))


def _elu(x: Array, alpha: Number = 1.0, scale: Number = 1.0, input_scale: Number = 1.0) -> Array:
    inner = lax.expm1(lax.mul(x, full(x.shape, input_scale, x.dtype)))
    negative = lax.mul(inner, full(x.shape, alpha * scale, x.dtype))
    return lax.select(lax.gt(x, zero(x)), lax.mul(x, full(x.shape, scale, x.dtype)), negative)


def _gelu(x: Array, approximate: str = "none") -> Array:
    half_x = lax.mul(x, full(x.shape, 0.5, x.dtype))
    if approximate == "tanh":
        cubic = lax.mul(full(x.shape, 0.044715, x.dtype), lax.mul(x, lax.mul(x, x)))
        inner = lax.tanh(lax.mul(full(x.shape, math.sqrt(2 / math.pi), x.dtype), lax.add(x, cubic)))
    else:
        inner = lax.erf(lax.mul(x, full(x.shape, math.sqrt(0.5), x.dtype)))
    return lax.mul(half_x, lax.add(full(x.shape, 1, x.dtype), inner))


def _silu(x: Array) -> Array:
    return lax.mul(x, lax.logistic(x))


def _softplus(x: Array, beta: Number = 1, threshold: Number = 20) -> Array:
    scaled = lax.mul(x, full(x.shape, beta, x.dtype))
    smooth = lax.div(lax.log1p(lax.exp(scaled)), full(x.shape, beta, x.dtype))
    return lax.select(lax.gt(scaled, full(x.shape, threshold, x.dtype)), x, smooth)


def _is_nan(x: Array) -> Array:
    return lax.ne(x, x)


def _is_inf(x: Array) -> Array:
    return lax.eq(lax.abs(x), full(x.shape, math.inf, x.dtype)) if is_float(x) else full(x.shape, False, BOOL)


def _log2(x: Array) -> Array:
    return lax.div(lax.log(x), full(x.shape, math.log(2), x.dtype))


def _log10(x: Array) -> Array:
    return lax.div(lax.log(x), full(x.shape, math.log(10), x.dtype))


def _reciprocal(x: Array) -> Array:
    return lax.div(full(x.shape, 1, x.dtype), x)


_UNARY = {
    aten.abs: _abs,
    aten.neg: lax.neg,
    aten.sign: _sign,
    aten.trunc: truncate,
    aten.floor: _rounding(lax.floor),
    aten.ceil: _rounding(lax.ceil),
    aten.relu: _relu,
    aten.isnan: _is_nan,
    aten.isinf: _is_inf,
    aten.logical_not: lambda x: lax.bitwise_not(truth(x)),
    aten.bitwise_not: lax.bitwise_not,
}
_FLOAT_UNARY = {
    aten.exp: lax.exp,
    aten.expm1: lax.expm1,
    aten.log: lax.log,
    aten.log1p: lax.log1p,
    aten.sqrt: lax.sqrt,
    aten.rsqrt: lax.rsqrt,
    aten.sin: lax.sin,
    aten.cos: lax.cos,
    aten.tan: lax.tan,
    aten.asin: lax.asin,
    aten.acos: lax.acos,
    aten.atan: lax.atan,
    aten.sinh: lax.sinh,
    aten.cosh: lax.cosh,
    aten.tanh: lax.tanh,
    aten.asinh: lax.asinh,
    aten.acosh: lax.acosh,
    aten.atanh: lax.atanh,
    aten.erf: lax.erf,
    aten.sigmoid: lax.logistic,
    aten.reciprocal: _reciprocal,
}
_WIDE_UNARY = {
    aten.exp2: lax.exp2,
    aten.log2: _log2,
    aten.log10: _log10,
    aten.gelu: _gelu,
    aten.silu: _silu,
    aten.leaky_relu: _leaky_relu,
    aten.elu: _elu,
    aten.softplus: _softplus,
}

LOWERINGS: dict[Any, Callable[..., Any]] = {
    **{packet.default: fn for packet, fn in _UNARY.items()},
    **{packet.default: _float_unary(fn) for packet, fn in _FLOAT_UNARY.items()},
    **{packet.default: _wide_unary(fn) for packet, fn in _WIDE_UNARY.items()},
    aten.round.default: _round,
    aten.round.decimals: _round,
}
