"""What a diff finds: nothing between equal graphs, and each class of difference by itself."""

from __future__ import annotations

import operator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import fx, nn
from torch.fx.experimental.proxy_tensor import make_fx

from tests.support.graphs import Builder, aten, attention, decoder, gather, renamed
from tracing.graph import GraphDiff, diff, document, render_text, text
from tracing.graph.changes import Differences, InterfaceChange
from tracing.graph.document import Const, GraphDoc, Ref
from tracing.graph.interface import side_text


def compare(before: fx.GraphModule, after: fx.GraphModule) -> GraphDiff:
    """The diff, which must not depend on what the after graph's nodes are called or how they are ordered."""
    one, other = document(before), document(after)
    found = diff(one, other)
    shuffled = diff(one, document(renamed(after, seed=7)))
    assert counts(shuffled) == counts(found), "other names or order gave another diff"
    return found


def counts(found: GraphDiff) -> tuple[int, ...]:
    d = found.differences
    return (len(d.removed), len(d.added), len(d.rewired), len(d.changed), len(d.reordered), len(d.interface))


def changes(found: GraphDiff) -> list[tuple[str, str, str | None, str | None]]:
    """(node, slot, before, after) of everything that changed about matched nodes."""
    d = found.differences
    return [
        (node.name, change.slot, side_text(change.before), side_text(change.after))
        for node in (*d.rewired, *d.changed, *d.reordered)
        for change in node.changes
    ]


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.integers(1, 4), st.sampled_from(("dead", "operand", "none")))
def test_renamed_and_reordered_graphs_are_the_same(seed: int, layers: int, prior: str) -> None:
    gm = decoder(layers, prior=prior)
    before, after = document(gm), document(renamed(gm, seed))
    found = diff(before, after)
    assert found.same
    assert found.differences == Differences()
    assert len(found.matches) == len(before.nodes)
    assert render_text(found, color=False) == f"the same graph: nodes {len(before.nodes)}\n"


def test_names_that_changed_places_do_not_matter() -> None:
    def graph(names: tuple[str, str]) -> GraphDoc:
        b = Builder()
        x = b.input("x", 2)
        one = b.call(aten.sin.default, x, name=names[0])
        other = b.call(aten.sin.default, one, name=names[1])
        return document(b.finish(one, other))

    assert diff(graph(("a", "b")), graph(("b", "a"))).same


def test_a_removed_dead_chain() -> None:
    found = compare(decoder(3), decoder(3, prior="none"))
    assert counts(found) == (15, 0, 0, 0, 0, 0)
    assert not found.same
    assert "index_select_default_1" in found.differences.removed


def test_an_added_node_and_the_rewired_readers() -> None:
    def graph(cast: bool) -> fx.GraphModule:
        b = Builder()
        x, w = b.input("x", 2, 2), b.parameter("w", 2, 2)
        y = b.call(aten.mm.default, x, w)
        z = b.call(aten.neg.default, y) if cast else y
        return b.finish(b.call(aten.sin.default, z), b.call(aten.cos.default, z))

    found = compare(graph(False), graph(True))
    assert found.differences.added == ("neg_default",)
    assert changes(found) == [
        ("sin_default", "[0]", "mm_default", "+neg_default"),
        ("cos_default", "[0]", "mm_default", "+neg_default"),
    ]
    assert counts(found) == (0, 1, 2, 0, 0, 0)


def test_a_severed_operand_is_called_by_its_name_in_the_schema() -> None:
    found = compare(decoder(3, prior="operand"), decoder(3, prior="none"))
    assert counts(found) == (15, 0, 3, 0, 0, 0)
    assert changes(found)[0] == ("attention_block_tkg_default", "K_prior", "permute_default", "None")


def test_a_changed_constant_changes_only_its_node() -> None:
    found = compare(decoder(4, prior="operand"), decoder(4, prior="operand", scale=0.25))
    assert counts(found) == (0, 0, 0, 4, 0, 0)
    assert {change[1:] for change in changes(found)} == {("[1]", "0.5", "0.25")}


