"""What must hold of every graph: the first two oracles, and how many graphs and from which seed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from torch import Tensor
from torch.fx import GraphModule

from passes import PrunePrefixCache, PruneReport
from tests.fuzz.graphs import LARGE, Recipe
from tests.fuzz.interpreter import Place, PoisonInterpreter
from tests.fuzz.liveness import dead_places
from tests.fuzz.minimize import Check, minimal
from tests.fuzz.sources import example_inputs, overlapping_inputs
from tests.fuzz.states import State, same_state, state_after
from tests.support.prunes import check_run

GRAPHS = int(os.environ.get("DEADKV_FUZZ_GRAPHS", "1000"))
FIRST_SEED = int(os.environ.get("DEADKV_FUZZ_SEED", "0"))
SLICE = 125
SEED_STEP = 1_000_000
"""Slices of one run and of runs with other first seeds share no graph."""


def slices(graphs: int = GRAPHS) -> list[int]:
    """First seeds of the slices that make up `graphs` graphs, for `pytest.mark.parametrize`."""
    return [FIRST_SEED * SEED_STEP + start for start in range(0, graphs, SLICE)]


def recipes(first: int, graphs: int = SLICE, most: int = LARGE) -> Iterator[Recipe]:
    """The recipes of a slice."""
    return (Recipe(seed, most) for seed in range(first, first + graphs))


def check_all(first: int, check: Check, graphs: int = SLICE) -> None:
    """Checks every graph of a slice; a failure names the smallest recipe that still fails, and shows its graph."""
    for recipe in recipes(first, graphs):
        _check(recipe, check)


def _check(recipe: Recipe, check: Check) -> None:
    try:
        check(recipe)
    except Exception as error:
        small = minimal(recipe, check)
        shown = small.build().print_readable(print_output=False)
        pytest.fail(f"{type(error).__name__}: {error}\nseed {recipe.seed}; {small}\n{shown}")


@dataclass(frozen=True)
class Subject:
    """A graph, the inputs that it is run on, some of them sharing memory, and what it leaves behind each time."""

    module: GraphModule
    runs: Sequence[tuple[Sequence[Tensor], State]]

    @classmethod
    def of(cls, module: GraphModule) -> Subject:
        """Runs a graph before anything is changed."""
        return cls(module, [(inputs, state_after(module, inputs)) for inputs in _INPUTS])


_INPUTS = example_inputs(1), overlapping_inputs(2)


def check_behaviour(subject: Subject) -> tuple[PruneReport, bool]:
    """Before and after on the same inputs: outputs, inputs and pools are bit-equal; also after a second run.

    Returns the report, and whether the second run removed more: a value that only an erased call could have shared is
    then known to be nobody else's.
    """
    first = check_run(subject.module, policy="liveness")
    pruned = [first.graph_module]
    if again := PrunePrefixCache(policy="liveness")(first.graph_module).modified:
        pruned.append(check_run(first.graph_module, policy="liveness").graph_module)
    for inputs, state in subject.runs:
        assert all(same_state(state, state_after(module, inputs)) for module in pruned), "a bit changed"
    return first.report, again


def check_poison(subject: Subject, report: PruneReport) -> None:
    """The graph before, every value that the report calls dead overwritten, leaves the same bits."""
    module = subject.module
    for inputs, state in subject.runs:
        known: dict[Place, Any] = {}
        interpreter = PoisonInterpreter(module, seen=known.__setitem__)
        assert same_state(state, state_after(module, inputs, interpreter.run)), "the interpreter is wrong"
        poisoned = PoisonInterpreter(module, dead_places(report), known=known)
        assert same_state(state, state_after(module, inputs, poisoned.run)), "a value called dead was read"


def claim(report: PruneReport, *names: str) -> PruneReport:
    """The report with more nodes called dead than there are."""
    return replace(report, removed=(*report.removed, *names))
