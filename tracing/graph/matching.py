"""Which node of one graph is which node of the other: by structure first, then by name, then by neighbourhood."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from tracing.graph.anchors import Anchors, labels
from tracing.graph.document import GraphDoc
from tracing.graph.neighbours import equal_kind, equal_node, propagate, surroundings
from tracing.graph.pairs import Pairs
from tracing.graph.structure import Interner, Structure, backward_classes, forward_classes, structure

_RADII = (4, 2, 1)  # hops around a node that must agree, widest first


@dataclass(frozen=True)
class Matching:
    """`pairs` of positions, and whether the graphs are equal up to names and legal order."""

    before: Structure
    after: Structure
    pairs: Pairs
    equal: bool


def match(before: GraphDoc, after: GraphDoc, anchors: Anchors) -> Matching:
    """Match the nodes of two graphs in time linear in their nodes and edges.

    Equal nodes in equal surroundings are matched whatever their names; names decide only between equals, and for
    nodes whose operands have the same names too. Nodes of a different op or target never match.
    """
    interner = Interner()
    one = structure(before, labels(before, _kept(anchors.inputs), _kept(anchors.parameters)), interner)
    other = structure(after, labels(after, anchors.inputs, anchors.parameters), interner)
    forward = forward_classes(one, interner), forward_classes(other, interner)
    backward = backward_classes(one, interner), backward_classes(other, interner)
    both = list(zip(forward[0], backward[0], strict=True)), list(zip(forward[1], backward[1], strict=True))
    pairs = Pairs(one, other)
    pairs.match_groups(*both)
    equal = Counter(both[0]) == Counter(both[1])
    if not equal:
        _match_rest(pairs, forward, backward, interner)
    return Matching(one, other, pairs, equal)


def _kept(renames: Mapping[str, str]) -> dict[str, str]:
    return {name: name for name in renames.values()}


Classes = tuple[list[int], list[int]]


def _match_rest(pairs: Pairs, forward: Classes, backward: Classes, interner: Interner) -> None:
    """Takes the steps in turn, as long as both graphs have nodes to match."""
    for step in _steps(pairs, forward, backward, interner):
        if pairs.complete:
            return
        step()


def _steps(pairs: Pairs, forward: Classes, backward: Classes, interner: Interner) -> Iterator[Callable[[], None]]:
    """First what inputs and parameters tell, then names, then what outputs tell, then what is merely likely."""
    sure = partial(propagate, pairs, equal_node, sure=True), partial(propagate, pairs, equal_kind, sure=True)
    likely = partial(propagate, pairs, equal_kind, sure=False)
    yield partial(pairs.match_unique, *forward)
    yield from sure
    for radius in _RADII:
        yield partial(_match_around, pairs, radius, interner)
    yield pairs.match_names
    yield from sure
    yield pairs.match_outputs
    yield partial(pairs.match_unique, *backward)
    for radius in _RADII:
        yield partial(_match_users, pairs, radius, interner)
    yield from (partial(propagate, pairs, equal_node, sure=False), likely)
    yield partial(pairs.match_groups, *forward)
    yield likely


def _match_around(pairs: Pairs, radius: int, interner: Interner) -> None:
    around = surroundings(pairs, radius, interner)
    pairs.match_unique(*around.both)
    pairs.match_unique(*around.operands)


def _match_users(pairs: Pairs, radius: int, interner: Interner) -> None:
    pairs.match_unique(*surroundings(pairs, radius, interner).users)
