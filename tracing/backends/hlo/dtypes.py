"""Torch dtypes as XLA element types, and torch's type promotion over them.

XLA runs with 64-bit types off, as the Neuron compiler wants it: int64 becomes int32 and float64 becomes float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np
import torch

from passes.errors import DeadkvError

Number: TypeAlias = bool | int | float

_SAME_WIDTH: dict[torch.dtype, Any] = {
    torch.bool: np.bool_,
    torch.uint8: np.uint8,
    torch.int8: np.int8,
    torch.int16: np.int16,
    torch.uint16: np.uint16,
    torch.int32: np.int32,
    torch.uint32: np.uint32,
    torch.float16: np.float16,
    torch.bfloat16: ml_dtypes.bfloat16,
    torch.float32: np.float32,
    torch.float8_e4m3fn: ml_dtypes.float8_e4m3fn,
    torch.float8_e4m3fnuz: ml_dtypes.float8_e4m3fnuz,
    torch.float8_e5m2: ml_dtypes.float8_e5m2,
    torch.float8_e5m2fnuz: ml_dtypes.float8_e5m2fnuz,
}
_NARROWED = {torch.int64: torch.int32, torch.uint64: torch.uint32, torch.float64: torch.float32}
_TO_TORCH: Mapping[np.dtype[Any], torch.dtype] = MappingProxyType(
    {np.dtype(scalar): dtype for dtype, scalar in _SAME_WIDTH.items()}
)


def narrowed(dtype: torch.dtype) -> torch.dtype:
    """The torch dtype that stands for `dtype` in the HLO: int32 for int64, float32 for float64, else itself."""
    return _NARROWED.get(dtype, dtype)


def to_xla(dtype: torch.dtype) -> np.dtype[Any]:
    """The XLA element type of a torch dtype. Raises DeadkvError for complex and quantized dtypes."""
    try:
        element: np.dtype[Any] = np.dtype(_SAME_WIDTH[narrowed(dtype)])
    except KeyError:
        raise DeadkvError(f"dtype {dtype} has no HLO element type here") from None
    return element


def to_torch(dtype: np.dtype[Any]) -> torch.dtype:
    """The torch dtype of an XLA element type."""
    return _TO_TORCH[np.dtype(dtype)]


@cache
def promoted(*kinds: Any) -> np.dtype[Any]:
    """The dtype torch computes in: each operand is (dtype, has dimensions) for a tensor, else a Python number type."""
    samples = [_sample(kind) for kind in kinds]
    result = samples[0]
    for sample in samples[1:]:
        dtype = torch.result_type(result, sample)
        has_dimensions = any(isinstance(s, torch.Tensor) and s.ndim for s in (result, sample))
        result = torch.empty((1,) * has_dimensions, dtype=dtype, device="meta")
    return to_xla(torch.result_type(result, result))


def _sample(kind: Any) -> Any:
    if isinstance(kind, type):
        return kind(1)
    dtype, has_dimensions = kind
    return torch.empty((1,) * has_dimensions, dtype=to_torch(dtype), device="meta")
