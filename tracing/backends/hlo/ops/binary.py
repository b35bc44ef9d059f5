"""Several operands, element by element: arithmetic, comparisons, logic, choices. Operands promote as in torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jax import lax

from tracing.backends.hlo.arrays import (
    BOOL,
    FLOAT16,
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
    zero,
)
from tracing.backends.hlo.dtypes import Number
from tracing.backends.hlo.ops.unary import truncate

aten = torch.ops.aten


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
    return cast(truncate(lax.div(widen(left), widen(right))), left.dtype)


def _floor_div(x: Array, y: Array) -> Array:
    """Rounded after the remainder is taken off, so that a quotient just below an integer does not become it."""
    if is_float(x):
        return cast(_floor_div_floats(widen(x), widen(y)), x.dtype)
    remainder = lax.rem(x, y)
    return lax.sub(lax.div(lax.sub(x, remainder), y), cast(_opposite_sign(remainder, y), x.dtype))


def _floor_div_floats(x: Array, y: Array) -> Array:
    """c10/util/generic_math.h: a division by zero is the quotient itself, and a quotient of zero has its sign."""
    remainder = lax.rem(x, y)
    exact = lax.div(lax.sub(x, remainder), y)
    whole = lax.round(exact, lax.RoundingMethod.TO_NEAREST_EVEN)
    floored = lax.sub(whole, cast(_opposite_sign(remainder, y), x.dtype))
    quotient = lax.div(x, y)
    signed_zero = lax.mul(zero(x), lax.select(lax.lt(quotient, zero(x)), full(x.shape, -1, x.dtype), quotient))
    signed_zero = lax.select(lax.eq(quotient, zero(x)), quotient, signed_zero)
    floored = lax.select(lax.eq(floored, zero(x)), signed_zero, floored)
    return lax.select(lax.eq(y, zero(y)), quotient, floored)


def _remainder(x: Array, y: Array) -> Array:
    """The remainder with the divisor's sign (Python's `%`)."""
    remainder = lax.rem(x, y)
    return lax.select(_opposite_sign(remainder, y), lax.add(remainder, y), remainder)


def _opposite_sign(remainder: Array, divisor: Array) -> Array:
    signs_differ = lax.ne(lax.lt(remainder, zero(remainder)), lax.lt(divisor, zero(divisor)))
    return lax.bitwise_and(truth(remainder), signs_differ)


def _pow(x: Operand, y: Operand) -> Array:
    """As torch: an exponent of 0.5 is a square root, which has no negative side, and -0.5 its reciprocal.

    Not so for float16 (aten/src/ATen/native/cpu/PowKernel.cpp).
    """
    if isinstance(y, float) and abs(y) == 0.5 and not isinstance(x, (bool, int, float)) and x.dtype != FLOAT16:
        (base,) = promote_to_float(x)
        return cast((lax.sqrt if y > 0 else lax.rsqrt)(widen(base)), base.dtype)
    if isinstance(y, int) and not isinstance(y, bool) and not isinstance(x, (bool, int, float)):
        power = as_array(x, result_dtype(x, y))
        return cast(lax.integer_pow(widen(power), y), power.dtype)
    base, exponent = promote(x, y)
    return lax.pow(base, exponent) if is_float(base) else _int_pow(base, exponent)


def _int_pow(base: Array, exponent: Array) -> Array:
    """A negative power is 0 but for 1 and -1 (aten/src/ATen/native/Pow.h), whose powers go by the lowest bit."""
    if base.dtype.kind == "u":
        return _natural_pow(base, exponent)
    one, parity = full(base.shape, 1, base.dtype), lax.bitwise_and(exponent, full(base.shape, 1, base.dtype))
    is_unit = lax.eq(lax.abs(base), one)
    inverse = lax.select(is_unit, _natural_pow(base, parity), zero(base))
    return lax.select(lax.lt(exponent, zero(exponent)), inverse, _natural_pow(base, exponent))


def _natural_pow(base: Array, exponent: Array) -> Array:
    """Square and multiply over the bits of a non-negative exponent."""
    result, one = full(base.shape, 1, base.dtype), full(base.shape, 1, base.dtype)
    for bit in range(8 * base.dtype.itemsize - 1):
        odd = truth(lax.bitwise_and(lax.shift_right_logical(exponent, full(base.shape, bit, base.dtype)), one))
        result, base = lax.select(odd, lax.mul(result, base), result), lax.mul(base, base)
    return result


def _clamp(x: Array, low: Operand | None = None, high: Operand | None = None) -> Array:
    """As torch: the result dtype takes the bounds into account, and the upper bound wins over the lower one."""
    bounds = [bound for bound in (low, high) if bound is not None]
    dtype = result_dtype(x, *bounds)
    value = cast(x, dtype)
    if low is not None:
        value = lax.max(*broadcast(value, as_array(low, dtype)))
    return value if high is None else lax.min(*broadcast(value, as_array(high, dtype)))


def _hardtanh(x: Array, low: Number = -1, high: Number = 1) -> Array:
    """The bounds are taken to the input's type, which is the result's."""
    return _clamp(x, *((low, high) if is_float(x) else (int(low), int(high))))


def _where(condition: Array, x: Operand, y: Operand) -> Array:
    left, right = promote(x, y)
    chosen, left, right = broadcast(truth(condition), left, right)
    return lax.select(chosen, left, right)


def _masked_fill(x: Array, mask: Array, value: Operand) -> Array:
    masked, kept, filled = broadcast(truth(mask), x, as_array(value, x.dtype))
    return lax.select(masked, filled, kept)


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
    **{packet.default: fn for packet, fn in _BINARY.items()},
    **{packet.Tensor: fn for packet, fn in _TENSOR_AND_SCALAR.items()},
    **{packet.Scalar: fn for packet, fn in _TENSOR_AND_SCALAR.items()},
    aten.div.Tensor_mode: _div,
    aten.div.Scalar_mode: _div,
    aten.floor_divide.default: lambda x, y: _div(x, y, "floor"),
    aten.pow.Tensor_Tensor: _pow,
    aten.pow.Tensor_Scalar: _pow,
    aten.pow.Scalar: _pow,
    aten.clamp.default: _clamp,
    aten.clamp.Tensor: _clamp,
    aten.clamp_min.default: _clamp,
    aten.clamp_min.Tensor: _clamp,
    aten.clamp_max.default: lambda x, high: _clamp(x, None, high),
    aten.clamp_max.Tensor: lambda x, high: _clamp(x, None, high),
    aten.hardtanh.default: _hardtanh,
    aten.where.self: _where,
    aten.where.ScalarSelf: _where,
    aten.where.ScalarOther: _where,
    aten.where.Scalar: _where,
    aten.masked_fill.Scalar: _masked_fill,
    aten.masked_fill.Tensor: _masked_fill,
    aten.bitwise_left_shift.Tensor: _binary(lax.shift_left),
    aten.bitwise_right_shift.Tensor: _binary(lax.shift_right_arithmetic),
}
