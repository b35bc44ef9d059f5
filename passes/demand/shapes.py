"""Shapes without the tensor: constants where the trace fixed them, else expressions over the placeholders' sizes."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from functools import reduce
from typing import Any

import torch
from torch.fx import Graph, Node

from passes import metadata
from passes.rewrites import NewCall

Expression = Any
"""A SymPy expression, as `SymInt.node.expr` holds it. SymPy comes with torch and is not imported here."""

Anchor = tuple[Node, int | None]
"""Where a symbol can be read: a dimension of a placeholder, or (None) the placeholder itself."""


class ShapeRoots:
    """Re-roots sizes on placeholders, so that a size outlives the tensor it was read from."""

    def __init__(self, graph: Graph) -> None:
        self._anchors = _anchors(graph)

    def term(self, size: Any, *, aten: bool) -> Any:
        """`size` as an int, a placeholder, or a NewCall over placeholders; None if it cannot be expressed."""
        if not isinstance(size, torch.SymInt):
            return size
        return self._term(size.node.expr, aten)

    def terms(self, sizes: Any, *, aten: bool) -> list[Any] | None:
        """`term` of each size, or None if one of them cannot be expressed."""
        found = [self.term(size, aten=aten) for size in sizes]
        return None if any(term is None for term in found) else found

    def _term(self, expression: Expression, aten: bool) -> Any:
        if expression.is_Integer:
            return int(expression)
        if expression.is_Symbol:
            return self._symbol(expression, aten)
        function, parts = _operation(expression)
        terms = [self._term(part, aten) for part in parts]
        if function is None or any(term is None for term in terms):
            return None
        return reduce(lambda left, right: NewCall("call_function", function, (left, right)), terms)

    def _symbol(self, symbol: Expression, aten: bool) -> Any:
        if symbol not in self._anchors:
            return None
        node, dim = self._anchors[symbol]
        if dim is None:
            return node
        size = metadata.value(node).shape[dim]
        if aten:
            return NewCall("call_function", torch.ops.aten.sym_size.int, (node, dim), value=size)
        return NewCall("call_method", "size", (node, dim), value=size)


def _operation(expression: Expression) -> tuple[Any, tuple[Expression, ...]]:
    """The Python operator that combines the parts of an expression, and the parts; None for any other operator."""
    if expression.is_Pow and expression.exp.is_Integer and expression.exp > 0:
        return operator.mul, (expression.base,) * int(expression.exp)
    return _OPERATORS.get(expression.func.__name__), expression.args


_OPERATORS: Mapping[str, Any] = {"Add": operator.add, "Mul": operator.mul, "FloorDiv": operator.floordiv}
"""By the name of the expression's class, in SymPy and in torch.utils._sympy."""


def _anchors(graph: Graph) -> dict[Expression, Anchor]:
    anchors: dict[Expression, Anchor] = {}
    for node in graph.find_nodes(op="placeholder"):
        found = metadata.value(node)
        sizes = [(found, None)] if isinstance(found, torch.SymInt) else _dimensions(found)
        for size, dim in sizes:
            if isinstance(size, torch.SymInt) and size.node.expr.is_Symbol:
                anchors.setdefault(size.node.expr, (node, dim))
    return anchors


def _dimensions(found: Any) -> list[tuple[Any, int | None]]:
    shape = found.shape if isinstance(found, torch.Tensor) else ()
    return [(size, dim) for dim, size in enumerate(shape)]
