"""The pass: finds, proves and removes prefix caches that are materialized in BHSD although nothing reads them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from torch.fx import Graph, GraphModule, Node
from torch.fx.passes.infra.pass_base import PassBase, PassResult

from passes.context import TkgContext
from passes.contracts import DEFAULT_CONTRACTS, Contracts
from passes.demand.analysis import DemandResult, analyze
from passes.errors import DeadkvError
from passes.explain import Verdict, gate_reports, site_report
from passes.facts import GraphFacts, graph_facts
from passes.identity import source_hash
from passes.plan import Plan, make_plan, writes_to_kept_storage
from passes.policy import policy_named
from passes.policy.evidence import Evidence
from passes.registry import register_pass
from passes.report import DEAD, PRUNED, PruneReport, RewriteReport
from passes.shrink import InputMap, Inputs, drop_inputs, match_inputs, require_plain_signature
from passes.sites import Site, SiteSearch, find_sites
from passes.surgery import apply, copy_graph, module_like
from passes.verify import verify_prune


class PruneResult(PassResult):
    """A torch.fx PassResult with the report of the run: `graph_module`, `modified`, `report`, `input_map`.

    `input_map` says which inputs are left, and is None unless the pass was asked to drop some (`shrink_inputs`).
    """

    report: PruneReport
    input_map: InputMap | None

    def __new__(
        cls, graph_module: GraphModule, modified: bool, report: PruneReport, input_map: InputMap | None = None
    ) -> PruneResult:
        """Builds the pair and attaches the report."""
        result = super().__new__(cls, graph_module, modified)
        assert isinstance(result, cls)
        result.report = report
        result.input_map = input_map
        return result


@dataclass(frozen=True)
class Analysis:
    """Everything the pass knows of a graph before it edits anything."""

    module: GraphModule
    facts: GraphFacts
    demand: DemandResult
    search: SiteSearch
    verdicts: tuple[Verdict, ...]
    plan: Plan


@register_pass("prune-prefix-cache")
@dataclass(frozen=True)
class PrunePrefixCache(PassBase):
    """Removes each dead materialization of a block KV cache, and nothing else.

    Before (aten, one pool of one layer; `%k` is the parameter `kv_mgr.past_key_values.0`):

        %i = aten.view.default(%active_block_table, [-1])
        %g = aten.index_select.default(%k, 0, %i)
        %r = aten.view.default(%g, [4, -1, 8, 64])
        %p = aten.permute.default(%r, [0, 2, 1, 3])
        %a = deadkv.attention_block_tkg.default(..., %active_block_table, %k_1, %v_1, ...)

    After:

        %a = deadkv.attention_block_tkg.default(..., %active_block_table, %k_1, %v_1, ...)

    The interface stays: inputs, outputs and their order, parameter names and objects, aliases, metadata. What
    `Graph.eliminate_dead_code` does instead: it removes this chain too, along with every unrelated dead node; it
    keeps the chain once an opaque call, a factory or a dead write uses it; and it deletes a live `cache.copy_(x)`.

    Attributes:
        policy: "conservative" (the gates of NxDI pull request 155) or "liveness" (whatever is proven dead).
        context: what is known of the graph's configuration, for the gates and for graphs with opaque names.
        inplace: edit the given module. Otherwise it is left untouched and the result shares its parameters.
        contracts: read-set contracts of opaque operators; by default those of `register_contract`.
        shrink_inputs: drop the inputs that lose their last use; the result's `input_map` says which are left.
    """

    policy: str = "conservative"
    context: TkgContext | None = None
    inplace: bool = False
    contracts: Contracts | None = None
    shrink_inputs: bool = False

    name = "prune-prefix-cache"

    def __post_init__(self) -> None:
        policy_named(self.policy)

    def __call__(self, graph_module: GraphModule) -> PruneResult:
        """Runs the pass. Raises DeadkvError for a graph or contract that cannot be used, which it leaves untouched."""
        return self.call(graph_module)

    def call(self, graph_module: GraphModule) -> PruneResult:
        """Runs the pass on one graph."""
        analysis = self.analyze(graph_module)
        plan = analysis.plan
        report = _report(self.policy, analysis, plan, PRUNED)
        inputs = Inputs.of(graph_module.graph)
        if not plan:
            return self._result(graph_module, False, report, inputs)
        if self.shrink_inputs:
            require_plain_signature(graph_module.graph)
        pruned = _pruned_in_place(graph_module, plan) if self.inplace else _pruned_copy(graph_module, plan)
        report = replace(report, unused_inputs=inputs.lost_in(pruned.graph))
        if self.shrink_inputs:
            dropped = drop_inputs(pruned, report.unused_inputs)
            report = replace(report, removed=(*dropped, *report.removed))
        return self._result(pruned, True, _with_nodes_after(report, pruned.graph), inputs)

    def _result(self, module: GraphModule, modified: bool, report: PruneReport, before: Inputs) -> PruneResult:
        if not self.shrink_inputs:
            return PruneResult(module, modified, report)
        found = match_inputs(before.names, module)
        return PruneResult(module, modified, replace(report, input_map=found.indices), found)

    def verify(self, before: GraphModule, result: PassResult) -> None:
        """Proves a result of this pass. Raises PruneVerificationError if it is not provably equivalent to `before`."""
        verify_prune(before, result.graph_module, getattr(result, "report", None), contracts=self.contracts)

    def explain(self, graph_module: GraphModule) -> PruneReport:
        """The report that `call` would give, with status "dead" for what it would remove. Edits nothing."""
        return _report(self.policy, self.analyze(graph_module), Plan((), ()), DEAD)

    def analyze(self, graph_module: GraphModule) -> Analysis:
        """Sites, demand, the policy's decision on each site, and the plan. Edits nothing."""
        _require_graph_module(graph_module)
        facts = graph_facts(graph_module.graph, self.contracts or DEFAULT_CONTRACTS)
        search = find_sites(facts, self.context)
        if not search.sites:
            return Analysis(graph_module, facts, DemandResult(), search, (), Plan((), ()))
        kept_writes: frozenset[Node] = frozenset()
        while True:
            demand = analyze(facts, kept_writes)
            verdicts = tuple(self._verdicts(search, demand))
            plan = make_plan(facts, demand, [verdict.site.gather for verdict in verdicts if verdict.removable])
            foreign = writes_to_kept_storage(facts, plan)
            if not foreign:
                return Analysis(graph_module, facts, demand, search, verdicts, plan)
            kept_writes |= foreign

    def _verdicts(self, search: SiteSearch, demand: DemandResult) -> Iterable[Verdict]:
        policy = policy_named(self.policy)
        for site in search.sites:
            evidence = Evidence(site, search, demand)
            is_live = demand.is_live(site.gather)
            yield Verdict(site, None if is_live else policy.decide(evidence, self.context))

    def uuid(self) -> str:
        """Identifies the pass's sources and options, for graph caches."""
        return source_hash(f"{self.policy} {self.context} {self.shrink_inputs}")


