"""What torch records of a call's inputs follows the call's arguments.

For calls that depend on the strides of their operands make_fx keeps the operands' values as eager torch had them
(torch/fx/experimental/proxy_tensor.py, note "eager_input_vals"), and Inductor lays the operands out like these. It
pairs them with the arguments one by one, so a call that is given other arguments needs another record.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.fx import Node
from torch.fx.node import map_aggregate
from torch.utils import _pytree as pytree

from passes import metadata

EAGER_INPUTS = "eager_input_vals"


@contextmanager
def eager_inputs_follow(node: Node) -> Iterator[None]:
    """Renews the record of `node` after its arguments have changed inside the block.

    Without a record, or with one that did not fit the arguments before, nothing is done.
    """
    recorded = _by_operand(node) if EAGER_INPUTS in node.meta else None
    yield
    if recorded is not None:
        node.meta[EAGER_INPUTS] = map_aggregate((node.args, node.kwargs), lambda found: _value(found, recorded))


def _by_operand(node: Node) -> dict[Node, Any] | None:
    given = pytree.tree_leaves((node.args, node.kwargs))
    values = pytree.tree_leaves(node.meta[EAGER_INPUTS])
    if len(given) != len(values):
        return None
    return {found: value for found, value in zip(given, values, strict=True) if isinstance(found, Node)}


def _value(argument: Any, recorded: dict[Node, Any]) -> Any:
    """As make_fx records it: a value for each node, None for a constant."""
    if not isinstance(argument, Node):
        return None
    return recorded[argument] if argument in recorded else metadata.value(argument)
