"""What one run of a graph leaves behind, and whether two runs left the same bits."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.utils import _pytree as pytree

State = list[Any]
"""Outputs, then inputs, then parameters, after the run."""


def state_after(module: GraphModule, inputs: Sequence[Tensor], run: Callable[..., Any] | None = None) -> State:
    """Runs `module`, or `run`, on copies of the inputs, which share memory as these do; parameters are put back."""
    given = copy.deepcopy(list(inputs))
    saved = [parameter.detach().clone() for parameter in module.parameters()]
    torch.default_generator.manual_seed(0)
    try:
        with torch.no_grad():
            outputs = pytree.tree_leaves((run or module)(*given))
            return [copied(value) for value in (*outputs, *given, *module.parameters())]
    finally:
        with torch.no_grad():
            for parameter, value in zip(module.parameters(), saved, strict=True):
                parameter.copy_(value)


def copied(value: Any) -> Any:
    """A value as it is now, strides included."""
    return value.detach().clone(memory_format=torch.preserve_format) if isinstance(value, Tensor) else value


def same_state(one: State, other: State) -> bool:
    return len(one) == len(other) and all(map(same_bits, one, other))


def same_bits(one: Any, other: Any) -> bool:
    """Whether two values are equal bit for bit, signs of zero and NaNs included, and laid out alike."""
    if not isinstance(one, Tensor) or not isinstance(other, Tensor):
        return type(one) is type(other) and repr(one) == repr(other)
    if (one.shape, one.stride(), one.dtype) != (other.shape, other.stride(), other.dtype):
        return False
    return torch.equal(_bits(one), _bits(other))


def _bits(tensor: Tensor) -> Tensor:
    return torch.empty(tensor.numel(), dtype=tensor.dtype).copy_(tensor.reshape(-1)).view(torch.uint8)
