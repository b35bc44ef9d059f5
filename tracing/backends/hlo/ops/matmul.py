"""Matrix products as `dot`. Half precision stays half; the compiler chooses what it accumulates in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jax import lax

from tracing.backends.hlo.arrays import Array, cast, expand, full
from tracing.backends.hlo.dtypes import Number

aten = torch.ops.aten


def _mm(x: Array, y: Array) -> Array:
    return lax.dot_general(x, y, (((x.ndim - 1,), (0,)), ((), ())))


def _bmm(x: Array, y: Array) -> Array:
    return lax.dot_general(x, y, (((2,), (1,)), ((0,), (0,))))


def _plus(product: Callable[[Array, Array], Array]) -> Callable[..., Array]:
    def lowered(x: Array, left: Array, right: Array, *, beta: Number = 1, alpha: Number = 1) -> Array:
        value = product(left, right)
        return lax.add(_times(expand(cast(x, value.dtype), value.shape), beta), _times(value, alpha))

    return lowered


def _times(x: Array, factor: Number) -> Array:
    return x if factor == 1 else lax.mul(x, full(x.shape, factor, x.dtype))


LOWERINGS: dict[Any, Callable[..., Any]] = {
    aten.mm.default: _mm,
    aten.mv.default: _mm,
    aten.dot.default: _mm,
    aten.bmm.default: _bmm,
    aten.addmm.default: _plus(_mm),
    aten.baddbmm.default: _plus(_bmm),
}
