"""What `forward` and a graph return, as a flat list."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph
from torch.utils import _pytree as pytree

from passes.errors import DeadkvError
from tracing.capture.inputs import CONSTANT_TYPES

_OUTPUT_TYPES = (Tensor, torch.SymInt, torch.SymFloat, torch.SymBool, *CONSTANT_TYPES)


def returned(graph: Graph) -> tuple[Any, ...]:
    """What the output node of a graph with flat outputs returns: nodes and constants."""
    values: Any = graph.output_node().args[0]
    return tuple(values)


def flat_outputs(value: object) -> list[object]:
    """The leaves of `value`, in order.

    Raises:
        DeadkvError: a leaf is neither a tensor nor a constant, so a graph could not return it.
    """
    leaves: list[object] = pytree.tree_leaves(value)
    for index, leaf in enumerate(leaves):
        if not isinstance(leaf, _OUTPUT_TYPES):
            raise DeadkvError(
                f"output {index} is a {type(leaf).__name__}; return tensors and constants, in tuples, lists or dicts"
            )
    return leaves
