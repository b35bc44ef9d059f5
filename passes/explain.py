"""Turns the analysis of one site into its report: status, reason, pin path."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from passes import metadata
from passes.dead_reasons import dead_reason
from passes.ops.names import spelling
from passes.ops.schema import operand_nodes
from passes.pins import Demands, Step, pin_path
from passes.policy import Decision
from passes.regions.structure import leaves
from passes.report import DEAD, KEPT, LIVE, GateReport, SiteReport
from passes.sites import Site


@dataclass(frozen=True)
class Verdict:
    """A site and what was decided: no decision means that it is live."""

    site: Site
    decision: Decision | None

    @property
    def removable(self) -> bool:
        """Proven dead, and let go by the policy."""
        return self.decision is not None and self.decision.allowed


def site_report(verdict: Verdict, demands: Demands, *, removed_status: str = DEAD) -> SiteReport:
    """The report of one site; a removable site gets `removed_status`."""
    site = verdict.site
    path = pin_path(Step(site.frame, site.gather), demands)
    held = verdict.decision.held_by if verdict.decision is not None else None
    status = LIVE if verdict.decision is None else KEPT if held is not None else removed_status
    reason = _live_reason(site, path, demands) if status == LIVE else dead_reason(site, demands)
    if held is not None:
        reason = f"{reason}; held by gate {held.gate} ({held.detail}); policy liveness would remove it"
    return SiteReport(
        layer=site.pool.layer,
        role=site.pool.role,
        cache=site.pool.name,
        status=status,
        reason=reason,
        pinned_by=tuple(step.name for step in path) if status == LIVE else (),
        bytes=site.bytes,
        gather=site.frame.name(site.gather),
        nodes=tuple(site.frame.name(node) for node in site.chain),
        source=metadata.source_line(site.gather),
        held_by=None if held is None else held.gate,
    )


def _live_reason(site: Site, path: tuple[Step, ...], demands: Demands) -> str:
    """`read by %cat_3 (aten.cat.default, attention.py:46), which reaches output 0`."""
    reader, root = next((step for step in path if _reads(step, site)), path[-1]), path[-1]
    where = ", ".join(filter(None, (spelling(reader.node), metadata.source_line(reader.node))))
    text = f"read by %{reader.name} ({where})"
    if root.node.op == "output":
        text = f"{text}, which reaches output {_output_index(path)}" if reader != root else "is an output"
    else:
        reached = "" if reader == root else f", which reaches %{root.name}"
        text = f"{text}{reached}: it {_root_reason(root, demands)}"
    steps = (Step(site.frame, site.gather), *path)
    found = (demands[step.frame].refusals.get(step.node) for step in steps)
    refusal = next((refusal for refusal in found if refusal is not None), None)
    return text if refusal is None else f"{text}; {refusal}"


def _reads(step: Step, site: Site) -> bool:
    """Whether a step does more than hand the site on: it is no part of its chain and no call of a nested graph."""
    return step.node not in site.chain and step.frame.facts.region(step.node) is None


def _root_reason(root: Step, demands: Demands) -> str:
    pin = demands[root.frame].pins.get(root.node)
    return "must stay" if pin is None or pin.reason is None else pin.reason


def _output_index(path: tuple[Step, ...]) -> int:
    results = [list(operand_nodes(value)) for _, value in leaves(path[-1].node.args[0])]
    before = path[-2].node if len(path) > 1 else None
    return next((index for index, found in enumerate(results) if before in found), 0)


def gate_reports(verdicts: Iterable[Verdict]) -> tuple[GateReport, ...]:
    """Each gate over all dead sites, with the detail of the first site that it holds, or else of the first."""
    checks = [check for v in verdicts if v.decision is not None for check in v.decision.checks]
    reports = []
    for name in dict.fromkeys(check.gate for check in checks):
        same = [check for check in checks if check.gate == name]
        held = [check for check in same if not check.passed]
        shown = (held or same)[0]
        reports.append(GateReport(name, not held, shown.graph, shown.context, shown.detail, len(held)))
    return tuple(reports)
