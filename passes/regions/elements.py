"""Which results of a multi-result call a value holds: `getitem(getitem(%call, "cache"), 0)` holds one leaf."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

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


def find_elements(regions: Iterable[RegionCall], bind: Callable[[Node], Call | None]) -> Mapping[Node, Element]:
    """The values taken, at constant keys, out of the results of `regions`; by call, and in graph order in each."""
    found: dict[Node, Element] = {}
    for region in regions:
        found.update(_elements_of(region, bind))
    return found


def _elements_of(region: RegionCall, bind: Callable[[Node], Call | None]) -> Mapping[Node, Element]:
    results = {path: index for index, path in enumerate(region.results)}
    whole = Element(region.node, (), (0,) if region.results == ((),) else ())
    found = {region.node: whole}
    pending = [region.node]
    for source in pending:
        for user in source.users:
            element = _taken(bind(user), found[source], results)
            if element is not None:
                found[user] = element
                pending.append(user)
    return {node: found[node] for node in sorted(found) if found[node].leaves}


def _taken(call: Call | None, source: Element, results: Mapping[Path, int]) -> Element | None:
    """What `call` takes out of the value that holds `source`, or None."""
    if call is None or call.op != GETITEM or not isinstance(call.bound.get("self"), Node):
        return None
    key = call.bound.get("index")
    if isinstance(key, bool) or not isinstance(key, (int, str)):
        return None
    path = (*source.path, key)
    leaves = _leaves_at(path, results)
    return Element(source.call, path, leaves) if leaves else None


def _leaves_at(path: Path, results: Mapping[Path, int]) -> tuple[int, ...]:
    if path in results:
        return (results[path],)
    return tuple(index for at, index in results.items() if at[: len(path)] == path)
