"""The independent verifier: forward from every removed node to every output and effect.

It shares no analysis with the pass, only contracts and the binding of arguments to schema names. The pass walks
backward from what must stay; the verifier looks only at the two graphs and asks of each difference whether it can be
seen: every removed node must be without effect, every use of a removed node must itself be removed or be a call that
provably does not need it, and the interface must be the same.
"""

from __future__ import annotations

from torch.fx import GraphModule

from passes.contracts import DEFAULT_CONTRACTS, Contracts
from passes.report import PruneReport
from passes.verify.correspondence import Correspondence, correspond
from passes.verify.edits import check_edits
from passes.verify.interface import check_interface
from passes.verify.removals import check_removals
from passes.verify.trail import reject

__all__ = ["verify_prune"]


def verify_prune(
    before: GraphModule,
    after: GraphModule,
    report: PruneReport | None = None,
    *,
    contracts: Contracts | None = None,
) -> None:
    """Proves that `after` computes and writes what `before` does.

    Args:
        before: the graph that the pass was given.
        after: its result, in which kept nodes have kept their names.
        report: what the pass says it did; if given, it must say all of it and nothing else.
        contracts: read-set contracts of opaque operators; by default those of `register_contract`.

    Raises:
        PruneVerificationError: a difference is not provably without effect. The message names the offending path.
    """
    pair = correspond(before, after)
    check_interface(pair, report)
    if report is not None:
        _check_report(pair, report)
    check_removals(pair)
    check_edits(pair, contracts or DEFAULT_CONTRACTS)


def _check_report(pair: Correspondence, report: PruneReport) -> None:
    unreported = [node for node in pair.removed if node.name not in set(report.removed)]
    if unreported:
        reject(unreported[0], "it was removed, but the report does not say so")
    gone = {node.name for node in pair.removed}
    if invented := [name for name in report.removed if name not in gone]:
        reject(None, f"the report says that %{invented[0]} was removed, but it is still there or never was")
    rewritten = {rewrite.node for rewrite in report.rewritten}
    silent = [old for old, _ in pair.edited() if old.name not in rewritten and not pair.uses_removed(old)]
    if silent:
        reject(silent[0], "its arguments changed, but the report does not say so")
