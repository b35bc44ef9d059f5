"""Whether a nested graph was traced with operands of the layout that a call gives it.

A graph that two calls share may have been traced for one of them; what it recorded of sizes is then true of that one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from passes import metadata
from passes.regions.calls import RegionCall


def is_traced_alike(call: RegionCall) -> bool:
    """Whether each operand has the shape, strides and dtype recorded for the placeholder it is bound to.

    An operand of which nothing is recorded does not agree with a placeholder of which something is.
    """
    return all(
        _agrees(operand.value, body.placeholders[index], sliced=index in call.mapped)
        for body in call.bodies
        for index, operand in enumerate(call.operands)
    )


def _agrees(given: Any, placeholder: Node, *, sliced: bool) -> bool:
    traced = metadata.value(placeholder)
    if not isinstance(traced, Tensor):
        return True
    tensor = metadata.value(given) if isinstance(given, Node) else given
    if not isinstance(tensor, Tensor) or tensor.dtype != traced.dtype or tensor.dim() != traced.dim() + sliced:
        return False
    layouts = [(tensor.shape[sliced:], traced.shape), (tensor.stride()[sliced:], traced.stride())]
    return all(_same(one, other) for one, other in layouts)


def _same(one: Any, other: Any) -> bool:
    return [_expression(size) for size in one] == [_expression(size) for size in other]


def _expression(size: Any) -> Any:
    """A size that compares without adding a guard to the trace."""
    return size.node.expr if isinstance(size, torch.SymInt) else size
