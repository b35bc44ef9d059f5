"""Calls of nested graphs: submodules, `invoke_subgraph`, `cond`, `while_loop` and `scan`, in each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from tests.fuzz.bodies import Body, Step, alike, fill, operands_of, register, take_results
from tests.fuzz.draft import Draft, UnfitError

aten = torch.ops.aten
hop = torch.ops.higher_order
MAX_DEPTH = 2


def region_steps(plain: Sequence[Step], functional: Sequence[Step]) -> tuple[Step, ...]:
    """The steps that call nested graphs, whose own steps are `plain`, or `functional` in loops, and these again."""

    def inside(draft: Draft) -> tuple[Step, ...]:
        return (*plain, *steps[:3]) if draft.depth + 1 < MAX_DEPTH else tuple(plain)

    def call_graph(draft: Draft) -> None:
        """A new nested graph, or once more one that was called with operands of the same layouts."""
        known = [body for body in draft.bodies if not draft.choose.number(0, 1)]
        if known:
            body = draft.choose.one_of(known)
            operands = [draft.choose.one_of(choices) for choices in body.fits(draft)]
        else:
            operands = operands_of(draft)
            body = Body(draft, operands)
            fill(body, inside(draft), 8)
            body.finish(_results(body))
            body.path = register(draft, body)
            draft.bodies.append(body)
        take_results(draft, _call(draft, body, operands), body, body.results)

    def cond(draft: Draft) -> None:
        predicate = draft.call(aten.gt.Scalar, draft.call(aten.sum.default, draft.pick()), 0)
        operands = operands_of(draft)
        branches = Body(draft, operands), Body(draft, operands)
        for body in branches:
            fill(body, inside(draft), 5)
        results = _agreeing(branches)
        for body, values in zip(branches, results, strict=True):
            body.finish(tuple(values))
            body.path = register(draft, body)
        graphs = [draft.attribute(body.path) for body in branches]
        call = draft.graph.call_function(hop.cond, (predicate, *graphs, tuple(operands)))
        take_results(draft, call, branches[0], branches[0].results)

    def scan(draft: Draft) -> None:
        """A loop of two rounds."""
        carried = _carried(draft)
        sliced = draft.call(aten.stack.default, [part := draft.pick_unread(), part])
        if part in draft.side:
            draft.side.add(sliced)
        others = operands_of(draft)
        body = Body(draft, [*carried, sliced, *others], slices=[sliced])
        fill(body, functional, 6)
        rows = [_copied(body, body.choose.one_of(body.values)) for _ in range(body.choose.number(0, 2))]
        body.finish((*_next_carries(body, len(carried)), *rows))
        graph = draft.attribute(register(draft, body))
        call = draft.graph.call_function(hop.scan, (graph, carried, [sliced], tuple(others)))
        with draft.mode:
            stacked = [torch.stack([row.meta["val"]] * 2) for row in rows]
        take_results(draft, call, body, body.results)
        _record(call, [node.meta["val"] for node in body.results[: len(carried)]] + stacked)

    def while_loop(draft: Draft) -> None:
        """A loop that counts to two."""
        counter = draft.call(aten.zeros.default, [], dtype=torch.int64)
        carried, others = [counter, *_carried(draft)], operands_of(draft)
        condition, body = Body(draft, [*carried, *others]), Body(draft, [*carried, *others])
        condition.finish(_goes_on(condition))
        fill(body, functional, 6)
        counted = body.call(aten.add.Tensor, body.inputs[0], 1)
        body.finish((counted, *_next_carries(body, len(carried))[1:]))
        graphs = [draft.attribute(register(draft, graph)) for graph in (condition, body)]
        call = draft.graph.call_function(hop.while_loop, (*graphs, tuple(carried), tuple(others)))
        take_results(draft, call, body, body.results)

    steps: tuple[Step, ...] = (call_graph, call_graph, cond, scan, while_loop)
    return steps


def _results(body: Body) -> Any:
    """Results of a nested graph in a tuple, a list or, of a submodule, in other containers or in none."""
    chosen = body.choose.some_of(body.values, 3)
    body.takes_identifier = body.choose.number(0, 1) == 0
    if body.takes_identifier:
        return tuple(chosen)
    shape = body.choose.number(0, 3)
    return [tuple(chosen), chosen[0], {"cache": chosen[0], "rest": tuple(chosen)}, [chosen, chosen[0]]][shape]


def _call(draft: Draft, body: Body, operands: list[Node]) -> Node:
    if body.takes_identifier:
        graph = draft.attribute(body.path)
        return draft.graph.call_function(hop.invoke_subgraph, (graph, body.path, *operands))
    named = draft.choose.number(0, 1) and len(operands)
    names = [str(node.target) for node in body.inputs]
    in_order = zip(names[1:], operands[1:], strict=True)
    keywords: dict[str, Any] = dict(in_order) if named and len(set(names)) == len(names) else {}
    return draft.graph.call_module(body.path, tuple(operands[:1] if keywords else operands), keywords)


def _agreeing(branches: tuple[Body, Body]) -> tuple[list[Node], list[Node]]:
    """As many results of each branch, of the same layouts."""
    first = branches[0].choose.some_of(branches[0].values, 3)
    pairs = [
        (node, [other for other in branches[1].values if alike(other.meta["val"], node.meta["val"])]) for node in first
    ]
    agreed = [(node, branches[1].choose.one_of(others)) for node, others in pairs if others]
    if not agreed:
        raise UnfitError
    return [one for one, _ in agreed], [other for _, other in agreed]


def _carried(draft: Draft) -> list[Node]:
    return [_copied(draft, draft.pick_unread(lambda value: value.dim() > 0)) for _ in range(draft.choose.number(1, 2))]


def _copied(draft: Draft, source: Node) -> Node:
    """A dense copy, in the lane of its source."""
    with draft.lane(source in draft.side):
        return draft.add(draft.call(aten.clone.default, source, memory_format=torch.contiguous_format))


def _next_carries(body: Body, count: int) -> list[Node]:
    """What each carry becomes: a copy of a value of its layout, perhaps of another carry, or that plus itself."""
    found = []
    for carry in body.inputs[:count]:
        layout: Tensor = carry.meta["val"]
        same = [
            node
            for node in body.values
            if (node.meta["val"].shape, node.meta["val"].dtype) == (layout.shape, layout.dtype)
        ]
        source = body.choose.one_of([carry, *same])
        if body.choose.chance(3):
            source = body.call(aten.add.Tensor, source, carry)
        found.append(_copied(body, source))
    return found


def _goes_on(condition: Body) -> Node:
    counts = condition.call(aten.lt.Scalar, condition.inputs[0], 2)
    if not condition.choose.chance(3):
        return counts
    other = condition.call(aten.sum.default, condition.choose.one_of(condition.inputs))
    return condition.call(aten.logical_and.default, counts, condition.call(aten.ne.Scalar, other, 7))


def _record(call: Node, values: list[Any]) -> None:
    call.meta["val"] = tuple(values)
    for user in call.users:
        user.meta["val"] = values[user.args[1]]  # type: ignore[index]
