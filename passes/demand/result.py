"""What the analysis of one graph found."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch.fx import Node

from passes.demand.lattice import Demand
from passes.demand.regions import RegionDemand
from passes.rewrites import Rewrite


@dataclass(frozen=True)
class Pin:
    """The next step from a demanded value towards the root that keeps it.

    Attributes:
        user: the node that demands it.
        distance: number of steps to the root.
        reason: at a root, why it is one; else None.
    """

    user: Node | None
    distance: int
    reason: str | None = None


@dataclass
class DemandResult:
    """Demand on every value of a graph, how to cut what is not demanded, and what keeps the rest.

    Attributes:
        demand: demand on each value; a node that is missing is demanded for nothing.
        rewrites: of each live call, the ways to cut operands whose elements it does not need.
        pins: for each demanded value and each root, the way to the nearest root.
        refusals: for a value, why it is demanded although its elements are not read.
        regions: for each call of nested graphs, and each marker, the demand through it.
        takers: for a call and the number of one of its results, the value through which the result is demanded.
    """

    demand: dict[Node, Demand] = field(default_factory=dict)
    rewrites: dict[Node, tuple[Rewrite, ...]] = field(default_factory=dict)
    pins: dict[Node, Pin] = field(default_factory=dict)
    refusals: dict[Node, str] = field(default_factory=dict)
    regions: dict[Node, RegionDemand] = field(default_factory=dict)
    takers: dict[tuple[Node, int], Node] = field(default_factory=dict)

    def of(self, node: Node) -> Demand:
        """Demand on the value of `node`."""
        return self.demand.get(node, Demand.NONE)

    def is_live(self, node: Node) -> bool:
        """Whether `node` must run: its elements are demanded, or it is a root."""
        return node in self.pins