def test_a_changed_dtype_is_a_changed_type() -> None:
    def graph(dtype: torch.dtype) -> fx.GraphModule:
        b = Builder()
        return b.finish(b.call(aten.sin.default, b.call(aten.ones.default, [2], dtype=dtype)))

    found = compare(graph(torch.float32), graph(torch.float64))
    assert changes(found) == [
        ("ones_default", "type", "f32[2]", "f64[2]"),
        ("ones_default", "dtype", "torch.float32", "torch.float64"),
        ("sin_default", "type", "f32[2]", "f64[2]"),
    ]


def test_one_is_not_true_and_zero_is_not_minus_zero() -> None:
    def graph(value: object) -> GraphDoc:
        b = Builder()
        return document(b.finish(b.call(aten.full.default, [2], value, dtype=torch.float32)))

    for one, other in ((1, True), (1, 1.0), (0.0, -0.0)):
        assert len(diff(graph(one), graph(other)).differences.changed) == 1
    assert diff(graph(float("nan")), graph(float("nan"))).same


def test_a_layer_less_is_one_removed_layer() -> None:
    found = compare(decoder(5, prior="operand"), decoder(4, prior="operand"))
    assert counts(found) == (11, 0, 0, 0, 0, 3)
    assert all(
        name.endswith(("_4", "_8", "_9", "4_w", "4_k_cache", "4_k_cache_1")) for name in found.differences.removed
    )


def test_a_node_between_every_two_layers() -> None:
    before, after = decoder(6), decoder(6)
    for node in list(after.graph.find_nodes(op="call_function", target=aten.mm.default)):
        with after.graph.inserting_after(node):
            cast = after.graph.call_function(aten.relu.default, (node,))
        cast.meta["val"] = node.meta["val"]
        node.replace_all_uses_with(cast, delete_user_cb=lambda user, cast=cast: user is not cast)
    assert counts(compare(before, after)) == (0, 6, 6, 0, 0, 0)


def duplicated(merge: bool) -> fx.GraphModule:
    b = Builder()
    table = b.input("block_table", 2, 4, dtype=torch.int32)
    one = gather(b, 0, table)
    other = one if merge else gather(b, 0, table)
    return b.finish(b.call(aten.sin.default, one), b.call(aten.cos.default, other))


def test_merged_duplicates() -> None:
    found = compare(duplicated(merge=False), duplicated(merge=True))
    assert counts(found) == (5, 0, 1, 0, 0, 0)
    assert changes(found) == [("cos_default", "[0]", "permute_default_1", "permute_default")]


def test_which_duplicate_a_node_reads_is_told_apart() -> None:
    def graph(shared: bool) -> fx.GraphModule:
        b = Builder()
        x = b.input("x", 2)
        one, other = b.call(aten.sin.default, x), b.call(aten.sin.default, x)
        return b.finish(b.call(aten.add.Tensor, one, one if shared else other), other)

    found = compare(graph(False), graph(True))
    assert changes(found) == [("add_tensor", "[1]", "sin_default_1", "sin_default")]


def test_items_dropped_from_a_list_do_not_shift_the_rest() -> None:
    def graph(*keep: int) -> fx.GraphModule:
        b = Builder()
        parts = [b.input(f"x{i}", 2) for i in range(5)]
        return b.finish(b.call(aten.cat.default, [parts[i] for i in keep]))

    found = compare(graph(0, 1, 2, 3, 4), graph(0, 2, 3, 4))
    assert [change[1:] for change in changes(found) if change[1] != "type"] == [("[0][1]", "x1", None)]


# Order of effects.


def writes(*order: str) -> fx.GraphModule:
    """Reads and in-place writes of a buffer that is read through a view, in the given order."""
    b = Builder()
    x = b.input("x", 2, 2)
    view = b.call(aten.view.default, x, [4])
    made = []
    for name in order:
        ops = {"read": aten.sin.default, "zero": aten.zero_.default, "relu": aten.relu_.default}
        made.append(b.call(ops[name], view if name == "read" else x, name=f"{name}_it"))
    return b.finish(next(node for name, node in zip(order, made, strict=True) if name == "read"))


