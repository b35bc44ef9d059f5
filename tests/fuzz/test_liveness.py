"""Small graphs, the gather of each live site poisoned alone: how much of what the pass kept nobody could see.

That is no failure: poison that is compared, masked or overwritten before it is read leaves no trace, and no analysis of
demand sees that. It is an upper bound of what was missed. -s shows what absorbed the poison.
"""

from __future__ import annotations

from collections import Counter

import pytest

from passes import PrunePrefixCache
from tests.fuzz.checks import FIRST_SEED, GRAPHS, SEED_STEP, recipes
from tests.fuzz.liveness import missed
from tests.fuzz.sources import example_inputs, overlapping_inputs

pytestmark = pytest.mark.fuzz
SMALL = 40
MOST_MISSED = 0.25
"""Share of the sites of which nothing can be seen and that a perfect analysis of graph and contracts would remove."""
RUNS = [example_inputs(1), example_inputs(2), overlapping_inputs(3)]


def test_little_is_kept_that_nobody_could_see() -> None:
    pruned, live, provable, unseen = 0, 0, 0, Counter[str]()
    for recipe in recipes(FIRST_SEED * SEED_STEP, max(GRAPHS // 4, 100), most=SMALL):
        module = recipe.build()
        report = PrunePrefixCache(policy="liveness")(module).report
        found, missing = missed(module, report, RUNS)
        pruned += sum(site.status == "pruned" for site in report.sites)
        live += found
        provable += sum(one.is_provable for one in missing)
        unseen.update(f"{one.reason} ({one.absorbed_by})" for one in missing)
    print(f"\n{pruned} sites pruned, {live} live; {unseen.total()} of these made no difference, {provable} provably:")
    print("\n".join(f"  {count:4} {name}" for name, count in unseen.most_common()))
    assert pruned > 50 and live > 10
    assert provable <= MOST_MISSED * (pruned + provable)
