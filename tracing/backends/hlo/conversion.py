"""Torch tensors to numpy arrays in XLA's element types, and back."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import torch
from torch import Tensor

from passes.errors import DeadkvError
from tracing.backends.hlo.dtypes import narrowed, to_torch, to_xla

# numpy has no bfloat16 or float8: their bits travel as integers of the same width.
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32}


def to_numpy(tensor: Tensor, name: str) -> np.ndarray[Any, Any]:
    """The values of a real tensor, 64-bit ones narrowed to 32. Raises DeadkvError if it has none or they do not fit."""
    if tensor.is_meta or isinstance(tensor, torch._subclasses.FakeTensor):
        raise DeadkvError(f"{name} has no values (it is a {tensor.device.type} or fake tensor): load the weights first")
    values = tensor.detach().cpu().contiguous()
    if values.dtype == torch.int64:
        _check_fits(values, name)
    values = values.to(narrowed(values.dtype))
    bits = values.reshape(-1).view(_BITS[values.element_size()]).numpy()
    return bits.view(to_xla(values.dtype)).reshape(tuple(values.shape))


def to_tensor(array: np.ndarray[Any, Any], dtype: torch.dtype) -> Tensor:
    """A tensor of the array's values in `dtype`, the torch dtype that the array's element type stands for."""
    source = to_torch(array.dtype)
    bits = np.ascontiguousarray(array).reshape(-1).view(np.dtype(f"i{array.dtype.itemsize}"))
    return torch.from_numpy(bits.copy()).view(source).reshape(array.shape).to(dtype)


def literal(tensor: Tensor, name: str) -> jax.Array:
    """A constant of the graph, written into the HLO."""
    return jax.numpy.asarray(to_numpy(tensor, name))


def _check_fits(values: Tensor, name: str) -> None:
    limits = torch.iinfo(torch.int32)
    if values.numel() and (int(values.min()) < limits.min or int(values.max()) > limits.max):
        raise DeadkvError(f"{name} holds 64-bit integers beyond 32 bits, which HLO for Neuron does not carry")
