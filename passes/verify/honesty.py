"""What the report of a run says was done: all of it, and nothing else."""

from __future__ import annotations

from passes.report import PruneReport
from passes.verify.judgement import Judged
from passes.verify.trail import reject


def check_report(judged: Judged, report: PruneReport) -> None:
    """Rejects a report that leaves out a change, or invents one."""
    pair, listed = judged.pair, set(report.removed)
    unreported = [node for node in pair.removed if node.name not in listed]
    if unreported:
        reject(unreported[0], "it was removed, but the report does not say so")
    gone = {node.name for node in pair.removed}
    if invented := [name for name in report.removed if name not in gone]:
        reject(None, f"the report says that %{invented[0]} was removed, but it is still there or never was")
    explained = {rewrite.node for rewrite in report.rewritten} | {node.name for node in judged.explained}
    silent = [old for old, _ in pair.edited() if old.name not in explained and not pair.uses_removed(old)]
    if silent:
        reject(silent[0], "its arguments changed, but the report does not say so")
