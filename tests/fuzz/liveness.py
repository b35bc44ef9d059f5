"""Brute-force liveness: each node alone is poisoned, or a write skipped, and the graph is run again.

A node of a site is missed if the pass kept it although nothing that was tried could be seen: that bounds from above
what a pass could still remove. Why is said by the call that took a poisoned operand and yielded the same all the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.fx import GraphModule, Node

from passes import PruneReport
from tests.fuzz.interpreter import Place, PoisonInterpreter
from tests.fuzz.states import copied, same_bits, same_state, state_after


@dataclass(frozen=True)
class Missed:
    """A kept node of a live site whose elements made no difference, and what absorbed the poison."""

    place: Place
    absorbed_by: str


def dead_places(report: PruneReport) -> set[Place]:
    """Every value that a report calls dead: the removed nodes, also those of nested graphs."""
    found = {("", name) for name in report.removed}
    for region in report.regions:
        found |= {(path, name) for path in (region.call, f"{region.call}.{region.body}") for name in region.removed}
    return found


def missed(module: GraphModule, report: PruneReport, runs: Sequence[Sequence[Tensor]]) -> tuple[int, list[Missed]]:
    """How many nodes the chains of live sites have, and those of them whose poison nothing shows."""
    chains = {place for site in report.sites if site.status == "live" for place in _chain(site.gather, site.nodes)}
    found = [place for place in sorted(chains) if all(not _is_seen(module, place, inputs) for inputs in runs)]
    return len(chains), [Missed(place, _absorber(module, place, runs[0])) for place in found]


def _chain(gather: str, nodes: Sequence[str]) -> Iterator[Place]:
    for name in nodes:
        path, _, node = name.rpartition("/")
        yield path, node


def _is_seen(module: GraphModule, place: Place, inputs: Sequence[Tensor]) -> bool:
    try:
        poisoned = state_after(module, inputs, PoisonInterpreter(module, {place}).run)
    except (RuntimeError, IndexError, ValueError):
        return True
    return not same_state(state_after(module, inputs, PoisonInterpreter(module).run), poisoned)


def _absorber(module: GraphModule, place: Place, inputs: Sequence[Tensor]) -> str:
    """The last call that was given poison and yielded what it yields without."""
    clean, poisoned = (_values(module, dead, inputs) for dead in ((), (place,)))
    differs = {at for at in clean if at in poisoned and not _are_same(clean[at], poisoned[at])}
    same = [(path, node) for path, node in _nodes(module) if (path, node.name) in clean.keys() - differs]
    absorbers = [node for path, node in same if any((path, found.name) in differs for found in node.all_input_nodes)]
    return str(absorbers[-1].target) if absorbers else "nothing uses it"


def _values(module: GraphModule, dead: Sequence[Place], inputs: Sequence[Tensor]) -> dict[Place, Any]:
    found: dict[Place, Any] = {}

    def seen(place: Place, value: Any) -> None:
        found[place] = [copied(leaf) for leaf in (value if isinstance(value, (tuple, list)) else [value])]

    state_after(module, inputs, PoisonInterpreter(module, dead, seen=seen).run)
    return found


def _are_same(one: Any, other: Any) -> bool:
    return len(one) == len(other) and all(map(same_bits, one, other))


def _nodes(module: GraphModule) -> Iterator[tuple[str, Node]]:
    for node in module.graph.nodes:
        yield "", node
