"""Structured arguments as the flat tensors that a nested graph takes."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from torch import Tensor
from torch.utils import _pytree as pytree

T = TypeVar("T")


def flat_tensors(arguments: T) -> tuple[list[Tensor], Callable[[Sequence[Tensor]], T]]:
    """The different tensors in `arguments`, and what puts others in their places; other leaves stay."""
    leaves, spec = pytree.tree_flatten(arguments)
    operands = {id(leaf): leaf for leaf in leaves if isinstance(leaf, Tensor)}
    keys = [id(leaf) for leaf in leaves]
    constants = {key: leaf for key, leaf in zip(keys, leaves, strict=True) if key not in operands}

    def rebuild(tensors: Sequence[Tensor]) -> T:
        values = constants | dict(zip(operands, tensors, strict=True))
        rebuilt: T = pytree.tree_unflatten([values[key] for key in keys], spec)
        return rebuilt

    return list(operands.values()), rebuild
