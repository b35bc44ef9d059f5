"""When two tensors are one: the same memory, read the same way."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TypeGuard

import torch
from torch import Tensor


def memory_of(tensor: Tensor) -> Hashable:
    """Equal for plain tensors that share storage, offset, shape, strides and dtype."""
    storage = tensor.untyped_storage()._cdata
    return storage, tensor.storage_offset(), tuple(tensor.shape), tensor.stride(), tensor.dtype


def is_plain(value: object) -> TypeGuard[Tensor]:
    """Whether `value` is a strided tensor whose sizes and strides are numbers, so that `memory_of` can tell."""
    if not isinstance(value, Tensor) or value.layout is not torch.strided:
        return False
    return all(isinstance(number, int) for number in (*value.shape, *value.stride(), value.storage_offset()))
