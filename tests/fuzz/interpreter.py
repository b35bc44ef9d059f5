"""Runs a graph node by node, nested graphs too, and overwrites or skips what it is told to as soon as it is computed.

Nested calls are run here and not by torch, by the meaning that torch's documentation gives them: the poison must reach
into them, and a second reading of `cond`, `while_loop` and `scan` is worth having.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node
from torch.utils import _pytree as pytree

Place = tuple[str, str]
"""The calls that lead to a graph, as a report writes them (`cond.true_graph/invoke_subgraph`), and a node's name."""

hop = torch.ops.higher_order


def poison(value: Any) -> Any:
    """A value of the same layout with NaN, the largest integers or inverted booleans for elements."""
    return pytree.tree_map_only(Tensor, _poisoned, value)


def _poisoned(tensor: Tensor) -> Tensor:
    made = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype)
    if tensor.dtype is torch.bool:
        once = tuple(slice(0, 1) if stride == 0 else slice(None) for stride in tensor.stride())
        made[once] = ~tensor[once]
        return made
    return made.fill_(float("nan") if tensor.dtype.is_floating_point else torch.iinfo(tensor.dtype).max)


class PoisonInterpreter(Interpreter):
    """Runs `module` with poison for the values at `dead`, and without the calls at `skipped`.

    A skipped call hands on its first operand, as a write in place does. `seen` gets every value that is computed.
    `known` has values of a run without poison, for the layout of a dead call that poison makes fail.
    """

    def __init__(
        self,
        module: GraphModule,
        dead: Collection[Place] = (),
        skipped: Collection[Place] = (),
        path: str = "",
        seen: Callable[[Place, Any], object] = lambda place, value: None,
        known: Mapping[Place, Any] | None = None,
    ) -> None:
        super().__init__(module, garbage_collect_values=False)
        self.dead, self.skipped, self.path, self.seen = dead, skipped, path, seen
        self.known = known or {}
        self.extra_traceback = False

    def run_node(self, n: Node) -> Any:
        place = self.path, n.name
        value = self._value(n, place)
        self.seen(place, value)
        return value

    def _value(self, node: Node, place: Place) -> Any:
        if place in self.skipped:
            return self.env[node.all_input_nodes[0]]
        if place not in self.dead:
            return self._run(node)
        try:
            return poison(self._run(node))
        except (RuntimeError, IndexError, ValueError, AttributeError, TypeError):
            return poison(self.known[place])

    def _run(self, node: Node) -> Any:
        run = _NESTED.get(node.target) if node.op == "call_function" else None
        if run is not None:
            args, _ = self.fetch_args_kwargs_from_env(node)
            return run(self, node, args)
        if node.op == "call_module":
            args, kwargs = self.fetch_args_kwargs_from_env(node)
            return self.enter(node, self.fetch_attr(str(node.target)), args, kwargs)
        return super().run_node(node)

    def enter(
        self, node: Node, body: GraphModule, args: Sequence[Any], kwargs: Mapping[str, Any] | None = None, of: str = ""
    ) -> Any:
        """Runs a nested graph; `of` is its attribute path if the call has several."""
        step = f"{node.name}.{of}" if of else node.name
        path = f"{self.path}/{step}" if self.path else step
        names = [str(found.target) for found in body.graph.find_nodes(op="placeholder")]
        given = [*args, *((kwargs or {})[name] for name in names[len(args) :])]
        return PoisonInterpreter(body, self.dead, self.skipped, path, self.seen, self.known).run(*given)


def _invoke(outer: PoisonInterpreter, node: Node, args: Any) -> Any:
    return outer.enter(node, args[0], args[2:])


def _cond(outer: PoisonInterpreter, node: Node, args: Any) -> Any:
    chosen = 1 if bool(args[0]) else 2
    return outer.enter(node, args[chosen], args[3], of=_path(node, chosen))


def _while_loop(outer: PoisonInterpreter, node: Node, args: Any) -> Any:
    condition, body, carried, others = args
    while bool(outer.enter(node, condition, [*carried, *others], of=_path(node, 0))):
        carried = outer.enter(node, body, [*carried, *others], of=_path(node, 1))
    return tuple(carried)


def _scan(outer: PoisonInterpreter, node: Node, args: Any) -> Any:
    body, carried, stacked, others = args
    rows: list[Any] = []
    for index in range(len(stacked[0])):
        results = outer.enter(node, body, [*carried, *(found[index] for found in stacked), *others])
        carried, row = results[: len(carried)], results[len(carried) :]
        rows.append(row)
    return (*carried, *(torch.stack(column) for column in zip(*rows, strict=True)))


def _path(node: Node, position: int) -> str:
    read = node.args[position]
    assert isinstance(read, Node)
    return str(read.target)


_NESTED: Mapping[Any, Callable[[PoisonInterpreter, Node, Any], Any]] = {
    hop.invoke_subgraph: _invoke, hop.cond: _cond, hop.while_loop: _while_loop, hop.scan: _scan,
}  # fmt: skip
