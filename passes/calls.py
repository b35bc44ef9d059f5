"""The calls of one graph by the operator they call, found in one walk that binds none of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

from torch.fx import Graph, Node

from passes.ops.schema import operator_name

Target = tuple[str, Any]
"""Opcode and target: calls that share both call the same operator."""


class CallIndex:
    """Calls of a graph by what they call. A name is looked up once for each target, not for each call."""

    def __init__(self, graph: Graph) -> None:
        self._calls: dict[Target, list[Node]] = {}
        for node in graph.nodes:
            if node.op in _CALLS:
                self._calls.setdefault((node.op, node.target), []).append(node)
        self._names = {target: operator_name(nodes[0]) for target, nodes in self._calls.items()}

    def named(self, wanted: Callable[[str], bool]) -> tuple[Node, ...]:
        """The calls whose operator's qualified name is wanted, or is not shown by the target, in graph order.

        A submodule is no operator.
        """
        return self.matching(lambda at, name: at[0] != "call_module" and (name is None or wanted(name)))

    def matching(self, wanted: Callable[[Target, str | None], bool]) -> tuple[Node, ...]:
        """The calls whose target and operator's name are wanted, in graph order."""
        return self._in_order(at for at, name in self._names.items() if wanted(at, name))

    def _in_order(self, targets: Iterator[Target]) -> tuple[Node, ...]:
        groups = [self._calls[at] for at in targets]
        return tuple(groups[0]) if len(groups) == 1 else tuple(sorted(chain.from_iterable(groups)))


def is_call(node: Node) -> bool:
    """Whether `node` calls something: it is no input, attribute or output."""
    return node.op in _CALLS


_CALLS = frozenset({"call_function", "call_method", "call_module"})
