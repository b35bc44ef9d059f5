"""Random graphs: the walk over what the sites can reach finds what a walk over the whole graph finds."""

from __future__ import annotations

import pytest
from torch.fx import GraphModule, Node

from passes.calls import is_call
from passes.demand.analysis import analyze
from passes.demand.result import DemandResult
from passes.facts import graph_facts
from passes.frames import Frame, demand_in, frame_tree, outermost, walk
from passes.ops.schema import operator_name, resolve
from passes.registration import DEFAULT_CONTRACTS
from passes.sites import find_sites
from tests.fuzz.checks import check_all
from tests.fuzz.graphs import Recipe

pytestmark = pytest.mark.fuzz
GRAPHS, GRAPHS_A_TEST = 250, 5


@pytest.mark.parametrize("first", range(0, GRAPHS, GRAPHS_A_TEST))
def test_a_walk_over_the_cone_agrees_with_one_over_the_graph(first: int) -> None:
    check_all(first, lambda recipe: check_cone(recipe.build()), GRAPHS_A_TEST)


def check_cone(module: GraphModule) -> None:
    """Demand, rewrites and pins of all that the sites reach, in every entry of every graph."""
    root = frame_tree(graph_facts(module, DEFAULT_CONTRACTS))
    sites = find_sites(root).sites
    starts = {outermost(site.frame, site.gather) for site in sites}
    whole = demand_in(root, analyze(root.facts))
    part = demand_in(root, analyze(root.facts, values=starts))
    assert all(site.frame in part for site in sites)
    for frame in part:
        reached = _reached(frame, starts) if frame is root else set(frame.facts.graph.nodes)
        _check_frame(reached, whole[frame], part[frame])


def _check_frame(reached: set[Node], whole: DemandResult, part: DemandResult) -> None:
    for node in reached:
        assert part.of(node) is whole.of(node), f"demand on %{node.name}"
        assert part.is_live(node) == whole.is_live(node), f"whether %{node.name} runs"
        assert part.pins.get(node) == whole.pins.get(node), f"what pins %{node.name}"
        for user in node.users:
            assert part.is_live(user) == whole.is_live(user), f"whether %{user.name} runs"
            assert repr(part.rewrites.get(user)) == repr(whole.rewrites.get(user)), f"rewrites of %{user.name}"


def _reached(root: Frame, starts: set[Node]) -> set[Node]:
    """The starts, and all that is computed from them by calls that need not run in any case."""
    reached = set(starts)
    pending = list(starts)
    while pending:
        for user in pending.pop().users:
            if user not in reached and is_call(user) and not _must_run(root, user):
                reached.add(user)
                pending.append(user)
    return reached


def _must_run(root: Frame, call: Node) -> bool:
    facts = root.facts[call]
    if facts.region is not None:
        return False
    ignores = facts.contract is not None
    escapes = any(root.facts.storage.escapes(target) for target in facts.effects.writes)
    return ignores or facts.effects.reason is not None or escapes


def test_the_graphs_have_cones_that_are_a_part_of_them() -> None:
    """Else the comparison above would compare a walk with itself."""
    smaller = 0
    for seed in range(40):
        root = frame_tree(graph_facts(Recipe(seed).build(), DEFAULT_CONTRACTS))
        starts = {outermost(site.frame, site.gather) for site in find_sites(root).sites}
        whole, part = analyze(root.facts), analyze(root.facts, values=starts)
        smaller += bool(starts) and len(part.pins) < len(whole.pins)
    assert smaller > 20


def test_a_target_tells_the_name_that_binding_gives() -> None:
    for seed in range(40):
        root = frame_tree(graph_facts(Recipe(seed).build(), DEFAULT_CONTRACTS))
        for frame in walk(root):
            for node in filter(is_call, frame.facts.graph.nodes):
                call, name = resolve(node), operator_name(node)
                assert call is None or name is None or name == call.op
