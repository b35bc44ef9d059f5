"""Float8 with a scale, as the block-TKG kernel quantizes its caches: stored = value * scale."""

import torch
from torch import Tensor

FLOAT8 = torch.float8_e4m3fn
LARGEST = torch.finfo(FLOAT8).max


def quantize(values: Tensor, scale: Tensor) -> Tensor:
    """`values * scale` in float8, saturated. scale: float32, broadcastable to `values`."""
    return (values.to(torch.float32) * scale).clamp(-LARGEST, LARGEST).to(FLOAT8)


def dequantize(stored: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """The values that float8 `stored` stands for, in `dtype`."""
    return (stored.to(torch.float32) / scale).to(dtype)


def raw_bytes(stored: Tensor) -> Tensor:
    """The same memory as uint8, since torch writes float8 by index on no CPU."""
    return stored.view(torch.uint8)
