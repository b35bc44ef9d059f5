"""Carries a plan out on a graph: sever, then sweep. It decides nothing.

Kept nodes keep their names, order, metadata and, unless the plan rewrites them, their arguments.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.fx import Graph, GraphModule, Node
from torch.fx.node import map_arg

from passes.plan import Plan
from passes.rewrites import Fold, NewCall, Recall, Rewrite, SetOperand

Rename = Callable[[Node], Node]


def copy_graph(graph: Graph) -> tuple[Graph, dict[Node, Node]]:
    """A copy of a graph, node names and metadata kept, and the map from old nodes to new ones."""
    copied = Graph(tracer_cls=graph._tracer_cls)
    renamed: dict[Node, Node] = {}
    result = copied.graph_copy(graph, renamed)
    output = next(iter(graph.find_nodes(op="output")))
    renamed[output] = copied.output(result)
    renamed[output].meta = dict(output.meta)
    copied._codegen = graph._codegen
    return copied, renamed


def module_like(module: GraphModule, graph: Graph) -> GraphModule:
    """A GraphModule of `graph` with the very same parameters, buffers and submodules as `module`.

    `copy.deepcopy` would copy the weights; `GraphModule(module, graph)` would drop those that the graph does not use.
    """
    copied = GraphModule(torch.nn.Module(), Graph(), class_name=type(module).__name__)
    for registry in ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set"):
        getattr(copied, registry).update(getattr(module, registry))
    _copy_plain_attributes(module, copied)
    copied.graph = graph
    return copied


def apply(plan: Plan, graph: Graph, renamed: Mapping[Node, Node] | None = None) -> None:
    """Carries `plan` out on `graph`. `renamed` maps the nodes that the plan speaks of to a copy's nodes."""
    rename: Rename = (lambda node: node) if renamed is None else renamed.__getitem__
    for rewrite in plan.rewrites:
        _rewrite(graph, rewrite, rename)
    for node in reversed(plan.erased):
        if not rename(node)._erased:
            graph.erase_node(rename(node))


def _rewrite(graph: Graph, rewrite: Rewrite, rename: Rename) -> None:
    node = rename(rewrite.node)
    with graph.inserting_before(node):
        if isinstance(rewrite, Fold):
            _fold(node, _build(graph, rewrite.value, rename))
        elif isinstance(rewrite, Recall):
            _recall(graph, node, rewrite.call, rename)
        elif isinstance(rewrite, SetOperand):
            _set_operand(node, rewrite, _build(graph, rewrite.value, rename))


def _build(graph: Graph, value: Any, rename: Rename) -> Any:
    """An argument in terms of the graph's own nodes, with its NewCalls inserted."""
    if isinstance(value, NewCall):
        args, kwargs = _build(graph, value.args, rename), _build(graph, dict(value.kwargs), rename)
        node = graph.create_node(value.op, value.target, args, kwargs)
        if value.value is not None:
            node.meta["val"] = value.value
        return node
    if isinstance(value, (list, tuple)):
        return type(value)(_build(graph, item, rename) for item in value)
    if isinstance(value, dict):
        return {key: _build(graph, item, rename) for key, item in value.items()}
    return map_arg(value, rename)


def _fold(node: Node, value: Any) -> None:
    """Puts `value` where `node` was used; an element taken of a folded tuple is folded too."""
    for user in list(node.users):
        if user.op == "call_function" and user.target is operator.getitem and isinstance(user.args[1], int):
            _fold(user, value[user.args[1]])
            user.graph.erase_node(user)
        else:
            user.args = _replaced(user.args, node, value)
            user.kwargs = _replaced(user.kwargs, node, value)


def _replaced(argument: Any, node: Node, value: Any) -> Any:
    return map_arg(argument, lambda found: value if found is node else found)


def _recall(graph: Graph, node: Node, call: NewCall, rename: Rename) -> None:
    node.op, node.target = call.op, call.target
    node.args = _build(graph, call.args, rename)
    node.kwargs = _build(graph, dict(call.kwargs), rename)


def _set_operand(node: Node, rewrite: SetOperand, value: Any) -> None:
    if isinstance(rewrite.slot, int):
        node.update_arg(rewrite.slot, value)
    elif isinstance(rewrite.slot, str):
        node.update_kwarg(rewrite.slot, value)
    else:
        name, position = rewrite.slot
        given: Any = node.kwargs[name]
        node.update_kwarg(name, type(given)([*given[:position], value, *given[position + 1 :]]))


def _copy_plain_attributes(module: GraphModule, copied: GraphModule) -> None:
    """Tensors and objects that get_attr reads although nobody registered them, and the module's own metadata."""
    copied.meta = dict(module.meta)
    copied.training = module.training
    for node in module.graph.find_nodes(op="get_attr"):
        name = str(node.target)
        if "." not in name and name in vars(module):
            setattr(copied, name, getattr(module, name))
