"""The plan: what surgery is to do to a graph and to those nested in it. It is data; `removal` makes it."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass

from torch.fx import Node

from passes.regions.calls import RegionCall
from passes.regions.structure import Path
from passes.rewrites import Rewrite


@dataclass(frozen=True)
class Plan:
    """What surgery is to do to one graph.

    Attributes:
        rewrites: rewrites of calls that stay, and folds, in graph order.
        erased: nodes that go, in graph order: folded and dropped nodes and, of a nested graph, inputs among them.
        results: paths of the leaves of a nested graph's output that go.
        calls: calls of nested graphs that stay and change, in graph order.
    """

    rewrites: tuple[Rewrite, ...] = ()
    erased: tuple[Node, ...] = ()
    results: tuple[Path, ...] = ()
    calls: tuple[CallEdit, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.erased or self.results or self.calls)

    def key(self) -> Hashable:
        """Equal for two plans that make the same of a graph, or of two copies of a graph."""
        rewrites = tuple((r.node.name, r.rule, tuple(node.name for node in r.severs)) for r in self.rewrites)
        return (
            rewrites,
            tuple(node.name for node in self.erased),
            self.results,
            tuple(call.key() for call in self.calls),
        )

    def all(self) -> Iterator[Plan]:
        """This plan and, at any depth, those of the nested graphs."""
        yield self
        for call in self.calls:
            for body in call.bodies:
                yield from body.all()


@dataclass(frozen=True)
class CallEdit:
    """A call of nested graphs, or a marker, that stays with fewer operands and results.

    Attributes:
        call: the call.
        path: names of the calls that lead to it, its own last.
        operands: numbers of the operands that go, together with the graphs' inputs.
        results: numbers of the results that go.
        elements: the values that are still taken out of the results, with the path at which each was taken.
        bodies: the plan for each of its graphs.
    """

    call: RegionCall
    path: tuple[str, ...]
    operands: tuple[int, ...]
    results: tuple[int, ...]
    elements: tuple[tuple[Node, Path], ...]
    bodies: tuple[Plan, ...]

    def key(self) -> Hashable:
        """As `Plan.key`."""
        return self.call.node.name, self.change()

    def change(self) -> Hashable:
        """Equal for two edits that make the same of the calls' graphs."""
        return self.operands, self.results, tuple(body.key() for body in self.bodies)

    @property
    def dropped_paths(self) -> frozenset[Path]:
        """Paths of the results that go; none where the number of results is fixed."""
        return frozenset() if self.call.fixed else frozenset(self.call.results[index] for index in self.results)
