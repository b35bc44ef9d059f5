"""Which results of a multi-result call a value holds: `getitem(getitem(%call, "cache"), 0)` holds one leaf."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch.fx import Node

from passes.ops.names import GETITEM
from passes.ops.schema import Call
from passes.regions.calls import RegionCall
from passes.regions.structure import Path


@dataclass(frozen=True)
class Element:
    """A value taken out of a call's results.

    Attributes:
        call: the call.
        path: where in the call's value it was taken.
        leaves: numbers of the results that it holds; one, unless it is itself a container.
    """

    call: Node
    path: Path
    leaves: tuple[int, ...]


@dataclass
class Elements:
    """The elements of the multi-result calls of one graph, found in graph order."""

    results: dict[Node, dict[Path, int]] = field(default_factory=dict)
    found: dict[Node, Element] = field(default_factory=dict)

    def add_call(self, region: RegionCall) -> None:
        """Notes a call whose results are followed one by one."""
        self.results[region.node] = {path: index for index, path in enumerate(region.results)}
        if region.results == ((),):
            self.found[region.node] = Element(region.node, (), (0,))

    def add_user(self, call: Call | None) -> None:
        """Notes `call` if it takes an element, at a constant key, out of a noted call."""
        if call is None or call.op != GETITEM or not isinstance(call.bound.get("self"), Node):
            return
        source, key = call.bound["self"], call.bound.get("index")
        outer = Element(source, (), ()) if source in self.results else self.found.get(source)
        if outer is None or isinstance(key, bool) or not isinstance(key, (int, str)):
            return
        path = (*outer.path, key)
        if leaves := _leaves_at(path, self.results[outer.call]):
            self.found[call.node] = Element(outer.call, path, leaves)


def _leaves_at(path: Path, results: Mapping[Path, int]) -> tuple[int, ...]:
    if path in results:
        return (results[path],)
    return tuple(index for at, index in results.items() if at[: len(path)] == path)
