"""Small torch.fx graphs, built by hand, whose values are fake tensors: a decoder with a dead prefix in every layer."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree as pytree

aten = torch.ops.aten
_OP = "deadkv_graph_test::attention_block_tkg"
_SCHEMA = "(Tensor X, Tensor? K_prior, Tensor K_cache, Tensor active_blocks_table) -> Tensor"
if not torch._C._jit_get_schemas_for_operator(_OP):
    torch.library.define(_OP, _SCHEMA)
    torch.library.register_fake(_OP, lambda x, prior, cache, table: torch.empty_like(x))
attention = torch.ops.deadkv_graph_test.attention_block_tkg.default


class Builder:
    """Adds nodes to a graph and runs each on fake tensors for its `meta["val"]`."""

    def __init__(self) -> None:
        self.root = nn.Module()
        self.graph = fx.Graph()
        self.mode = FakeTensorMode()

    def input(self, name: str, *shape: int, dtype: torch.dtype = torch.float32) -> fx.Node:
        node = self.graph.placeholder(name)
        node.meta["val"] = self.mode.from_tensor(torch.empty(shape, dtype=dtype, device="meta"))
        return node

    def parameter(self, fqn: str, *shape: int) -> fx.Node:
        module = self.root
        *path, leaf = fqn.split(".")
        for atom in path:
            if not hasattr(module, atom):
                setattr(module, atom, nn.Module())
            module = getattr(module, atom)
        if not hasattr(module, leaf):
            setattr(module, leaf, nn.Parameter(torch.empty(shape, device="meta")))
        node = self.graph.get_attr(fqn)
        node.meta["val"] = self.mode.from_tensor(torch.empty(shape, device="meta"))
        return node

    def call(self, target: Callable[..., Any], *args: Any, name: str | None = None, **kwargs: Any) -> fx.Node:
        node = self.graph.create_node("call_function", target, args, kwargs, name=name)
        values = pytree.tree_map_only(fx.Node, lambda n: n.meta["val"], (args, kwargs))
        with self.mode:
            node.meta["val"] = target(*values[0], **values[1])
        return node

    def finish(self, *outputs: Any) -> fx.GraphModule:
        self.graph.output(outputs)
        return fx.GraphModule(self.root, self.graph)


def decoder(layers: int = 2, *, prior: str = "dead", scale: float = 0.5, pool: str = "k_cache") -> fx.GraphModule:
    """A decoder of `layers` attention layers, each with the gather of a prefix cache that is

    "dead" (nothing reads it), "operand" (the attention op does), or "none" (absent).
    """
    b = Builder()
    x = b.input("hidden", 2, 8)
    table = b.input("block_table", 2, 4, dtype=torch.int32)
    for layer in range(layers):
        w = b.parameter(f"layers.{layer}.w", 8, 8)
        site = None
        if prior != "none":
            site = gather(b, layer, table, pool)
        h = b.call(aten.mm.default, x, w)
        cache = b.parameter(f"layers.{layer}.{pool}", 9, 2, 8)
        a = b.call(attention, h, site if prior == "operand" else None, cache, table)
        x = b.call(aten.add.Tensor, x, b.call(aten.mul.Tensor, a, scale))
    return b.finish(x)


def gather(b: Builder, layer: int, table: fx.Node, pool: str = "k_cache") -> fx.Node:
    """The prefix of one layer, `[2, 8, 8]`, as the block-KV cache manager gathers it."""
    cache = b.parameter(f"layers.{layer}.{pool}", 9, 2, 8)
    index = b.call(aten.view.default, table, [-1])
    blocks = b.call(aten.index_select.default, cache, 0, index)
    return b.call(aten.permute.default, b.call(aten.view.default, blocks, [2, 8, 8]), [0, 2, 1])


def renamed(gm: fx.GraphModule, seed: int = 0) -> fx.GraphModule:
    """The same graph with other node names, in another order that keeps operands first and inputs in order."""
    rng = random.Random(seed)
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    waiting = list(gm.graph.nodes)
    while waiting:
        ready = [n for n in waiting if all(o in copies for o in n.all_input_nodes) and _in_turn(n, waiting)]
        node = rng.choice(ready)
        waiting.remove(node)
        copies[node] = graph.node_copy(node, copies.__getitem__)
        copies[node]._rename(f"n{rng.randrange(10**6)}")
    return fx.GraphModule(gm, graph)


def _in_turn(node: fx.Node, waiting: list[fx.Node]) -> bool:
    """Inputs keep their order, and the output comes last."""
    if node.op == "output":
        return len(waiting) == 1
    return node.op != "placeholder" or node is next(n for n in waiting if n.op == "placeholder")
