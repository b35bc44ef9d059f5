"""The steps of the pass, and what is timed beside them: each prepares a graph and returns the work to be timed."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from torch.fx import GraphModule
from torch.fx.passes.dialect.common.cse_pass import CSEPass, get_CSE_banned_ops

from passes import PassPipeline, PrunePrefixCache, PruneReport, verify_prune
from passes.modules import copy_graph, module_like
from passes.prune import Analysis
from passes.regions.identifiers import name_identifiers
from passes.report import DEAD
from passes.surgery import _apply
from tracing.pipeline import write_graphs

Work = Callable[[], object]
POLICY = "liveness"
PRUNE = PrunePrefixCache(policy=POLICY)
"""The chains name no configuration, so the conservative policy would keep what is dead in them."""


@dataclass(frozen=True)
class Subject:
    """One graph, on which nothing that is timed leaves a trace: what edits gets a copy of it."""

    module: GraphModule

    @cached_property
    def analysis(self) -> Analysis:
        """What the pass finds out before it edits."""
        return PRUNE.analyze(self.module)

    @cached_property
    def pruned(self) -> tuple[GraphModule, PruneReport]:
        """The result of the pass."""
        result = PRUNE(self.module)
        return result.graph_module, result.report


def _analyze(subject: Subject) -> Work:
    return lambda: PRUNE.analyze(subject.module)


def _edit(subject: Subject) -> Work:
    plan, module = subject.analysis.plan, subject.module
    graph, renamed = copy_graph(module.graph)
    return lambda: _apply(plan, module, graph, renamed.__getitem__, name_identifiers(plan, module))


def _verify(subject: Subject) -> Work:
    pruned, report = subject.pruned
    return lambda: verify_prune(subject.module, pruned, report)


def _report(subject: Subject) -> Work:
    analysis = subject.analysis
    return lambda: analysis.report(POLICY, DEAD).to_dict()


def _recompile(subject: Subject) -> Work:
    module = subject.pruned[0]
    return lambda: GraphModule.recompile(module)


def _whole(subject: Subject) -> Work:
    copied = module_like(subject.module, copy_graph(subject.module.graph)[0])
    return lambda: PrunePrefixCache(policy=POLICY, inplace=True)(copied)


def _pipeline(subject: Subject) -> Work:
    return lambda: PassPipeline([PRUNE])(subject.module)


def _files(subject: Subject) -> Work:
    result = PassPipeline([PRUNE])(subject.module)
    folder = tempfile.TemporaryDirectory()

    def write() -> None:
        with folder:
            write_graphs(Path(folder.name), subject.module, result)

    return write


def _dead_code(subject: Subject) -> Work:
    graph = copy_graph(subject.module.graph)[0]
    return graph.eliminate_dead_code


def _common_subexpressions(subject: Subject) -> Work:
    cse = CSEPass(banned_ops=get_CSE_banned_ops())
    return lambda: cse(subject.module)


def _lint(subject: Subject) -> Work:
    return subject.module.graph.lint


PHASES: Mapping[str, Callable[[Subject], Work]] = {
    "analyze": _analyze,
    "edit": _edit,
    "verify": _verify,
    "report": _report,
    "dce": _dead_code,
    "cse": _common_subexpressions,
    "lint": _lint,
    "recompile": _recompile,
    "pipeline": _pipeline,
    "files": _files,
}
"""By name, in the order in which they are timed.

"analyze" finds and proves, "edit" severs and sweeps, on the graph itself; "pipeline" is the whole pass with its copy,
verification, report and recompile; "files" is what `deadkv compile` writes of it besides the backend's artefacts.
"""
MEMORY: Mapping[str, Callable[[Subject], Work]] = {"pass": _whole, "verify": _verify, "dce": _dead_code}
"""Those whose memory is measured; "pass" edits the graph itself and recompiles it."""
OF_LARGE_CHAINS = ("analyze", "edit", "verify", "report", "dce", "lint")
OF_CHAINS = (*OF_LARGE_CHAINS, "cse", "recompile", "pipeline")
"""Those that are timed on chains; on decoders all are."""
