"""Runs passes one after the other and verifies each before its result goes on.

A pass is verified if it says how: by a method `verify(before, result)` that raises PruneVerificationError unless the
result's graph provably does what `before` does. A pass without one is trusted.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any, Protocol, runtime_checkable

from torch.fx import GraphModule
from torch.fx.passes.infra.pass_base import PassBase, PassResult

from passes.errors import DeadkvError, PruneVerificationError
from passes.modules import copy_graph, module_like
from passes.ordering import ordered
from passes.registry import constraints_of, known_names
from passes.report import PruneReport
from passes.shrink import InputMap, Inputs, match_inputs
from passes.specs import make_pass

DISABLE = "DEADKV_DISABLE"
"""Environment variable: names of passes, separated by commas, that no pipeline runs."""
log = logging.getLogger("deadkv")


@runtime_checkable
class VerifiedPass(Protocol):
    """A pass that can prove its results."""

    def verify(self, before: GraphModule, result: PassResult) -> None:
        """Raises PruneVerificationError unless `result.graph_module` computes and writes what `before` does."""


@runtime_checkable
class Report(Protocol):
    """What a pass did."""

    @property
    def headline(self) -> str:
        """One line for a person."""

    def to_dict(self) -> dict[str, Any]:
        """The content of a JSON file: plain values only, with the key `schema`."""


@dataclass(frozen=True)
class PassRun:
    """One pass of a pipeline run.

    Attributes:
        name: the pass's name.
        modified: whether it changed the graph.
        seconds: its wall time, verification included.
        report: the report that its result carries, or None.
        error: why its result was refused, if the caller asked to go on with the unpruned graph.
        disabled: whether it did not run because the environment variable DEADKV_DISABLE names it.
    """

    name: str
    modified: bool
    seconds: float
    report: Report | None
    error: str | None = None
    disabled: bool = False


@dataclass(frozen=True)
class PipelineResult:
    """The graph after all passes, what each did, and which of the inputs are left."""

    graph_module: GraphModule
    modified: bool
    runs: tuple[PassRun, ...]
    input_map: InputMap

    @property
    def reports(self) -> tuple[PruneReport, ...]:
        """The reports of the pruning passes, in order."""
        return tuple(run.report for run in self.runs if isinstance(run.report, PruneReport))


Change = Callable[[str, GraphModule, GraphModule], None]
Observer = Callable[[int, str, GraphModule, GraphModule], None]
"""Given the number from 1, name, graph before and graph after of each pass that changed a graph, proven or not."""


class PassPipeline:
    """A sequence of passes, given as objects or as text such as `prune-prefix-cache{policy=liveness}`.

    Passes run as given, except where the constraints that they were registered with ask for another order.

    Attributes:
        passes: the passes, in the order in which they run.
        keep_unverified: hand the unpruned graph on when verification fails, instead of raising.
    """

    def __init__(self, passes: Sequence[str | PassBase], *, keep_unverified: bool = False) -> None:
        """Raises DeadkvError for an unknown pass or option, and for constraints that no order satisfies."""
        given = tuple(make_pass(spec) for spec in passes)
        names = [name_of(step) for step in given]
        self.passes = tuple(given[i] for i in ordered(names, {name: constraints_of(name) for name in names}))
        self.keep_unverified = keep_unverified

    def __call__(self, graph_module: GraphModule, observe: Observer | None = None) -> PipelineResult:
        """Runs every pass. `graph_module` itself is not edited by passes that copy. `observe` sees every change.

        Raises:
            DeadkvError: DEADKV_DISABLE names an unknown pass.
            PruneVerificationError: a pass's result is not provably equivalent, and `keep_unverified` is off.
        """
        disabled = self.disabled()
        runs: list[PassRun] = []
        current, names = graph_module, Inputs.of(graph_module.graph).names
        for number, step in enumerate(self.passes, 1):
            if name_of(step) in disabled:
                runs.append(PassRun(name_of(step), False, 0.0, None, disabled=True))
                log.info("%s: disabled by %s", name_of(step), DISABLE)
                continue
            current, run = self._run(step, current, partial(observe or _ignore, number))
            log.info("%s: modified=%s %.1f ms", run.name, run.modified, 1e3 * run.seconds)
            runs.append(run)
        return PipelineResult(current, any(run.modified for run in runs), tuple(runs), match_inputs(names, current))

    def disabled(self) -> frozenset[str]:
        """The names in DEADKV_DISABLE. Raises DeadkvError for one that is no pass, so that a typing error is seen."""
        names = frozenset(filter(None, (name.strip() for name in os.environ.get(DISABLE, "").split(","))))
        if not names:
            return names
        known = known_names() | {name_of(step) for step in self.passes}
        if unknown := sorted(names - known):
            raise DeadkvError(f"{DISABLE}: unknown pass {unknown[0]!r}: available are {', '.join(sorted(known))}")
        return names

    def _run(self, step: PassBase, before: GraphModule, observe: Change) -> tuple[GraphModule, PassRun]:
        name = name_of(step)
        started = perf_counter()
        edits_in_place = bool(getattr(step, "inplace", False))
        original = module_like(before, copy_graph(before.graph)[0]) if edits_in_place else before
        result = step(before)
        if result is None:
            raise DeadkvError(f"pass {name} returned no PassResult")
        if result.modified:
            try:
                observe(name, original, result.graph_module)
            except Exception:
                _undo(before, original)
                raise
        error, report = _flaw(original, result, step), _report(result)
        seconds = perf_counter() - started
        if error is None:
            return result.graph_module, PassRun(name, result.modified, seconds, report)
        _undo(before, original)
        if not self.keep_unverified:
            raise error
        log.warning("%s", error)
        return before, PassRun(name, False, seconds, report, str(error))


def name_of(step: PassBase) -> str:
    """A pass's own name, or that of its class."""
    return str(getattr(step, "name", type(step).__name__))


def _undo(edited: GraphModule, original: GraphModule) -> None:
    """Leaves a module that was edited in place as it was; of one that was not, `original` is the module itself."""
    if edited is not original:
        edited._modules, edited.meta = original._modules, original.meta
        edited.graph = original.graph


def _ignore(number: int, name: str, before: GraphModule, after: GraphModule) -> None:
    """An observer for when there is none."""


def _report(result: PassResult) -> Report | None:
    found = getattr(result, "report", None)
    return found if isinstance(found, Report) else None


def _flaw(before: GraphModule, result: PassResult, step: PassBase) -> PruneVerificationError | None:
    if not result.modified or not isinstance(step, VerifiedPass):
        return None
    try:
        step.verify(before, result)
    except PruneVerificationError as error:
        return error
    return None
