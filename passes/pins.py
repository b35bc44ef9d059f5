"""Pin paths: from a live site to the root that keeps it, through calls of nested graphs and out of them again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch.fx import Node

from passes.demand.lattice import Demand
from passes.demand.result import DemandResult
from passes.frames import Frame
from passes.ops.schema import operand_nodes
from passes.regions.calls import RegionCall

Demands = Mapping[Frame, DemandResult]


@dataclass(frozen=True)
class Step:
    """A node in one entry of its graph."""

    frame: Frame
    node: Node

    @property
    def name(self) -> str:
        """Name of the node, with the calls that lead to it."""
        return self.frame.name(self.node)


def pin_path(start: Step, demands: Demands) -> tuple[Step, ...]:
    """The values and calls from what reads `start` to a root, the root last; empty if nothing demands `start`.

    Inside a nested graph it starts at what reads the graph's input, and where it reaches a result of the graph it
    goes on with what takes that result in the caller.
    """
    return tuple(step for step in _walk(start, demands) if step.node.op != "placeholder")


def _walk(step: Step, demands: Demands) -> Iterator[Step]:
    seen: set[tuple[Frame, Node]] = set()
    following: Step | None = step
    while following is not None and (following.frame, following.node) not in seen:
        step = following
        seen.add((step.frame, step.node))
        pin = demands[step.frame].pins.get(step.node)
        user = None if pin is None else pin.user
        if user is None:
            return
        following = _after(step, user, demands)
        if user.op != "output" or step.frame.parent is None:
            yield Step(step.frame, user)
        if following is not None and following.node is not user:
            yield following


def _after(step: Step, user: Node, demands: Demands) -> Step | None:
    """Where the path goes on from `user`, which demands `step`."""
    region = step.frame.facts.region(user)
    if user.op == "output" and step.frame.parent is not None:
        return _taken_by_caller(step, demands)
    if region is None:
        return Step(step.frame, user)
    for index, operand in enumerate(region.call.operands):
        if step.node in operand_nodes(operand.value):
            return _inside(step.frame, region.call, index, demands) or _carried(step.frame, region.call, index, demands)
    return Step(step.frame, user)


def _inside(frame: Frame, call: RegionCall, operand: int, demands: Demands) -> Step | None:
    """The input, of one of the graphs that `call` calls, through which the operand is demanded."""
    for body in frame.children[call.node]:
        assert body.call is not None
        placeholder = body.call.bodies[body.body].placeholders[operand]
        if demands[body].of(placeholder) is Demand.DATA:
            return Step(body, placeholder)
    return None


def _carried(frame: Frame, call: RegionCall, result: int, demands: Demands) -> Step | None:
    """What takes the result that the operand of the same number may become."""
    taker = demands[frame].takers.get((call.node, result))
    return Step(frame, call.node if taker is None else taker)


def _taken_by_caller(step: Step, demands: Demands) -> Step | None:
    frame, caller = step.frame, step.frame.parent
    assert frame.call is not None and caller is not None
    wanted = demands[caller].regions[frame.call.node].results
    for index, (_, value) in enumerate(frame.call.bodies[frame.body].results):
        if frame.body in frame.call.yielding and wanted[index] is Demand.DATA and step.node in operand_nodes(value):
            taker = demands[caller].takers.get((frame.call.node, index))
            return Step(caller, taker) if taker is not None else _inside(caller, frame.call, index, demands)
    return Step(caller, frame.call.node)
