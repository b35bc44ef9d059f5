"""The verifier on correct prunes of random graphs with one unsound change each: it rejects every one of them.

A change that it lets pass must be none: the graphs then leave the same bits for many inputs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from torch.fx import GraphModule

from passes import PrunePrefixCache, PruneVerificationError, verify_prune
from tests.fuzz.checks import recipes, slices
from tests.fuzz.draft import Choices, UnfitError
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
    for recipe in recipes(first):
        module = recipe.build()
        result = PrunePrefixCache(policy="liveness")(module).graph_module
        for number, tamper in enumerate(TAMPERS):
            choose = Choices(recipe.seed * len(TAMPERS) + number)
            tampered = sharing_copy(result)
            try:
                tamper(choose, tampered)
            except UnfitError:
                figures[f"{tamper.__name__}: nothing to change"] += 1
                continue
            figures[f"{tamper.__name__}: {_verdict(module, tampered, tamper, recipe.seed)}"] += 1


def _verdict(before: GraphModule, tampered: GraphModule, tamper: Tamper, seed: int) -> str:
    try:
        verify_prune(before, tampered)
    except PruneVerificationError:
        return "rejected"
    assert tamper not in ALWAYS_REJECTED, f"{tamper.__name__} on seed {seed} was accepted"
    for module in tampered.modules():
        if isinstance(module, GraphModule):
            module.recompile()
    for inputs in RUNS:
        same = same_state(state_after(before, inputs), state_after(tampered, inputs))
        assert same, f"{tamper.__name__} on seed {seed} was accepted:\n{before.code}\n{tampered.code}"
    return "no change"
