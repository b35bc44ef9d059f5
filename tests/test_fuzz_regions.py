"""Random graphs with nested graphs: calls that share them, regions in regions, loops; pruning never changes a bit.

The nested graphs are drawn from the same steps as the flat ones (tests/test_fuzz.py), so a gather, a write, a size or
a kernel may stand inside a region, behind one or in front of one.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.fx import Graph, GraphModule, Node

from passes import PrunePrefixCache
from tests.support.prunes import check_prune
from tests.test_fuzz import POOL, RandomGraph, X, gather

hop = torch.ops.higher_order
aten = torch.ops.aten


class NestedGraph(RandomGraph):
    """A random graph that may call others, at most two deep."""

    def __init__(self, draw: Any) -> None:
        super().__init__(draw)
        self.depth = 0
        self.root = torch.nn.Module()
        self.bodies: list[tuple[str, Body]] = []

    def step(self) -> None:
        if self.depth < 2 and self.draw(st.integers(0, 2)) == 0:
            self.draw(st.sampled_from([call_region, call_region, scan_region]))(self)
        else:
            super().step()

    def module(self) -> GraphModule:
        outputs = self.draw(st.lists(st.sampled_from(self.values), min_size=1, max_size=2))
        self.graph.output(tuple(outputs))
        return GraphModule(self.root, self.graph)

    def add_body(self, body: Body, results: tuple[Node, ...]) -> str:
        body.results = results
        body.graph.output(results)
        name = f"body_{len(self.bodies)}"
        self.root.add_module(name, GraphModule(body.root, body.graph))
        self.bodies.append((name, body))
        return name

    def take(self, call: Node, results: tuple[Tensor, ...]) -> None:
        """Takes some of the results of a call; each may be used later, or not."""
        call.meta["val"] = results
        for index, value in enumerate(results):
            if self.draw(st.booleans()):
                taken = self.graph.call_function(operator.getitem, (call, index))
                taken.meta["val"] = value
                self.values.append(taken)


class Body(NestedGraph):
    """A nested graph; `pool_at` is the number of the input that is the pool, and the next one is the table."""

    results: tuple[Node, ...] = ()

    def __init__(self, outer: NestedGraph, operands: list[Tensor], pool_at: int) -> None:
        self.draw, self.mode, self.depth = outer.draw, outer.mode, outer.depth + 1
        self.graph, self.root, self.bodies = Graph(), torch.nn.Module(), []
        self.inputs = [self._placeholder(f"p{index}", value) for index, value in enumerate(operands)]
        self.pool, self.table = self.inputs[pool_at : pool_at + 2]
        self.values = [node for node in self.inputs if node is not self.table]

    def _placeholder(self, name: str, value: Tensor) -> Node:
        node = self.graph.placeholder(name)
        node.meta["val"] = value
        return node


def call_region(g: NestedGraph) -> None:
    """Calls a new nested graph, or once more one that was called with operands of the same layouts."""
    reusable = [(name, body) for name, body in g.bodies if body.inputs[0] is body.pool and _operands_for(g, body)]
    if reusable and g.draw(st.booleans()):
        name, body = g.draw(st.sampled_from(reusable))
        operands = [g.draw(st.sampled_from(choices)) for choices in _operands_for(g, body)]
    else:
        operands = [g.pick() for _ in range(g.draw(st.integers(0, 2)))]
        body = Body(g, [node.meta["val"] for node in (g.pool, g.table, *operands)], pool_at=0)
        for _ in range(g.draw(st.integers(0, 5))):
            body.step()
        results = g.draw(st.lists(st.sampled_from(body.values), min_size=1, max_size=3))
        name = g.add_body(body, tuple(results))
    arguments = (g.pool, g.table, *operands)
    if g.draw(st.booleans()):
        call = g.graph.call_module(name, arguments)
    else:
        call = g.graph.call_function(hop.invoke_subgraph, (g.graph.get_attr(name), name, *arguments))
    g.take(call, tuple(node.meta["val"] for node in body.results))


def _operands_for(g: NestedGraph, body: Body) -> list[list[Node]]:
    """For each input after pool and table, the values that could be given for it; empty if one has none."""
    found = [[node for node in g.values if _alike(node, wanted)] for wanted in body.inputs[2:]]
    return found if all(found) else []


def _alike(one: Node, other: Node) -> bool:
    first, second = one.meta["val"], other.meta["val"]
    return bool(first.shape == second.shape and first.stride() == second.stride())


def scan_region(g: NestedGraph) -> None:
    """A loop of two rounds with two carries over a stack of a third value; pool and table are constants of it."""
    carries, sliced = [g.pick(), g.pick()], g.pick()
    stacked = g.call(aten.stack.default, [sliced, sliced])
    with g.mode:
        one_slice = torch.empty_like(stacked.meta["val"][0])
    body = Body(g, [node.meta["val"] for node in carries] + [one_slice, g.pool.meta["val"], g.table.meta["val"]], 3)
    for _ in range(g.draw(st.integers(0, 4))):
        functional_step(body)
    carried = tuple(_carry(body, node) for node in body.inputs[:2])
    row = body.call(aten.clone.default, body.pick())
    name = g.add_body(body, (*carried, row))
    call = g.graph.call_function(hop.scan, (g.graph.get_attr(name), carries, [stacked], (g.pool, g.table)))
    with g.mode:
        rows = torch.stack([row.meta["val"], row.meta["val"]])
    g.take(call, (*(node.meta["val"] for node in carried), rows))


def functional_step(g: Body) -> None:
    """A step that writes nothing: a loop must not."""
    g.draw(st.sampled_from([gather, pure_view, total]))(g)


def pure_view(g: Body) -> None:
    g.values.append(g.call(aten.neg.default, g.pick()))


def total(g: Body) -> None:
    g.values.append(g.call(aten.add.Tensor, g.pick(), g.call(aten.sum.default, g.pick())))


def _carry(body: Body, carry: Node) -> Node:
    """A new value of a carry's shape: torch lets no loop return what it was given."""
    same = [node for node in body.values if node.meta["val"].shape == carry.meta["val"].shape]
    source = body.draw(st.sampled_from(same))
    return (
        body.call(aten.add.Tensor, body.call(aten.mul.Tensor, carry, 0.5), source)
        if body.draw(st.booleans())
        else body.call(aten.clone.default, source)
    )


@st.composite
def nested_graphs(draw: Any) -> GraphModule:
    graph = NestedGraph(draw)
    graph.values.append(gather(graph))
    for _ in range(draw(st.integers(1, 8))):
        graph.step()
    return graph.module()


def example_inputs() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    pool, x = torch.randn(POOL, generator=generator), torch.randn(X, generator=generator)
    return pool, torch.tensor([[0, 3], [3, 5]], dtype=torch.int32), x


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(nested_graphs())
def test_pruning_nested_graphs_is_never_seen(module: GraphModule) -> None:
    note(module.print_readable(print_output=False))
    check_prune(module, example_inputs(), policy="liveness")


def test_the_generator_makes_nested_sites_that_go_and_that_stay() -> None:
    statuses: set[tuple[bool, str]] = set()

    @settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(nested_graphs())
    def collect(module: GraphModule) -> None:
        report = PrunePrefixCache(policy="liveness")(module).report
        statuses.update(("/" in site.gather, site.status) for site in report.sites)

    collect()
    assert statuses >= {(True, "pruned"), (True, "live"), (False, "pruned"), (False, "live")}