def test_swapped_writes_and_reads_are_reordered_effects() -> None:
    base = document(writes("zero", "relu", "read"))
    assert diff(base, document(writes("zero", "relu", "read"))).same
    for order in (("relu", "zero", "read"), ("zero", "read", "relu"), ("read", "zero", "relu")):
        found = diff(base, document(writes(*order)))
        assert not found.same
        assert counts(found)[:4] == (0, 0, 0, 0)
        assert found.differences.reordered


def test_what_a_reordered_node_followed_is_named() -> None:
    found = diff(document(writes("zero", "read")), document(writes("read", "zero")))
    assert changes(found) == [("read_it", "order", "after zero_it", "before it")]


def test_independent_writes_may_change_places() -> None:
    def graph(first: int) -> GraphDoc:
        b = Builder()
        x = [b.input("x", 2), b.input("y", 2)]
        for index in (first, 1 - first):
            b.call(aten.zero_.default, x[index], name=f"zero_{index}")
        return document(b.finish(*x))

    assert diff(graph(0), graph(1)).same


def test_random_operators_keep_their_order() -> None:
    def graph(swap: bool) -> GraphDoc:
        b = Builder()
        ops = (aten.rand.default, aten.randn.default)
        made = {op: b.call(op, [2]) for op in (reversed(ops) if swap else ops)}
        return document(b.finish(*(made[op] for op in ops)))

    assert diff(graph(False), graph(True)).differences.reordered


def test_calls_of_which_nothing_is_known_keep_their_order() -> None:
    def graph(swap: bool, target: Any) -> GraphDoc:
        graph = fx.Graph()
        x = graph.placeholder("x")
        order = [2, 1] if swap else [1, 2]
        made = {n: graph.call_function(target, (x, n)) for n in order}
        graph.output((made[1], made[2]))
        return document(fx.GraphModule({}, graph))

    assert diff(graph(False, _unknown), graph(True, _unknown)).differences.reordered
    assert diff(graph(False, torch.mul), graph(True, torch.mul)).same
    assert diff(graph(False, operator.mul), graph(True, operator.mul)).same
    assert diff(graph(False, operator.imul), graph(True, operator.imul)).differences.reordered


def _unknown(*args: object) -> None:
    """A function of which nothing is known. Graphs name it; none is run."""


# The interface.


def interface(found: GraphDiff) -> list[tuple[str, str | None, str | None]]:
    return [(change.part, change.before, change.after) for change in found.differences.interface]


def identity(*names: str, outputs: tuple[int, ...], aliases: tuple[tuple[str, int], ...] = ()) -> GraphDoc:
    b = Builder()
    inputs = [b.input(name, len(name)) for name in names]
    gm = b.finish(*(b.call(aten.sin.default, inputs[i]) for i in outputs))
    gm.meta["capture"] = SimpleNamespace(aliases=aliases)
    return document(gm)


def test_dropped_inputs_are_interface_changes() -> None:
    found = diff(identity("a", "bb", "ccc", outputs=(0, 2)), identity("a", "ccc", outputs=(0, 1)))
    assert interface(found) == [("input", "bb", None)]
    assert found.differences.removed == ("bb",)


def test_renamed_and_reordered_inputs_are_interface_changes() -> None:
    base = identity("a", "bb", outputs=(0, 1))
    assert interface(diff(base, identity("x", "bb", outputs=(0, 1)))) == [("input", "a", "x")]
    assert interface(diff(base, identity("bb", "a", outputs=(1, 0)))) == [("input order", "a, bb", "bb, a")]


def test_reordered_and_dropped_outputs_are_interface_changes() -> None:
    base = identity("a", "bb", outputs=(0, 1))
    assert interface(diff(base, identity("a", "bb", outputs=(1, 0)))) == [
        ("output [0][0]", "sin_default", "sin_default_1"),
        ("output [0][1]", "sin_default_1", "sin_default"),
    ]
    assert interface(diff(base, identity("a", "bb", outputs=(0,)))) == [("output [0][1]", "sin_default_1", None)]


