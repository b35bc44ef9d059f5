"""Replaces the calls of a kernel that the target's cores do not run by the kernel's torch reference."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any

from torch.fx import Graph, GraphModule, Node

from passes.errors import DeadkvError
from tracing.backends.kernels import Kernel, bind_operands, held_by, kernel_of, writes_plain_attributes
from tracing.backends.targets import Target


def inline_kernels(gm: GraphModule, target: Target | None) -> GraphModule:
    """`gm` with plain torch in place of such calls, on the same Parameter objects; `gm` itself if there is none.

    Without a target every kernel that has a reference is replaced. Nested graphs are searched too. What a kernel writes
    in place becomes a new value for the nodes after it. Raises DeadkvError for a kernel that writes something else than
    a parameter or buffer of the graph that calls it, or one that is also read through a view.
    """
    found = ((node, kernel_of(node.target)) for node in gm.graph.nodes)
    kernels = {node: kernel for node, kernel in found if kernel is not None and _is_replaced(kernel, target)}
    bodies = {path: inline_kernels(body, target) for path, body in _nested_graphs(gm)}
    changed = {path: body for path, body in bodies.items() if body is not gm.get_submodule(path)}
    if not changed and not kernels:
        return gm
    copier = _Inliner(gm)
    for node in gm.graph.nodes:
        kernel = kernels.get(node)
        if kernel is None:
            copier.copy(node)
        else:
            copier.inline(node, kernel)
    inlined = GraphModule(gm, copier.graph)
    for path, body in changed.items():
        inlined.set_submodule(path, body)
    return inlined


def _is_replaced(kernel: Kernel, target: Target | None) -> bool:
    return kernel.reference is not None and (target is None or not kernel.runs_on(target))


def _nested_graphs(gm: GraphModule) -> Iterator[tuple[str, GraphModule]]:
    """The graphs that `gm` calls or hands to an operator, by attribute path, each once."""
    targets = (str(node.target) for node in gm.graph.nodes if node.op in ("call_module", "get_attr"))
    submodules = dict(gm.named_modules())
    for path in dict.fromkeys(targets):
        if isinstance(found := submodules.get(path), GraphModule):
            yield path, found


class _Inliner:
    def __init__(self, gm: GraphModule) -> None:
        self.graph = Graph()
        self._gm = gm
        self._values: dict[Node, Any] = {}
        self._written: dict[int, Node] = {}

    def copy(self, node: Node) -> None:
        self._values[node] = self.graph.node_copy(node, self._value)

    def inline(self, node: Node, kernel: Kernel) -> None:
        if not writes_plain_attributes(self._gm, node, kernel):
            raise DeadkvError(
                f"{kernel.name} (node {node.name}) writes a cache that is no plain parameter of the graph or is also "
                "read through a view: capture it with the functional op"
            )
        bound = bind_operands(node.target, node.args, node.kwargs)
        operands = {name: self._operand(value) for name, value in bound.items()}
        call = self.graph.call_function(kernel.load_reference(), kwargs=operands)
        results = [self._pick(call, i) for i in range(kernel.results + len(kernel.writes))]
        self._values[node] = results[0] if kernel.results == 1 else call
        for name, value in zip(kernel.writes, results[kernel.results :], strict=True):
            self._written[id(held_by(self._gm, bound[name]))] = value

    def _pick(self, call: Node, index: int) -> Node:
        return self.graph.call_function(operator.getitem, (call, index))

    def _operand(self, argument: Any) -> Any:
        return self._value(argument) if isinstance(argument, Node) else argument

    def _value(self, node: Node) -> Any:
        current = self._written.get(id(held_by(self._gm, node))) if node.op == "get_attr" else None
        return self._values[node] if current is None else current
