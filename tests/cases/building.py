"""Hand-built aten graphs of the cases, for what no tracer writes: calls of GraphModules, calls at odds with them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx

from tests.support.regions import RegionBuilder

aten = torch.ops.aten


class CaseBuilder(RegionBuilder):
    """Builds the outer graph node by node; a nested one is traced from a function."""

    def traced(self, path: str, function: Callable[..., Any], *operands: Node | Tensor) -> str:
        """Registers at `path` the graph of `function` on values like `operands`. Its inputs are named as there.

        The values are copies: of one value given twice, make_fx would take the two inputs for the same.
        """
        values = [operand.meta["val"] if isinstance(operand, Node) else operand for operand in operands]
        with self.mode:
            module = make_fx(function)(*(value.clone() for value in values))
        placeholders = module.graph.find_nodes(op="placeholder")
        for node, name in zip(placeholders, inspect.signature(function).parameters, strict=True):
            node.target = name
        module.recompile()
        return self.body(path, module)


def build_case(body: Callable[..., Any]) -> GraphModule:
    """The graph that `body` makes of the inputs of every case."""
    build = CaseBuilder()
    x = build.input("x", 3, 2, 16, 8)
    pool = build.input("past_key_values_0", 10, 4, 2, 8)
    table = build.input("block_table", 3, 4, dtype=torch.int32)
    result = body(build, x, pool, table)
    return build.returning(tuple(result) if isinstance(result, (list, tuple)) else (result,))
