"""The pass: finds, proves and removes prefix caches that are materialized in BHSD although nothing reads them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from torch.fx import GraphModule, Node
from torch.fx.passes.infra.pass_base import PassBase, PassResult

from passes.context import TkgContext
from passes.contracts import Contracts
from passes.demand.analysis import analyze
from passes.explain import Verdict
from passes.facts import graph_facts
from passes.frames import Frame, demand_in, frame_tree, outermost
from passes.identity import pass_identity
from passes.inference import InferringContracts
from passes.pins import Demands
from passes.plan import Plan
from passes.policy import policy_named
from passes.policy.evidence import Evidence
from passes.registration import DEFAULT_CONTRACTS
from passes.registry import register_pass
from passes.removal import make_plan, writes_to_kept_storage
from passes.report import DEAD, PRUNED, PruneReport
from passes.reporting import count_nodes, make_report, with_removals
from passes.shrink import InputMap, Inputs, drop_inputs, match_inputs, require_plain_signature
from passes.sites import SiteSearch, find_sites
from passes.stand_ins import check_accepted
from passes.surgery import prune_copy, prune_in_place
from passes.verify import verify_prune
from passes.well_formed import require_well_formed


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

    root: Frame
    search: SiteSearch
    demands: Demands
    verdicts: tuple[Verdict, ...]
    plan: Plan

    def report(self, policy: str, removed_status: str) -> PruneReport:
        """What was found; a removable site gets `removed_status`."""
        return make_report(policy, self.root, self.search, self.verdicts, self.demands, removed_status)


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
        infer_contracts: for an operator without a contract, read one off a trace of its own implementation.
    """

    policy: str = "conservative"
    context: TkgContext | None = None
    inplace: bool = False
    contracts: Contracts | None = None
    shrink_inputs: bool = False
    infer_contracts: bool = False

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
        report = with_removals(analysis.report(self.policy, PRUNED), plan, graph_module)
        inputs = Inputs.of(graph_module.graph)
        if not plan:
            return self._result(graph_module, False, report, inputs)
        if self.shrink_inputs:
            require_plain_signature(graph_module.graph)
        pruned = prune_in_place(graph_module, plan) if self.inplace else prune_copy(graph_module, plan)
        report = replace(report, unused_inputs=inputs.lost_in(pruned.graph))
        if self.shrink_inputs:
            dropped = drop_inputs(pruned, report.unused_inputs)
            report = replace(report, removed=(*dropped, *report.removed))
        return self._result(pruned, True, _with_nodes_after(report, pruned), inputs)

    def _result(self, module: GraphModule, modified: bool, report: PruneReport, before: Inputs) -> PruneResult:
        if not self.shrink_inputs:
            return PruneResult(module, modified, report)
        found = match_inputs(before.names, module)
        return PruneResult(module, modified, replace(report, input_map=found.indices), found)

    def verify(self, before: GraphModule, result: PassResult) -> None:
        """Proves a result of this pass. Raises PruneVerificationError if it is not provably equivalent to `before`."""
        verify_prune(before, result.graph_module, getattr(result, "report", None), contracts=self._contracts())

    def explain(self, graph_module: GraphModule) -> PruneReport:
        """The report that `call` would give, with status "dead" for what it would remove. Edits nothing."""
        return self.analyze(graph_module).report(self.policy, DEAD)

    def analyze(self, graph_module: GraphModule) -> Analysis:
        """Sites, demand, the policy's decision on each site, and the plan. Edits nothing."""
        require_well_formed(graph_module)
        root = frame_tree(graph_facts(graph_module, self._contracts()))
        search = find_sites(root, self.context)
        if not search.sites:
            return Analysis(root, search, {}, (), Plan())
        kept_writes: frozenset[Node] = frozenset()
        values = tuple(dict.fromkeys(outermost(site.frame, site.gather) for site in search.sites))
        while True:
            demands = demand_in(root, analyze(root.facts, kept_writes, values))
            verdicts = tuple(self._verdicts(search, demands))
            gathers = ((v.site.frame, v.site.gather) for v in verdicts if v.removable)
            plan = make_plan(root, demands, gathers)
            foreign = writes_to_kept_storage(root, plan)
            if not foreign:
                check_accepted(tuple(rewrite for found in plan.all() for rewrite in found.rewrites))
                return Analysis(root, search, demands, verdicts, plan)
            kept_writes |= foreign

    def _contracts(self) -> Contracts:
        known = self.contracts or DEFAULT_CONTRACTS
        return InferringContracts.over(known) if self.infer_contracts else known

    def _verdicts(self, search: SiteSearch, demands: Demands) -> Iterable[Verdict]:
        policy = policy_named(self.policy)
        for site in search.sites:
            demand = demands[site.frame]
            evidence = Evidence(site, search, demand)
            yield Verdict(site, None if demand.is_live(site.gather) else policy.decide(evidence, self.context))

    def uuid(self) -> str | None:
        """Identifies the pass for graph caches: sources, options, contracts. None: nothing may be cached.

        Never cached is an inferred contract: it comes from an implementation that may change.
        """
        return None if self.infer_contracts else pass_identity(self, self._contracts())


def _with_nodes_after(report: PruneReport, module: GraphModule) -> PruneReport:
    return replace(report, summary={**report.summary, "nodes_after": count_nodes(module)})