def test_interface_changes_of_equal_layers_are_one_row() -> None:
    found = diff(document(decoder(3)), document(decoder(12)))
    rows = render_text(found, color=False).splitlines()
    assert "interface: 19 changes" in rows
    assert "  ! 9 x parameter layers.{3-11}.w added" in rows
    assert "  ! output [0][0]: add_tensor_2 -> +add_tensor_11" in rows


def test_outputs_match_even_of_graphs_that_share_nothing_else() -> None:
    found = diff(identity("a", outputs=(0,)), document(decoder(1)))
    assert ("output", "output") in found.matches
    assert "output" not in (*found.differences.removed, *found.differences.added)


def test_aliases_are_part_of_the_interface() -> None:
    base = identity("a", outputs=(0,), aliases=(("a", 0),))
    found = diff(base, identity("a", outputs=(0,)))
    assert interface(found) == [("alias", "output 0 updates a", None)]
    assert diff(base, identity("a", outputs=(0,), aliases=(("a", 0),))).same


def test_a_renamed_parameter_is_an_interface_change() -> None:
    found = compare(decoder(2), decoder(2, pool="v_cache"))
    assert interface(found) == [
        ("parameter", "layers.0.k_cache", "layers.0.v_cache"),
        ("parameter", "layers.1.k_cache", "layers.1.v_cache"),
    ]
    assert counts(found)[:5] == (0, 0, 0, 0, 0)


def test_a_parameter_no_longer_read_and_one_of_another_shape() -> None:
    def graph(size: int, *names: str) -> fx.GraphModule:
        b = Builder()
        return b.finish(*(b.call(aten.sin.default, b.parameter(name, size)) for name in names))

    found = compare(graph(3, "v", "w"), graph(3, "w"))
    assert ("parameter", "v", None) in interface(found)
    assert interface(compare(graph(3, "w"), graph(4, "w"))) == [("parameter", "w: f32[3]", "w: f32[4]")]


def test_unused_interface_changes_show_although_every_node_matches() -> None:
    base = identity("a", outputs=(0,))
    assert diff(base, base).differences.interface == ()
    renamed_input = diff(base, identity("b", outputs=(0,)))
    assert renamed_input.differences == Differences(interface=(InterfaceChange("input", "a", "b"),))
    assert not renamed_input.same


# Symbols and nested graphs.


