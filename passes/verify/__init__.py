"""The independent verifier: forward from every removed node to every output and effect.

It shares no analysis with the pass, only contracts and the binding of arguments to schema names. The pass walks
backward from what must stay; the verifier looks only at the two graphs and asks of each difference whether it can be
seen: every removed node must be without effect, every use of a removed node must itself be removed or be a call that
provably does not need it, and the interface must be the same.

A nested graph is judged in the same way, once for each pair of graphs before and after: an input that it lost is a
removed node. Each of its callers must then have lost the same operand and the same results, and take none of these.
"""

from __future__ import annotations

from torch.fx import GraphModule

from passes.contracts import Contracts
from passes.registration import DEFAULT_CONTRACTS
from passes.report import PruneReport
from passes.verify.correspondence import correspond
from passes.verify.honesty import check_report
from passes.verify.identifiers import check_identifiers
from passes.verify.interface import check_interface
from passes.verify.judgement import Judge

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
    judge = Judge(contracts or DEFAULT_CONTRACTS)
    judged = judge.judge_pair(pair)
    check_identifiers(pair)
    if report is not None:
        check_report(judge, judged, report)
