"""Small random graphs around a pool and a block table, drawn by hypothesis.

A graph is a list of steps over the values made so far: gathers, views, arithmetic, in-place writes through any view,
factories, sizes, an opaque kernel with a contract and one without, each in aten or in tensor-method spelling.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import Graph, GraphModule, Node
from torch.fx.node import map_arg

from tests.cases import ops

aten = torch.ops.aten
POOL, TABLE, X = (6, 2, 2, 3), (2, 2), (4, 2, 2, 3)


class RandomGraph:
    """Builds one graph from drawn choices; every value is a float tensor unless it is the table or a size."""

    def __init__(self, draw: Callable[[Any], Any]) -> None:
        self.draw = draw
        self.mode = FakeTensorMode()
        self.graph = Graph()
        self.pool = self._input("past_key_values_0", POOL, torch.float32)
        self.table = self._input("active_block_table", TABLE, torch.int32)
        self.values = [self._input("x", X, torch.float32), self.pool]

    def _input(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Node:
        node = self.graph.placeholder(name)
        with self.mode:
            node.meta["val"] = torch.empty(shape, dtype=dtype)
        return node

    def call(self, target: Any, *args: Any) -> Node:
        node = (
            self.graph.call_method(target, args) if isinstance(target, str) else self.graph.call_function(target, args)
        )
        values: Any = map_arg(args, lambda operand: operand.meta["val"])
        with self.mode:
            run = getattr(values[0], target) if isinstance(target, str) else target
            node.meta["val"] = run(*(values[1:] if isinstance(target, str) else values))
        return node

    def either(self, method: str, overload: Any, *args: Any) -> Node:
        return self.call(self.draw(st.sampled_from([method, overload])), *args)

    def pick(self) -> Node:
        return self.draw(st.sampled_from(self.values))

    def step(self) -> None:
        made = self.draw(st.sampled_from(STEPS))(self)
        if made is not None and made.meta["val"].numel() <= 10_000:
            self.values.append(made)

    def module(self) -> GraphModule:
        outputs = self.draw(st.lists(st.sampled_from(self.values), min_size=1, max_size=2))
        self.graph.output(tuple(outputs))
        return GraphModule(torch.nn.Module(), self.graph)


def gather(g: RandomGraph) -> Node:
    index = g.either("view", aten.view.default, g.table, [-1])
    if g.draw(st.booleans()):
        return g.either("index_select", aten.index_select.default, g.pool, 0, index)
    return g.call(aten.index.Tensor, g.pool, [index])


def view(g: RandomGraph) -> Node | None:
    source = g.pick()
    dims = source.meta["val"].dim()
    if dims == 0:
        return None
    kind = g.draw(st.sampled_from(["permute", "select", "slice", "unsqueeze", "contiguous", "reshape"]))
    if kind == "permute":
        return g.either("permute", aten.permute.default, source, g.draw(st.permutations(range(dims))))
    if kind == "select":
        return g.either("select", aten.select.int, source, g.draw(st.integers(0, dims - 1)), 0)
    if kind == "slice":
        return g.call(aten.slice.Tensor, source, g.draw(st.integers(0, dims - 1)), 0, 1)
    if kind == "unsqueeze":
        return g.either("unsqueeze", aten.unsqueeze.default, source, 0)
    if kind == "contiguous":
        return g.either("contiguous", aten.contiguous.default, source)
    return g.either("reshape", aten.reshape.default, source, [-1])


def pure(g: RandomGraph) -> Node:
    source = g.pick()
    name = g.draw(st.sampled_from(["relu", "neg", "clone", "sum"]))
    return g.either(name, getattr(aten, name).default, source)


def combine(g: RandomGraph) -> Node:
    return g.either("add", aten.add.Tensor, g.pick(), g.call(aten.sum.default, g.pick()))


def write(g: RandomGraph) -> Node:
    name = g.draw(st.sampled_from(["add_", "mul_"]))
    return g.either(name, getattr(aten, name).Tensor, g.pick(), g.call(aten.sum.default, g.pick()))


def copy(g: RandomGraph) -> Node:
    return g.either("copy_", aten.copy_.default, g.pick(), g.call(aten.sum.default, g.pick()))


def factory(g: RandomGraph) -> Node:
    return g.call(g.draw(st.sampled_from([aten.zeros_like.default, aten.ones_like.default])), g.pick())


def size(g: RandomGraph) -> Node:
    return g.call(aten.mul.Tensor, g.pick(), g.call(aten.sym_numel.default, g.pick()))


def kernel(g: RandomGraph) -> Node:
    op = g.draw(st.sampled_from([ops.attend, ops.attend_unknown]))
    table = g.draw(st.sampled_from([g.table, None]))
    return g.call(op, g.pick(), g.pool, table, g.pick())


STEPS = [gather, gather, view, view, view, pure, combine, write, copy, factory, size, kernel]


def graphs() -> Any:
    @st.composite
    def build(draw: Any) -> GraphModule:
        graph = RandomGraph(draw)
        graph.values.append(gather(graph))
        for _ in range(draw(st.integers(1, 14))):
            graph.step()
        return graph.module()

    return build()
