"""A call of nested graphs, before and after: its graphs, operands, loop carries and results must change in step.

Which operand and which result is gone is read off the graphs, by the names of their inputs and of the values that
they yield, never off the call: the call is what is judged.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.fx import GraphModule, Node
from torch.fx.graph import _PyTreeCodeGen

from passes.regions.calls import Body, RegionCall, bind_region
from passes.regions.structure import Path, leaves
from passes.verify.correspondence import Correspondence
from passes.verify.folds import same_value
from passes.verify.nodes import traced
from passes.verify.results import Leaf, Results
from passes.verify.trail import Within, reject

Judge = Callable[[GraphModule, GraphModule, Within], Correspondence]


@dataclass(frozen=True)
class RegionPair:
    """One call before and after, and its graphs, judged.

    Attributes:
        pair: the graphs that hold the call.
        was: the call before.
        now: the call after.
        bodies: its graphs before and after.
    """

    pair: Correspondence
    was: RegionCall
    now: RegionCall
    bodies: tuple[Correspondence, ...]

    @property
    def results(self) -> Results:
        """Its results before and after."""
        yielding = [self.bodies[index] for index in self.was.yielding]

        def same(one: Leaf, other: Leaf) -> bool:
            values = zip(yielding, one.values, other.values, strict=True)
            return one.carry == other.carry and all(same_value(body, was, now) for body, was, now in values)

        return Results(_labelled(self.was), _labelled(self.now), same)

    def reject(self, reason: str, node: Node | None = None) -> None:
        """Rejects the call, or a node of the graph that holds it."""
        reject(node or self.was.node, reason, self.pair.within)


def pair_region(pair: Correspondence, old: Node, judge: Judge) -> RegionPair | None:
    """The call that the kept node `old` makes, before and after; None if before it called no graph in a known way."""
    was = bind_region(old, pair.before)
    if was is None:
        return None
    now = bind_region(pair.kept[old], pair.after)
    if now is None or (now.kind, len(now.bodies)) != (was.kind, len(was.bodies)):
        reject(old, "its operands, results and graphs no longer fit together", pair.within)
    within = (*pair.within, was)
    bodies = tuple(judge(one.module, other.module, within) for one, other in zip(was.bodies, now.bodies, strict=True))
    return RegionPair(pair, was, now, bodies)


def check_region(region: RegionPair) -> None:
    """Rejects a call that is not the call before with operands and results left out in step with its graphs."""
    for check in (_check_target, _check_operands, _check_loop, _check_outputs, _check_metadata):
        check(region)


def _check_target(region: RegionPair) -> None:
    old, new = region.was.node, region.now.node
    if old.op == "call_function" and old.target is not new.target:
        region.reject(f"{old.target} became {new.target}")
    named = [*zip([body.path for body in region.was.bodies], [body.path for body in region.now.bodies], strict=True)]
    if region.was.kind == "invoke_subgraph":
        named.append((str(old.args[1]), str(new.args[1])))
    for was, now in named:
        if not re.fullmatch(re.escape(was) + r"(_pruned(_\d+)?)*", now):
            region.reject(f"its graph {was} became {now}, which is no name of a pruned copy")


def _check_operands(region: RegionPair) -> None:
    left = [_placeholders_left(pair, body) for pair, body in zip(region.bodies, region.now.bodies, strict=True)]
    if any(other != left[0] for other in left):
        region.reject("its graphs lost different inputs")
    for index, operand in zip(left[0], region.now.operands, strict=True):
        was = region.was.operands[index].value
        if not same_value(region.pair, was, operand.value):
            name = region.was.bodies[0].placeholders[index].name
            region.reject(f"its graph's input %{name} was given {was} and now is given {operand.value}")
    if not same_value(region.pair, region.was.controls, region.now.controls):
        region.reject(f"it was steered by {region.was.controls} and now is by {region.now.controls}")


def _placeholders_left(pair: Correspondence, after: Body) -> list[int]:
    """Numbers, before, of the inputs that a graph still has."""
    numbers = {found.name: index for index, found in enumerate(pair.before.graph.find_nodes(op="placeholder"))}
    left = [numbers.get(placeholder.name, -1) for placeholder in after.placeholders]
    if -1 in left:
        reject(None, f"%{after.placeholders[left.index(-1)].name} is a new input", pair.within)
    if len(left) < len(numbers) and isinstance(pair.after.graph._codegen, _PyTreeCodeGen):
        reject(None, "it lost an input, but its calling convention still has it", pair.within)
    return left


def _check_loop(region: RegionPair) -> None:
    """A carry, a slice and a constant operand of a loop stay what they are."""
    was, now = (dict(_roles(call)) for call in (region.was, region.now))
    if changed := [name for name, role in now.items() if was.get(name) != role]:
        region.reject(f"its graph's input %{changed[0]} is bound in another way")
    if len(region.was.mapped) and not len(region.now.mapped):
        region.reject("nothing is left that says how many rounds it runs")
    if region.now.kind == "while_loop" and len(region.now.results) != region.now.carries:
        region.reject("its results are not its carries")


def _roles(call: RegionCall) -> Iterator[tuple[str, str]]:
    for body in call.bodies[-1:]:
        for index, placeholder in enumerate(body.placeholders):
            rest = "slice" if index in call.mapped else "operand"
            yield placeholder.name, "carry" if index < call.carries else rest


def _check_outputs(region: RegionPair) -> None:
    for index, body in enumerate(region.bodies):
        if index not in region.was.yielding and not same_value(body, _output(body.before), _output(body.after)):
            reject(_output_node(body.before), "it yields another value", body.within)
    if not region.results.are_pruned():
        reject(_output_node(region.bodies[-1].before), "its results are not those before less some", _within(region))


def _within(region: RegionPair) -> Within:
    return (*region.pair.within, region.was)


def _labelled(call: RegionCall) -> Any:
    """The value of a call as a structure of leaves; those of a loop's carries are labelled with the carry."""
    yielding = [call.bodies[index] for index in call.yielding]
    found: dict[Path, Leaf] = {}
    for index, path in enumerate(call.results):
        carry = yielding[0].placeholders[index].name if index < call.carries else None
        found[path] = Leaf(tuple(body.results[index][1] for body in yielding), carry)
    return _with_leaves(_output(yielding[0].module), found)


def _with_leaves(value: Any, found: dict[Path, Leaf], path: Path = ()) -> Any:
    if isinstance(value, (tuple, list)):
        items = [_with_leaves(item, found, (*path, index)) for index, item in enumerate(value)]
        return items if isinstance(value, list) else tuple(items)
    if isinstance(value, dict):
        return {key: _with_leaves(item, found, (*path, key)) for key, item in value.items()}
    return found[path]


def _output(module: GraphModule) -> Any:
    return _output_node(module).args[0]


def _output_node(module: GraphModule) -> Node:
    output: Node = next(iter(module.graph.find_nodes(op="output")))
    return output


def _check_metadata(region: RegionPair) -> None:
    """The recorded value of the call loses the same results."""
    was, now = traced(region.was.node), traced(region.now.node)
    is_known = [path for path, _ in leaves(was)] == list(region.was.results)
    if not is_known or region.was.results == ((),) or region.results.are_unchanged():
        return
    recorded = [value for _, value in leaves(was)]
    expected = [_kind(recorded[index]) for index in region.results.left()]
    if [_kind(value) for _, value in leaves(now)] != expected:
        region.reject("its recorded value is not that of the results that are left")


def _kind(value: Any) -> Any:
    return (value.shape, value.stride(), value.dtype) if isinstance(value, Tensor) else type(value)