def test_symbols_are_matched_not_compared_by_name() -> None:
    def f(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return x.nonzero() * 2, y.nonzero() * 3, x.view(-1)

    def g(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, ...]:
        second, first = y.nonzero() * 3, x.nonzero() * 2
        return first, second, x.view(-1)

    inputs = torch.ones(3, 4), torch.ones(5)
    one, other = (document(make_fx(h, tracing_mode="symbolic")(*inputs)) for h in (f, g))
    assert text(one) != text(other)
    assert diff(one, other).same


def test_a_symbol_that_became_a_number_is_a_changed_type() -> None:
    one, other = (document(make_fx(torch.sin, tracing_mode=mode)(torch.ones(3))) for mode in ("symbolic", "fake"))
    found = diff(one, other)
    assert {change[1:] for change in changes(found)} == {("type", "f32[s0]", "f32[3]")}


class Region(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sin(x) * self.factor


def nested(factor: float, path: str = "region") -> GraphDoc:
    root = nn.Module()
    setattr(root, path, fx.symbolic_trace(Region(factor)))
    graph = fx.Graph()
    x = graph.placeholder("x")
    graph.output(graph.call_module(path, (graph.call_module(path, (x,)),)))
    return document(fx.GraphModule(root, graph))


def test_nested_graphs_are_compared_by_what_they_hold() -> None:
    assert diff(nested(2.0), nested(2.0, "elsewhere")).same
    found = diff(nested(2.0), nested(3.0, "elsewhere"))
    assert counts(found) == (0, 0, 0, 0, 0, 0)
    assert not found.same
    (inner,) = found.subgraphs
    assert (inner.before_path, inner.after_path) == ("region", "elsewhere")
    assert changes(inner.diff) == [("mul", "[1]", "2.0", "3.0")]


def body_of(region: str, op: Any, names: str, *, reads: tuple[int, int]) -> GraphDoc:
    """A region of three inputs called `names`, which subtracts two of them, handed to `op` or called as a module."""
    inner = fx.Graph()
    operands = [inner.placeholder(name) for name in names.split()]
    for operand in operands:
        operand.meta["val"] = torch.ones(2)
    inner.output((inner.call_function(torch.ops.aten.sub.Tensor, tuple(operands[i] for i in reads)),))
    root = nn.Module()
    setattr(root, region, fx.GraphModule(nn.Module(), inner))
    graph = fx.Graph()
    inputs = [graph.placeholder(name) for name in "xyz"]
    if op is None:
        graph.output(graph.call_module(region, tuple(inputs)))
    else:
        graph.output(graph.call_function(op, (graph.get_attr(region), region, *inputs)))
    return document(fx.GraphModule(root, graph))


INVOKE = torch.ops.higher_order.invoke_subgraph


def test_the_inputs_of_a_body_count_by_place() -> None:
    one, other = body_of("r", INVOKE, "a b c", reads=(0, 1)), body_of("r", INVOKE, "c a b", reads=(0, 1))
    assert diff(one, other).same
    assert text(one) == text(other)
    swapped = body_of("r", INVOKE, "a b c", reads=(1, 0))
    assert not diff(one, swapped).same
    assert text(one) != text(swapped)


def test_the_inputs_of_a_submodule_count_by_name() -> None:
    one, other = body_of("r", None, "a b c", reads=(0, 1)), body_of("r", None, "c a b", reads=(0, 1))
    assert not diff(one, other).same
    assert text(one) != text(other)


def test_an_input_that_a_body_lost_is_told_by_its_name() -> None:
    one, other = body_of("r", INVOKE, "a b c", reads=(1, 2)), body_of("r", INVOKE, "b c", reads=(0, 1))
    (inner,) = diff(one, other).subgraphs
    assert inner.diff.differences.removed == ("a",)
    assert counts(inner.diff)[1:] == (0, 0, 0, 0, 1)


def test_another_leaf_module_is_a_changed_target() -> None:
    one, other = (document(fx.symbolic_trace(nn.Sequential(leaf))) for leaf in (nn.ReLU(), nn.Tanh()))
    assert not diff(one, other).same


def test_matches_tell_which_node_is_which() -> None:
    gm = decoder(2, prior="operand")
    other = renamed(gm, seed=3)
    found = dict(diff(document(gm), document(other)).matches)
    targets = {node.name: node.target for node in other.graph.nodes}
    for node in gm.graph.nodes:
        assert targets[found[node.name]] == node.target


def test_values_of_the_after_graph_are_told_in_the_names_of_the_before_graph() -> None:
    before, after = decoder(2, prior="operand"), decoder(2, prior="operand")
    for node in after.graph.find_nodes(op="call_function", target=attention):
        node.update_arg(0, after.graph.find_nodes(op="placeholder")[0])
    found = diff(document(before), document(renamed(after, 5)))
    (change,) = found.differences.rewired[0].changes
    assert (change.before, change.after) == (Ref("mm_default"), Ref("hidden"))


@pytest.mark.parametrize("layers", [1, 2, 7])
def test_pruning_in_place_and_tracing_anew_give_the_same_diff(layers: int) -> None:
    before = decoder(layers)
    pruned = decoder(layers)
    pruned.graph.eliminate_dead_code()
    same_process = diff(document(before), document(pruned)).differences
    separate = diff(document(before), document(decoder(layers, prior="none"))).differences
    assert same_process == separate
    assert Const("none", "None") not in [c.after for n in same_process.rewired for c in n.changes]
