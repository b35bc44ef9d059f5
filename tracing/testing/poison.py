"""Values that an operand must not matter for if it is not read."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor


def poisons(value: Any) -> Iterator[tuple[str, Any]]:
    """Named poisoned copies of an operand: a tensor, or a list of tensors, each of the same shapes and dtypes.

    Floats become NaN, Inf and random bits; integers become the largest and the smallest of their type and random
    bits; booleans are inverted and made random. The random ones are the same in every run.
    """
    tensors = value if isinstance(value, (list, tuple)) else [value]
    for name in _NAMES[_kind(tensors[0].dtype)]:
        changed = [_poisoned(tensor, name) if isinstance(tensor, Tensor) else tensor for tensor in tensors]
        yield name, changed if isinstance(value, (list, tuple)) else changed[0]


_NAMES = {
    "float": ("NaN", "Inf", "random bits"),
    "int": ("huge integers", "hugely negative integers", "random bits"),
    "bool": ("inverted booleans", "random bits"),
}


def _kind(dtype: torch.dtype) -> str:
    if dtype == torch.bool:
        return "bool"
    return "float" if dtype.is_floating_point or dtype.is_complex else "int"


def _poisoned(tensor: Tensor, name: str) -> Tensor:
    kind = _kind(tensor.dtype)
    if name == "random bits":
        return _random_bits(tensor)
    if name == "inverted booleans":
        return ~tensor
    if kind == "float":
        return torch.full(tensor.shape, math.nan if name == "NaN" else math.inf).to(tensor.dtype)
    limits = torch.iinfo(tensor.dtype)
    extreme = limits.max if name == "huge integers" else limits.min
    return torch.full(tensor.shape, extreme, dtype=tensor.dtype)


def _random_bits(tensor: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(tensor.numel())
    if tensor.dtype == torch.bool:
        return torch.randint(2, tensor.shape, generator=generator).to(torch.bool)
    size = (tensor.numel() * tensor.element_size(),)
    bits = torch.randint(256, size, dtype=torch.uint8, generator=generator)
    return bits.view(tensor.dtype).reshape(tensor.shape)