def _require_graph_module(module: GraphModule) -> None:
    if not isinstance(module, GraphModule):
        raise DeadkvError(f"expected a torch.fx GraphModule, got {type(module).__name__}: capture the model first")
    try:
        module.graph.lint()
    except (RuntimeError, ValueError) as error:
        raise DeadkvError(f"the graph is not well formed: {str(error).splitlines()[0]}") from error


def _pruned_in_place(module: GraphModule, plan: Plan) -> GraphModule:
    apply(plan, module.graph)
    module.recompile()
    return module


def _pruned_copy(module: GraphModule, plan: Plan) -> GraphModule:
    graph, renamed = copy_graph(module.graph)
    apply(plan, graph, renamed)
    return module_like(module, graph)


def _report(policy: str, analysis: Analysis, plan: Plan, removed_status: str) -> PruneReport:
    verdicts = analysis.verdicts
    gone = {verdict.site.gather for verdict in verdicts if verdict.removable and removed_status == PRUNED}
    return PruneReport(
        policy=policy,
        summary=_summary(analysis, gone),
        gates=gate_reports(verdicts),
        sites=tuple(site_report(v, analysis.demand, removed_status=removed_status) for v in verdicts),
        removed=tuple(node.name for node in plan.erased),
        rewritten=tuple(_rewritten(plan)),
        notes=(analysis.search.explanation,) if analysis.search.explanation else (),
    )


def _summary(analysis: Analysis, gone: set[Node]) -> dict[str, int | None]:
    sites = analysis.search.sites
    left = [site for site in sites if site.gather not in gone]
    nodes = len(analysis.module.graph.nodes)
    return {
        "gathers_before": len(sites),
        "gathers_after": len(left),
        "nodes_before": nodes,
        "nodes_after": nodes,
        "bytes_before": _total_bytes(sites),
        "bytes_after": _total_bytes(left),
    }


def _total_bytes(sites: Iterable[Site]) -> int | None:
    sizes = [site.bytes for site in sites]
    return None if None in sizes else sum(size for size in sizes if size is not None)


def _with_nodes_after(report: PruneReport, graph: Graph) -> PruneReport:
    return replace(report, summary={**report.summary, "nodes_after": len(graph.nodes)})


def _rewritten(plan: Plan) -> Iterator[RewriteReport]:
    for rewrite in plan.rewrites:
        yield RewriteReport(rewrite.node.name, rewrite.rule, tuple(node.name for node in rewrite.severs))
