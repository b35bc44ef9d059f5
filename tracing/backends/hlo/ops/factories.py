"""Constants made from sizes and numbers. `empty` is zeros: HLO has no uninitialized value."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jax import lax

from tracing.backends.hlo.arrays import FLOAT32, Array, as_array, expand, full, iota
from tracing.backends.hlo.dtypes import Number, to_xla

aten = torch.ops.aten
_DTYPE_OF_NUMBER = {bool: torch.bool, int: torch.int64, float: torch.float32}


def _full(size: Sequence[int], value: Number, *, dtype: torch.dtype | None = None, **_: Any) -> Array:
    return full(size, value, to_xla(dtype or _DTYPE_OF_NUMBER[type(value)]))


def _filled(value: Number) -> Callable[..., Array]:
    def lowered(size: Sequence[int], *, dtype: torch.dtype | None = None, **_: Any) -> Array:
        return full(size, value, to_xla(dtype or torch.float32))

    return lowered


def _full_like(x: Array, value: Number, *, dtype: torch.dtype | None = None, **_: Any) -> Array:
    return full(x.shape, value, x.dtype if dtype is None else to_xla(dtype))


def _filled_like(value: Number) -> Callable[..., Array]:
    return lambda x, **options: _full_like(x, value, dtype=options.get("dtype"))


def _new_full(x: Array, size: Sequence[int], value: Number, *, dtype: torch.dtype | None = None, **_: Any) -> Array:
    return full(size, value, x.dtype if dtype is None else to_xla(dtype))


def _new_filled(value: Number) -> Callable[..., Array]:
    return lambda x, size, **options: _new_full(x, size, value, dtype=options.get("dtype"))


def _fill(x: Array, value: Number | Array) -> Array:
    return expand(as_array(value, x.dtype), x.shape)


def _arange_to(end: Number, **options: Any) -> Array:
    return _arange(0, end, **options)


def _arange(start: Number, end: Number, step: Number = 1, *, dtype: torch.dtype | None = None, **_: Any) -> Array:
    """start + step * i. Fractional steps are computed in float32, whole ones in the result's type.

    Where int64 is asked for, torch drops the fractions of the bounds first (RangeFactories.cpp).
    """
    if dtype is torch.int64:
        start, end, step = int(start), int(end), int(step)
    whole = all(isinstance(number, int) for number in (start, end, step))
    element = to_xla(dtype or (torch.int64 if whole else torch.float32))
    length = max(math.ceil((end - start) / step), 0)
    ramp = iota((length,), 0, element if whole else FLOAT32)
    if step != 1:
        ramp = lax.mul(ramp, full(ramp.shape, step, ramp.dtype))
    if start != 0:
        ramp = lax.add(ramp, full(ramp.shape, start, ramp.dtype))
    return as_array(ramp, element)


def _eye(rows: int, columns: int | None = None, *, dtype: torch.dtype | None = None, **_: Any) -> Array:
    shape = (rows, rows if columns is None else columns)
    return as_array(lax.eq(iota(shape, 0), iota(shape, 1)), to_xla(dtype or torch.float32))


def _scalar_tensor(value: Number, *, dtype: torch.dtype | None = None, **_: Any) -> Array:
    return full((), value, to_xla(dtype or torch.float32))


LOWERINGS: dict[Any, Callable[..., Any]] = {
    aten.full.default: _full,
    aten.zeros.default: _filled(0),
    aten.ones.default: _filled(1),
    aten.empty.memory_format: _filled(0),
    aten.full_like.default: _full_like,
    aten.zeros_like.default: _filled_like(0),
    aten.ones_like.default: _filled_like(1),
    aten.empty_like.default: _filled_like(0),
    aten.new_full.default: _new_full,
    aten.new_zeros.default: _new_filled(0),
    aten.new_ones.default: _new_filled(1),
    aten.new_empty.default: _new_filled(0),
    aten.fill.Scalar: _fill,
    aten.fill.Tensor: _fill,
    aten.zero.default: lambda x: _fill(x, 0),
    aten.arange.default: _arange_to,
    aten.arange.start: _arange,
    aten.arange.start_step: _arange,
    aten.eye.default: _eye,
    aten.eye.m: _eye,
    aten.scalar_tensor.default: _scalar_tensor,
}
