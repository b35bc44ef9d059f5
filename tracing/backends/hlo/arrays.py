"""Small helpers over `jax.lax` shared by the op tables: torch's broadcasting, promotion and dimension rules.

The tables call `jax.lax` rather than `jax.numpy`: one lax call is one HLO op, jax.numpy wraps many in nested functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax import lax

from tracing.backends.hlo.dtypes import Number, promoted, to_xla

Array: TypeAlias = jax.Array
Operand: TypeAlias = Array | Number

_HALF = frozenset(np.dtype(to_xla(dtype)) for dtype in (torch.float16, torch.bfloat16))
FLOAT16 = np.dtype(np.float16)
FLOAT32 = np.dtype(np.float32)
INT32 = np.dtype(np.int32)
BOOL = np.dtype(np.bool_)


class UnsupportedUseError(Exception):
    """A use of an op that HLO cannot express. The interpreter adds the op's and the node's name."""


def struct(shape: Sequence[int], dtype: torch.dtype) -> jax.ShapeDtypeStruct:
    """What jax traces with in place of a torch tensor of that shape and dtype."""
    return jax.ShapeDtypeStruct(tuple(shape), to_xla(dtype))  # type: ignore[no-untyped-call]


def full(shape: Sequence[int], value: Number, dtype: np.dtype[Any]) -> Array:
    """An array of one value. Raises UnsupportedUseError if an integer does not fit its dtype."""
    if np.issubdtype(dtype, np.integer):
        value = int(value)
        if not np.iinfo(dtype).min <= value <= np.iinfo(dtype).max:
            raise UnsupportedUseError(f"{value} does not fit {dtype}, and 64-bit integers become 32-bit in HLO")
    if dtype in _SATURATING:
        value = min(max(float(value), -_SATURATING[dtype]), _SATURATING[dtype])
    with np.errstate(over="ignore"):
        return lax.full(tuple(shape), np.asarray(value).astype(dtype), dtype)


def zero(x: Array) -> Array:
    """Zeros like `x`."""
    return full(x.shape, 0, x.dtype)


def cast(x: Array, dtype: np.dtype[Any] | None) -> Array:
    """`x` in another type. XLA makes NaN of what float8_e4m3fn cannot hold, newer torch releases its largest value."""
    if dtype is None or x.dtype == dtype:
        return x
    if (largest := _SATURATING.get(np.dtype(dtype))) is not None:
        x = widen(x) if is_float(x) else lax.convert_element_type(x, FLOAT32)
        x = lax.clamp(np.float32(-largest), cast(x, FLOAT32), np.float32(largest))
    return lax.convert_element_type(x, dtype)


def _saturating() -> dict[np.dtype[Any], float]:
    """The float8 types whose overflow ends, in the installed torch, at the largest value, and that value."""
    kinds = [getattr(torch, name) for name in dir(torch) if name.startswith("float8_e") and name != "float8_e8m0fnu"]
    largest = {dtype: torch.finfo(dtype).max for dtype in kinds}
    saturates = [dtype for dtype in kinds if torch.tensor(torch.inf).to(dtype).float().item() == largest[dtype]]
    return {np.dtype(to_xla(dtype)): largest[dtype] for dtype in saturates}


_SATURATING = _saturating()


def cast_torch(x: Array, dtype: torch.dtype | None) -> Array:
    return x if dtype is None else cast(x, to_xla(dtype))


def is_float(x: Array) -> bool:
    return bool(jnp.issubdtype(x.dtype, jnp.floating))


def truth(x: Array) -> Array:
    """`x` as bool: whether each element differs from zero."""
    return x if x.dtype == BOOL else lax.ne(x, zero(x))


def result_dtype(*operands: Operand) -> np.dtype[Any]:
    """The dtype torch promotes these tensors and Python numbers to."""
    return promoted(*(_kind(x) for x in operands))


def _kind(x: Operand) -> Any:
    return type(x) if isinstance(x, (bool, int, float)) else (np.dtype(x.dtype), x.ndim > 0)


def as_array(x: Operand, dtype: np.dtype[Any]) -> Array:
    return full((), x, dtype) if isinstance(x, (bool, int, float)) else cast(x, dtype)


def expand(x: Array, shape: Sequence[int]) -> Array:
    """`x` broadcast to `shape` by torch's rule: dimensions are matched from the right."""
    shape = tuple(shape)
    if x.shape == shape:
        return x
    offset = len(shape) - x.ndim
    kept = [i for i, size in enumerate(x.shape) if size == shape[i + offset]]
    squeezed = lax.reshape(x, tuple(x.shape[i] for i in kept)) if len(kept) < x.ndim else x
    return lax.broadcast_in_dim(squeezed, shape, tuple(i + offset for i in kept))


def broadcast(*operands: Array) -> tuple[Array, ...]:
    shape = np.broadcast_shapes(*(x.shape for x in operands))
    return tuple(expand(x, shape) for x in operands)


def promote(*operands: Operand) -> tuple[Array, ...]:
    """The operands in their common torch dtype and shape."""
    dtype = result_dtype(*operands)
    return broadcast(*(as_array(x, dtype) for x in operands))


def promote_to_float(*operands: Operand) -> tuple[Array, ...]:
    """Like `promote`, with integers and bools taken to float32, as torch's transcendental ops do."""
    promoted_operands = promote(*operands)
    return promoted_operands if is_float(promoted_operands[0]) else tuple(cast(x, FLOAT32) for x in promoted_operands)


def widen(x: Array) -> Array:
    """Half precision as float32: torch computes compound formulas and sums in float32 and rounds once at the end."""
    return cast(x, FLOAT32) if x.dtype in _HALF else x


def dimension(dim: int, rank: int) -> int:
    """`dim` counted from the front. A scalar has one dimension in this sense, as in torch."""
    return dim + max(rank, 1) if dim < 0 else dim


def dimensions(dims: int | Sequence[int] | None, rank: int) -> tuple[int, ...]:
    """The dimensions named by a reduction argument; None and the empty list mean all."""
    if dims is None or (not isinstance(dims, int) and not dims):
        return tuple(range(rank))
    listed = (dims,) if isinstance(dims, int) else tuple(dims)
    return tuple(sorted(dimension(dim, rank) for dim in listed)) if rank else ()


def iota(shape: Sequence[int], dim: int, dtype: np.dtype[Any] = INT32) -> Array:
    return lax.broadcasted_iota(dtype, tuple(shape), dim)
