"""Demand through a call of nested graphs: from demand on its results to demand on its operands.

A loop's carry is demanded as much as anything needs it: the result that it ends in, or the graphs in the next round,
whose demand is carried on until nothing changes. It only grows, so that takes at most two rounds for each carry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch.fx import Node

from passes.demand.lattice import Demand
from passes.facts import GraphFacts, RegionFacts
from passes.regions.calls import RegionCall
from passes.regions.layouts import Agreement

if TYPE_CHECKING:
    from passes.demand.result import DemandResult

Wanted = tuple[Demand, ...]
"""Demand on each result of a graph."""

AnalyzeBody = Callable[[GraphFacts, Wanted, Agreement], "DemandResult"]
"""Demand inside a nested graph, given the demand on its results and what holds of what it recorded."""


@dataclass(frozen=True)
class RegionDemand:
    """What a call of nested graphs needs, given what is needed of its results.

    Attributes:
        operands: demand on each operand.
        results: demand on each result; of a loop, also by its own next round.
        bodies: demand inside each nested graph.
        refusals: by number of an operand, why it is demanded although no graph reads it.
    """

    operands: Wanted
    results: Wanted
    bodies: tuple[DemandResult, ...]
    refusals: Mapping[int, str]


def region_demand(region: RegionFacts, wanted: Wanted, analyze_body: AnalyzeBody) -> RegionDemand:
    """Carries demand from the results of a call to its operands, through its graphs and round its carries."""
    call, results = region.call, wanted
    while True:
        bodies = tuple(
            analyze_body(body, results if index in call.yielding else _all(call, index), region.recorded)
            for index, body in enumerate(region.bodies)
        )
        operands = _operands(call, results, bodies)
        carried = (*operands[: call.carries], *results[call.carries :])
        if carried == results:
            break
        results = carried
    kept = _kept_operand(call, operands)
    if kept is not None:
        operands = tuple(Demand.DATA if index == kept else demand for index, demand in enumerate(operands))
    return RegionDemand(operands, results, bodies, {} if kept is None else {kept: _KEPT[call.kind]})


def _all(call: RegionCall, body: int) -> Wanted:
    return (Demand.DATA,) * len(call.bodies[body].results)


def _operands(call: RegionCall, results: Wanted, bodies: Sequence[DemandResult]) -> Wanted:
    """Each operand is needed as much as any graph needs it, a carry also as much as the result it may become."""
    found = []
    for index in range(len(call.operands)):
        demands = [body.of(call.bodies[at].placeholders[index]) for at, body in enumerate(bodies)]
        found.append(max([*demands, results[index] if index < call.carries else Demand.NONE]))
    return tuple(found)


def _kept_operand(call: RegionCall, operands: Wanted) -> int | None:
    """The operand that must stay because a call needs one of its kind; one that costs nothing if there is such."""
    group = call.mapped if call.kind == "scan" else range(len(operands)) if call.kind == "marker" else range(0)
    if not group or any(operands[index] is Demand.DATA for index in group):
        return None
    return next((index for index in group if _is_free(call.operands[index].value)), group[0])


def _is_free(value: object) -> bool:
    return isinstance(value, Node) and value.op in ("placeholder", "get_attr")


_KEPT: Mapping[str, str] = {
    "scan": "the length of the last thing scanned over is the number of rounds",
    "marker": "the last lane of a marker stays",
}
