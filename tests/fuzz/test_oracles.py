"""Random graphs: what pruning removes is never seen, by running before and after and by poisoning all that is dead.

DEADKV_FUZZ_GRAPHS=20000 sets the number of graphs, DEADKV_FUZZ_SEED=N the seed of the first; -s shows the figures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from torch import Tensor
from torch.fx import GraphModule, Node

from passes import PrunePrefixCache, PruneReport
from tests.fuzz.checks import Subject, check_all, check_behaviour, check_poison, claim, recipes, slices
from tests.fuzz.graphs import Recipe
from tests.fuzz.minimize import Check, minimal

pytestmark = pytest.mark.fuzz


@pytest.fixture(scope="module")
def figures() -> Iterator[Counter[str]]:
    found: Counter[str] = Counter()
    yield found
    print(f"\n{dict(sorted(found.items()))}")


@pytest.mark.parametrize("first", slices())
def test_what_goes_is_never_seen(first: int, figures: Counter[str]) -> None:
    def check(recipe: Recipe) -> None:
        subject = Subject.of(recipe.build())
        report, again = check_behaviour(subject)
        check_poison(subject, report)
        nodes = int(report.summary["nodes_before"] or 0)
        rewritten = [*report.rewritten, *(found for region in report.regions for found in region.rewritten)]
        figures["graphs"] += 1
        figures["graphs of 100 nodes and more"] += nodes >= 100
        figures["nodes"] += nodes
        figures.update(f"site {site.status}" for site in report.sites)
        figures.update(f"rewrite {found.rule}" for found in rewritten)
        figures["nested graphs changed"] += len(report.regions)
        figures["graphs of which a second run removed more"] += again

    check_all(first, check)


def test_the_graphs_have_all_that_they_should() -> None:
    sizes, operators, statuses = Counter[str](), Counter[str](), Counter[str]()
    for recipe in recipes(0, 120):
        module = recipe.build()
        graphs = [found for found in module.modules() if isinstance(found, GraphModule)]
        nodes = [node for found in graphs for node in found.graph.nodes]
        sizes["small" if len(nodes) < 25 else "large" if len(nodes) > 100 else "between"] += 1
        operators.update(f"{node.op} {getattr(node.target, '__name__', node.target)}" for node in nodes)
        report = PrunePrefixCache(policy="liveness")(module).report
        statuses.update(f"{'nested' if '/' in site.gather else 'outer'} {site.status}" for site in report.sites)
    assert all(sizes[size] > 5 for size in ("small", "between", "large"))
    assert all(statuses[f"{where} {status}"] for where in ("nested", "outer") for status in ("pruned", "live"))
    spelled = "call_method add_", "call_function add_.Tensor", "call_function iadd", "call_function setitem"
    nested = (f"call_function {name}" for name in ("invoke_subgraph", "cond", "while_loop", "scan"))
    kernels = (f"call_function {name}.default" for name in ("blend", "unknown", "store", "hidden", "mark", "peek"))
    assert all(operators[name] for name in (*spelled, *nested, *kernels))


def test_a_recipe_makes_the_same_graph_each_time() -> None:
    assert all(recipe.build().code == Recipe(recipe.seed).build().code for recipe in recipes(0, 10))


def test_a_poisoned_live_value_is_seen() -> None:
    """The second oracle fails if the report calls a value dead that is an output, unless that is the poison already."""
    tried, seen = 0, 0
    for recipe in recipes(0, 40):
        module = recipe.build()
        computed = [node for node in module.graph.output_node().all_input_nodes if _is_tensor_call(node)]
        report = PrunePrefixCache(policy="liveness")(module).report
        subject = Subject.of(module)
        for node in computed:
            tried += 1
            seen += _is_seen(subject, claim(report, node.name))
    assert tried > 50
    assert seen > 0.75 * tried


def _is_seen(subject: Subject, lie: PruneReport) -> bool:
    try:
        check_poison(subject, lie)
    except AssertionError:
        return True
    return False


def _is_tensor_call(node: Node) -> bool:
    value = node.meta.get("val", node.meta.get("example_value"))
    return node.op.startswith("call_") and isinstance(value, Tensor) and value.numel() > 0


def test_a_failure_is_minimized() -> None:
    def check(recipe: Recipe) -> None:
        assert not any(node.target == "add_" for node in recipe.build().graph.nodes)

    recipe = next(found for found in recipes(0) if _fails(found, check) and len(found.steps()) > 20)
    small = minimal(recipe, check)
    assert _fails(small, check) and len(small.steps()) <= 2


def _fails(recipe: Recipe, check: Check) -> bool:
    try:
        check(recipe)
    except AssertionError:
        return True
    return False
