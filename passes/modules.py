"""Copies of graphs and modules that share every parameter, buffer and submodule with the original."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from types import MethodType

from torch import nn
from torch.fx import Graph, GraphModule, Node


def copy_graph(graph: Graph) -> tuple[Graph, dict[Node, Node]]:
    """A copy of a graph, and the map from old nodes to new ones. Names, metadata and attributes of nodes are kept.

    Attributes: AOTAutograd guards an input by the `_dynamo_source` that Dynamo sets on its node.
    """
    copied = Graph(tracer_cls=graph._tracer_cls)
    renamed: dict[Node, Node] = {}
    copied.graph_copy(graph, renamed)
    output = graph.output_node()
    renamed[output] = copied.node_copy(output, renamed.__getitem__)
    for node, made in renamed.items():
        vars(made).update(vars(node))
    copied._codegen = graph._codegen
    return copied, renamed


def module_like(module: GraphModule, graph: Graph, replaced: Mapping[str, GraphModule] | None = None) -> GraphModule:
    """A GraphModule of `graph`, of the class of `module`, with the very same parameters, buffers, submodules and hooks.

    `replaced` maps attribute paths to the modules that stand there instead. `copy.deepcopy` would copy the weights and
    lose the hooks; `GraphModule(module, graph)` would drop the parameters that the graph does not use.
    """
    copied: GraphModule = type(module).__new__(type(module))
    GraphModule.__init__(copied, nn.Module(), Graph(), class_name=type(module).__name__)
    _share_attributes(module, copied)
    put_modules(copied, replaced or {})
    copied.graph = graph
    return copied


def put_modules(module: nn.Module, bodies: Mapping[str, GraphModule]) -> None:
    """Sets `module.PATH` for each attribute path, with a copy of each container on the way: others may hold it too."""
    for path, body in sorted(bodies.items()):
        _put(module, path, body)


def _share_attributes(module: nn.Module, copied: nn.Module) -> None:
    """Gives `copied` all that `module` holds but its graph. Tables of parameters, submodules and hooks are copied."""
    for name, value in vars(module).items():
        if isinstance(value, MethodType) and value.__self__ is module:
            vars(copied)[name] = MethodType(value.__func__, copied)
        elif name != "_graph":
            vars(copied)[name] = copy.copy(value) if name in _TABLES else value


_TABLES = frozenset(
    name for name, value in vars(GraphModule({}, Graph())).items() if isinstance(value, (dict, set, list))
)


def _put(module: nn.Module, path: str, body: GraphModule) -> None:
    name, _, rest = path.partition(".")
    if not rest:
        module._modules[name] = body
        return
    container = _container_like(module._modules[name])
    module._modules[name] = container
    _put(container, rest, body)


def _container_like(container: nn.Module | None) -> nn.Module:
    if isinstance(container, GraphModule):
        return module_like(container, copy_graph(container.graph)[0])
    assert container is not None
    copied = type(container).__new__(type(container))
    _share_attributes(container, copied)
    return copied
