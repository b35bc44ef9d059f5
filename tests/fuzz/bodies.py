"""Nested graphs while they are drawn, and what a call takes of their results."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.utils import _pytree as pytree

from tests.fuzz import sources
from tests.fuzz.draft import Draft, UnfitError

aten = torch.ops.aten
Step = Callable[[Draft], object]
_PATHS = "body body_pruned layers.0.body layers.body add body_1".split()


class Body(Draft):
    """A graph that others call. Each input stands for a kind of operand, and is in the operand's lane."""

    def __init__(self, outer: Draft, operands: Sequence[Node], slices: Sequence[Node] = ()) -> None:
        super().__init__(outer.choose, outer.mode, outer.depth + 1, f"{outer.choose.taken[-1]}.")
        self.outermost: Draft = outer.outermost if isinstance(outer, Body) else outer
        self.leak = outer.leak
        self.inputs: list[Node] = []
        for index, operand in enumerate(operands):
            name = self.choose.one_of(["x", operand.name.removesuffix(f"_{index}")])
            node = self.placeholder(f"{name}_{index}", _one_slice(operand) if operand in slices else _layout(operand))
            self.inputs.append(node)
            kinds = (outer.pools, self.pools), (outer.tables, self.tables), (outer.indices, self.indices)
            found = next((mine for theirs, mine in kinds if operand in theirs and operand not in slices), self.values)
            found.append(node)
            if operand in outer.side:
                self.side.add(node)
        self.values.extend(self.pools)
        if self.choose.chance(3):
            sources.add_module(self.root, "kv.past_key_values").register_parameter(
                "2", self.outermost.root.get_parameter(sources.PARAMETER)
            )
            sources.read_parameter(self)
        self.results: Any = ()
        self.path = ""
        self.takes_identifier = False

    def finish(self, results: Any) -> GraphModule:
        """Ends the graph with these results."""
        self.results, self.module = results, super().finish(results)
        return self.module

    def fits(self, outer: Draft) -> list[list[Node]]:
        """For each input, the values of `outer` that a call could give it; raises UnfitError if one has none."""
        found = []
        for node in self.inputs:
            kinds = (self.tables, outer.tables), (self.pools, outer.pools), (self.indices, outer.indices)
            offered = next((theirs for mine, theirs in kinds if node in mine), outer.values)
            found.append([value for value in offered if alike(value.meta["val"], node.meta["val"])])
        if not all(found):
            raise UnfitError
        return found


def _layout(operand: Node) -> Tensor:
    value: Tensor = operand.meta["val"]
    return value


def _one_slice(operand: Node) -> Tensor:
    value: Tensor = operand.meta["val"]
    with value.fake_mode:  # type: ignore[attr-defined]
        return torch.empty_strided(value.shape[1:], value.stride()[1:], dtype=value.dtype)


def alike(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors have the same shape, strides and dtype."""
    return (one.shape, one.stride(), one.dtype) == (other.shape, other.stride(), other.dtype)


def register(draft: Draft, body: Body) -> str:
    """Puts a nested graph at a path of the module that calls it; one that nothing stands at yet."""
    path = draft.choose.one_of(_PATHS)
    while _is_taken(draft.root, path):
        path += "_1"
    container, _, name = path.rpartition(".")
    (sources.add_module(draft.root, container) if container else draft.root).add_module(name, body.module)
    return path


def _is_taken(root: torch.nn.Module, path: str) -> bool:
    module = root
    for name in path.split("."):
        if isinstance(module, GraphModule):
            return True
        if name not in module._modules:
            return False
        module = module.get_submodule(name)
    return True


def operands_of(draft: Draft) -> list[Node]:
    """Operands of a new call: some pools, a table, and values of either lane, each perhaps twice."""
    given = [draft.choose.one_of(draft.pools), draft.choose.one_of(draft.tables)]
    others = range(draft.choose.number(0, 3))
    return given + [draft.pick_unread() if draft.choose.number(0, 1) else draft.pick() for _ in others]


def fill(body: Body, steps: Sequence[Step], most: int) -> None:
    """Draws the inside of a nested graph."""
    for _ in range(body.choose.number(0, most)):
        body.take(steps)


def take_results(draft: Draft, call: Node, body: Body, results: Any) -> None:
    """Takes some of the results of a call, each into the lane of the value that the body yields."""
    call.meta["val"] = pytree.tree_map_only(Node, lambda node: node.meta["val"], results)
    leaves = [(path, node) for path, node in pytree.tree_leaves_with_path(results) if isinstance(node, Node)]
    if any(not path for path, _ in leaves):
        with draft.lane(leaves[0][1] in body.side):
            draft.add(call)
        return
    for path, node in leaves:
        if draft.choose.chance(2):
            continue
        with draft.lane(node in body.side):
            value = call
            for key in path:
                at: Any = key
                value = draft.call(operator.getitem, value, at.key if hasattr(at, "key") else at.idx)
            draft.add(value)
