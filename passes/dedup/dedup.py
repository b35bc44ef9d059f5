"""The pass: a pool that is gathered twice by the same blocks is gathered once."""

from __future__ import annotations

from dataclasses import dataclass

from torch.fx import GraphModule
from torch.fx.passes.infra.pass_base import PassBase, PassResult

from passes import metadata
from passes.context import TkgContext
from passes.contracts import Contracts
from passes.dedup.plan import DedupPlan, Duplicate, make_plan
from passes.dedup.report import KEPT, MERGED, DedupReport, DuplicateReport, Rewired
from passes.dedup.surgery import merge
from passes.dedup.verify import verify_dedup
from passes.errors import PruneVerificationError
from passes.identity import pass_identity
from passes.modules import copy_graph, module_like
from passes.prune import Analysis, PrunePrefixCache
from passes.registration import DEFAULT_CONTRACTS
from passes.registry import register_pass
from passes.reporting import count_nodes
from passes.sites import Site


class DedupResult(PassResult):
    """A torch.fx PassResult with the report of the run: `graph_module`, `modified`, `report`."""

    report: DedupReport

    def __new__(cls, graph_module: GraphModule, modified: bool, report: DedupReport) -> DedupResult:
        """Builds the pair and attaches the report."""
        result = super().__new__(cls, graph_module, modified)
        assert isinstance(result, cls)
        result.report = report
        return result


@register_pass("dedup-prefix-cache", after=["prune-prefix-cache"])
@dataclass(frozen=True)
class DedupPrefixCache(PassBase):
    """Gathers a block KV cache once where the same blocks of it are gathered again.

    Before (`%k` is the pool, `%t` the block table):

        %i  = aten.view.default(%t, [-1])
        %g  = aten.index_select.default(%k, 0, %i)
        %p  = aten.permute.default(%g, [0, 2, 1, 3])        read by one consumer
        %i1 = aten.view.default(%t, [-1])
        %g1 = aten.index_select.default(%k, 0, %i1)
        %p1 = aten.permute.default(%g1, [0, 2, 1, 3])       read by another

    After: both consumers read %p; %i1, %g1 and %p1 are gone.

    Both must be live (a dead one is for `prune-prefix-cache`), of the same pool and of the same index expression. The
    second one stays if the pool, the table or any other memory seen from outside the graph may be written in between,
    if either copy may be written, or if both outlive the graph. Calls of which nothing is known, nested graphs among
    them, may write all that they are given and all memory seen from outside. Nested graphs are not looked into.

    Attributes:
        context: what is known of the graph's configuration, for graphs with opaque names.
        inplace: edit the given module. Otherwise it is left untouched and the result shares its parameters.
        contracts: read-set contracts of opaque operators; by default those of `register_contract`.
    """

    context: TkgContext | None = None
    inplace: bool = False
    contracts: Contracts | None = None

    name = "dedup-prefix-cache"

    def __call__(self, graph_module: GraphModule) -> DedupResult:
        """Runs the pass. Raises DeadkvError for a graph or contract that cannot be used, which it leaves untouched."""
        return self.call(graph_module)

    def call(self, graph_module: GraphModule) -> DedupResult:
        """Runs the pass on one graph."""
        analysis = PrunePrefixCache("liveness", self.context, contracts=self.contracts).analyze(graph_module)
        plan = make_plan(analysis.root.facts, _live_sites(analysis))
        report = _report(analysis, plan)
        if not plan.merges:
            return DedupResult(graph_module, False, report)
        graph, renamed = copy_graph(graph_module.graph)
        merge(plan, graph, renamed)
        if not self.inplace:
            return DedupResult(module_like(graph_module, graph), True, report)
        graph_module.graph = graph
        return DedupResult(graph_module, True, report)

    def verify(self, before: GraphModule, result: PassResult) -> None:
        """Proves a result of this pass. Raises PruneVerificationError if it is not provably equivalent to `before`."""
        report = getattr(result, "report", None)
        if not isinstance(report, DedupReport):
            raise PruneVerificationError("not verified: the result of dedup-prefix-cache carries no report")
        verify_dedup(before, result.graph_module, report, contracts=self.contracts)

    def uuid(self) -> str | None:
        """Identifies the pass for graph caches: sources, options, contracts. None: nothing may be cached."""
        return pass_identity(self, self.contracts or DEFAULT_CONTRACTS)


def _live_sites(analysis: Analysis) -> tuple[Site, ...]:
    """The live sites of the outermost graph."""
    sites = (site for site in analysis.search.sites if site.frame is analysis.root)
    return tuple(site for site in sites if analysis.demands[analysis.root].is_live(site.gather))


def _report(analysis: Analysis, plan: DedupPlan) -> DedupReport:
    merged = [found.site for found in plan.duplicates if found.obstacle is None]
    gathers, nodes = len(analysis.search.sites), count_nodes(analysis.root.facts.module)
    sizes = [site.bytes for site in merged]
    return DedupReport(
        summary={
            "gathers_before": gathers,
            "gathers_after": gathers - len(merged),
            "nodes_before": nodes,
            "nodes_after": nodes - len(plan.erased),
            "bytes_saved": None if None in sizes else sum(size for size in sizes if size is not None),
        },
        duplicates=tuple(_duplicate(found) for found in plan.duplicates),
        rewired=tuple(Rewired(node.name, first.name) for node, first in plan.merges.items()),
        removed=tuple(node.name for node in plan.erased),
        notes=(analysis.search.explanation,) if analysis.search.explanation else (),
    )


def _duplicate(found: Duplicate) -> DuplicateReport:
    site = found.site
    return DuplicateReport(
        layer=site.pool.layer,
        role=site.pool.role,
        cache=site.pool.name,
        gather=site.gather.name,
        first=found.first.name,
        status=MERGED if found.obstacle is None else KEPT,
        reason=found.obstacle or f"it gathers what %{found.first.name} has gathered, and nothing writes either copy",
        bytes=site.bytes,
        source=metadata.source_line(site.gather),
    )
