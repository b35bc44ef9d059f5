"""Whether a nested graph was traced with operands of the layout that a call gives it.

A graph that two calls share may have been traced for one of them; what it recorded of sizes is then true of that one.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from passes import metadata
from passes.regions.calls import RegionCall


class Agreement(IntEnum):
    """What holds for a call of what its graphs recorded: nothing, sizes and dtypes, or strides as well."""

    NOTHING = 0
    SIZES = 1
    STRIDES = 2


def agreement(call: RegionCall) -> Agreement:
    """How far each operand is what was recorded for the placeholder it is bound to.

    An operand of which nothing is recorded does not agree with a placeholder of which something is.
    """
    found = [
        _agreement(operand.value, body.placeholders[index], sliced=index in call.mapped)
        for body in call.bodies
        for index, operand in enumerate(call.operands)
    ]
    return min(found, default=Agreement.STRIDES)


def _agreement(given: Any, placeholder: Node, *, sliced: bool) -> Agreement:
    traced = metadata.value(placeholder)
    if not isinstance(traced, Tensor):
        return Agreement.STRIDES
    tensor = metadata.value(given) if isinstance(given, Node) else given
    if not isinstance(tensor, Tensor) or tensor.dtype != traced.dtype or tensor.device != traced.device:
        return Agreement.NOTHING
    if not _same(tensor.shape[sliced:], traced.shape):
        return Agreement.NOTHING
    return Agreement.STRIDES if _same(tensor.stride()[sliced:], traced.stride()) else Agreement.SIZES


def _same(one: Sequence[Any], other: Sequence[Any]) -> bool:
    return [_expression(size) for size in one] == [_expression(size) for size in other]


def _expression(size: Any) -> Any:
    """A size that compares without adding a guard to the trace."""
    return size.node.expr if isinstance(size, torch.SymInt) else size
