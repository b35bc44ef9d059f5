"""Copies of graphs and modules that share every parameter, buffer and submodule with the original."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import nn
from torch.fx import Graph, GraphModule, Node


def copy_graph(graph: Graph) -> tuple[Graph, dict[Node, Node]]:
    """A copy of a graph, node names and metadata kept, and the map from old nodes to new ones."""
    copied = Graph(tracer_cls=graph._tracer_cls)
    renamed: dict[Node, Node] = {}
    copied.graph_copy(graph, renamed)
    output = graph.output_node()
    renamed[output] = copied.node_copy(output, renamed.__getitem__)
    copied._codegen = graph._codegen
    return copied, renamed


def module_like(module: GraphModule, graph: Graph, replaced: Mapping[str, GraphModule] | None = None) -> GraphModule:
    """A GraphModule of `graph` with the very same parameters, buffers and submodules as `module`.

    `replaced` maps attribute paths to the modules that stand there instead. `copy.deepcopy` would copy the weights;
    `GraphModule(module, graph)` would drop those that the graph does not use.
    """
    copied = GraphModule(torch.nn.Module(), Graph(), class_name=type(module).__name__)
    for registry in _REGISTRIES:
        getattr(copied, registry).update(getattr(module, registry))
    _copy_plain_attributes(module, copied)
    for path, body in sorted((replaced or {}).items()):
        _put(copied, path, body)
    copied.graph = graph
    return copied


_REGISTRIES = ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set")


def _put(module: nn.Module, path: str, body: GraphModule) -> None:
    """Sets `module.path`, with a copy of each container on the way: the containers are the original's."""
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
    copied = copy.copy(container)
    assert isinstance(copied, nn.Module)
    copied._modules = dict(copied._modules)
    return copied


def _copy_plain_attributes(module: GraphModule, copied: GraphModule) -> None:
    """Tensors and objects that get_attr reads although nobody registered them, and the module's own metadata."""
    copied.meta = dict(module.meta)
    copied.training = module.training
    for node in module.graph.find_nodes(op="get_attr"):
        name = str(node.target)
        if "." not in name and name in vars(module):
            setattr(copied, name, getattr(module, name))
