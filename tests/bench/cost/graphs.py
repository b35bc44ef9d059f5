"""The graphs that are timed: captured decoders, and chains of layers that are built node by node."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Node
from torch.fx._lazy_graph_module import _make_graph_module, _use_lazy_graph_module

from tests.cases.ops import attend
from tests.support.builder import GraphBuilder
from tracing.decoder import Decoder, build_decoder

PRESET, BATCH, BUCKET = "llama-3.1-405b", 4, 1024
FACTOR = 0.5
aten = torch.ops.aten


def decoder_of(layers: int) -> Decoder:
    """A decoder of the geometry of Llama-3.1-405B, on meta."""
    return build_decoder(PRESET, layers=layers, batch=BATCH, bucket=BUCKET)


def chain(nodes: int, lazy_above: int) -> GraphModule:
    """A graph of exactly `nodes` nodes: one attention layer over and over, then products to fill up.

    In each layer the gather of a prefix cache is an operand of an attention op that does not read it. The nodes of all
    layers hold the same values; the parameters are on meta. Of a graph of more than `lazy_above` nodes, no code is
    generated before it is run.
    """
    layer = _Layer()
    root, graph = nn.Module(), Graph()
    for name in layer.parameters:
        root.add_module(name, nn.ParameterList())
    hidden, table = (graph.node_copy(found) for found in layer.inputs)
    while len(graph.nodes) + len(layer.body) < nodes:
        hidden = layer.add(root, graph, hidden, table)
    while len(graph.nodes) + 1 < nodes:
        product = graph.call_function(aten.mul.Tensor, (hidden, FACTOR))
        product.meta = dict(hidden.meta)
        hidden = product
    graph.output((hidden,))
    with _use_lazy_graph_module(nodes > lazy_above):
        return _make_graph_module(root, graph)


def chain_inputs() -> tuple[Tensor, Tensor]:
    """Inputs of every chain, on meta."""
    return torch.empty(2, 8, device="meta"), torch.empty(2, 4, dtype=torch.int32, device="meta")


class _Layer:
    """One layer, to be copied.

    Attributes:
        inputs: hidden state `[2, 8]` and block table `[2, 4]`.
        body: its other nodes, the result last.
        parameters: by the name of their list.
    """

    def __init__(self) -> None:
        build = GraphBuilder()
        x, table = build.input("hidden", 2, 8), build.input("block_table", 2, 4, dtype=torch.int32)
        prior = build.site(build.parameter("past_key_values.0", 9, 2, 1, 8), table)
        product = build.call(aten.mm.default, x, build.parameter("weights.0", 8, 8))
        attended = build.call(attend, product, build.parameter("past_key_values.0", 9, 2, 1, 8), table, prior)
        build.call(aten.add.Tensor, x, build.call(aten.mul.Tensor, attended, FACTOR))
        self.inputs, self.body = (x, table), tuple(build.graph.nodes)[2:]
        self.parameters = {name.removesuffix(".0"): like for name, like in build.root.named_parameters()}

    def add(self, root: nn.Module, graph: Graph, hidden: Node, table: Node) -> Node:
        """Adds a copy with parameters of its own; returns its result."""
        for name, like in self.parameters.items():
            own = nn.Parameter(torch.empty_like(like, device="meta"), requires_grad=False)
            self._list(root, name).append(own)
        number = len(self._list(root, "weights")) - 1
        made: dict[Node, Node] = dict(zip(self.inputs, (hidden, table), strict=True))
        for node in self.body:
            made[node] = graph.node_copy(node, made.__getitem__)
            if node.op == "get_attr":
                made[node].target = f"{str(node.target).removesuffix('0')}{number}"
        return made[self.body[-1]]

    def _list(self, root: nn.Module, name: str) -> nn.ParameterList:
        found = root.get_submodule(name)
        assert isinstance(found, nn.ParameterList)
        return found
