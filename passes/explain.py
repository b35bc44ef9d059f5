"""Turns the analysis of one site into its report: status, reason, pin path."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch._ops import OpOverload
from torch.fx import Node

from passes import metadata
from passes.demand.analysis import DemandResult
from passes.demand.lattice import Demand
from passes.policy import Decision
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


def site_report(verdict: Verdict, demand: DemandResult, *, removed_status: str = DEAD) -> SiteReport:
    """The report of one site; a removable site gets `removed_status`."""
    site, path = verdict.site, _pin_path(verdict.site, demand)
    held = verdict.decision.held_by if verdict.decision is not None else None
    status = LIVE if verdict.decision is None else KEPT if held is not None else removed_status
    reason = _live_reason(site, path, demand) if status == LIVE else _dead_reason(site, demand)
    if held is not None:
        reason = f"{reason}; held by gate {held.gate} ({held.detail}); policy liveness would remove it"
    return SiteReport(
        layer=site.pool.layer,
        role=site.pool.role,
        cache=site.pool.name,
        status=status,
        reason=reason,
        pinned_by=tuple(node.name for node in path) if status == LIVE else (),
        bytes=site.bytes,
        gather=site.gather.name,
        nodes=tuple(node.name for node in site.chain),
        source=metadata.source_line(site.gather),
        held_by=None if held is None else held.gate,
    )


def _pin_path(site: Site, demand: DemandResult) -> list[Node]:
    """From the node that reads the gather to the root, along the shortest way."""
    path: list[Node] = []
    pin = demand.pins.get(site.gather)
    while pin is not None and pin.user is not None:
        path.append(pin.user)
        pin = demand.pins[pin.user]
    return path


def _live_reason(site: Site, path: list[Node], demand: DemandResult) -> str:
    """`read by %cat_3 (aten.cat.default, attention.py:46), which reaches output 0`."""
    reader = next((node for node in path if node not in site.chain), path[-1])
    where = ", ".join(filter(None, (_operator(reader), metadata.source_line(reader))))
    text = f"read by %{reader.name} ({where})"
    if path[-1].op == "output":
        text = f"{text}, which reaches output {_output_index(path)}" if reader.op != "output" else "is an output"
    else:
        reached = "" if reader is path[-1] else f", which reaches %{path[-1].name}"
        text = f"{text}{reached}: it {demand.pins[path[-1]].reason}"
    refusal = next((demand.refusals[node] for node in (site.gather, *path) if node in demand.refusals), None)
    return text if refusal is None else f"{text}; {refusal}"


def _operator(node: Node) -> str:
    if node.op == "call_function" and not isinstance(node.target, OpOverload):
        return str(getattr(node.target, "__name__", node.target))
    return f"Tensor.{node.target}" if node.op == "call_method" else str(node.target)


def _output_index(path: list[Node]) -> int:
    results = path[-1].args[0]
    flat = list(results) if isinstance(results, (list, tuple)) else [results]
    return flat.index(path[-2]) if len(path) > 1 and path[-2] in flat else 0


def _dead_reason(site: Site, demand: DemandResult) -> str:
    if any(demand.of(node) is Demand.SHAPE for node in site.chain):
        return "only its shape is used, and that is known"
    if not site.chain[-1].users and all(_users_within(node, site.chain) for node in site.chain):
        return "nothing uses it"
    return "nothing that uses it reads its elements or has any effect"


def _users_within(node: Node, chain: Iterable[Node]) -> bool:
    return all(user in chain for user in node.users)


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
