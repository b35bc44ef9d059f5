"""The report of a run, from its analysis and what surgery made of the plan."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from torch.fx import GraphModule

from passes.explain import Verdict, gate_reports, site_report
from passes.frames import Frame, walk
from passes.ops.schema import Call
from passes.pins import Demands
from passes.plan import CallEdit, Plan
from passes.regions.variants import variants_of
from passes.report import PRUNED, PruneReport, RegionReport, RewriteReport
from passes.sites import Site, SiteSearch


def make_report(
    policy: str, root: Frame, search: SiteSearch, verdicts: Iterable[Verdict], demands: Demands, removed_status: str
) -> PruneReport:
    """What was found: every site with its reason, the gates, the costs. Nothing is removed yet."""
    known = tuple(verdicts)
    left = [v.site for v in known if not (v.removable and removed_status == PRUNED)]
    nodes = count_nodes(root.facts.module)
    return PruneReport(
        policy=policy,
        summary={
            "gathers_before": len(search.sites),
            "gathers_after": len(left),
            "nodes_before": nodes,
            "nodes_after": nodes,
            "bytes_before": _total_bytes(search.sites),
            "bytes_after": _total_bytes(left),
        },
        gates=gate_reports(known),
        sites=tuple(site_report(verdict, demands, removed_status=removed_status) for verdict in known),
        notes=(search.explanation,) if search.explanation else tuple(dict.fromkeys(_inferred(root))),
    )


def _inferred(root: Frame) -> Iterator[str]:
    for frame in walk(root):
        for node in frame.facts.contracted:
            found = frame.facts[node].contract
            if found is not None and found.contract.inferred:
                reads, writes = _listed(found.call, found.reads), _listed(found.call, found.writes)
                text = f"inferred contract of {found.call.op}: reads {reads or 'nothing'}"
                yield f"{text}; writes {writes}" if writes else text


def _listed(call: Call, names: frozenset[str]) -> str:
    return ", ".join(name for name in call.bound if name in names)


def with_removals(report: PruneReport, plan: Plan, module: GraphModule) -> PruneReport:
    """`report` with what surgery is to do, by `plan`, to `module`, which must still be as it was."""
    return replace(
        report,
        removed=tuple(node.name for node in plan.erased),
        rewritten=tuple(_rewritten(plan)),
        regions=tuple(_regions(plan, module)),
    )


def count_nodes(module: GraphModule) -> int:
    """Number of FX nodes of a module's graph and of those nested in it, a shared one counted once."""
    return sum(len(found.graph.nodes) for found in module.modules() if isinstance(found, GraphModule))


def _total_bytes(sites: Iterable[Site]) -> int | None:
    sizes = [site.bytes for site in sites]
    return None if None in sizes else sum(size for size in sizes if size is not None)


def _rewritten(plan: Plan) -> Iterator[RewriteReport]:
    for rewrite in plan.rewrites:
        yield RewriteReport(rewrite.node.name, rewrite.rule, tuple(node.name for node in rewrite.severs))
    for edit in plan.calls:
        severed = [edit.call.operands[index].value for index in edit.operands]
        if severed and edit.call.kind == "marker":
            yield RewriteReport(edit.call.node.name, "marker_lane", tuple(node.name for node in severed))


def _regions(plan: Plan, module: GraphModule) -> Iterator[RegionReport]:
    variants = variants_of(plan, module)
    for edit in plan.calls:
        for path, body_plan, body, becomes in variants.of(edit):
            yield _region(edit, path, body_plan, becomes)
            yield from _regions(body_plan, body)


def _region(edit: CallEdit, path: str, plan: Plan, becomes: str) -> RegionReport:
    body = next(body for body in edit.call.bodies if body.path == path)
    return RegionReport(
        call="/".join(edit.path),
        body=path,
        becomes=becomes,
        operands=tuple(body.placeholders[operand].name for operand in edit.operands),
        results=edit.results if plan.results else (),
        removed=tuple(node.name for node in plan.erased),
        rewritten=tuple(_rewritten(plan)),
    )
