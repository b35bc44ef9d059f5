"""Which nodes can be lowered as they stand, and the refusal of those that cannot."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any

from torch._ops import HigherOrderOperator, OpOverload
from torch.fx import GraphModule, Node

from passes.errors import DeadkvError
from tracing.backends.hlo.context import LoweringContext
from tracing.backends.hlo.ops import LOWERINGS
from tracing.backends.hlo.regions import RULES
from tracing.backends.kernels import is_marker, writes_plain_attributes


def unsupported_node(gm: GraphModule, context: LoweringContext) -> Node | None:
    """The first node, nested graphs included, that has no lowering as it stands; None if every node has one."""
    return next(_unsupported(gm, context, nested=False), None)


def refusal(node: Node) -> DeadkvError:
    """Why a node that is left after functionalization cannot be lowered. Writes are left in nested graphs only."""
    if isinstance(node.target, OpOverload) and node.target._schema.is_mutable:
        return DeadkvError(
            f"{node.target} (node {node.name}) writes, inside a nested graph (cond, loop), a tensor from outside it, "
            "which HLO cannot: return the new value from the nested graph, and write it outside"
        )
    return DeadkvError(
        f"{node.target} (node {node.name}) has no HLO lowering: decompose it, or choose a backend that knows it"
    )


def _unsupported(gm: GraphModule, context: LoweringContext, nested: bool) -> Iterator[Node]:
    for node in gm.graph.nodes:
        if node.op in ("placeholder", "output"):
            continue
        module = operator.attrgetter(node.target)(gm) if node.op in ("get_attr", "call_module") else None
        if isinstance(module, GraphModule):
            yield from _unsupported(module, context, nested=True)
        elif node.op != "get_attr" and not _supported(gm, node, context, nested):
            yield node


def _supported(gm: GraphModule, node: Node, context: LoweringContext, nested: bool) -> bool:
    if node.op != "call_function":
        return False
    if node.target is operator.getitem:
        return _yields_sequence(gm, node.args[0])
    kernel = context.kernel(node.target)
    if kernel is not None:
        return not kernel.writes or (not nested and writes_plain_attributes(gm, node, kernel))
    return node.target in LOWERINGS or node.target in RULES or is_marker(node.target)


def _yields_sequence(gm: GraphModule, source: Any) -> bool:
    """Whether indexing this node picks a result, and is not torch indexing of a tensor."""
    if "val" in source.meta:
        return isinstance(source.meta["val"], (tuple, list))
    if source.op == "call_module":
        return isinstance(operator.attrgetter(source.target)(gm).graph.output_node().args[0], (tuple, list))
    if isinstance(source.target, OpOverload):
        returns = source.target._schema.returns
        return len(returns) > 1 or any("List" in str(value.type) for value in returns)
    return isinstance(source.target, HigherOrderOperator)
