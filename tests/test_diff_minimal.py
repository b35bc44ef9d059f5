"""One edit of a random graph is found as that edit, whatever the nodes are called and however they are ordered."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import fx

from tests.support.graphs import Builder, aten, renamed
from tracing.graph import diff, document
from tracing.graph.document import GraphDoc

Counts = tuple[int, int, int, int]  # removed, added, rewired, changed


def random_graph(seed: int) -> fx.GraphModule:
    """Up to 40 calls, with duplicates and dead nodes; in every other graph some read a parameter of their own."""
    rng = random.Random(seed)
    b = Builder()
    values = [b.input("x", 2, 2), b.input("y", 2, 2)]
    for index in range(rng.randrange(5, 40)):
        one, other = rng.choice(values[-6:]), rng.choice(values[-6:])
        choices: list[Callable[[], fx.Node]] = [
            lambda one=one: b.call(aten.sin.default, one),
            lambda one=one, other=other: b.call(aten.add.Tensor, one, other),
            lambda one=one: b.call(aten.mul.Tensor, one, rng.choice([2.0, 3.0])),
            lambda one=one, other=other: b.call(aten.mm.default, one, other),
            lambda one=one, index=index: b.call(aten.mm.default, one, b.parameter(f"w{index}", 2, 2)),
        ]
        values.append(rng.choice(choices[: 5 - seed % 2])())
    return b.finish(*values[-2:])


@cache
def unedited(seed: int) -> GraphDoc:
    return document(random_graph(seed))


def calls(gm: fx.GraphModule) -> list[fx.Node]:
    return [node for node in gm.graph.nodes if node.op == "call_function"]


def change_constant(gm: fx.GraphModule, rng: random.Random) -> Counts | None:
    scaled = [node for node in calls(gm) if node.target is aten.mul.Tensor]
    if not scaled:
        return None
    rng.choice(scaled).update_arg(1, 5.0)
    return 0, 0, 0, 1


def insert_node(gm: fx.GraphModule, rng: random.Random) -> Counts:
    node = rng.choice(calls(gm))
    users = [user for user in node.users if user.op != "output"]
    with gm.graph.inserting_after(node):
        made = gm.graph.call_function(aten.relu.default, (node,))
    made.meta["val"] = node.meta["val"]
    node.replace_all_uses_with(made, delete_user_cb=lambda user: user is not made)
    return 0, 1, len(users), 0


def remove_dead_node(gm: fx.GraphModule, rng: random.Random) -> Counts | None:
    dead = [node for node in calls(gm) if not node.users]
    if not dead:
        return None
    gm.graph.erase_node(rng.choice(dead))
    return 1, 0, 0, 0


def rewire_operand(gm: fx.GraphModule, rng: random.Random) -> Counts | None:
    node = rng.choice(calls(gm))
    nodes = list(gm.graph.nodes)
    earlier = [n for n in nodes[: nodes.index(node)] if n.op != "get_attr" and n is not node.args[0]]
    if not earlier:
        return None
    node.update_arg(0, rng.choice(earlier))
    return 0, 0, 1, 0


@pytest.mark.parametrize("edit", [change_constant, insert_node, remove_dead_node, rewire_operand])
def test_one_edit_is_found_as_one_edit(edit: Callable[[fx.GraphModule, random.Random], Counts | None]) -> None:
    tried = 0
    for seed in range(60):
        after = random_graph(seed)
        expected = edit(after, random.Random(seed))
        if expected is None:
            continue
        tried += 1
        for graph in (after, renamed(after, seed)):
            found = diff(unedited(seed), document(graph)).differences
            counts = (len(found.removed), len(found.added), len(found.rewired), len(found.changed))
            assert sum(counts) <= sum(expected), f"seed {seed}: {counts} for {expected}"
    assert tried > 30


def test_unrelated_graphs_share_nothing_but_their_ends() -> None:
    def graph(op: torch._ops.OpOverload, length: int) -> fx.GraphModule:
        b = Builder()
        x = b.input("x", 2)
        for _ in range(length):
            x = b.call(op, x)
        return b.finish(x)

    found = diff(document(graph(aten.sin.default, 5)), document(graph(aten.cos.default, 3)))
    assert len(found.matches) == 2
    assert (len(found.differences.removed), len(found.differences.added)) == (5, 3)
