"""Runs passes one after the other and verifies each before its result goes on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

from torch.fx import GraphModule
from torch.fx.passes.infra.pass_base import PassBase

from passes.errors import DeadkvError, PruneVerificationError
from passes.prune import PrunePrefixCache, PruneResult
from passes.registry import make_pass
from passes.report import PruneReport
from passes.surgery import copy_graph, module_like
from passes.verify import verify_prune

log = logging.getLogger("deadkv")


@dataclass(frozen=True)
class PassRun:
    """One pass of a pipeline run.

    Attributes:
        name: the pass's name.
        modified: whether it changed the graph.
        seconds: its wall time, verification included.
        report: its report, if it is a pruning pass.
        error: why its result was refused, if the caller asked to go on with the unpruned graph.
    """

    name: str
    modified: bool
    seconds: float
    report: PruneReport | None
    error: str | None = None


@dataclass(frozen=True)
class PipelineResult:
    """The graph after all passes, and what each did."""

    graph_module: GraphModule
    modified: bool
    runs: tuple[PassRun, ...]

    @property
    def reports(self) -> tuple[PruneReport, ...]:
        """The reports of the pruning passes, in order."""
        return tuple(run.report for run in self.runs if run.report is not None)


class PassPipeline:
    """A sequence of passes, given as objects or as text such as `prune-prefix-cache{policy=liveness}`.

    Attributes:
        passes: the passes, in order.
        keep_unverified: hand the unpruned graph on when verification fails, instead of raising.
    """

    def __init__(self, passes: Sequence[str | PassBase], *, keep_unverified: bool = False) -> None:
        self.passes = tuple(make_pass(spec) for spec in passes)
        self.keep_unverified = keep_unverified

    def __call__(self, graph_module: GraphModule) -> PipelineResult:
        """Runs every pass. `graph_module` itself is not edited by passes that copy.

        Raises:
            PruneVerificationError: a pass's result is not provably equivalent, and `keep_unverified` is off.
        """
        runs: list[PassRun] = []
        current = graph_module
        for step in self.passes:
            current, run = self._run(step, current)
            log.info("%s: modified=%s %.1f ms", run.name, run.modified, 1e3 * run.seconds)
            runs.append(run)
        return PipelineResult(current, any(run.modified for run in runs), tuple(runs))

    def _run(self, step: PassBase, before: GraphModule) -> tuple[GraphModule, PassRun]:
        name = str(getattr(step, "name", type(step).__name__))
        started = perf_counter()
        edits_in_place = isinstance(step, PrunePrefixCache) and step.inplace
        original = module_like(before, copy_graph(before.graph)[0]) if edits_in_place else before
        result = step(before)
        if result is None:
            raise DeadkvError(f"pass {name} returned no PassResult")
        if not isinstance(step, PrunePrefixCache) or not isinstance(result, PruneResult):
            return result.graph_module, PassRun(name, result.modified, perf_counter() - started, None)
        error = _flaw(original, result, step)
        seconds = perf_counter() - started
        if error is None:
            return result.graph_module, PassRun(name, result.modified, seconds, result.report)
        if edits_in_place:
            before.graph = original.graph
        if not self.keep_unverified:
            raise error
        log.warning("%s", error)
        return before, PassRun(name, False, seconds, result.report, str(error))


def _flaw(before: GraphModule, result: PruneResult, step: PrunePrefixCache) -> PruneVerificationError | None:
    if not result.modified:
        return None
    try:
        verify_prune(before, result.graph_module, result.report, contracts=step.contracts)
    except PruneVerificationError as error:
        return error
    return None
