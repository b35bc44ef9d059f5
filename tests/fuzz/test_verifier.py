"""The verifier on correct prunes of random graphs with one unsound change each: it rejects every one of them.

A change that it lets pass must be none: the graphs then leave the same bits for many inputs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from torch.fx import GraphModule

from passes import PrunePrefixCache, PruneVerificationError, verify_prune
from tests.fuzz.checks import check_all, slices
from tests.fuzz.draft import Choices, UnfitError
from tests.fuzz.graphs import Recipe
from tests.fuzz.sources import example_inputs, overlapping_inputs
from tests.fuzz.states import same_state, state_after
from tests.fuzz.tampers import ALWAYS_REJECTED, TAMPERS, Tamper
from tests.support.regions import sharing_copy

pytestmark = pytest.mark.fuzz
RUNS = [*map(example_inputs, range(8)), *map(overlapping_inputs, range(8, 12))]


@pytest.fixture(scope="module")
def figures() -> Iterator[Counter[str]]:
    found: Counter[str] = Counter()
    yield found
    print(f"\n{dict(sorted(found.items()))}")


@pytest.mark.parametrize("first", slices()[:2] if len(slices()) <= 8 else slices())
def test_an_unsound_change_is_rejected(first: int, figures: Counter[str]) -> None:
    def check(recipe: Recipe) -> None:
        module = recipe.build()
        result = PrunePrefixCache(policy="liveness")(module).graph_module
        for number, tamper in enumerate(TAMPERS):
            choose = Choices(recipe.seed * len(TAMPERS) + number)
            figures[f"{tamper.__name__}: {_outcome(choose, tamper, module, sharing_copy(result))}"] += 1

    check_all(first, check)


def _outcome(choose: Choices, tamper: Tamper, before: GraphModule, tampered: GraphModule) -> str:
    try:
        tamper(choose, tampered)
    except UnfitError:
        return "nothing to change"
    try:
        verify_prune(before, tampered)
    except PruneVerificationError:
        return "rejected"
    assert tamper not in ALWAYS_REJECTED, f"{tamper.__name__} was accepted"
    for module in tampered.modules():
        if isinstance(module, GraphModule):
            module.recompile()
    for inputs in RUNS:
        same = same_state(state_after(before, inputs), state_after(tampered, inputs))
        assert same, f"{tamper.__name__} was accepted:\n{tampered.code}"
    return "no change"
