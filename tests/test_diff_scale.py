"""Twenty thousand nodes: time grows with the graph, and the page stays a few megabytes."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import pytest

from tests.support.graphs import decoder
from tracing.graph import GraphDiff, diff, document, dumps, matching, render_dot, render_html, render_text
from tracing.graph.chains import fold
from tracing.graph.document import Const, GraphDoc, Group, Node, Parameter, Ref, Value
from tracing.graph.jsonfile import loads
from tracing.graph.structure import Interner

LAYERS = 1820  # of 11 nodes each


def stacked(prior: str, layers: int) -> GraphDoc:
    """A decoder of many layers, made by repeating the nodes of one: building it with torch.fx would take longer."""
    doc = document(decoder(1, prior=prior))
    head, body, tail = doc.nodes[:2], doc.nodes[2:-1], doc.nodes[-1]
    nodes, hidden = list(head), "hidden"
    for layer in range(layers):
        names = {node.name: f"{node.name}_{layer}" for node in body}
        nodes += [_moved(node, {**names, "hidden": hidden, "block_table": "block_table"}, layer) for node in body]
        hidden = names[body[-1].name]
    nodes.append(dataclasses.replace(tail, args=(Group("tuple", (Ref(hidden),)),)))
    parameters = [Parameter(_at(p.fqn, layer), p.type) for layer in range(layers) for p in doc.parameters]
    return dataclasses.replace(doc, nodes=tuple(nodes), parameters=tuple(parameters))


def _at(fqn: str, layer: int) -> str:
    return fqn.replace("layers.0.", f"layers.{layer}.")


def _moved(node: Node, names: dict[str, str], layer: int) -> Node:
    def value(found: Value) -> Value:
        return Ref(names[found.name]) if isinstance(found, Ref) else found

    return dataclasses.replace(
        node, name=names[node.name], target=_at(node.target, layer), args=tuple(map(value, node.args))
    )


def renumbered(doc: GraphDoc) -> GraphDoc:
    """`doc` as another process would name it."""
    names = {node.name: f"n{index}" for index, node in enumerate(doc.nodes)}

    def value(found: Value) -> Value:
        if isinstance(found, Group):
            return Group(found.kind, tuple(map(value, found.items)))
        return Ref(names[found.name]) if isinstance(found, Ref) else found

    nodes = (dataclasses.replace(n, name=names[n.name], args=tuple(map(value, n.args))) for n in doc.nodes)
    return dataclasses.replace(doc, nodes=tuple(nodes))


@cache
def large() -> tuple[GraphDoc, GraphDoc]:
    return stacked("operand", LAYERS), stacked("none", LAYERS)


class TimedDiff(NamedTuple):
    """A diff of the large graphs, and the seconds of the processor that it took."""

    diff: GraphDiff
    seconds: float


@cache
def large_diff(rename: bool) -> TimedDiff:
    """Made once for all tests of a process; `rename` gives the graph after other names."""
    before, after = large()[0], renumbered(large()[1]) if rename else large()[1]
    start = time.process_time()
    return TimedDiff(diff(before, after), time.process_time() - start)


@cache
def large_page() -> str:
    """The page of the diff without other names."""
    return render_html(large_diff(False).diff, *large())


def seconds(work: Callable[[], object]) -> float:
    """Of the processor: how many others run beside the tests makes no difference."""
    start = time.process_time()
    work()
    return time.process_time() - start


@pytest.mark.parametrize("rename", [False, True], ids=["same process", "other names"])
def test_twenty_thousand_nodes(rename: bool) -> None:
    assert len(large()[0].nodes) > 20_000
    found, elapsed = large_diff(rename)
    assert elapsed < 30  # about 2 s
    d = found.differences
    assert (len(d.removed), len(d.added), len(d.rewired), len(d.changed)) == (5 * LAYERS, 0, LAYERS, 0)
    assert d.interface == ()
    assert f"  {LAYERS} x the same, shown once: layers.{{0-{LAYERS - 1}}}.k_cache\n" in render_text(found, color=False)


def test_the_page_of_a_large_diff_stays_small() -> None:
    page = large_page()
    assert len(page) < 5_000_000
    assert len(render_dot(large_diff(False).diff)) < 5_000_000
    assert page.count('"s":1') == 5 * LAYERS


@pytest.mark.parametrize("rename", [False, True], ids=["same process", "other names"])
def test_work_grows_linearly(rename: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted in classes asked for, the unit of the matching: eight times the layers, about eight times the work."""
    counted = [0]
    number = Interner.number

    def counting(self: Interner, key: tuple[object, ...]) -> int:
        counted[0] += 1
        return number(self, key)

    monkeypatch.setattr(Interner, "number", counting)
    work = []
    for layers in (40, 320):
        before, after = stacked("operand", layers), stacked("none", layers)
        counted[0] = 0
        diff(before, renumbered(after) if rename else after)
        work.append(counted[0])
    assert work[1] < 9 * work[0]


def hub(factor: float, readers: int) -> GraphDoc:
    """A node that every other one reads, and an output of all of those."""
    scale = Const("float", repr(factor))
    nodes = [Node("x", "placeholder", "x"), Node("h", "call_function", "aten.mul.Tensor", (Ref("x"), scale))]
    nodes += [Node(f"r{i}", "call_function", "aten.sin.default", (Ref("h"),)) for i in range(readers)]
    outputs = Group("tuple", tuple(Ref(f"r{i}") for i in range(readers)))
    return GraphDoc("M", (*nodes, Node("output", "output", "output", (outputs,))))


def test_chains_that_one_output_returns_are_no_bottleneck() -> None:
    small, big = (seconds(lambda n=n: fold(hub(1.0, n), [f"r{i}" for i in range(n)])) for n in (1000, 8000))
    assert big < 20 * small + 1


def test_a_hub_read_by_every_node_is_no_bottleneck() -> None:
    small, big = (seconds(lambda n=n: diff(hub(1.0, n), hub(2.0, n))) for n in (1000, 8000))
    assert big < 40 * small + 5
    found = diff(hub(1.0, 3000), renumbered(hub(2.0, 3000)))
    assert (len(found.differences.changed), len(found.differences.rewired)) == (1, 0)


def test_a_large_file_reads_back() -> None:
    content = dumps(large()[0])
    assert len(content) < 10_000_000
    assert loads(content) == large()[0]


def test_no_surroundings_are_compared_once_a_graph_is_matched(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left after dead nodes went has its classes as before, but for the parameters that those read."""

    def refused(*_: object) -> None:
        raise AssertionError("every node of the smaller graph is matched")

    monkeypatch.setattr(matching, "surroundings", refused)
    monkeypatch.setattr(matching, "propagate", refused)
    found = diff(stacked("dead", 3), stacked("none", 3))
    assert len(found.differences.removed) == 5 * 3
    assert found.differences.added == found.differences.rewired == ()
