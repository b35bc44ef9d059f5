"""Binds a call of nested graphs to them: which operand is which placeholder, which result is which leaf.

    call_module[sub](%x, p=%y)                                     body `sub`
    invoke_subgraph(%sub, "subgraph_0", %x, %y)                    body `sub`
    cond(%pred, %true_graph, %false_graph, (%x, %y))               both branches take (x, y)
    while_loop(%cond_graph, %body_graph, (%c0, %c1), (%a,))        both take (c0, c1, a); body returns (c0, c1)
    scan(%combine_graph, [%c0], [%xs], (%a,))                      takes (c0, xs[i], a); returns (c0, ys[i])

The signatures are those of torch/_higher_order_ops/{invoke_subgraph,cond,while_loop,scan}.py. Of any other
higher-order operator nothing is assumed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch._ops import HigherOrderOperator
from torch.fx import GraphModule, Node
from torch.fx.graph import CodeGen

from passes.calls import Target
from passes.regions.structure import Path, leaves


@dataclass(frozen=True)
class Body:
    """One nested graph of a call.

    Attributes:
        path: attribute path of the GraphModule in the module that holds the call.
        module: the GraphModule.
        placeholders: its inputs.
        results: path and value of each leaf of its output, in order.
    """

    path: str
    module: GraphModule
    placeholders: tuple[Node, ...]
    results: tuple[tuple[Path, Any], ...]


@dataclass(frozen=True)
class Operand:
    """One operand of a call: what every body's placeholder of the same index is bound to.

    Attributes:
        place: where it stands, `("args", 3, 0)` for `node.args[3][0]`; None for a default that the call leaves out.
        value: a node, a constant, or a structure of these.
    """

    place: Path | None
    value: Any


@dataclass(frozen=True)
class RegionCall:
    """A call of nested graphs.

    Attributes:
        node: the call.
        kind: `call_module`, `invoke_subgraph`, `cond`, `while_loop`, `scan`, or `marker`, which has no nested graph.
        bodies: the nested graphs. Operand i is bound to placeholder i of each.
        operands: the operands.
        results: paths of the leaves of the call's value. Leaf k is leaf k of every body in `yielding`.
        yielding: indices of the bodies that yield the results; the output of any other body steers the call.
        carries: number of leading operands that leaf i of the body replaces in the next round.
        mapped: indices of operands that are taken apart along their first dimension, one slice a round.
        controls: operands that steer the call itself, such as the predicate of `cond`.
        fixed: the number of operands and results cannot change.
    """

    node: Node
    kind: str
    bodies: tuple[Body, ...]
    operands: tuple[Operand, ...]
    results: tuple[Path, ...]
    yielding: tuple[int, ...] = (0,)
    carries: int = 0
    mapped: range = range(0)
    controls: tuple[Any, ...] = ()
    fixed: bool = False


def may_call_graphs(target: Target, name: str | None = None) -> bool:
    """Whether calls of a target may be calls of nested graphs, whatever the name of the operator."""
    op, called = target
    return op == "call_module" or isinstance(called, HigherOrderOperator)


def bind_region(node: Node, module: GraphModule) -> RegionCall | None:
    """The nested graphs that `node`, a node of `module`, calls, bound; None if it calls none or in an unknown way."""
    if node.op == "call_module":
        return _call_module(node, module)
    if node.op != "call_function" or not isinstance(node.target, HigherOrderOperator):
        return None
    binding = _BINDINGS.get(node.target._name)
    bound = None if binding is None or node.kwargs else binding(node, module)
    return bound if bound is not None and _is_consistent(bound) else None


def _call_module(node: Node, module: GraphModule) -> RegionCall | None:
    body = _body(str(node.target), module)
    if body is None or any(str(found.target).startswith("*") for found in body.placeholders):
        return None
    positional = {found: Operand(("args", i), v) for i, (found, v) in enumerate(zip(body.placeholders, node.args))}  # noqa: B905
    by_name = {str(found.target): found for found in body.placeholders if found not in positional}
    if len(node.args) > len(body.placeholders) or node.kwargs.keys() - by_name.keys():
        return None
    named = {by_name[name]: Operand(("kwargs", name), value) for name, value in node.kwargs.items()}
    given = {**positional, **named}
    if any(found not in given and not found.args for found in body.placeholders):
        return None
    operands = tuple(given[found] if found in given else Operand(None, found.args[0]) for found in body.placeholders)
    return RegionCall(node, "call_module", (body,), operands, _paths(body))


def _invoke_subgraph(node: Node, module: GraphModule) -> RegionCall | None:
    body = _body_of(node.args[0], module)
    if body is None:
        return None
    return RegionCall(node, "invoke_subgraph", (body,), _operands(node, (), range(2, len(node.args))), _paths(body))


def _cond(node: Node, module: GraphModule) -> RegionCall | None:
    branches = _bodies(node.args[1:3], module)
    if branches is None or len(node.args) != 4:
        return None
    operands = _operands(node, (3,))
    return RegionCall(node, "cond", branches, operands, _paths(branches[0]), yielding=(0, 1), controls=(node.args[0],))


def _while_loop(node: Node, module: GraphModule) -> RegionCall | None:
    graphs = _bodies(node.args[:2], module)
    if graphs is None or len(node.args) != 4:
        return None
    operands = (*_operands(node, (2,)), *_operands(node, (3,)))
    return RegionCall(node, "while_loop", graphs, operands, _paths(graphs[1]), yielding=(1,), carries=_length(node, 2))


def _scan(node: Node, module: GraphModule) -> RegionCall | None:
    body = _body_of(node.args[0], module)
    if body is None or len(node.args) != 4:
        return None
    operands = tuple(operand for place in (1, 2, 3) for operand in _operands(node, (place,)))
    carries, mapped = _length(node, 1), _length(node, 2)
    return RegionCall(
        node, "scan", (body,), operands, _paths(body), carries=carries, mapped=range(carries, carries + mapped)
    )


_BINDINGS: Mapping[str, Callable[[Node, GraphModule], RegionCall | None]] = {
    "invoke_subgraph": _invoke_subgraph,
    "cond": _cond,
    "while_loop": _while_loop,
    "scan": _scan,
}


def _operands(node: Node, place: tuple[int, ...], indices: range | None = None) -> tuple[Operand, ...]:
    """The items of `node.args`, or of the list at `place` in it."""
    items: Any = node.args
    for index in place:
        items = items[index]
    chosen = range(len(items)) if indices is None else indices
    return tuple(Operand(("args", *place, index), items[index]) for index in chosen)


def _length(node: Node, place: int) -> int:
    items: Any = node.args[place]
    return len(items)


def _paths(body: Body) -> tuple[Path, ...]:
    return tuple(path for path, _ in body.results)


def _bodies(values: Any, module: GraphModule) -> tuple[Body, ...] | None:
    found = [_body_of(value, module) for value in values]
    bodies = tuple(body for body in found if body is not None)
    return bodies if len(bodies) == len(found) else None


def _body_of(value: Any, module: GraphModule) -> Body | None:
    is_attribute = isinstance(value, Node) and value.op == "get_attr"
    return _body(str(value.target), module) if is_attribute else None


def _body(path: str, module: GraphModule) -> Body | None:
    found: Any = module
    for name in path.split("."):
        found = getattr(found, name, None)
    if not isinstance(found, GraphModule) or not _runs_its_graph_alone(found):
        return None
    output = next(iter(found.graph.find_nodes(op="output")), None)
    if output is None:
        return None
    return Body(path, found, tuple(found.graph.find_nodes(op="placeholder")), tuple(leaves(output.args[0])))


def _runs_its_graph_alone(module: GraphModule) -> bool:
    """Whether calling `module` runs its graph on the very arguments: no hooks, no flattening of containers."""
    hooks = (module._forward_hooks, module._forward_pre_hooks)
    return not any(hooks) and type(module.graph._codegen) is CodeGen


def _is_consistent(call: RegionCall) -> bool:
    """Whether every body takes all operands and every yielding body returns the same leaves."""
    takes_all = all(len(body.placeholders) == len(call.operands) for body in call.bodies)
    same_leaves = all(_paths(call.bodies[index]) == call.results for index in call.yielding)
    return takes_all and same_leaves and call.carries <= len(call.results)
