"""Carries a plan out on a graph: sever, then sweep. It decides nothing.

Kept nodes keep their names, order, metadata and, unless the plan rewrites them, their arguments.
"""

from __future__ import annotations

from typing import Any

from torch._ops import OpOverload
from torch.fx import Graph, GraphModule, Node
from torch.fx.node import map_arg

from passes.eager_inputs import eager_inputs_follow
from passes.modules import copy_graph, module_like, put_modules
from passes.ops.signature import signature
from passes.plan import Plan
from passes.regions.identifiers import Identifiers, name_identifiers, new_identifier
from passes.regions.surgery import Rename, drop_results, edit_call, retarget
from passes.regions.variants import variants_of
from passes.rewrites import Fold, NewCall, Recall, Rewrite, SetOperand, is_folded_element


def prune_copy(module: GraphModule, plan: Plan) -> GraphModule:
    """A pruned copy of a module, which shares its parameters, buffers and unchanged submodules."""
    return _prune_copy(module, plan, name_identifiers(plan, module))


def _prune_copy(module: GraphModule, plan: Plan, identifiers: Identifiers) -> GraphModule:
    graph, renamed = copy_graph(module.graph)
    return module_like(module, graph, _apply(plan, module, graph, renamed.__getitem__, identifiers))


def prune_in_place(module: GraphModule, plan: Plan) -> GraphModule:
    """Prunes a module itself and returns it. Nested modules are replaced by pruned copies: others may hold them too."""
    replaced = _apply(plan, module, module.graph, lambda node: node, name_identifiers(plan, module))
    put_modules(module, replaced)
    module.recompile()
    return module


def _apply(
    plan: Plan, module: GraphModule, graph: Graph, rename: Rename, identifiers: Identifiers
) -> dict[str, GraphModule]:
    """Carries `plan`, made for `module`, out on `graph`; `rename` maps nodes of the plan to those of `graph`.

    Returns the pruned copies of nested graphs, by the attribute path at which the graph now expects them.
    """
    for rewrite in plan.rewrites:
        _rewrite(graph, rewrite, rename)
    if plan.results:
        drop_results(graph, plan.results)
    replaced = _edit_calls(plan, module, rename, identifiers)
    for node in reversed(plan.erased):
        if not rename(node)._erased:
            graph.erase_node(rename(node))
    return replaced


def _edit_calls(plan: Plan, module: GraphModule, rename: Rename, identifiers: Identifiers) -> dict[str, GraphModule]:
    variants = variants_of(plan, module)
    replaced: dict[str, GraphModule] = {}
    for edit in plan.calls:
        names: dict[str, str] = {}
        for path, body_plan, body, name in variants.of(edit):
            names[path] = name
            if name not in replaced:
                replaced[name] = _prune_copy(body, body_plan, identifiers)
        edit_call(edit, rename)
        retarget(edit, names, new_identifier(edit, identifiers), rename)
    return replaced


def _rewrite(graph: Graph, rewrite: Rewrite, rename: Rename) -> None:
    node = rename(rewrite.node)
    with graph.inserting_before(node):
        if isinstance(rewrite, Fold):
            _fold(node, _build(graph, rewrite.value, rename))
        elif isinstance(rewrite, Recall):
            with eager_inputs_follow(node):
                _recall(graph, node, rewrite.call, rename)
        elif isinstance(rewrite, SetOperand):
            with eager_inputs_follow(node):
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
        if is_folded_element(user):
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
        _leave_out_nones(node)
    elif isinstance(rewrite.slot, str):
        node.update_kwarg(rewrite.slot, value)
        _leave_out_nones(node)
    else:
        name, position = rewrite.slot
        given: Any = node.kwargs[name]
        node.update_kwarg(name, type(given)([*given[:position], value, *given[position + 1 :]]))


def _leave_out_nones(node: Node) -> None:
    """Leaves out each None that the schema fills in: a trace of a source that does not give it holds none either."""
    if not isinstance(node.target, OpOverload):
        return
    known = signature(node.target)
    optional = {name for name, found in known.parameters.items() if not found.required and found.default is None}
    given = len(node.args)
    while given and node.args[given - 1] is None and known.positional[given - 1] in optional:
        given -= 1
    node.args = node.args[:given]
    node.kwargs = {name: value for name, value in node.kwargs.items() if value is not None or name not in optional}
