"""An assertion for a team's own tests: nothing materializes the prefix cache in this graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.fx import GraphModule

from passes import PrunePrefixCache, PruneReport, TkgContext, verify_prune
from tracing.graph import document
from tracing.graph.diff import count_ops
from tracing.testing.differential import first_difference


class NotPruned(AssertionError):  # noqa: N818 - it is an assertion about a graph
    """A graph still materializes the prefix cache, or is not what was asserted of it."""


@dataclass(frozen=True)
class Pruned:
    """What was asserted of: the graph without the sites, and what the pass says about the graph before."""

    graph_module: GraphModule
    report: PruneReport


def assert_pruned(
    before: GraphModule,
    after: GraphModule | None = None,
    *,
    policy: str = "conservative",
    context: TkgContext | None = None,
    sites: int | None = None,
    ops: Mapping[str, int] | None = None,
    reasons: Mapping[str, int] | None = None,
    inputs: Sequence[Tensor] | None = None,
) -> Pruned:
    """Asserts that `after` is `before` without its materialization sites, all of them, and computes the same.

    Args:
        before: the graph as captured. It must have sites, or the assertion would hold of any graph.
        after: the graph after pruning, by whatever means; by default what PrunePrefixCache makes of `before`.
        policy, context: as PrunePrefixCache takes them.
        sites: how many sites `before` must have; by default at least one.
        ops: how many nodes of an operator `after` must have, by canonical name (`{"aten.index_select.default": 0}`);
            those of nested graphs count.
        reasons: why sites go and how many for each reason, as the report words them; by default not looked at.
        inputs: inputs of `before` with values, to run both graphs on: outputs, inputs, parameters and buffers must
            be bit-equal afterwards. Values are left as they were. Block tables need valid blocks, not -1.

    Raises:
        NotPruned: it does not hold; the message names site, reason and pin path, operator, or first differing value.
        PruneVerificationError: `after` is not provably equivalent.
        DeadkvError: an argument cannot be used, or the graphs do not run on `inputs`.
    """
    step = PrunePrefixCache(policy=policy, context=context)
    found = step.explain(before)
    _check_sites(found, sites)
    pruned = step(before).graph_module if after is None else after
    _check_left(step.explain(pruned))
    verify_prune(before, pruned)
    _check_reasons(found, reasons)
    _check_ops(pruned, ops or {})
    if inputs is not None and (difference := first_difference(before, pruned, inputs)) is not None:
        raise NotPruned(f"the graphs do not compute the same: {difference} differs")
    return Pruned(pruned, found)


def _check_sites(found: PruneReport, wanted: int | None) -> None:
    count = len(found.sites)
    if count != wanted if wanted is not None else not count:
        expected = "at least one" if wanted is None else str(wanted)
        why = "".join(f"; {note}" for note in found.notes)
        raise NotPruned(f"the graph before has {count} materialization sites, expected {expected}{why}")


def _check_left(left: PruneReport) -> None:
    if not left.sites:
        return
    lines = [f"{len(left.sites)} materialization sites are left:"]
    for site in left.sites:
        path = f" [{' -> '.join(site.pinned_by)}]" if site.pinned_by else ""
        lines.append(f"  layer {site.layer} {site.role} ({site.cache}), {site.status}: {site.reason}{path}")
    raise NotPruned("\n".join(lines))


def _check_reasons(found: PruneReport, wanted: Mapping[str, int] | None) -> None:
    counted = dict(Counter(site.reason for site in found.sites))
    if wanted is not None and counted != dict(wanted):
        raise NotPruned(f"the sites go for other reasons: {counted}, expected {dict(wanted)}")


def _check_ops(pruned: GraphModule, wanted: Mapping[str, int]) -> None:
    counted = count_ops(document(pruned))
    for op, count in wanted.items():
        if counted[op] != count:
            raise NotPruned(f"the pruned graph has {counted[op]} nodes of {op}, expected {count}")
