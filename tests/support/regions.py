"""Hand-built graphs that call other graphs, and the hand tools to prune them."""

from __future__ import annotations

import copy
import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch.fx import GraphModule, Node
from torch.utils import _pytree as pytree

from tests.support.builder import GraphBuilder

aten = torch.ops.aten
higher_order = torch.ops.higher_order


class RegionBuilder(GraphBuilder):
    """Builds a graph that calls others. Bodies are attributes of `root`; values are those that the bodies recorded."""

    def nested(self) -> RegionBuilder:
        """A builder of a graph that this one will call: its values are of the same fake mode."""
        inner = RegionBuilder()
        inner.mode = self.mode
        return inner

    def body(self, path: str, module: GraphModule) -> str:
        """Registers a graph, whose value a call of it gets."""
        self.root.add_module(path, module)
        return path

    def graph_of(self, path: str) -> Node:
        """A get_attr of a registered graph."""
        return self.graph.get_attr(path)

    def call_module(self, path: str, *args: Any, **kwargs: Any) -> Node:
        """A call of a registered graph."""
        call = self.graph.call_module(path, args, kwargs)
        call.meta["val"] = _value(self.root.get_submodule(path))
        return call

    def invoke(self, graph: Node, identifier: str, *operands: Node) -> Node:
        """`invoke_subgraph(graph, identifier, *operands)`."""
        return self._region(higher_order.invoke_subgraph, graph, (graph, identifier, *operands))

    def cond(self, predicate: Node, true: str, false: str, *operands: Node) -> Node:
        """`cond(predicate, true, false, operands)`."""
        graphs = self.graph_of(true), self.graph_of(false)
        return self._region(higher_order.cond, graphs[0], (predicate, *graphs, operands))

    def while_loop(self, condition: str, body: str, carried: Sequence[Node], *others: Node) -> Node:
        """`while_loop(condition, body, carried, others)`."""
        graphs = self.graph_of(condition), self.graph_of(body)
        return self._region(higher_order.while_loop, graphs[1], (*graphs, tuple(carried), others))

    def scan(self, body: str, init: Sequence[Node], xs: Sequence[Node], *others: Node) -> Node:
        """`scan(body, init, xs, others)`."""
        graph = self.graph_of(body)
        call = self._region(higher_order.scan, graph, (graph, list(init), list(xs), others))
        rounds = xs[0].meta["val"].shape[0]
        carries, ys = call.meta["val"][: len(init)], call.meta["val"][len(init) :]
        with self.mode:
            call.meta["val"] = (*carries, *(y.new_empty((rounds, *y.shape)) for y in ys))
        return call

    def _region(self, target: Any, graph: Node, args: tuple[Any, ...]) -> Node:
        call = self.graph.call_function(target, args)
        call.meta["val"] = _value(self.root.get_submodule(str(graph.target)))
        return call

    def item(self, value: Node, key: int | str) -> Node:
        """`value[key]`."""
        taken = self.graph.call_function(operator.getitem, (value, key))
        taken.meta["val"] = value.meta["val"][key]
        return taken

    def returning(self, results: Any) -> GraphModule:
        """The finished graph, whose output is `results`, in whatever containers."""
        self.graph.output(results)
        built = GraphModule(self.root, self.graph)
        built.graph.lint()
        return built


def _value(body: GraphModule) -> Any:
    output = next(iter(body.graph.find_nodes(op="output"))).args[0]
    return pytree.tree_map_only(Node, lambda node: node.meta["val"], _plain(output))


def _plain(value: Any) -> Any:
    """FX's immutable containers as plain ones."""
    if isinstance(value, (tuple, list)):
        return type(value)(map(_plain, value)) if isinstance(value, tuple) else [_plain(item) for item in value]
    return {key: _plain(item) for key, item in value.items()} if isinstance(value, dict) else value


def sharing_copy(module: GraphModule) -> GraphModule:
    """A copy, nested graphs included, with the very same parameters and buffers."""
    shared = [*module.parameters(), *module.buffers()]
    return copy.deepcopy(module, {id(tensor): tensor for tensor in shared})


def node(module: GraphModule, name: str) -> Node:
    """The node of that name."""
    return next(found for found in module.graph.nodes if found.name == name)


def erase(module: GraphModule, *names: str) -> None:
    """Erases unused nodes, in the given order."""
    for name in names:
        module.graph.erase_node(node(module, name))
    module.recompile()


def set_args(module: GraphModule, name: str, *args: Any) -> None:
    """Gives a node other arguments; strings that name nodes stand for these."""
    by_name = {found.name: found for found in module.graph.nodes}
    named = pytree.tree_map(lambda item: by_name.get(item, item) if isinstance(item, str) else item, args)
    node(module, name).args = named
    module.recompile()


def set_results(module: GraphModule, results: Any) -> None:
    """Gives a graph another output; strings stand for nodes."""
    set_args(module, "output", results)


def set_value(module: GraphModule, name: str, value: Any) -> None:
    """Records another value of a node."""
    node(module, name).meta["val"] = value


def keep_values(module: GraphModule, name: str, *numbers: int) -> None:
    """Leaves, of the recorded results of a call, those of these numbers."""
    value = node(module, name).meta["val"]
    set_value(module, name, tuple(value[number] for number in numbers))
