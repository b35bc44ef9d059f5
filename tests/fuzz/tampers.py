"""Unsound changes of a correct prune, each at a random place of a random graph of it, nested ones included."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from functools import reduce
from typing import Any

import torch
from torch import nn
from torch.fx import Graph, GraphModule, Node
from torch.utils import _pytree as pytree

from tests.fuzz.draft import Choices, UnfitError

aten = torch.ops.aten
Tamper = Callable[[Choices, GraphModule], None]
"""Changes a module in place. Raises UnfitError if there is nothing that it could change."""


def _modules(module: GraphModule) -> list[GraphModule]:
    """The module and, once each, the nested ones that its graphs call."""
    found = {module: None}
    for node in module.graph.nodes:
        if node.op in ("get_attr", "call_module"):
            body = reduce(getattr, str(node.target).split("."), module)
            found.update(dict.fromkeys(_modules(body)) if isinstance(body, GraphModule) else {})
    return list(found)


def _graphs(module: GraphModule) -> list[Graph]:
    return [found.graph for found in _modules(module)]


def _calls(module: GraphModule) -> list[Node]:
    return [node for graph in _graphs(module) for node in graph.nodes if node.op.startswith("call_")]


def _layout(node: Node) -> Any:
    value = node.meta.get("val", node.meta.get("example_value"))
    return (value.shape, value.dtype) if isinstance(value, torch.Tensor) else None


def _others_like(node: Node) -> list[Node]:
    """Nodes before `node` whose value has its layout."""
    before: Iterator[Node] = iter(node.graph.nodes)
    return [other for other in _until(before, node) if _layout(node) is not None and _layout(other) == _layout(node)]


def _until(nodes: Iterator[Node], last: Node) -> Iterator[Node]:
    for node in nodes:
        if node is last:
            return
        yield node


def _replace(node: Node, other: Node) -> None:
    node.replace_all_uses_with(other, propagate_meta=False)
    node.graph.erase_node(node)


def remove_a_node(choose: Choices, module: GraphModule) -> None:
    """Takes out one more node that has users; an earlier value of the same layout stands for it."""
    node = choose.one_of([node for node in _calls(module) if node.users and _others_like(node)])
    _replace(node, choose.one_of(_others_like(node)))


def drop_a_write(choose: Choices, module: GraphModule) -> None:
    """Takes out a call that writes; what it wrote stands for its result."""
    node = choose.one_of([node for node in _calls(module) if _is_write(node)])
    if node.users:
        _replace(node, node.all_input_nodes[0])
    else:
        node.graph.erase_node(node)


def _is_write(node: Node) -> bool:
    name = str(getattr(node.target, "__name__", node.target)).split(".")[0]
    return name.endswith("_") or name in ("setitem", "iadd", "imul", "store", "unknown_store", "hidden")


def swap_operands(choose: Choices, module: GraphModule) -> None:
    node = choose.one_of([node for node in _calls(module) if len(set(node.all_input_nodes)) > 1])
    one = choose.one_of(node.all_input_nodes)
    other = choose.one_of([operand for operand in node.all_input_nodes if operand is not one])
    swapped = {one: other, other: one}
    node.args = torch.fx.node.map_arg(node.args, lambda found: swapped.get(found, found))
    node.kwargs = torch.fx.node.map_arg(node.kwargs, lambda found: swapped.get(found, found))


def rewire_an_operand(choose: Choices, module: GraphModule) -> None:
    pairs = [(node, operand) for node in _calls(module) for operand in node.all_input_nodes if _others_like(operand)]
    node, operand = choose.one_of(pairs)
    node.replace_input_with(operand, choose.one_of(_others_like(operand)))


def change_a_constant(choose: Choices, module: GraphModule) -> None:
    node = choose.one_of([node for node in _calls(module) if any(_is_number(leaf) for leaf in _leaves(node))])
    leaves, spec = pytree.tree_flatten((node.args, node.kwargs))
    at = choose.one_of([index for index, leaf in enumerate(leaves) if _is_number(leaf)])
    leaves[at] = choose.one_of([leaves[at] + 1, leaves[at] - 1, float(leaves[at])])
    node.args, node.kwargs = pytree.tree_unflatten(leaves, spec)


def _leaves(node: Node) -> list[Any]:
    return pytree.tree_leaves((node.args, node.kwargs))


def _is_number(leaf: Any) -> bool:
    return isinstance(leaf, (int, float)) and not isinstance(leaf, bool)


def reorder_results(choose: Choices, module: GraphModule) -> None:
    _edit_results(choose, module, lambda leaves: [leaves[-1], *leaves[:-1]])


def replace_a_result(choose: Choices, module: GraphModule) -> None:
    def replace(leaves: list[Any]) -> list[Any]:
        node = choose.one_of([leaf for leaf in leaves if isinstance(leaf, Node) and _others_like(leaf)])
        other = choose.one_of(_others_like(node))
        return [other if leaf is node else leaf for leaf in leaves]

    _edit_results(choose, module, replace)


def _edit_results(choose: Choices, module: GraphModule, edit: Callable[[list[Any]], list[Any]]) -> None:
    output = choose.one_of([module.graph, *_graphs(module)]).output_node()
    leaves, spec = pytree.tree_flatten(output.args[0])
    if len(leaves) < 2:
        raise UnfitError
    output.args = (pytree.tree_unflatten(edit(leaves), spec),)


def rename_an_input(choose: Choices, module: GraphModule) -> None:
    choose.one_of(list(module.graph.find_nodes(op="placeholder"))).target = "renamed"


def replace_a_parameter(choose: Choices, module: GraphModule) -> None:
    """Another parameter with other elements under the old name."""
    owner, name = _parameter(choose, module)
    owner._parameters[name] = nn.Parameter(torch.zeros(6, 2, 2, 3), requires_grad=False)


def rename_a_parameter(choose: Choices, module: GraphModule) -> None:
    """The same parameter under another name, by which every graph now reads it."""
    owner, name = _parameter(choose, module)
    reads = [(node, found) for found in _modules(module) for node in found.graph.find_nodes(op="get_attr")]
    own = [node for node, found in reads if _owner_and_name(found, node) == (owner, name)]
    owner._parameters["renamed"] = owner._parameters.pop(name)
    for node in own:
        node.target = ".".join([*str(node.target).split(".")[:-1], "renamed"])


def _owner_and_name(module: GraphModule, read: Node) -> tuple[nn.Module, str]:
    path, _, name = str(read.target).rpartition(".")
    return module.get_submodule(path), name


def _parameter(choose: Choices, module: GraphModule) -> tuple[nn.Module, str]:
    found = [(owner, name) for owner in module.modules() for name, _ in owner.named_parameters(recurse=False)]
    return choose.one_of(found)


def change_an_operator(choose: Choices, module: GraphModule) -> None:
    node = choose.one_of([node for node in _calls(module) if node.target in _OTHERS])
    node.target = _OTHERS[node.target]


_PAIRS = (
    (aten.add.Tensor, aten.sub.Tensor), (torch.add, torch.mul), ("add", "mul"), (operator.add, operator.mul),
    (aten.relu.default, aten.neg.default), (torch.relu, torch.neg), ("relu", "neg"),
    (aten.add_.Tensor, aten.mul_.Tensor), ("add_", "mul_"), ("zero_", "neg_"),
    (aten.sum.default, aten.amax.default), ("sum", "amax"),
    (aten.zeros.default, aten.ones.default), (torch.zeros, torch.ones), (aten.eq.Tensor, aten.lt.Tensor),
)  # fmt: skip
_OTHERS: Mapping[Any, Any] = {one: other for pair in _PAIRS for one, other in (pair, pair[::-1])}


def change_a_body(choose: Choices, module: GraphModule) -> None:
    """Changes an operator inside a nested graph."""
    change_an_operator(choose, choose.one_of(_modules(module)[1:]))


def move_a_node(choose: Choices, module: GraphModule) -> None:
    """Runs a write at the end of its graph, after what reads what it wrote."""
    node = choose.one_of(
        [node for node in _calls(module) if _is_write(node) and not node.users and node.next.op != "output"]
    )
    node.graph.output_node().prepend(node)


def insert_a_write(choose: Choices, module: GraphModule) -> None:
    graph = choose.one_of(_graphs(module))
    target = choose.one_of([node for node in graph.nodes if _layout(node) is not None])
    with graph.inserting_before(graph.output_node()):
        graph.call_function(aten.zero_.default, (target,))


TAMPERS: tuple[Tamper, ...] = (
    remove_a_node, drop_a_write, swap_operands, rewire_an_operand, change_a_constant, reorder_results, replace_a_result,
    rename_an_input, rename_a_parameter, replace_a_parameter, change_an_operator, change_a_body, move_a_node,
    insert_a_write,
)  # fmt: skip
ALWAYS_REJECTED = frozenset({rename_an_input, rename_a_parameter, replace_a_parameter})
"""Changes that a caller can tell although they may leave every bit."""
