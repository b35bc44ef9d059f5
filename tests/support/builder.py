"""Small hand-built aten graphs: one pool, one table, one site."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import Graph, GraphModule, Node
from torch.fx.node import map_arg

aten = torch.ops.aten


class GraphBuilder:
    """Builds an aten graph node by node; each node gets the value that the call yields on fake tensors."""

    def __init__(self) -> None:
        self.root = nn.Module()
        self.graph = Graph()
        self.mode = FakeTensorMode()

    def input(self, name: str, *shape: int, dtype: torch.dtype = torch.float32) -> Node:
        node = self.graph.placeholder(name)
        with self.mode:
            node.meta["val"] = torch.empty(shape, dtype=dtype)
        return node

    def parameter(self, name: str, *shape: int, dtype: torch.dtype = torch.float32) -> Node:
        if name not in dict(self.root.named_parameters()):
            self._register(name, nn.Parameter(torch.zeros(shape).to(dtype), requires_grad=False))
        node = self.graph.get_attr(name)
        with self.mode:
            node.meta["val"] = torch.empty(shape, dtype=dtype)
        return node

    def _register(self, name: str, value: nn.Parameter) -> None:
        *path, leaf = name.split(".")
        module = self.root
        for part in path:
            if not hasattr(module, part):
                module.add_module(part, nn.Module())
            module = getattr(module, part)
        module.register_parameter(leaf, value)

    def call(self, target: Any, *args: Any, **kwargs: Any) -> Node:
        node = self.graph.create_node("call_function", target, args, kwargs, name=str(target).split(".")[1])
        values: Any = map_arg((args, kwargs), lambda operand: operand.meta["val"])
        with self.mode:
            node.meta["val"] = target(*values[0], **values[1])
        return node

    def site(self, pool: Node, table: Node) -> Node:
        """The materialization chain of NxDI: view, index_select, view, permute."""
        batch, blocks = table.meta["val"].shape
        _, size, heads, dim = pool.meta["val"].shape
        index = self.call(aten.view.default, table, [-1])
        gathered = self.call(aten.index_select.default, pool, 0, index)
        rows = self.call(aten.view.default, gathered, [batch, blocks * size, heads, dim])
        return self.call(aten.permute.default, rows, [0, 2, 1, 3])

    def module(self, *outputs: Any) -> GraphModule:
        self.graph.output(outputs)
        built = GraphModule(self.root, self.graph)
        built.graph.lint()
        return built


def decode_graph(pool: str = "kv_mgr.past_key_values.0", table: str = "active_block_table") -> GraphModule:
    """`x + 1` beside one dead site."""
    build = GraphBuilder()
    x = build.input("x", 3, 2, 16, 8)
    blocks = build.input(table, 3, 4, dtype=torch.int32)
    build.site(build.parameter(pool, 10, 4, 2, 8), blocks)
    return build.module(build.call(aten.add.Tensor, x, 1))


def decode_inputs() -> tuple[Tensor, Tensor]:
    """Inputs of decode_graph."""
    return torch.randn(3, 2, 16, 8), torch.arange(12, dtype=torch.int32).reshape(3, 4) % 9
