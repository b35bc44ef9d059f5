"""Judges a graph against the one before, and the graphs that it calls: each pair once, whoever calls it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch.fx import GraphModule, Node

from passes.contracts import Contracts
from passes.regions.calls import may_call_graphs
from passes.verify.attributes import check_attributes, check_state
from passes.verify.correspondence import Correspondence, correspond
from passes.verify.edits import check_edits
from passes.verify.folds import Reliance, reliance, untraced_operand
from passes.verify.markers import check_marker
from passes.verify.order import check_order
from passes.verify.regions import RegionPair, check_region, pair_region
from passes.verify.removals import Removals
from passes.verify.results import check_takers
from passes.verify.trail import Within, reject


@dataclass(frozen=True)
class Judged:
    """One pair of graphs that passed.

    Attributes:
        pair: the graph before and after.
        regions: its calls of nested graphs that stay.
        explained: its nodes whose change follows from that of a call: the call, the takers of its results, its graph.
        relied: what the change relies on of the tensors that the graph was traced with.
    """

    pair: Correspondence
    regions: tuple[RegionPair, ...] = ()
    explained: frozenset[Node] = frozenset()
    relied: Reliance = Reliance.NOTHING


class Judge:
    """One run of the verifier."""

    def __init__(self, contracts: Contracts) -> None:
        self._contracts = contracts
        self._removals = Removals(contracts)
        self._known: dict[tuple[GraphModule, GraphModule], Judged] = {}

    def judge(self, before: GraphModule, after: GraphModule, within: Within = ()) -> Judged:
        """Rejects a difference that can be seen; the results of a nested graph are judged with its callers."""
        known = self._known.get((before, after))
        return self.judge_pair(correspond(before, after, within)) if known is None else known

    def judge_pair(self, pair: Correspondence) -> Judged:
        """As `judge`, of a pair of graphs that were not judged before."""
        judged = Judged(pair) if pair.before is pair.after else self._judge(pair)
        self._known[pair.before, pair.after] = judged
        return judged

    def _judge(self, pair: Correspondence) -> Judged:
        check_order(pair)
        regions = self._regions(pair)
        check_state(pair, {body.path for region in regions.values() for body in region.now.bodies})
        explained = check_attributes(pair, regions)
        for old, region in regions.items():
            check_region(region)
            explained |= {old, *check_takers(pair, old, region.results)}
        for old in pair.calls.named(self._contracts.is_marker_name):
            if old in pair.kept:
                explained |= check_marker(pair, old, self._contracts)
        self._removals.check(pair)
        check_edits(pair, self._contracts, explained)
        relied = max([reliance(pair), *(self._reliance(region) for region in regions.values())])
        return Judged(pair, tuple(regions.values()), frozenset(explained), relied)

    def _regions(self, pair: Correspondence) -> Mapping[Node, RegionPair]:
        calls = (old for old in pair.calls.matching(may_call_graphs) if old in pair.kept)
        found = ((old, pair_region(pair, old, self._pair)) for old in calls)
        return {old: region for old, region in found if region is not None}

    def _pair(self, before: GraphModule, after: GraphModule, within: Within) -> Correspondence:
        return self.judge(before, after, within).pair

    def _reliance(self, region: RegionPair) -> Reliance:
        """What its graphs rely on; rejects the call if it gives them another tensor."""
        for body in region.bodies:
            relied = self._known[body.before, body.after].relied
            other = untraced_operand(region.was, body.before, relied) if relied else None
            if other is not None:
                reason = "what was folded holds for another tensor than the call gives"
                reject(other, reason, (*region.pair.within, region.was))
        return max(self._known[body.before, body.after].relied for body in region.bodies)
