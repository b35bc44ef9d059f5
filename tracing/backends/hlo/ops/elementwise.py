"""Element by element: arithmetic, comparisons, logic, activations."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from jax import lax

from tracing.backends.hlo.arrays import (
    BOOL,
    Array,
    Operand,
    as_array,
    broadcast,
    cast,
    full,
    is_float,
    promote,
    promote_to_float,
    result_dtype,
    truth,
    widen,
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


def _binary(fn: Callable[[Array, Array], Array]) -> Callable[[Operand, Operand], Array]:
    return lambda x, y: fn(*promote(x, y))


def _float_binary(fn: Callable[[Array, Array], Array]) -> Callable[[Operand, Operand], Array]:
    return lambda x, y: fn(*promote_to_float(x, y))


def _logical(fn: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
    return lambda x, y: fn(*broadcast(truth(x), truth(y)))


def _scaled(x: Operand, alpha: Number, dtype: Any) -> Array:
    value = as_array(x, dtype)
    return value if alpha == 1 else lax.mul(value, full(value.shape, alpha, dtype))


def _add(x: Operand, y: Operand, alpha: Number = 1) -> Array:
    dtype = result_dtype(x, y)
    left, right = broadcast(as_array(x, dtype), _scaled(y, alpha, dtype))
    return lax.bitwise_or(left, right) if dtype == BOOL else lax.add(left, right)


def _sub(x: Operand, y: Operand, alpha: Number = 1) -> Array:
    dtype = result_dtype(x, y)
    return lax.sub(*broadcast(as_array(x, dtype), _scaled(y, alpha, dtype)))


def _rsub(x: Operand, y: Operand, alpha: Number = 1) -> Array:
    return _sub(y, x, alpha)


def _mul(x: Array, y: Array) -> Array:
    return lax.bitwise_and(x, y) if x.dtype == BOOL else lax.mul(x, y)


def _div(x: Operand, y: Operand, rounding_mode: str | None = None) -> Array:
    if rounding_mode is None:
        return lax.div(*promote_to_float(x, y))
    left, right = promote(x, y)
    if rounding_mode == "floor":
        return _floor_div(left, right)
    return _trunc(lax.div(left, right))


def _floor_div(x: Array, y: Array) -> Array:
    """Rounded after the remainder is taken off, so that a quotient just below an integer does not become it."""
    remainder = lax.rem(x, y)
    exact = lax.div(lax.sub(x, remainder), y)
    whole = lax.round(exact, lax.RoundingMethod.TO_NEAREST_EVEN) if is_float(x) else exact
    return lax.sub(whole, cast(_opposite_sign(remainder, y), x.dtype))


def _remainder(x: Array, y: Array) -> Array:
    """The remainder with the divisor's sign (Python's `%`)."""
    remainder = lax.rem(x, y)
    return lax.select(_opposite_sign(remainder, y), lax.add(remainder, y), remainder)


def _opposite_sign(remainder: Array, divisor: Array) -> Array:
    signs_differ = lax.ne(lax.lt(remainder, _zero(remainder)), lax.lt(divisor, _zero(divisor)))
    return lax.bitwise_and(truth(remainder), signs_differ)


def _pow(x: Operand, y: Operand) -> Array:
    if isinstance(y, int) and not isinstance(y, bool) and not isinstance(x, (bool, int, float)):
        power = as_array(x, result_dtype(x, y))
        return cast(lax.integer_pow(widen(power), y), power.dtype)
    base, exponent = promote(x, y)
    return lax.pow(base, exponent) if is_float(base) else _int_pow(base, exponent)


def _int_pow(base: Array, exponent: Array) -> Array:
    """Square and multiply over the 31 bits of a non-negative exponent."""
    result, one = full(base.shape, 1, base.dtype), full(base.shape, 1, base.dtype)
    for bit in range(31):
        odd = truth(lax.bitwise_and(lax.shift_right_logical(exponent, full(base.shape, bit, base.dtype)), one))
        result, base = lax.select(odd, lax.mul(result, base), result), lax.mul(base, base)
    return result


def _zero(x: Array) -> Array:
    return full(x.shape, 0, x.dtype)


def _abs(x: Array) -> Array:
    return x if x.dtype.kind in "ub" else lax.abs(x)


def _sign(x: Array) -> Array:
    """NaN has the sign 0, as in torch."""
    return lax.select(lax.ne(x, x), _zero(x), lax.sign(x)) if is_float(x) else lax.sign(x)


def _trunc(x: Array) -> Array:
    return lax.select(lax.lt(x, _zero(x)), lax.ceil(x), lax.floor(x)) if is_float(x) else x


def _round(x: Array, decimals: int = 0) -> Array:
    if not is_float(x):
        return x
    scale = full(x.shape, 10.0**decimals, x.dtype)
    even = lax.RoundingMethod.TO_NEAREST_EVEN
    return lax.div(lax.round(lax.mul(x, scale), even), scale) if decimals else lax.round(x, even)


def _rounding(fn: Callable[[Array], Array]) -> Callable[[Array], Array]:
    return lambda x: fn(x) if is_float(x) else x


def _clamp(x: Array, low: Operand | None = None, high: Operand | None = None) -> Array:
    """As torch: the result dtype takes the bounds into account, and the upper bound wins over the lower one."""
    bounds = [bound for bound in (low, high) if bound is not None]
    dtype = result_dtype(x, *bounds)
    value = cast(x, dtype)
    if low is not None:
        value = lax.max(*broadcast(value, as_array(low, dtype)))
    return value if high is None else lax.min(*broadcast(value, as_array(high, dtype)))


def _where(condition: Array, x: Operand, y: Operand) -> Array:
    left, right = promote(x, y)
    chosen, left, right = broadcast(truth(condition), left, right)
    return lax.select(chosen, left, right)


def _masked_fill(x: Array, mask: Array, value: Operand) -> Array:
    masked, kept, filled = broadcast(truth(mask), x, as_array(value, x.dtype))
    return lax.select(masked, filled, kept)


def _relu(x: Array) -> Array:
    return lax.max(x, _zero(x))


def _leaky_relu(x: Array, negative_slope: Number = 0.01) -> Array:
    return lax.select(lax.gt(x, _zero(x)), x, lax.mul(x, full(x.shape, negative_slope, x.dtype)))


def _elu(x: Array, alpha: Number = 1.0, scale: Number = 1.0, input_scale: Number = 1.0) -> Array:
    inner = lax.expm1(lax.mul(x, full(x.shape, input_scale, x.dtype)))
    negative = lax.mul(inner, full(x.shape, alpha * scale, x.dtype))
    return lax.select(lax.gt(x, _zero(x)), lax.mul(x, full(x.shape, scale, x.dtype)), negative)


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
    aten.trunc: _trunc,
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
    aten.exp2: lax.exp2,
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
    aten.log2: _log2,
    aten.log10: _log10,
    aten.gelu: _gelu,
    aten.silu: _silu,
    aten.leaky_relu: _leaky_relu,
    aten.elu: _elu,
    aten.softplus: _softplus,
}
_TENSOR_AND_SCALAR = {
    aten.sub: _sub,
    aten.rsub: _rsub,
    aten.add: _add,
    aten.mul: _binary(_mul),
    aten.div: _div,
    aten.remainder: _binary(_remainder),
    aten.fmod: _binary(lax.rem),
    aten.eq: _binary(lax.eq),
    aten.ne: _binary(lax.ne),
    aten.lt: _binary(lax.lt),
    aten.le: _binary(lax.le),
    aten.gt: _binary(lax.gt),
    aten.ge: _binary(lax.ge),
    aten.bitwise_and: _binary(lax.bitwise_and),
    aten.bitwise_or: _binary(lax.bitwise_or),
    aten.bitwise_xor: _binary(lax.bitwise_xor),
}
_BINARY = {
    aten.maximum: _binary(lax.max),
    aten.minimum: _binary(lax.min),
    aten.atan2: _float_binary(lax.atan2),
    aten.logical_and: _logical(lax.bitwise_and),
    aten.logical_or: _logical(lax.bitwise_or),
    aten.logical_xor: _logical(lax.bitwise_xor),
}

LOWERINGS: dict[Any, Callable[..., Any]] = {
    **{packet.default: fn for packet, fn in _UNARY.items()},
    **{packet.default: _float_unary(fn) for packet, fn in _FLOAT_UNARY.items()},
    **{packet.default: _wide_unary(fn) for packet, fn in _WIDE_UNARY.items()},
    **{packet.default: fn for packet, fn in _BINARY.items()},
    **{packet.Tensor: fn for packet, fn in _TENSOR_AND_SCALAR.items()},
    **{packet.Scalar: fn for packet, fn in _TENSOR_AND_SCALAR.items()},
    aten.div.Tensor_mode: _div,
    aten.div.Scalar_mode: _div,
    aten.floor_divide.default: lambda x, y: _div(x, y, "floor"),
    aten.round.default: _round,
    aten.round.decimals: _round,
    aten.pow.Tensor_Tensor: _pow,
    aten.pow.Tensor_Scalar: _pow,
    aten.pow.Scalar: _pow,
    aten.clamp.default: _clamp,
    aten.clamp.Tensor: _clamp,
    aten.clamp_min.default: _clamp,
    aten.clamp_min.Tensor: _clamp,
    aten.clamp_max.default: lambda x, high: _clamp(x, None, high),
    aten.clamp_max.Tensor: lambda x, high: _clamp(x, None, high),
    aten.hardtanh.default: lambda x, low=-1, high=1: _clamp(x, low, high),
    aten.where.self: _where,
    aten.where.ScalarSelf: _where,
    aten.where.ScalarOther: _where,
    aten.where.Scalar: _where,
    aten.masked_fill.Scalar: _masked_fill,
    aten.masked_fill.Tensor: _masked_fill,
    aten.bitwise_left_shift.Tensor: _binary(lax.shift_left),
    aten.bitwise_right_shift.Tensor: _binary(lax.shift_right_arithmetic),
}
